from collections.abc import Iterator
from pathlib import Path

import pytest

from jiffy.store.stores import Stores, open_stores


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    opened = open_stores(tmp_path / "jiffy.db")
    yield opened
    opened.close()
