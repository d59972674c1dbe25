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
_STAYS: Final = pytest.StashKey[str]()
_MOST_NAMED: Final = 10


class Recording:
    """Of one process."""

    def __init__(self) -> None:
        self.passed: set[str] = set()
        self.failed: set[str] = set()
        self.answered: set[str] = set()

    @property
    def lacking(self) -> list[str]:
        """Programs that did not run, or did not pass; none for a whole run."""
        return sorted(compatibility.program_ids() - (self.passed - self.failed))


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
    elif why := _why_the_page_stays():
        session.config.stash[_STAYS] = why
        if session.config.option.write_compatibility:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
    else:
        _hold_page_against_run(session)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.option.write_compatibility and (why := config.stash.get(_STAYS, "")):
        terminalreporter.write_line(f"docs/COMPATIBILITY.md stays: {why}", red=True)
    if stale := config.stash.get(_STALE, ""):
        terminalreporter.write_line(f"STALE docs/COMPATIBILITY.md: {stale}", red=True)


def _why_the_page_stays() -> str:
    """Empty when the run can say what is shown and what is not."""
    if is_another_client():
        return "its programs are those that today's client runs"
    lacking = [name.removeprefix("tests/programs/") for name in _recording.lacking]
    more = f" and {len(lacking) - _MOST_NAMED} more" if len(lacking) > _MOST_NAMED else ""
    return f"not all programs ran and passed: {', '.join(lacking[:_MOST_NAMED])}{more}" if lacking else ""


def _hold_page_against_run(session: pytest.Session) -> None:
    if session.config.option.write_compatibility:
        compatibility.PAGE.write_text(compatibility.page(_recording.answered))
    elif stale := compatibility.what_is_stale(_recording.answered):
        session.config.stash[_STALE] = stale
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
