"""Commands that need no server, or complain that there is none."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from jiffy.cli.serve import serve
from jiffy.errors import UnsupportedError
from tests.servers import JIFFY, Outcome


def jiffy(*arguments: str, seconds: float = 60, **variables: str) -> Outcome:
    done = subprocess.run(
        [*JIFFY, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        check=False,
        timeout=seconds,
        env={**os.environ, "COLUMNS": "200", **variables},
    )
    return Outcome(done.returncode, done.stdout)


@pytest.mark.parametrize("verb", ["env", "login"])
def test_without_a_server_a_command_fails_and_says_what_to_do(verb: str, tmp_path: Path) -> None:
    outcome = jiffy(verb, "--data", str(tmp_path / "none"))
    assert outcome.code == 1
    assert "no server answers" in outcome.words
    assert "jiffy serve" in outcome.words
    assert "Traceback" not in outcome.output


def test_a_server_that_has_died_is_not_taken_for_one_that_answers(tmp_path: Path) -> None:
    (tmp_path / "server.json").write_text('{"url": "http://127.0.0.1:1", "http_url": "http://127.0.0.1:1", "pid": 1}')
    outcome = jiffy("env", "--data", str(tmp_path))
    assert outcome.code == 1
    assert "it has stopped or hangs" in outcome.words


def test_a_server_that_cannot_start_in_the_background_says_why_at_once(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        options = ["--data", str(tmp_path), "--background", "--no-worker", "--port", str(port)]
        outcome = jiffy("serve", *options)
    assert outcome.code == 1
    assert outcome.output.startswith(f"jiffy: the server did not start: cannot listen on 127.0.0.1:{port}: ")
    assert "choose another with --port" in outcome.output


def test_stopping_what_does_not_run_is_no_error(tmp_path: Path) -> None:
    outcome = jiffy("stop", "--data", str(tmp_path))
    assert outcome.code == 0
    assert "nothing runs on" in outcome.words


def test_doctor_tells_people_and_programs_the_same(tmp_path: Path) -> None:
    findings = json.loads(jiffy("doctor", "--json", "--data", str(tmp_path)).output)
    table = jiffy("doctor", "--data", str(tmp_path)).words
    assert {"kernel", "lazy filesystem", "FUSE passthrough", "OCI runtime"} <= {finding["name"] for finding in findings}
    assert all(finding["name"] in table for finding in findings)


def test_doctor_fails_when_something_is_missing(tmp_path: Path) -> None:
    outcome = jiffy("doctor", "--data", str(tmp_path), PATH=str(tmp_path))
    assert outcome.code == 1
    assert "apt-get install crun" in outcome.words


def test_every_command_explains_itself() -> None:
    listed = jiffy("--help")
    assert listed.code == 0
    for verb in ("serve", "stop", "env", "login", "doctor", "timeline", "bench", "cache"):
        assert verb in listed.words
        assert jiffy(verb, "--help").code == 0


def test_a_timeline_without_a_run_says_so(tmp_path: Path) -> None:
    outcome = jiffy("timeline", "--data", str(tmp_path))
    assert outcome.code == 1
    assert "run a program first" in outcome.words


def test_commands_that_are_not_used_are_not_loaded() -> None:
    script = "import sys, jiffy.cli; print([name for name in sys.modules if name.startswith('jiffy.')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "jiffy.server" not in done.stdout
    assert "jiffy.worker" not in done.stdout


@pytest.mark.root
def test_on_a_kernel_that_is_too_old_serving_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.release", lambda: "5.4.0-generic")
    with pytest.raises(UnsupportedError, match=r"this kernel is too old: Linux 5\.4.*needs Linux 5\.15"):
        CliRunner().invoke(serve, ["--data", str(tmp_path / "data")], catch_exceptions=False)
    assert not (tmp_path / "data").exists()
