"""docs/COMPATIBILITY.md is written, and held, by whole runs only. Here by runs of little programs that say themselves which
RPCs were answered."""

from __future__ import annotations

import pytest

from tests.clients import VARIABLE
from tests.compatibility import ROOT

pytest_plugins = ["pytester"]

CONFTEST = """
    import pytest
    from pathlib import Path
    from tests import compatibility

    compatibility.PROGRAMS = Path(__file__).parent / "tests" / "programs"
    compatibility.PAGE = Path(__file__).parent / "PAGE.md"
    pytest_plugins = ["tests.recording"]
"""
PAGE = """What people have written.

<!-- from here on: scripts/test --write-compatibility -->

| calls | {shown} | - | - |
"""
PROGRAM = '''
    """Programs that {name}."""

    import os
    import pytest
    from tests.servers import ANSWERED

    @pytest.mark.parametrize("time", [1, 2])
    def test_it_{name}(time):
        with ANSWERED.open("a") as file:
            file.write("client {rpc}\\n")
        if os.environ.get("OUTCOME") == "fails":
            assert time == 1
        if os.environ.get("OUTCOME") == "is skipped":
            pytest.skip("no reason")
'''


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Two programs, and a test that is none."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv(VARIABLE, raising=False)
    pytester.makeconftest(CONFTEST)
    pytester.makeini("[pytest]\ntestpaths = tests")
    write_page(pytester, "FunctionMap")
    programs = {"calls": "FunctionMap", "waits": "FunctionGetOutputs"}
    files = {f"tests/programs/test_{name}": PROGRAM.format(name=name, rpc=rpc) for name, rpc in programs.items()}
    pytester.mkdir("tests").joinpath("programs").mkdir()
    pytester.makepyfile(**files, **{"tests/test_other": "def test_other(): raise AssertionError('it is no program')"})
    return pytester


def write_page(project: pytest.Pytester, shown: str) -> None:
    project.path.joinpath("PAGE.md").write_text(PAGE.format(shown=shown))


def read_page(project: pytest.Pytester) -> str:
    return project.path.joinpath("PAGE.md").read_text()


def run(project: pytest.Pytester, *options: str) -> pytest.RunResult:
    return project.runpytest_subprocess("-p", "no:cacheprovider", *options)


@pytest.mark.parametrize("processes", [(), ("-n", "2", "--dist", "worksteal")], ids=["one", "divided"])
def test_a_run_of_all_programs_and_of_nothing_else_writes_what_they_showed(
    project: pytest.Pytester, processes: tuple[str, ...]
) -> None:
    result = run(project, "--write-compatibility", *processes)
    assert result.ret == 0, result.outlines
    written = read_page(project)
    assert written.startswith("What people have written.")
    assert "### Programs that calls.\n\n- it calls\n" in written
    assert "| calls | FunctionMap, FunctionGetOutputs | - | - |" in written
    assert "| sessions and apps | - | ClientHello, " in written


@pytest.mark.parametrize(
    ("options", "outcome", "client"),
    [
        ((), "fails", ""),
        ((), "is skipped", ""),
        (("-k", "calls"), "", ""),
        ((), "", "1.0.5"),
    ],
)
def test_a_run_that_is_not_whole_leaves_the_page_and_says_why(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], outcome: str, client: str
) -> None:
    monkeypatch.setenv("OUTCOME", outcome)
    if client:
        monkeypatch.setenv(VARIABLE, client)
    before = read_page(project)
    result = run(project, "--write-compatibility", *options)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert read_page(project) == before
    why = "its programs are those" if client else "not all programs ran and passed: *test_waits.py::test_it_waits"
    result.stdout.fnmatch_lines([f"*stays: {why}*"])


def test_a_whole_run_fails_when_the_page_shows_what_no_program_did(project: pytest.Pytester) -> None:
    write_page(project, "FunctionMap, BlobGet")
    result = run(project, "tests/programs")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["STALE docs/COMPATIBILITY.md: no program shows BlobGet"])
    assert read_page(project) == PAGE.format(shown="FunctionMap, BlobGet")


def test_a_page_that_shows_less_fails_nothing(project: pytest.Pytester) -> None:
    assert run(project, "tests/programs").ret == 0
    assert run(project, "tests/programs", "-k", "calls").ret == 0
