from jiffy.core.aftermath import (
    LOSSES_ALLOWED,
    STARTS_ALLOWED,
    Ended,
    Fail,
    Requeue,
    judge_running_input,
    judge_waiting_inputs,
)
from jiffy.core.events import ExitReason


def ended(reason: ExitReason, code: int = 0, memory: int = 0) -> Ended:
    return Ended(reason, code, "its worker is gone", memory)


def test_an_input_of_a_stopped_container_runs_again() -> None:
    assert judge_running_input(ended(ExitReason.STOPPED), losses=1) == Requeue()


def test_an_input_of_a_lost_container_runs_again_until_too_many_were_lost() -> None:
    assert judge_running_input(ended(ExitReason.LOST), losses=LOSSES_ALLOWED - 1) == Requeue()
    verdict = judge_running_input(ended(ExitReason.LOST), losses=LOSSES_ALLOWED)
    assert isinstance(verdict, Fail)
    assert verdict.internal
    assert "its worker is gone" in verdict.message


def test_a_program_that_ends_its_process_fails_the_input_with_the_code() -> None:
    verdict = judge_running_input(ended(ExitReason.FINISHED, code=3), losses=1)
    assert verdict == Fail("The container's process exited with code 3 while it ran this input.", internal=False)


def test_a_program_that_kills_itself_fails_the_input_with_the_signal() -> None:
    verdict = judge_running_input(ended(ExitReason.FINISHED, code=128 + 11), losses=1)
    assert isinstance(verdict, Fail)
    assert "signal 11" in verdict.message


def test_an_input_whose_container_somebody_killed_runs_again_until_it_happened_too_often() -> None:
    killed = ended(ExitReason.FINISHED, code=128 + 9)
    assert judge_running_input(killed, losses=LOSSES_ALLOWED - 1) == Requeue()
    verdict = judge_running_input(killed, losses=LOSSES_ALLOWED)
    assert verdict == Fail("The container was killed by signal 9 while it ran this input.", internal=False)


def test_starts_that_were_lost_with_their_worker_fail_nothing() -> None:
    assert judge_waiting_inputs(ended(ExitReason.LOST), 99) is None


def test_out_of_memory_names_the_limit_and_what_to_do() -> None:
    verdict = judge_running_input(ended(ExitReason.OUT_OF_MEMORY, memory=256 * 2**20), losses=1)
    assert isinstance(verdict, Fail)
    assert "256 MiB" in verdict.message
    assert "memory=" in verdict.message


def test_waiting_inputs_wait_for_another_start_until_too_many_failed() -> None:
    assert judge_waiting_inputs(ended(ExitReason.FINISHED, code=1), STARTS_ALLOWED - 1) is None
    verdict = judge_waiting_inputs(ended(ExitReason.FINISHED, code=1), STARTS_ALLOWED)
    assert isinstance(verdict, Fail)
    assert "3 times in a row" in verdict.message


def test_a_start_that_runs_out_of_memory_is_not_tried_again() -> None:
    assert isinstance(judge_waiting_inputs(ended(ExitReason.OUT_OF_MEMORY), 1), Fail)


def test_a_container_stopped_before_it_was_ready_fails_nothing() -> None:
    assert judge_waiting_inputs(ended(ExitReason.STOPPED), 99) is None
