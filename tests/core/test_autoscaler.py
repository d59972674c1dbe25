from hypothesis import given
from hypothesis import strategies as st

from jiffy.core.autoscaler import (
    STARTING_AT_ONCE,
    Limits,
    Supply,
    containers_to_start,
    containers_wanted,
)

ONE_SLOT = Limits(minimum=0, maximum=100, slots=1)


def test_the_first_input_starts_a_container_at_once() -> None:
    assert containers_to_start(1, Supply(ready=0, starting=0), ONE_SLOT) == 1


def test_an_input_that_a_starting_container_will_take_starts_no_other() -> None:
    assert containers_to_start(1, Supply(ready=0, starting=1), ONE_SLOT) == 0


def test_nothing_to_do_needs_no_container() -> None:
    assert containers_to_start(0, Supply(ready=0, starting=0), ONE_SLOT) == 0


def test_the_minimum_is_kept_without_any_input() -> None:
    limits = Limits(minimum=2, maximum=100, slots=1)
    assert containers_to_start(0, Supply(ready=1, starting=0), limits) == 1


def test_a_container_with_slots_counts_for_as_many_inputs() -> None:
    assert containers_wanted(10, Limits(minimum=0, maximum=100, slots=4)) == 3


def test_a_burst_starts_a_few_at_a_time() -> None:
    assert containers_to_start(1000, Supply(ready=0, starting=0), ONE_SLOT) == STARTING_AT_ONCE


@given(
    inputs=st.integers(0, 10_000),
    ready=st.integers(0, 200),
    starting=st.integers(0, STARTING_AT_ONCE),
    maximum=st.integers(1, 100),
    slots=st.integers(1, 32),
)
def test_the_maximum_is_never_passed(inputs: int, ready: int, starting: int, maximum: int, slots: int) -> None:
    started = containers_to_start(inputs, Supply(ready, starting), Limits(minimum=0, maximum=maximum, slots=slots))
    assert started >= 0
    assert started == 0 or ready + starting + started <= maximum
