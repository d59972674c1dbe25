from __future__ import annotations

import time

import pytest

from jiffy.runtime import cgroups
from jiffy.worker.meter import Meter


def test_use_is_measured_between_two_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    moments, seconds = iter([10.0, 12.0]), iter([1.0, 4.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(moments))
    monkeypatch.setattr(cgroups, "read_usage", lambda group: cgroups.Usage(next(seconds), 2**20))
    meter = Meter()
    assert meter.read({"ta-1": "group"}) == {}
    assert meter.read({"ta-1": "group"}) == {"ta-1": (1500, 2**20)}


def test_a_container_that_is_gone_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "read_usage", lambda group: cgroups.Usage(1.0, 1))
    meter = Meter()
    meter.read({"ta-1": "group"})
    meter.read({})
    assert meter.read({"ta-1": "group"}) == {}
