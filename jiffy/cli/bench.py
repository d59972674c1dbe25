"""`jiffy bench`"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from jiffy.cli.running import data_option
from jiffy.cli.source_tree import import_from_source
from jiffy.datadir import DataDirectory
from jiffy.errors import ConflictError, NotFoundError

F = TypeVar("F", bound=Callable[..., Any])

_SAMPLES: Final = 10
_FILESYSTEM: Final = ["coldstart", "torch", "metadata", "throughput", "fetch", "index", "growth", "memory", "tuning"]


def _measure_options(command: F) -> F:
    """Adds what every measurement takes: data, samples, smoke, as_json and save."""
    options = (
        data_option,
        click.option("--samples", default=_SAMPLES, show_default=True, help="Samples of each figure."),
        click.option("--smoke", is_flag=True, help="Only see that it works: one sample."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        click.option(
            "--save", type=click.Path(path_type=Path, file_okay=False), help="Keep the figures here, for `report`."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group()
def bench() -> None:
    """Measure jiffy beside its peers and limits, with the server that runs. Needs root and jiffy's source."""


@bench.command()
@_measure_options
def start(data: Path, samples: int, smoke: bool, as_json: bool, save: Path | None) -> None:
    """Starts of containers."""
    _run(("start",), data, 1 if smoke else samples, as_json, save)


@bench.command()
@click.argument(
    "names", metavar=f"[{'|'.join(_FILESYSTEM)}]...", type=click.Choice(_FILESYSTEM), nargs=-1, required=True
)
@_measure_options
def fs(names: tuple[str, ...], data: Path, samples: int, smoke: bool, as_json: bool, save: Path | None) -> None:
    """The lazy filesystem."""
    _run(names, data, 1 if smoke else samples, as_json, save)


@bench.command()
@_measure_options
def build(data: Path, samples: int, smoke: bool, as_json: bool, save: Path | None) -> None:
    """Builds of images."""
    _run(("build",), data, 1 if smoke else samples, as_json, save)


@bench.command()
@_measure_options
def lazypull(data: Path, samples: int, smoke: bool, as_json: bool, save: Path | None) -> None:
    """Images that start before they are downloaded."""
    _run(("lazypull",), data, 1 if smoke else samples, as_json, save)


@bench.command()
@_measure_options
def schedule(data: Path, samples: int, smoke: bool, as_json: bool, save: Path | None) -> None:
    """The scheduler's decisions. Needs no root and no server."""
    _run(("schedule",), data, 1 if smoke else samples, as_json, save, needs_root=False)


@bench.command()
@_measure_options
def launch(data: Path, samples: int, smoke: bool, as_json: bool, save: Path | None) -> None:
    """A hundred containers at once."""
    _run(("launch",), data, 1 if smoke else samples, as_json, save)


@bench.command()
@_measure_options
def call(data: Path, samples: int, smoke: bool, as_json: bool, save: Path | None) -> None:
    """Calls of functions. Needs no root."""
    _run(("call",), data, 1 if smoke else samples, as_json, save, needs_root=False)


@bench.command()
@_measure_options
def web(data: Path, samples: int, smoke: bool, as_json: bool, save: Path | None) -> None:
    """Requests to web endpoints. Needs no root."""
    _run(("web",), data, 1 if smoke else samples, as_json, save, needs_root=False)


@bench.command()
@_measure_options
def idle(data: Path, samples: int, smoke: bool, as_json: bool, save: Path | None) -> None:
    """A server and a worker that do nothing. Needs root, to see the worker's memory."""
    _run(("idle",), data, 1 if smoke else samples, as_json, save)


@bench.command("import")
@_measure_options
def import_images(data: Path, samples: int, smoke: bool, as_json: bool, save: Path | None) -> None:
    """Imports of images from a registry."""
    _run(("imports",), data, 1 if smoke else samples, as_json, save)


@bench.command()
@click.option(
    "--figures",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=Path("docs/figures"),
    show_default=True,
    help="Where figures were kept; plots are put beside them.",
)
@click.option(
    "--into",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    default=Path("docs/BENCHMARKS.md"),
    show_default=True,
    help="The page whose marked sections get tables and plots.",
)
def report(figures: Path, into: Path) -> None:
    """Make plots and tables of figures that were kept."""
    for name in _find("report").write_report(figures, into):
        click.echo(name)


def _run(
    names: tuple[str, ...], data: Path, samples: int, as_json: bool, save: Path | None, *, needs_root: bool = True
) -> None:
    if needs_root and os.geteuid() != 0:
        raise ConflictError("a benchmark starts containers itself", hint="run as root")
    described = {}
    for name in names:
        measured = _find(name).run(DataDirectory(data), samples)
        described[name] = measured.describe()
        if save is not None:
            save.mkdir(parents=True, exist_ok=True)
            (save / f"{name}.json").write_text(json.dumps(described[name], indent=1) + "\n")
        if not as_json:
            measured.print()
    if as_json:
        click.echo(json.dumps(described, indent=2))


def _find(name: str) -> Any:
    try:
        return import_from_source(f"bench.{name}", "the benchmark")
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        raise NotFoundError("matplotlib is not installed", hint="pip install 'jiffy[bench]'") from None
