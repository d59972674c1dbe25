"""Stages, and what the last one needs."""

from __future__ import annotations

import pytest

from jiffy.image.dockerfile import DockerfileError
from jiffy.image.stages import plan_stages

THREE = """
ARG VERSION=3
FROM python:$VERSION AS build
RUN a
FROM build AS test
RUN --mount=type=bind,from=tools,target=/t b
FROM scratch AS tools
FROM alpine
COPY --from=build /x /x
COPY --from=2 /y /y
COPY --from=busybox /z /z
"""


def test_a_stage_knows_its_base_with_arguments_expanded() -> None:
    assert [stage.reference for stage in plan_stages(THREE, {}).stages] == ["python:3", "build", "scratch", "alpine"]


def test_a_build_argument_wins_over_the_default() -> None:
    assert plan_stages(THREE, {"VERSION": "4"}).stages[0].reference == "python:4"


def test_only_what_the_target_needs_is_needed() -> None:
    plan = plan_stages(THREE, {})
    assert plan.needs(plan.target) == {0, 2}


def test_a_stage_cannot_need_a_later_one_of_the_same_name() -> None:
    plan = plan_stages(THREE, {})
    assert plan.needs(plan.stages[1]) == {0}


def test_the_latest_of_several_stages_with_a_name_is_meant() -> None:
    plan = plan_stages("FROM x AS a\nFROM y AS a\nFROM A", {})
    assert plan.needs(plan.target) == {1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no FROM"),
        ("RUN a", "line 1: RUN before the first FROM"),
        ("ARG A\nFROM $A", "line 2: `FROM .A` names no image"),
        ("FROM ${A", "line 1: "),
    ],
)
def test_a_file_without_a_stage_is_refused(text: str, message: str) -> None:
    with pytest.raises(DockerfileError, match=message):
        plan_stages(text, {})
