"""docs/COMPATIBILITY.md says what is so today."""

from __future__ import annotations

from tests.compatibility import PAGE, answered_methods, page


def test_the_page_is_what_the_tests_and_the_server_make_of_it() -> None:
    assert PAGE.read_text() == page(), "run python -m tests.compatibility"


def test_an_rpc_counts_as_answered_only_when_a_noun_has_it() -> None:
    answered = answered_methods()
    assert {"FunctionMap", "VolumePutFiles2", "ClientHello"} <= answered
    assert "SandboxCreateV2" not in answered
