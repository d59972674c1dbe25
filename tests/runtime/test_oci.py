"""The OCI runtime: what it remembers of containers."""

from __future__ import annotations

from pathlib import Path

import pytest

from jiffy.runtime.oci import choose_runtime

pytestmark = pytest.mark.root


async def test_what_it_half_wrote_when_the_power_went_is_forgotten(tmp_path: Path) -> None:
    runtime = choose_runtime(tmp_path / "runtime")
    for name in ("ta-1", "ta-2"):
        (tmp_path / "runtime" / name).mkdir()
        (tmp_path / "runtime" / name / "status").touch()
    await runtime.forget_all()
    assert list((tmp_path / "runtime").iterdir()) == []
