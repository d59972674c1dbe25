"""Builds find their images where they should, and tell passwords to nobody else."""

from __future__ import annotations

from typing import Any, cast

import pytest

from jiffy.image.registry import Credentials
from jiffy.image.stages import plan_stages
from jiffy.server.bases import Bases
from jiffy.server.builder import _Job
from jiffy.server.definitions import Definition
from jiffy.server.stage_run import Workshop
from jiffy.store.images import ImageContent

DOCKERFILE = "FROM private.example.com/team/base:1\nCOPY --from=elsewhere.example.com/x /a /b\n"
CONTENT = ImageContent(layers=("0" * 64,), python="", python_version_info="")


class Asked:
    """Stands for all bases, and notes who was told a password."""

    def __init__(self) -> None:
        self.told: dict[str, bool] = {}

    async def find(self, reference: str, credentials: Credentials | None, report: Any) -> ImageContent:
        self.told[reference] = credentials is not None
        return CONTENT


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("private.example.com/team/base:1", True),
        ("private.example.com/team/other", True),
        ("elsewhere.example.com/x", False),
        ("python:3.12", False),
    ],
)
async def test_a_password_is_for_the_registry_of_the_first_image(reference: str, told: bool) -> None:
    definition = Definition(
        identity="",
        builder_version="2026.10",
        lines=(),
        bases={},
        context="",
        context_files=(),
        build_arguments={},
        credentials=Credentials("me", "sesame"),
    )
    asked = Asked()
    job = _Job(cast(Workshop, None), cast(Bases, asked), definition, plan_stages(DOCKERFILE, {}), print)
    assert await job._find_image(reference) == CONTENT
    assert asked.told == {reference: told}
