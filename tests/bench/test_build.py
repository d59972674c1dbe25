"""The benchmark of builds reads its times from what a step prints."""

from __future__ import annotations

from bench.build import _step_seconds


def test_a_step_lasts_from_the_first_time_that_it_prints_to_the_second() -> None:
    output = "=> Step 1: RUN date +at-%s.%N; pip\nat-10.500000000\nSuccessfully installed\nat-12.750000000\n"
    assert _step_seconds(output) == 2.25


def test_of_several_steps_the_last_counts() -> None:
    assert _step_seconds("at-1.0\nat-2.0\nat-5.0\nat-9.0\n") == 4.0
