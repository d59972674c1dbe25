"""Every test of the store runs on each engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jiffy.store.stores import Stores, open_stores


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.service)])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "jiffy.db")
    return str(request.getfixturevalue("postgres").create_database())


@pytest.fixture
def stores(address: str) -> Iterator[Stores]:
    opened = open_stores(address)
    yield opened
    opened.close()
