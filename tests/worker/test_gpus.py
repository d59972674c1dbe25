"""The GPUs that a host's owner declares."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from jiffy.errors import ExhaustedError, InvalidError, NotFoundError
from jiffy.runtime.cdi import VARIABLE
from jiffy.worker.gpus import Gpus, read_inventory


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    devices = [{"name": name, "containerEdits": {}} for name in "01"]
    (tmp_path / "a.json").write_text(json.dumps({"kind": "a.b/gpu", "devices": devices}))


async def test_each_is_given_to_one_at_a_time() -> None:
    inventory = read_inventory(["H100=a.b/gpu=0", "h100=a.b/gpu=1"])
    assert inventory.type == "H100"
    gpus = Gpus(inventory)
    first = await gpus.take(1)
    assert sorted(first + await gpus.take(1)) == ["a.b/gpu=0", "a.b/gpu=1"]
    waiting = asyncio.ensure_future(gpus.take(1))
    await asyncio.sleep(0)
    assert not waiting.done()
    gpus.give_back(first)
    assert await waiting == first
    assert await gpus.take(0) == []
    with pytest.raises(ExhaustedError):
        await gpus.take(3)


@pytest.mark.parametrize("declared", [["H100"], ["H100=0"], ["H100=a.b/gpu=0", "A100=a.b/gpu=1"], ["A=a.b/gpu=0"] * 2])
def test_what_declares_no_gpu_is_refused(declared: list[str]) -> None:
    with pytest.raises(InvalidError):
        read_inventory(declared)


def test_nothing_is_claimed_that_is_not_there() -> None:
    with pytest.raises(NotFoundError, match=r"no device a\.b/gpu=7"):
        read_inventory(["H100=a.b/gpu=7"])
