"""Messages between server and worker survive the journey, and nonsense is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jiffy.core.actions import Action, LaunchContainer, StopContainer
from jiffy.core.events import (
    ContainerExited,
    ContainerStarted,
    Event,
    LogWritten,
    StartRecorded,
    WorkerConnected,
    WorkerReported,
)
from jiffy.core.messages import describe, read_action, read_event
from jiffy.errors import InvalidError

ACTIONS = st.one_of(st.builds(LaunchContainer), st.builds(StopContainer))
EVENTS = st.one_of(
    *(
        st.builds(kind)
        for kind in (WorkerConnected, WorkerReported, ContainerStarted, StartRecorded, LogWritten, ContainerExited)
    )
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(action=ACTIONS)
def test_an_action_arrives_as_it_was_sent(action: Action) -> None:
    assert read_action(json.loads(json.dumps(describe(action), allow_nan=True))) == action or _has_nan(action)


@given(event=EVENTS)
def test_an_event_arrives_as_it_was_sent(event: Event) -> None:
    assert read_event(json.loads(json.dumps(describe(event), allow_nan=True))) == event or _has_nan(event)


def _has_nan(message: Action | Event) -> bool:
    return "NaN" in json.dumps(describe(message))


@given(data=JSON)
def test_what_is_no_message_is_refused(data: object) -> None:
    for read in (read_action, read_event):
        with pytest.raises(InvalidError):
            read(data)


@pytest.mark.parametrize(
    "data",
    [
        {"kind": "LaunchContainer"},
        {"kind": "LaunchContainer", "task_id": "ta", "layers": [], "argv": [], "files": {"/x": "no base64!"}},
        {"kind": "StopContainer", "task_id": "ta", "reason": "", "grace_seconds": "soon"},
        {"kind": "ContainerExited", "task_id": "ta"},
    ],
)
def test_a_message_with_missing_or_broken_fields_is_refused(data: object) -> None:
    with pytest.raises(InvalidError):
        read_action(data)


def test_an_event_is_no_action() -> None:
    with pytest.raises(InvalidError):
        read_action(describe(LogWritten("ta", 1, "x", 0.0)))
