"""Actions and events as JSON, for the connection between server and worker."""

from __future__ import annotations

import base64
import binascii
import dataclasses
from functools import cache
from typing import Any, cast, get_args

from pydantic import TypeAdapter, ValidationError

from jiffy.core.actions import Action, LaunchContainer
from jiffy.core.events import Event
from jiffy.errors import InvalidError


def describe(message: Action | Event) -> dict[str, Any]:
    """A message as JSON values: its fields, its kind, and bytes in base64."""
    fields = dataclasses.asdict(message)
    if isinstance(message, LaunchContainer):
        fields["files"] = {path: base64.b64encode(data).decode() for path, data in message.files.items()}
    return {"kind": type(message).__name__, **fields}


def read_action(data: object) -> Action:
    """The action that JSON values describe; InvalidError when they describe none."""
    return cast(Action, _read(data, get_args(Action)))


def read_event(data: object) -> Event:
    """The event that JSON values describe; InvalidError when they describe none."""
    return cast(Event, _read(data, get_args(Event)))


def _read(data: object, kinds: tuple[type, ...]) -> object:
    if not isinstance(data, dict):
        raise InvalidError("a message is not an object")
    fields = dict(data)
    kind = next((kind for kind in kinds if kind.__name__ == fields.get("kind")), None)
    if kind is None:
        raise InvalidError(f"no message is of kind {fields.get('kind')!r}")
    del fields["kind"]
    try:
        if kind is LaunchContainer:
            fields["files"] = {
                path: base64.b64decode(text, validate=True) for path, text in dict(fields.get("files", {})).items()
            }
        return _adapter(kind).validate_python(fields)
    except (ValidationError, TypeError, ValueError, binascii.Error) as error:
        raise InvalidError(f"a broken {kind.__name__}", why=str(error)[:300]) from error


@cache
def _adapter(kind: type) -> TypeAdapter[object]:
    return TypeAdapter(kind)
