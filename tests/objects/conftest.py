from __future__ import annotations

from pathlib import Path

import pytest

from jiffy.objects.local import LocalObjects


def make_objects(root: Path) -> LocalObjects:
    for name in ("objects", "incoming"):
        (root / name).mkdir(parents=True)
    return LocalObjects(root / "objects", root / "incoming")


@pytest.fixture
def objects(tmp_path: Path) -> LocalObjects:
    return make_objects(tmp_path / "store")
