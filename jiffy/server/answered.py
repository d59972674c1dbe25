"""Which RPCs were answered, for tests that say what works: with JIFFY_ANSWERED=FILE in its environment, a server notes there
each one that a client or a container got an answer to, once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from google.protobuf.message import Message

from jiffy.grpc.connection import Stream

if TYPE_CHECKING:
    from jiffy.server.service import Method

VARIABLE: Final = "JIFFY_ANSWERED"
_KINDS: Final = {"1": "client", "3": "container"}
Answer = Callable[["Method", Message, Stream], Awaitable[None]]


def noting_answers(answer: Answer) -> Answer:
    """The same; it notes what it does when that is asked for. What speaks without saying that it is a client is none."""
    if VARIABLE not in os.environ:
        return answer
    path, noted = Path(os.environ[VARIABLE]), set[str]()

    async def answer_and_note(method: Method, request: Message, stream: Stream) -> None:
        try:
            await answer(method, request, stream)
        except asyncio.CancelledError:
            if stream.has_begun:  # and its client has heard enough
                note(method, stream)
            raise
        note(method, stream)

    def note(method: Method, stream: Stream) -> None:
        kind = _KINDS.get(str(stream.metadata.get("x-modal-client-type", "")))
        line = f"{kind} {method.name}\n"
        if kind is not None and line not in noted:
            noted.add(line)
            with path.open("a") as file:
                file.write(line)

    return answer_and_note
