"""A server whose machine crashed drops what was broken, before anybody asks for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jiffy.datadir import DataDirectory
from jiffy.objects.local import LocalObjects
from jiffy.server.listeners import Listeners, open_listener
from jiffy.server.serve import run_server


async def serve_once(data: DataDirectory) -> None:
    with open_listener("127.0.0.1", 0) as grpc, open_listener("127.0.0.1", 0) as http:
        async with run_server(data, Listeners(grpc, http)):
            pass


async def test_what_a_crash_broke_is_gone_when_the_server_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = DataDirectory(tmp_path / "data")
    data.create()
    await serve_once(data)
    objects = LocalObjects(data.objects, data.incoming)
    whole, broken = objects.put(b"whole"), objects.put(b"broken")
    os.truncate(objects.path(broken), 2)
    await serve_once(data)
    assert objects.missing([whole, broken]) == []
    (tmp_path / "boot_id").write_text("another boot")
    monkeypatch.setattr("jiffy.objects.recovery._BOOT", tmp_path / "boot_id")
    os.utime(objects.path(broken))
    await serve_once(data)
    assert objects.missing([whole, broken]) == [broken]
