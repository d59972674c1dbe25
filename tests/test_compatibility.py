"""docs/COMPATIBILITY.md says what is so today."""

from __future__ import annotations

import pytest

from jiffy.server.service import METHODS
from tests import compatibility
from tests.compatibility import (
    PAGE,
    answered_methods,
    feature_rows,
    page,
    shown_on_page,
    unknown_programs,
    what_is_stale,
)
from tests.rpcs import SOMETIMES, all_needed


def test_the_page_is_what_the_tests_and_the_server_make_of_it() -> None:
    assert PAGE.read_text() == page(), "run python -m tests.compatibility"


def test_an_rpc_counts_as_answered_only_when_a_noun_has_it() -> None:
    answered = answered_methods()
    assert {"FunctionMap", "VolumePutFiles2", "ClientHello"} <= answered
    assert "SandboxCreateV2" not in answered


@pytest.mark.parametrize("feature, cell", feature_rows())
def test_each_feature_names_programs_that_show_it(feature: str, cell: str) -> None:
    assert cell, feature
    assert unknown_programs(cell) == []


def test_a_program_that_nobody_wrote_is_noticed() -> None:
    assert unknown_programs("calls; nowhere; calls: it flies") == ["nowhere", "calls: it flies"]


def test_what_is_needed_is_part_of_the_wire_api() -> None:
    assert all_needed() | SOMETIMES <= {method.name for method in METHODS}


def test_the_page_is_stale_when_what_it_shows_is_not_shown_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compatibility, "shown_on_page", lambda: {"FunctionMap", "VolumeList"})
    assert what_is_stale({"FunctionMap", "VolumeList", "SecretList"}) == ""
    assert what_is_stale({"FunctionMap"}) == "no program shows VolumeList"


def test_only_what_is_answered_is_shown() -> None:
    assert shown_on_page() <= answered_methods() - SOMETIMES
