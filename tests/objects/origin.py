"""An object server for tests, which can be told to misbehave."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from jiffy.objects.base import ABSENT, BATCH_LENGTH, DIGEST_BYTES

_QUIET_SECONDS = 0.2


class Origin:
    """`faults` are used up one per request: what to do instead of answering well."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        self.objects = objects
        self.faults: list[str] = []
        self.requests: list[str] = []
        self.token = "id:secret"
        self.lock = threading.Lock()
        self.released = threading.Event()
        """Ends the faults named `hang`."""

        self.url = ""

    def settle(self) -> int:
        """Wait until nothing was asked for a while, as what is read ahead comes later; gives the number of requests."""
        seen = -1
        while seen != len(self.requests):
            seen = len(self.requests)
            time.sleep(_QUIET_SECONDS)
        return seen

    def next_fault(self, path: str) -> str:
        with self.lock:
            self.requests.append(path)
            return self.faults.pop(0) if self.faults else ""


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: clients that hang up are part of the tests."""


@contextmanager
def serve_origin(objects: dict[str, bytes], port: int = 0) -> Iterator[Origin]:
    origin = Origin(objects)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            fault = origin.next_fault(self.path)
            if self.headers.get("Authorization") != f"Bearer {origin.token}":
                self._answer(401, b"no")
                return
            data = self._select(origin.objects.get(self.path.removeprefix("/objects/")))
            ok = 206 if "Range" in self.headers else 200
            if fault == "hang":
                origin.released.wait()
                self.connection.close()
            elif fault == "error":
                self._answer(500, b"broken")
            elif fault == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
            elif data is None:
                self._answer(404, b"none")
            elif fault == "truncate":
                self._answer(ok, data, sent=len(data) // 2)
            elif fault == "flip":
                self._answer(ok, bytes([data[0] ^ 1]) + data[1:])
            else:
                self._answer(ok, data)

        def _select(self, data: bytes | None) -> bytes | None:
            """What of an object was asked for."""
            wanted = self.headers.get("Range")
            if data is None or wanted is None:
                return data
            first, last = map(int, wanted.removeprefix("bytes=").split("-"))
            return data[first : last + 1]

        def do_POST(self) -> None:
            fault = origin.next_fault(self.path)
            body = self.rfile.read(int(self.headers["Content-Length"]))
            digests = [body[start : start + DIGEST_BYTES].hex() for start in range(0, len(body), DIGEST_BYTES)]
            answer = bytearray()
            for digest in digests:
                data = origin.objects.get(digest)
                answer += BATCH_LENGTH.pack(ABSENT if data is None else len(data)) + (data or b"")
            if fault == "hang":
                origin.released.wait()
                self.connection.close()
            elif fault == "error":
                self._answer(500, b"broken")
            elif fault == "flip":
                self._answer(200, bytes(answer[:-1]) + bytes([answer[-1] ^ 1]))
            else:
                self._answer(200, bytes(answer), sent=len(answer) // 2 if fault == "truncate" else None)

        def _answer(self, status: int, data: bytes, sent: int | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[:sent])
            if sent is not None:
                self.close_connection = True

        def log_message(self, *arguments: object) -> None:
            """Nothing: what was asked is in `requests`."""

    server = _Server(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    origin.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield origin
    finally:
        origin.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
