"""Sources: the places beyond this host that have objects, the nearest first, as one.

A source that does not answer is left alone for a while, and the next one is asked. When none has answered well they are
asked again, after pauses that grow, until a deadline.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Final

from jiffy.errors import CorruptError, InvalidError, JiffyError, NotFoundError, UnauthenticatedError, UnavailableError
from jiffy.objects.base import Digest, Parts, Receive, Source, Span, T
from jiffy.objects.cloud import SCHEMES, CloudObjects
from jiffy.objects.http import HttpObjects

logger = logging.getLogger(__name__)

_BROKEN_TRIES: Final = 3
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0
_REST_SECONDS: Final = 5.0
_NEAR_STALL: Final = 2.0
"""Seconds for which a source may be silent when there is another one behind it."""

_FAR_STALL: Final = 10.0


class Sources:
    """`deadline`: seconds for which a fetch is tried again. Thread-safe."""

    def __init__(self, sources: Sequence[Source], *, deadline: float = 20.0) -> None:
        self._sources = sources
        self._deadline = deadline
        self._resting: dict[str, float] = {}

    @property
    def round_trip(self) -> float:
        """Of the source that is asked first, in seconds."""
        return self._in_turn()[0].round_trip

    def fetch(self, digest: Digest, take: Callable[[Parts], T], span: Span | None = None, chunks: Digest = "") -> T:
        """Hand an object, or a span of it, in parts to `take`, anew for each try, which verifies them; gives what that
        gives. Raises NotFoundError, UnauthenticatedError, UnavailableError at the deadline, CorruptError when the bytes
        stay wrong."""
        return self._try(lambda source: source.fetch(digest, take, span, chunks), f"object {digest}")

    def fetch_many(self, digests: Sequence[Digest], receive: Receive) -> None:
        """Ask for many objects at once; what one source lacks is asked of the next. Tried once: raises when the last
        one that was needed failed."""
        missing = list(digests)
        failure: JiffyError | None = None
        for source in self._in_turn():
            came: set[Digest] = set()

            def note(digest: Digest, parts: Parts, came: set[Digest] = came) -> None:
                receive(digest, parts)
                came.add(digest)

            try:
                failure = None
                source.fetch_many(missing, note)
            except UnavailableError as error:
                failure = error
                self._rest(source, error)
            except (CorruptError, UnauthenticatedError) as error:
                failure = error
            missing = [digest for digest in missing if digest not in came]
            if not missing:
                return
        if failure is not None:
            raise failure

    def _try(self, attempt: Callable[[Source], T], what: str) -> T:
        deadline = time.monotonic() + self._deadline
        pause = _FIRST_PAUSE
        broken = 0
        while True:
            errors: list[JiffyError] = []
            for source in self._in_turn():
                try:
                    return attempt(source)
                except UnavailableError as error:
                    self._rest(source, error)
                    errors.append(error)
                except CorruptError as error:
                    broken += 1
                    if broken == _BROKEN_TRIES:
                        raise
                    logger.warning("fetching again from %s: %s", source.name, error)
                    errors.append(error)
                except (NotFoundError, UnauthenticatedError) as error:
                    errors.append(error)
            if all(isinstance(error, NotFoundError | UnauthenticatedError) for error in errors):
                raise errors[-1]
            if time.monotonic() + pause > deadline:
                raise UnavailableError(f"{what} cannot be fetched", why="; ".join(map(str, errors)))
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(_LONGEST_PAUSE, pause * 2)

    def _in_turn(self) -> list[Source]:
        now = time.monotonic()
        awake = [source for source in self._sources if self._resting.get(source.name, 0) <= now]
        return awake or list(self._sources)

    def _rest(self, source: Source, error: JiffyError) -> None:
        if len(self._sources) > 1:
            logger.warning("left alone for %g seconds: %s", _REST_SECONDS, error)
        self._resting[source.name] = time.monotonic() + _REST_SECONDS


def open_sources(urls: Sequence[str], token: str, *, deadline: float = 20.0) -> Sources | None:
    """What addresses name, the nearest first: http(s) of object servers, which all take the token, or s3, gs, az and file.
    None for none."""
    if not urls:
        return None
    stalls = [_NEAR_STALL] * (len(urls) - 1) + [_FAR_STALL]
    return Sources(
        [_open_source(url, token, stall) for url, stall in zip(urls, stalls, strict=True)], deadline=deadline
    )


def _open_source(url: str, token: str, stall: float) -> Source:
    scheme = url.partition("://")[0]
    if scheme in ("http", "https"):
        return HttpObjects(url, token, stall=stall)
    if scheme in SCHEMES:
        return CloudObjects(url, stall=stall)
    known = ", ".join(f"{each}://" for each in ("http", "https", *SCHEMES))
    raise InvalidError(f"{url!r} is no place for objects", hint=f"an address begins with one of {known}")
