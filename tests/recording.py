"""What a run of the tests has shown: programs that passed, and RPCs that clients and containers got answers to. A run in
which all programs passed holds docs/COMPATIBILITY.md against that, or writes it.

Servers note RPCs in a file of the process that has started them. The processes among which tests are divided hand on what is
in theirs.
"""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests import compatibility
from tests.clients import is_another_client
from tests.servers import ANSWERED

_KEY: Final = "jiffy_answered"
_STALE: Final = pytest.StashKey[str]()


class Recording:
    """Of one process."""

    def __init__(self) -> None:
        self.passed: set[str] = set()
        self.failed: set[str] = set()
        self.answered: set[str] = set()

    @property
    def is_whole(self) -> bool:
        """Whether all programs ran, and passed."""
        return compatibility.program_ids() <= self.passed - self.failed


_recording: Final = Recording()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-compatibility",
        action="store_true",
        help="run the programs only, and write what they show into docs/COMPATIBILITY.md once all have passed",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The page is to be right also for a run of nothing but the programs."""
    if config.option.write_compatibility:
        items[:] = [item for item in items if item.path.parent == compatibility.PROGRAMS]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    name = report.nodeid.partition("[")[0]
    if report.failed:
        _recording.failed.add(name)
    elif report.when == "call" and report.passed:
        _recording.passed.add(name)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    _recording.answered.update(getattr(node, "workeroutput", {}).get(_KEY, ()))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if ANSWERED.exists():
        _recording.answered.update(line.split()[1] for line in ANSWERED.read_text().splitlines())
        ANSWERED.unlink()
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput[_KEY] = sorted(_recording.answered)
    elif _recording.is_whole and not is_another_client():
        _hold_page_against_run(session)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.option.write_compatibility and not _recording.is_whole:
        terminalreporter.write_line("docs/COMPATIBILITY.md stays: not all programs ran and passed", red=True)
    if stale := config.stash.get(_STALE, ""):
        terminalreporter.write_line(f"STALE docs/COMPATIBILITY.md: {stale}", red=True)


def _hold_page_against_run(session: pytest.Session) -> None:
    if session.config.option.write_compatibility:
        compatibility.PAGE.write_text(compatibility.page(_recording.answered))
    elif stale := compatibility.what_is_stale(_recording.answered):
        session.config.stash[_STALE] = stale
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
