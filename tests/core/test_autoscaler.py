from hypothesis import given
from hypothesis import strategies as st

from jiffy.core.autoscaler import (
    STARTING_AT_ONCE,
    Demand,
    Limits,
    Pace,
    Supply,
    containers_to_start,
    containers_wanted,
)

ONE_SLOT = Limits(minimum=0, maximum=100, slots=1)
NOBODY = Supply(ready=0, starting=0)


def measured(input_seconds: float, start_seconds: float = 0.5) -> Pace:
    pace = Pace()
    pace.note_start(start_seconds)
    pace.note_inputs(input_seconds, 100)
    return pace


def test_the_first_input_starts_a_container_at_once() -> None:
    assert containers_to_start(Demand(1), NOBODY, ONE_SLOT, Pace(), 0) == 1


def test_an_input_that_a_starting_container_will_take_starts_no_other() -> None:
    assert containers_to_start(Demand(1), Supply(ready=0, starting=1), ONE_SLOT, Pace(), 0) == 0


def test_nothing_to_do_needs_no_container() -> None:
    assert containers_to_start(Demand(0), NOBODY, ONE_SLOT, Pace(), 0) == 0


def test_the_minimum_is_kept_without_any_input_and_started_at_once() -> None:
    limits = Limits(minimum=20, maximum=100, slots=1)
    assert containers_to_start(Demand(0), Supply(ready=1, starting=0), limits, Pace(), 0) == 19


def test_a_container_with_slots_counts_for_as_many_inputs() -> None:
    assert containers_wanted(Demand(6, 4), Limits(minimum=0, maximum=100, slots=4), Pace(), 0) == 3


def test_a_burst_of_unknown_inputs_starts_a_few_at_a_time() -> None:
    assert containers_to_start(Demand(1000), NOBODY, ONE_SLOT, Pace(), 0) == STARTING_AT_ONCE
    later = containers_to_start(Demand(996, 4), Supply(ready=4, starting=0), ONE_SLOT, Pace(), 0)
    assert later == STARTING_AT_ONCE + 4


def test_a_queue_that_waits_longer_than_a_start_takes_starts_more_at_once() -> None:
    pace = Pace(start_seconds=0.5)
    assert containers_to_start(Demand(1000, 0, 1.1), NOBODY, ONE_SLOT, pace, 0) == 4 * STARTING_AT_ONCE


def test_inputs_that_are_known_to_run_long_get_a_container_each_at_once() -> None:
    assert containers_to_start(Demand(50), NOBODY, ONE_SLOT, measured(10.0), 0) == 50


def test_a_queue_that_is_empty_before_another_could_start_needs_no_other() -> None:
    one = Supply(ready=1, starting=0)
    assert containers_to_start(Demand(20, 1), one, ONE_SLOT, measured(0.01), 0) == 0
    assert containers_to_start(Demand(200, 1), one, ONE_SLOT, measured(0.01), 0) == 4


def test_a_queue_that_is_not_emptied_as_expected_gets_containers_all_the_same() -> None:
    assert containers_wanted(Demand(20, 1, oldest_seconds=3.0), ONE_SLOT, measured(0.01), 0) == 21


def test_what_arrives_all_the_time_counts_before_it_waits() -> None:
    pace = measured(0.2)
    for second in range(30):
        pace.note_arrivals(40, float(second))
    assert 7 <= pace.arrivals_per_second(30.0) * 0.2 <= 8
    assert containers_wanted(Demand(10, 5), ONE_SLOT, pace, 30.0) >= 7


def test_a_buffer_is_kept_while_there_is_work_only() -> None:
    limits = Limits(minimum=0, maximum=100, slots=1, buffer=2)
    assert containers_wanted(Demand(0, 1), limits, Pace(), 0) == 3
    assert containers_wanted(Demand(0, 0), limits, Pace(), 0) == 0


@given(
    waiting=st.integers(0, 10_000),
    running=st.integers(0, 1000),
    oldest=st.floats(0, 1e6),
    ready=st.integers(0, 200),
    starting=st.integers(0, 200),
    maximum=st.integers(1, 100),
    slots=st.integers(1, 32),
    seconds=st.one_of(st.none(), st.floats(0, 1e5)),
)
def test_the_maximum_is_never_passed(
    waiting: int,
    running: int,
    oldest: float,
    ready: int,
    starting: int,
    maximum: int,
    slots: int,
    seconds: float | None,
) -> None:
    limits = Limits(minimum=0, maximum=maximum, slots=slots)
    pace = Pace(input_seconds=seconds)
    started = containers_to_start(Demand(waiting, running, oldest), Supply(ready, starting), limits, pace, 0)
    assert started >= 0
    assert started == 0 or ready + starting + started <= maximum
