"""Functions that run by themselves."""

from __future__ import annotations

import time

from tests.conftest import ProgramFolder
from tests.servers import ServerUnderTest

TICKING = """
    import modal

    app = modal.App("ticking", image=modal.Image.debian_slim())

    @app.function(schedule=modal.Period(seconds=2))
    def tick():
        print("tick")
"""


def test_a_period_fires_again_and_again_also_after_a_restart(
    fresh_server: ServerUnderTest, program: ProgramFolder
) -> None:
    fresh_server.modal("deploy", str(program(TICKING)))

    def firings() -> int:
        return int(fresh_server.rows("SELECT count(*) FROM outputs")[0][0])

    def await_firings(number: int) -> None:
        deadline = time.monotonic() + 60
        while firings() < number:
            assert time.monotonic() < deadline, firings()
            time.sleep(0.1)

    await_firings(2)
    fresh_server.kill()
    await_firings(4)
    fresh_server.stop()
    before = firings()
    time.sleep(6)
    fresh_server.start()
    time.sleep(1.5)
    assert firings() <= before + 2, "what was missed comes once"
    fresh_server.modal("app", "stop", "ticking", "--yes")
    stopped = firings()
    time.sleep(4)
    assert firings() <= stopped + 1


def test_a_schedule_that_cannot_be_is_refused_in_a_sentence(server: ServerUnderTest, program: ProgramFolder) -> None:
    text = TICKING.replace("modal.Period(seconds=2)", 'modal.Cron("0 25 * * *")')
    assert "hour" in server.modal("deploy", str(program(text)), code=1)
    text = TICKING.replace("modal.Period(seconds=2)", 'modal.Cron("0 5 * * *", timezone="Mars/Base")')
    assert "'Mars/Base' is no time zone" in " ".join(server.modal("deploy", str(program(text)), code=1).split())


def test_a_cron_expression_waits_for_its_minute(server: ServerUnderTest, program: ProgramFolder) -> None:
    text = TICKING.replace("modal.Period(seconds=2)", 'modal.Cron("0 6 * * *", timezone="America/New_York")')
    server.modal("deploy", str(program(text)))
    ((next_at,),) = server.rows("SELECT next_at FROM schedules JOIN apps USING (app_id) WHERE stopped_at IS NULL")
    server.modal("app", "stop", "ticking", "--yes")
    assert time.time() < next_at < time.time() + 25 * 3600
    assert time.gmtime(next_at)[3:6] in ((10, 0, 0), (11, 0, 0))
