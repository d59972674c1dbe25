from __future__ import annotations

from pathlib import Path

import pytest

from jiffy.objects.http import HttpObjects
from jiffy.objects.local import LocalObjects
from jiffy.objects.sources import Sources


def make_objects(root: Path) -> LocalObjects:
    for name in ("objects", "incoming"):
        (root / name).mkdir(parents=True)
    return LocalObjects(root / "objects", root / "incoming")


def one_source(url: str, *, deadline: float, stall: float = 1, token: str = "id:secret") -> Sources:
    return Sources([HttpObjects(url, token, stall=stall)], deadline=deadline)


@pytest.fixture
def objects(tmp_path: Path) -> LocalObjects:
    return make_objects(tmp_path / "store")
