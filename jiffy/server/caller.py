"""Who calls: a client with a token, or a container known by its address."""

from __future__ import annotations

from dataclasses import dataclass

from jiffy.errors import UnauthenticatedError
from jiffy.grpc.connection import Stream
from jiffy.identifiers import derived_id, random_id

HOST_HEADER = "x-modal-host"
"""By what name the caller reaches this server: clients before 1.5 do not say so, but ask it by that name."""
HTTP_PORT_HEADER = "x-jiffy-http-port"
AUTHORITY_HEADER = "x-jiffy-authority"
"""Set by a server that has another one answer: where the caller reaches it by HTTP, and by gRPC."""


@dataclass(frozen=True, slots=True)
class Caller:
    """One request's caller. `task_id` is set for containers, `token_id` for clients. `host` is the name that the caller
    used for this server and `http_port` where it answers HTTP there: addresses given to it have both. `authority` is the
    host and port of the request itself."""

    token_id: str
    task_id: str
    client_version: str
    host: str
    http_port: int
    idempotency_key: str
    authority: str = ""

    def new_id(self, prefix: str, *parts: str) -> str:
        """A fresh id; the same one when the client repeats its request."""
        if not self.idempotency_key:
            return random_id(prefix)
        return derived_id(prefix, self.token_id, self.task_id, self.idempotency_key, *parts)

    def endpoint_url(self, label: str) -> str:
        """Where a web endpoint is reached from the host of the server."""
        return f"http://{label}.localhost:{self.http_port}"

    def url(self, path: str) -> str:
        """The address of something that this server answers by HTTP, as the caller reaches it."""
        return f"http://{self.host or '127.0.0.1'}:{self.http_port}{path}"

    def require_task(self) -> str:
        """The calling container's id."""
        if not self.task_id:
            raise UnauthenticatedError("this request is for containers", why="it came from a client")
        return self.task_id


def read_caller(stream: Stream, *, token_id: str, task_id: str, http_port: int) -> Caller:
    """The caller of a request, from its metadata and from who it was shown to be."""

    def text(name: str) -> str:
        value = stream.metadata.get(name, "")
        return value.decode() if isinstance(value, bytes) else value

    return Caller(
        token_id=token_id,
        task_id=task_id,
        client_version=text("x-modal-client-version"),
        host=(text(HOST_HEADER) or stream.authority).partition(":")[0],
        http_port=int(text(HTTP_PORT_HEADER) or http_port),
        idempotency_key=text("x-idempotency-key"),
        authority=text(AUTHORITY_HEADER) or stream.authority,
    )
