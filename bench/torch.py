"""As coldstart, with `import torch`: Debian with its own package of PyTorch, which has no CUDA, as PyPI's has."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bench.coldstart import Image, Subject, describe_image, measure
from bench.figures import Report
from jiffy.datadir import DataDirectory
from jiffy.image.debian import bootstrap_python
from jiffy.objects.local import LocalObjects

_PROGRAM: Final = ("/usr/bin/python3", "-c", "import torch; print(torch.ones(2).sum())")
_PACKAGE: Final = "python3-torch"
_PYTHON: Final = "3.11"


def run(data: DataDirectory, samples: int) -> Report:
    """Needs root, and a server that runs on the data directory."""
    return measure(Subject(_PROGRAM, _make_image), data, samples)


async def _make_image(data: DataDirectory, objects: LocalObjects, folder: Path) -> Image:
    base = await bootstrap_python(_PYTHON, objects, lambda line: None, packages=(_PACKAGE,))
    return describe_image(objects, (base.index,))
