"""The daemon that answers for all lazy mounts of a host: `python -m jiffy.fs.daemon`.

Its parent makes the mounts, keeps their descriptors and ledgers, and hands them over; when the daemon dies, the next one is
handed the same and goes on. The daemon ends when its parent does.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from jiffy.datadir import DataDirectory, read_token
from jiffy.errors import JiffyError
from jiffy.fs.contents import Contents
from jiffy.fs.lazy import FIRST_OBJECT, LazyLayer
from jiffy.fs.ledger import BackingLedger, NodeLedger, OpenLedger, RequestLedger
from jiffy.fs.plain import PlainTree
from jiffy.fs.prefetch import Prefetches
from jiffy.fs.serving import Filesystem, serve
from jiffy.fs.tuning import Tuning
from jiffy.image.erofs_tree import ErofsTree
from jiffy.objects.base import Digest
from jiffy.objects.local import LocalObjects
from jiffy.objects.partial import Partials
from jiffy.objects.sources import open_sources
from jiffy.objects.tiers import Tiers

logger = logging.getLogger(__name__)

LEDGERS: Final = ("backings", "nodes", "opens", "requests")
_PATIENCE: Final = 90.0
"""Seconds for which readers wait for sources that are away, until they get an error."""

_LARGEST_MESSAGE: Final = 4096
_MOST_DESCRIPTORS: Final = 64


@dataclass(frozen=True, slots=True)
class Connection:
    """A FUSE connection: its descriptors, one a thread, and what each ledger is kept in. `tree` is the EROFS image whose
    tree is shown; empty for the lazy layer."""

    tree: Digest
    tuning: Tuning
    descriptors: Sequence[int]
    ledgers: Mapping[str, int]

    def send(self, to: socket.socket) -> None:
        message = json.dumps({"tree": self.tree, "tuning": asdict(self.tuning)}).encode()
        socket.send_fds(to, [message], [*(self.ledgers[name] for name in LEDGERS), *self.descriptors])

    @classmethod
    def receive(cls, of: socket.socket) -> Connection | None:
        """None when nobody will send another."""
        message, descriptors, _, _ = socket.recv_fds(of, _LARGEST_MESSAGE, _MOST_DESCRIPTORS)
        if not message:
            return None
        ledgers = dict(zip(LEDGERS, descriptors, strict=False))
        told = json.loads(message)
        return cls(str(told["tree"]), Tuning(**told["tuning"]), descriptors[len(LEDGERS) :], ledgers)

    def close(self) -> None:
        for descriptor in (*self.descriptors, *self.ledgers.values()):
            os.close(descriptor)


class Daemon:
    def __init__(self, contents: Contents) -> None:
        self._contents = contents

    def run(self, connections: socket.socket) -> None:
        """Serve whatever is handed over, until the other end is closed."""
        while (connection := Connection.receive(connections)) is not None:
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        """Until the mount is gone. A tree that cannot be had has nobody who answers, and its parent gives up."""
        try:
            filesystem = self._open(connection)
            ledger = RequestLedger(connection.ledgers["requests"], len(connection.descriptors))
            threads = [
                threading.Thread(target=serve, args=(filesystem, descriptor, ledger, number), daemon=True)
                for number, descriptor in enumerate(connection.descriptors)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except JiffyError as error:
            logger.error("%s", error)
        finally:
            connection.close()

    def _open(self, connection: Connection) -> Filesystem:
        if connection.tree:
            return self._open_tree(connection)
        ledgers = connection.ledgers
        return LazyLayer(
            self._contents,
            connection.descriptors[0],
            BackingLedger(ledgers["backings"]),
            NodeLedger(ledgers["nodes"], FIRST_OBJECT),
            OpenLedger(ledgers["opens"], FIRST_OBJECT),
            connection.tuning,
        )

    def _open_tree(self, connection: Connection) -> PlainTree:
        image, _ = self._contents.open_whole(connection.tree)
        try:
            return PlainTree(ErofsTree(image.map()), self._contents, connection.tuning)
        finally:
            image.close()


def main() -> None:
    """`--control-fd`: where it is told about starts; `--connections-fd`: where connections come from."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sources", nargs="+", default=())
    parser.add_argument("--token-file", type=Path)
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--connections-fd", type=int, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s lazy: %(message)s")
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    token = read_token(arguments.token_file) if arguments.token_file is not None else ""
    sources = open_sources(arguments.sources, token, deadline=_PATIENCE)
    data = DataDirectory(arguments.data)
    tiers = Tiers(LocalObjects(data.objects, data.incoming, durable=sources is None), sources)
    partials = Partials(data.partial, tiers)
    control = socket.socket(fileno=arguments.control_fd)
    threading.Thread(target=Prefetches(tiers, partials).obey, args=(control,), daemon=True).start()
    Daemon(Contents(tiers, partials)).run(socket.socket(fileno=arguments.connections_fd))
    os._exit(0)


if __name__ == "__main__":
    main()
