"""The loop in which a thread of the daemon answers the requests of one descriptor."""

from __future__ import annotations

import contextlib
import errno
import logging
from typing import Final, Protocol

from jiffy.errors import JiffyError, NotFoundError
from jiffy.fs import wire
from jiffy.fs.ledger import RequestLedger
from jiffy.fs.wire import Operation, Request

logger = logging.getLogger(__name__)

_NO_ANSWER: Final = (Operation.FORGET, Operation.BATCH_FORGET, Operation.INTERRUPT)
_TRANSIENT: Final = (errno.EINTR, errno.ENOENT, errno.EAGAIN)


class Filesystem(Protocol):
    """What is mounted. Called by several threads at once."""

    def answer(self, request: Request) -> tuple[bytes, ...]:
        """The parts of the answer; OSError or JiffyError for an error."""

    def release(self, request: Request) -> None:
        """An open file was closed; whoever closed it has been answered."""


def serve(filesystem: Filesystem, descriptor: int, ledger: RequestLedger, thread: int) -> None:
    """Answer requests until the mount is gone; first the one that a daemon that died was at."""
    if ledger.is_pending(thread):
        logger.info("answering what the last daemon was asked")
        _try_to_answer(filesystem, descriptor, wire.parse_request(ledger.buffer(thread)), ledger, thread)
    while True:
        try:
            request = wire.read_request(descriptor, ledger.buffer(thread))
        except OSError as error:
            if error.errno == errno.ENODEV:
                return
            if error.errno not in _TRANSIENT:
                raise
        else:
            _try_to_answer(filesystem, descriptor, request, ledger, thread)


def _try_to_answer(
    filesystem: Filesystem, descriptor: int, request: Request, ledger: RequestLedger, thread: int
) -> None:
    """Nothing happens when nobody waits for the answer any more. An answer that the kernel does not take is an error for
    whoever waits."""
    try:
        _answer(filesystem, descriptor, request)
    except OSError as error:
        if error.errno not in (*_TRANSIENT, errno.ENODEV):
            logger.exception("the answer to operation %d was not taken", request.operation)
            with contextlib.suppress(OSError):
                wire.send_error(descriptor, request.unique, errno.EIO)
    ledger.clear(thread)
    if request.operation == Operation.RELEASE:
        filesystem.release(request)


def _answer(filesystem: Filesystem, descriptor: int, request: Request) -> None:
    if request.operation in _NO_ANSWER:
        return
    if request.operation == Operation.RELEASE:
        wire.send_reply(descriptor, request.unique)
        return
    try:
        parts = filesystem.answer(request)
    except OSError as error:
        wire.send_error(descriptor, request.unique, error.errno or errno.EIO)
    except NotFoundError as error:
        logger.error("%s", error)
        wire.send_error(descriptor, request.unique, errno.ENOENT)
    except JiffyError as error:
        logger.error("%s", error)
        wire.send_error(descriptor, request.unique, errno.EIO)
    except Exception:  # whoever waits must not wait for ever
        logger.exception("cannot answer operation %d", request.operation)
        wire.send_error(descriptor, request.unique, errno.EIO)
    else:
        wire.send_reply(descriptor, request.unique, *parts)
