"""The errors of jiffy, one tree. Each says what happened, why, and what to do; the edge turns it into a gRPC status."""

from __future__ import annotations


class JiffyError(Exception):
    """Something a person can act on. `why` and `hint` are short sentences, empty when there is nothing to add."""

    def __init__(self, what: str, *, why: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.hint = hint

    def __str__(self) -> str:
        text = self.what
        if self.why:
            text += f": {self.why}"
        if self.hint:
            text += f" ({self.hint})"
        return text


class NotFoundError(JiffyError):
    """A named thing does not exist, or belongs to somebody else."""


class InvalidError(JiffyError):
    """The request itself is wrong and will stay wrong."""


class ConflictError(JiffyError):
    """The thing exists already, or is in a state that forbids the request."""


class UnauthenticatedError(JiffyError):
    """No token, or one that this server did not issue."""


class ExhaustedError(JiffyError):
    """A limit was reached (disk, queue, rate); it may pass."""


class UnavailableError(JiffyError):
    """A dependency did not answer within its deadline; it may pass."""


class UnsupportedError(JiffyError):
    """This version of jiffy, or this kernel, cannot do it."""


class CorruptError(JiffyError):
    """Bytes did not match their digest."""


def is_passing(error: JiffyError) -> bool:
    """Whether the same may succeed in a moment."""
    return isinstance(error, UnavailableError | ExhaustedError)
