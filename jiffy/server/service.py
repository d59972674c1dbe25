"""The gRPC services: every RPC of the wire API and of its command router, dispatched to the noun that answers it.

A noun is an object with a coroutine, or an async generator for a stream, named as the RPC in snake case. An RPC that no
noun has is answered UNIMPLEMENTED with a sentence: an empty answer would mislead the client.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from google.protobuf import message_factory
from google.protobuf.message import DecodeError, Message
from grpclib import GRPCError, Status
from modal_proto import api_pb2, task_command_router_pb2

from jiffy.errors import (
    ConflictError,
    ExhaustedError,
    InvalidError,
    JiffyError,
    NotFoundError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
)
from jiffy.grpc.connection import Stream
from jiffy.server.answered import noting_answers
from jiffy.server.caller import Caller

logger = logging.getLogger(__name__)

_STATUS: Final[Mapping[type[JiffyError], Status]] = {
    NotFoundError: Status.NOT_FOUND,
    InvalidError: Status.INVALID_ARGUMENT,
    ConflictError: Status.ALREADY_EXISTS,
    UnauthenticatedError: Status.UNAUTHENTICATED,
    ExhaustedError: Status.RESOURCE_EXHAUSTED,
    UnavailableError: Status.UNAVAILABLE,
    UnsupportedError: Status.FAILED_PRECONDITION,
}


@dataclass(frozen=True, slots=True)
class Method:
    """An RPC of the wire API. `path` names it in a request. `streams`: it has many answers."""

    name: str
    path: str
    request: type[Message]
    answer: type[Message]
    streams: bool


_SERVICES: Final = (
    api_pb2.DESCRIPTOR.services_by_name["ModalClient"],
    task_command_router_pb2.DESCRIPTOR.services_by_name["TaskCommandRouter"],
)
METHODS, ROUTER_METHODS = (
    tuple(
        Method(
            each.name,
            f"/{service.full_name}/{each.name}",
            message_factory.GetMessageClass(each.input_type),
            message_factory.GetMessageClass(each.output_type),
            each.server_streaming,
        )
        for each in service.methods
    )
    for service in _SERVICES
)
_METHODS: Final = {method.path: method for method in (*METHODS, *ROUTER_METHODS)}

Handler = Callable[[Any, Caller], Awaitable[Message] | AsyncIterator[Message]]


class Identify(Protocol):
    """Tells who sent a request, or raises UnauthenticatedError."""

    async def __call__(self, stream: Stream) -> Caller: ...


class Check(Protocol):
    """Raises a JiffyError for a request that means nothing here, whatever it is for."""

    async def __call__(self, request: Message) -> None: ...


class Forward(Protocol):
    """Has another server answer a request."""

    async def __call__(self, method: Method, request: Message, stream: Stream) -> None: ...


class Service:
    """One listener's view of the API. `identify` differs: clients show a token, containers have an address. What no noun
    answers is left to `forward`, if it is given, and checked there."""

    def __init__(
        self, nouns: Sequence[object], identify: Identify, check: Check, forward: Forward | None = None
    ) -> None:
        self._identify = identify
        self._check = check
        self._forward = forward
        self._answer = noting_answers(self._answer_request)
        self._handlers = {
            path: handler for path, method in _METHODS.items() if (handler := _find(nouns, method.name)) is not None
        }

    async def __call__(self, stream: Stream) -> None:
        if (method := _METHODS.get(stream.path)) is None:
            raise GRPCError(Status.UNIMPLEMENTED, f"the wire API has no {stream.path}")
        try:
            request = method.request.FromString(stream.request)
        except DecodeError as error:
            raise GRPCError(Status.INVALID_ARGUMENT, f"this is no {method.request.DESCRIPTOR.name}") from error
        try:
            await self._answer(method, request, stream)
        except JiffyError as error:
            raise GRPCError(_status(error), str(error)) from error
        except (GRPCError, ConnectionError):
            raise
        except Exception as error:
            logger.exception("%s failed", method.name)
            raise GRPCError(Status.INTERNAL, f"jiffy failed in {method.name}: {error!r}; see its log") from error

    async def _answer_request(self, method: Method, request: Message, stream: Stream) -> None:
        caller = await self._identify(stream)
        handler = self._handlers.get(method.path)
        if handler is None and self._forward is not None:
            await self._forward(method, request, stream)
            return
        if handler is None:
            raise GRPCError(Status.UNIMPLEMENTED, f"this version of jiffy does not answer {method.name} yet")
        await self._check(request)
        answer = handler(request, caller)
        if isinstance(answer, AsyncIterator):
            async for message in answer:
                await stream.send(message.SerializeToString())
        else:
            await stream.answer((await answer).SerializeToString())


def _find(nouns: Sequence[object], name: str) -> Handler | None:
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    handlers = [getattr(noun, snake) for noun in nouns if hasattr(noun, snake)]
    assert len(handlers) <= 1, f"{name} has two handlers"
    return handlers[0] if handlers else None


def _status(error: JiffyError) -> Status:
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), Status.INTERNAL)
