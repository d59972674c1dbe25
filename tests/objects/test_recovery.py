"""A cache that the machine's crash has broken is mended before it is used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jiffy.objects.local import LocalObjects
from jiffy.objects.recovery import Marker


@pytest.fixture
def marker(objects: LocalObjects, tmp_path: Path) -> Marker:
    (tmp_path / "partial").mkdir()
    return Marker(tmp_path / "synced.json", objects, tmp_path / "partial")


def break_object(objects: LocalObjects, digest: str) -> None:
    """As a crash does with data that was not written yet."""
    os.truncate(objects.path(digest), 2)


def crash(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    boot = tmp_path / "boot_id"
    boot.write_text("another boot")
    monkeypatch.setattr("jiffy.objects.recovery._BOOT", boot)


def test_broken_objects_are_dropped_after_a_crash_and_whole_ones_kept(
    objects: LocalObjects, marker: Marker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    marker.sync()
    whole, broken = objects.put(b"whole"), objects.put(b"broken")
    break_object(objects, broken)
    crash(monkeypatch, tmp_path)
    assert marker.recover() == 1
    assert list(objects) == [whole]


def test_nothing_is_read_again_in_the_same_boot(objects: LocalObjects, marker: Marker) -> None:
    marker.sync()
    break_object(objects, objects.put(b"not looked at"))
    assert marker.recover() == 0


def test_what_was_synced_long_before_a_crash_is_not_read_again(
    objects: LocalObjects, marker: Marker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    digest = objects.put(b"old")
    break_object(objects, digest)
    monkeypatch.setattr("jiffy.objects.recovery._SLACK", -1.0)
    marker.sync()
    crash(monkeypatch, tmp_path)
    assert marker.recover() == 0


@pytest.mark.parametrize("content", ["", "{", "[]", '{"boot": 1}'])
def test_without_a_readable_marker_everything_is_checked(
    objects: LocalObjects, marker: Marker, tmp_path: Path, content: str
) -> None:
    (tmp_path / "synced.json").write_text(content)
    break_object(objects, objects.put(b"broken"))
    assert marker.recover() == 1


def test_partial_objects_are_dropped_after_a_crash_and_kept_otherwise(
    marker: Marker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "partial" / "a").touch()
    marker.sync()
    marker.recover()
    assert (tmp_path / "partial" / "a").exists()
    crash(monkeypatch, tmp_path)
    marker.recover()
    assert not (tmp_path / "partial" / "a").exists()
