"""What images share, as a picture: circles for two or three, a matrix for more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Final

from jiffy.errors import NotFoundError
from jiffy.image.report import Contents

try:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot
    from matplotlib.patches import Circle
except ModuleNotFoundError as error:
    raise NotFoundError("matplotlib is not installed", hint="pip install 'jiffy[bench]'") from error

_COLOURS: Final = ("#4c72b0", "#dd8452", "#55a868")
_CENTRES: Final = {2: ((-0.5, 0.0), (0.5, 0.0)), 3: ((-0.5, 0.3), (0.5, 0.3), (0.0, -0.55))}
_RADIUS: Final = 0.95
_MEASURES: Final[Sequence[tuple[str, Callable[[Contents], dict[str, float]]]]] = (
    ("MB of files", lambda image: {digest: size / 1e6 for digest, size in image.digests.items()}),
    ("files", lambda image: dict.fromkeys(image.digests, 1.0)),
    ("files that runs read", lambda image: dict.fromkeys(image.read or (), 1.0)),
)


def draw_overlaps(images: Sequence[Contents], path: Path) -> None:
    """Write a picture; its kind is that of the path's suffix. Contents count, wherever they lie in an image."""
    draw = _draw_circles if len(images) in _CENTRES else _draw_matrix
    figure, panels = pyplot.subplots(1, len(_MEASURES), figsize=(5 * len(_MEASURES), 5))
    for panel, (name, measure) in zip(panels, _MEASURES, strict=True):
        draw(panel, [image.name for image in images], [measure(image) for image in images])
        panel.set_title(name)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


def _draw_circles(panel: Any, names: Sequence[str], contents: Sequence[dict[str, float]]) -> None:
    centres = _CENTRES[len(contents)]
    for name, centre, colour in zip(names, centres, _COLOURS, strict=False):
        panel.add_patch(Circle(centre, _RADIUS, alpha=0.35, color=colour))
        side = 1.25 if centre[1] >= 0 else -1.25
        panel.text(centre[0] * 1.6, centre[1] + side * 0.9, name, ha="center", va="center", fontsize=8)
    for count in range(1, len(contents) + 1):
        for group in combinations(range(len(contents)), count):
            x, y = _region(centres, group)
            panel.text(x, y, f"{_only_in(contents, group):,.0f}", ha="center", va="center")
    panel.set_xlim(-1.8, 1.8)
    panel.set_ylim(-1.8, 1.8)
    panel.set_aspect("equal")
    panel.axis("off")


def _region(centres: Sequence[tuple[float, float]], group: tuple[int, ...]) -> tuple[float, float]:
    """The middle of what only some circles cover: away from the others."""
    inside = [sum(centres[number][axis] for number in group) / len(group) for axis in (0, 1)]
    middle = [sum(centre[axis] for centre in centres) / len(centres) for axis in (0, 1)]
    away = 1.0 if len(group) == 1 else 0.9
    x, y = (inside[axis] + away * (inside[axis] - middle[axis]) for axis in (0, 1))
    return x, y


def _only_in(contents: Sequence[dict[str, float]], group: tuple[int, ...]) -> float:
    """What all of a group have, and nobody else."""
    shared = set.intersection(*[set(contents[number]) for number in group])
    others = [number for number in range(len(contents)) if number not in group]
    mine = shared.difference(*[contents[number] for number in others])
    return sum(contents[group[0]][digest] for digest in mine)


def _draw_matrix(panel: Any, names: Sequence[str], contents: Sequence[dict[str, float]]) -> None:
    """In each row, the share of one image that the others have."""
    rows = [[_share(mine, other) for other in contents] for mine in contents]
    panel.imshow(rows, vmin=0, vmax=1, cmap="Blues")
    for row, shares in enumerate(rows):
        for column, share in enumerate(shares):
            panel.text(column, row, f"{share:.0%}", ha="center", va="center", fontsize=8)
    panel.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
    panel.set_yticks(range(len(names)), names, fontsize=8)


def _share(mine: dict[str, float], other: dict[str, float]) -> float:
    total = sum(mine.values())
    return sum(mine[digest] for digest in mine.keys() & other.keys()) / total if total else 0.0
