"""What the lazy layer's daemon is told about starts: what to prefetch, what lies beside what, which objects have chunks.

Requests come through a socket of packets, and are done in threads.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import Final

from jiffy.errors import JiffyError
from jiffy.objects.base import Digest
from jiffy.objects.catalogue import read_catalogue
from jiffy.objects.chunks import read_chunk_map
from jiffy.objects.pack import read_packed_profile
from jiffy.objects.partial import Partials
from jiffy.objects.tiers import Tiers

logger = logging.getLogger(__name__)

_LARGEST_MESSAGE: Final = 4096
_LARGE_AT_ONCE: Final = 4


class Request(StrEnum):
    """Each names an object, but CANCEL, which names a start."""

    PREFETCH = "prefetch"
    CANCEL = "cancel"
    CATALOGUE = "catalogue"
    CHUNK_MAP = "chunk map"


class Prefetches:
    """A start is named by any text that tells starts apart, such as a container's id."""

    def __init__(self, tiers: Tiers, partials: Partials) -> None:
        self._tiers = tiers
        self._partials = partials
        self._cancellations: dict[str, threading.Event] = {}
        self._known: set[Digest] = set()

    def obey(self, control: socket.socket) -> None:
        """Do what is asked for until the other end of the socket is closed."""
        while packet := control.recv(_LARGEST_MESSAGE):
            message = json.loads(packet)
            request, name, digest = Request(message["request"]), str(message["start"]), str(message["digest"])
            match request:
                case Request.PREFETCH:
                    cancelled = self._cancellations[name] = threading.Event()
                    _in_thread(self._prefetch, name, digest, cancelled)
                case Request.CANCEL:
                    self._cancel(name)
                case Request.CATALOGUE:
                    _in_thread(self._learn_catalogue, digest)
                case Request.CHUNK_MAP:
                    _in_thread(self._learn_chunk_map, digest, self._partials.expect_map())

    def _cancel(self, name: str) -> None:
        """Nothing happens when it has ended."""
        if (cancelled := self._cancellations.pop(name, None)) is not None:
            cancelled.set()

    def _learn_catalogue(self, digest: Digest) -> None:
        if digest in self._known:
            return
        try:
            self._tiers.neighbours.add(read_catalogue(self._tiers.read(digest)))
            self._known.add(digest)
        except JiffyError as error:
            logger.info("nothing is read ahead: %s", error)

    def _learn_chunk_map(self, digest: Digest, done: Callable[[], None]) -> None:
        """The lists follow at once: a large file that is opened needs its own."""
        try:
            if digest not in self._known:
                lists = read_chunk_map(self._tiers.read(digest))
                self._partials.learn(lists)
                self._known.add(digest)
                done()
                self._tiers.prefetch(list(lists.values()), threading.Event())
        except JiffyError as error:
            logger.info("large objects are fetched whole: %s", error)
        finally:
            done()

    def _prefetch(self, name: str, profile: Digest, cancelled: threading.Event) -> None:
        """Small objects first: many are waited for, and of large ones parts will do."""
        try:
            pack, wanted = read_packed_profile(self._tiers.read(profile))
            self._partials.await_maps()
            large = {digest: ranges for digest, ranges in wanted.items() if self._partials.knows(digest)}
            with ThreadPoolExecutor(_LARGE_AT_ONCE, thread_name_prefix="prefetch-large") as pool:
                for digest, ranges in large.items():
                    pool.submit(self._partials.prefetch, digest, ranges, cancelled)
                if pack is not None:
                    self._tiers.prefetch_pack(pack, cancelled)
                self._tiers.prefetch([digest for digest in wanted if digest not in large], cancelled)
        except JiffyError as error:
            logger.info("nothing is prefetched for %s: %s", name, error)
        finally:
            self._cancellations.pop(name, None)


def ask(control: socket.socket, request: Request, start: str, digest: Digest) -> None:
    """Ask the daemon at the other end."""
    control.send(json.dumps({"request": request, "start": start, "digest": digest}).encode())


def _in_thread(job: Callable[..., None], *arguments: object) -> None:
    threading.Thread(target=job, args=arguments, daemon=True).start()
