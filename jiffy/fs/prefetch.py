"""Prefetches of profiles, begun and cancelled by name, in threads of the lazy layer's daemon."""

from __future__ import annotations

import json
import logging
import socket
import threading
from typing import Final

from jiffy.errors import JiffyError
from jiffy.fs.profile import read_profile
from jiffy.objects.base import Digest
from jiffy.objects.tiers import Tiers

logger = logging.getLogger(__name__)

CATALOGUE: Final = "catalogue"
"""The name under which a list is not to be fetched, but to be known."""

_LARGEST_MESSAGE: Final = 4096


class Prefetches:
    """`name` is any text that tells prefetches apart, such as a container's id."""

    def __init__(self, tiers: Tiers) -> None:
        self._tiers = tiers
        self._cancellations: dict[str, threading.Event] = {}
        self._catalogues: set[Digest] = set()

    def begin(self, name: str, profile: Digest) -> None:
        cancelled = self._cancellations[name] = threading.Event()
        threading.Thread(target=self._run, args=(name, profile, cancelled), daemon=True).start()

    def cancel(self, name: str) -> None:
        """Nothing happens when it has ended."""
        if (cancelled := self._cancellations.pop(name, None)) is not None:
            cancelled.set()

    def obey(self, control: socket.socket) -> None:
        """Do what is asked for through a socket of packets, until its other end is closed."""
        while packet := control.recv(_LARGEST_MESSAGE):
            message = json.loads(packet)
            if message["name"] == CATALOGUE:
                threading.Thread(target=self._learn, args=(message["profile"],), daemon=True).start()
            elif message["profile"]:
                self.begin(message["name"], message["profile"])
            else:
                self.cancel(message["name"])

    def _learn(self, catalogue: Digest) -> None:
        """Know the objects of an image in the order of their paths, to read ahead by."""
        if catalogue in self._catalogues:
            return
        try:
            self._tiers.neighbours.add(read_profile(self._tiers.ensure(catalogue).read_bytes()))
            self._catalogues.add(catalogue)
        except JiffyError as error:
            logger.info("nothing is read ahead: %s", error)

    def _run(self, name: str, profile: Digest, cancelled: threading.Event) -> None:
        try:
            digests = read_profile(self._tiers.ensure(profile).read_bytes())
            self._tiers.prefetch(digests, cancelled)
        except JiffyError as error:
            logger.info("nothing is prefetched for %s: %s", name, error)
        finally:
            self._cancellations.pop(name, None)


def ask(control: socket.socket, name: str, profile: Digest) -> None:
    """Ask the daemon at the other end to begin; with no profile, to cancel."""
    control.send(json.dumps({"name": name, "profile": profile}).encode())
