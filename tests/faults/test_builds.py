"""Builds are broken off, by a person or by a kill: nothing is left behind, and the next try goes on."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from tests.conftest import ProgramFolder
from tests.servers import ServerUnderTest

SLOW = """
    import modal

    image = modal.Image.debian_slim().run_commands(
        "echo first > /first", "echo the step r''uns; sleep {seconds}; cat /proc/sys/kernel/random/uuid > /id"
    )
    app = modal.App("slow", image=image)

    @app.function()
    def look() -> str:
        return open("/first").read() + open("/id").read()

    @app.local_entrypoint()
    def main():
        print("made", look.remote().split())
"""


def containers(server: ServerUnderTest) -> list[Path]:
    return list(server.data.containers.iterdir())


def await_none(server: ServerUnderTest) -> None:
    deadline = time.monotonic() + 30
    while containers(server):
        assert time.monotonic() < deadline, containers(server)
        time.sleep(0.1)


def test_a_build_whose_worker_was_killed_goes_on_with_another(
    fresh_server: ServerUnderTest, program: ProgramFolder
) -> None:
    run = fresh_server.begin(program(SLOW.replace("{seconds}", "3")))
    run.await_line("the step runs")
    fresh_server.kill_worker()
    outcome = run.finish(timeout=90)
    assert outcome.code == 0, outcome.output
    assert "it runs again on another" in outcome.words
    assert "made ['first'" in outcome.output


def test_a_build_whose_server_was_killed_begins_anew_with_the_steps_that_were_done(
    fresh_server: ServerUnderTest, program: ProgramFolder
) -> None:
    run = fresh_server.begin(program(SLOW.replace("{seconds}", "3")))
    run.await_line("the step runs")
    fresh_server.kill()
    outcome = run.finish(timeout=90)
    assert outcome.code == 0, outcome.output
    assert "made ['first'" in outcome.output


def test_a_build_that_a_person_breaks_off_leaves_nothing(fresh_server: ServerUnderTest, program: ProgramFolder) -> None:
    run = fresh_server.begin(program(SLOW.replace("{seconds}", "600")))
    run.await_line("the step runs")
    assert containers(fresh_server)
    run.process.send_signal(signal.SIGINT)
    run.finish(timeout=60)
    await_none(fresh_server)
    assert not list(fresh_server.data.incoming.iterdir())


def test_two_who_want_the_same_image_have_it_built_once(fresh_server: ServerUnderTest, program: ProgramFolder) -> None:
    text = SLOW.replace("{seconds}", "2")
    runs = [fresh_server.begin(program(text, f"program{number}.py")) for number in range(2)]
    outcomes = [run.finish(timeout=90) for run in runs]
    assert [outcome.code for outcome in outcomes] == [0, 0], outcomes
    made = {outcome.output.rpartition("made ")[2].split("]")[0] for outcome in outcomes}
    assert len(made) == 1


def test_one_of_two_who_leaves_does_not_stop_the_build(fresh_server: ServerUnderTest, program: ProgramFolder) -> None:
    text = SLOW.replace("{seconds}", "4")
    leaving, staying = [fresh_server.begin(program(text, f"program{number}.py")) for number in range(2)]
    staying.await_line("the step runs")
    leaving.process.send_signal(signal.SIGINT)
    leaving.finish(timeout=60)
    outcome = staying.finish(timeout=60)
    assert outcome.code == 0, outcome.output
    assert outcome.output.count("the step runs") <= 2


def test_stages_that_do_not_need_each_other_run_side_by_side(
    fresh_server: ServerUnderTest, program: ProgramFolder
) -> None:
    """Each waits for the other by a folder that they share: one after the other, they would wait for ever."""
    wait = "for i in $(seq 300); do [ -e /meet/{other} ] && exit 0; sleep 0.1; done; exit 1"
    stage = "FROM python:3.11-slim-bookworm AS {mine}\nRUN --mount=type=cache,target=/meet touch /meet/{mine}; " + wait
    left, right = (stage.replace("{mine}", mine).replace("{other}", other) for mine, other in (("l", "r"), ("r", "l")))
    last = "FROM python:3.11-slim-bookworm\nCOPY --from=l /etc/hostname /l\nCOPY --from=r /etc/hostname /r\n"
    program(f"{left}\n{right}\n{last}", "Dockerfile")
    text = """
        import os
        import modal

        app = modal.App("stages", image=modal.Image.from_dockerfile("Dockerfile"))

        @app.function()
        def look() -> bool:
            return os.path.exists("/l") and os.path.exists("/r")

        @app.local_entrypoint()
        def main():
            print("both", look.remote())
    """
    outcome = fresh_server.run(program(text))
    assert "both True" in outcome.output, outcome.output
