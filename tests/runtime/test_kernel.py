"""What a machine lacks is told with what to do about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from jiffy.errors import InvalidError, UnsupportedError
from jiffy.fs.mode import Mode
from jiffy.runtime.kernel import (
    Verdict,
    choose_mode,
    examine,
    probe_kernel,
    probe_mode,
    probe_passthrough,
    read_release,
    require_kernel,
)


@pytest.mark.parametrize(
    ("release", "numbers"),
    [("6.18.5", (6, 18)), ("5.15.0-91-generic", (5, 15)), ("6.1", (6, 1)), ("strange", (0, 0))],
)
def test_releases_are_read(release: str, numbers: tuple[int, int]) -> None:
    assert read_release(release) == numbers


def test_a_kernel_that_is_too_old_is_refused_with_the_release_that_would_do() -> None:
    with pytest.raises(UnsupportedError, match=r"Linux 5\.15 or newer"):
        require_kernel("5.10.0")


@pytest.mark.parametrize(
    ("release", "verdict", "found"),
    [
        ("5.15.0-91-generic", Verdict.SLOWER, "plain FUSE: Linux 5.15.0-91-generic cannot join"),
        ("6.1.0-13-amd64", Verdict.SLOWER, "plain FUSE"),
        ("6.6.9", Verdict.OK, "layered: EROFS from loop devices"),
        ("6.18.5", Verdict.OK, "layered: EROFS from files"),
    ],
)
def test_the_mode_of_the_filesystem_is_told_with_its_reason(release: str, verdict: Verdict, found: str) -> None:
    finding = probe_mode(release)
    assert (finding.verdict, finding.found.startswith(found)) == (verdict, True), finding.found


def test_the_environment_may_ask_for_a_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_mode() is Mode.LAYERED
    monkeypatch.setenv("JIFFY_FILESYSTEM", "plain")
    assert choose_mode() is Mode.PLAIN
    monkeypatch.setenv("JIFFY_FILESYSTEM", "plane")
    with pytest.raises(InvalidError, match="use one of layered, plain"):
        choose_mode()


def test_this_kernel_will_do() -> None:
    import platform

    require_kernel(platform.release())


def test_what_only_makes_it_slower_is_told_apart() -> None:
    assert probe_kernel("6.5.0").verdict is Verdict.OK
    assert probe_passthrough("6.5.0").verdict is Verdict.SLOWER
    assert probe_passthrough("6.9.0").verdict is Verdict.OK


def test_every_finding_that_is_not_well_has_an_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    findings = examine(tmp_path)
    assert {finding.verdict for finding in findings} > {Verdict.OK}
    assert all(finding.advice for finding in findings if finding.verdict is not Verdict.OK)
    missing = {finding.name for finding in findings if finding.verdict is Verdict.MISSING}
    assert {"ip", "nft", "OCI runtime"} <= missing


def test_a_data_directory_in_memory_is_refused() -> None:
    finding = next(finding for finding in examine(Path("/dev/shm/jiffy")) if finding.name == "data directory")
    assert finding.verdict is Verdict.MISSING
    assert "tmpfs" in finding.found
