"""`python -m bench.proxy`: a TCP proxy that makes the other end seem far away, and counts the HTTP requests that pass. Each
direction is late by half a round trip; nothing is slower for being more.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_CHUNK = 2**18


class Far:
    """The `port` of a proxy."""

    def __init__(self, port: int, proxy: subprocess.Popen[str] | None) -> None:
        self.port = port
        self._proxy = proxy

    def requests(self) -> int:
        """Requests since the last call; 0 where there is no proxy that could count them."""
        if self._proxy is None:
            return 0
        assert self._proxy.stdin is not None and self._proxy.stdout is not None
        self._proxy.stdin.write("\n")
        self._proxy.stdin.flush()
        return int(self._proxy.stdout.readline())


@contextmanager
def far_away(port: int, round_trip: float) -> Iterator[Far]:
    """A proxy, in a process of its own, to a port of this host; `round_trip` in seconds, 0 for no proxy."""
    if not round_trip:
        yield Far(port, None)
        return
    command = [sys.executable, "-m", "bench.proxy", str(port), str(round_trip / 2)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as proxy:
        assert proxy.stdout is not None
        try:
            yield Far(int(proxy.stdout.readline()), proxy)
        finally:
            proxy.terminate()


async def _serve(port: int, delay: float) -> None:
    passed = 0

    def look(data: bytes) -> None:
        nonlocal passed
        passed += data.startswith((b"GET ", b"POST "))

    def tell() -> None:
        nonlocal passed
        sys.stdin.readline()
        print(passed, flush=True)
        passed = 0

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_carry(reader, back, delay, look), _carry(there, writer, delay), return_exceptions=True)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    asyncio.get_running_loop().add_reader(sys.stdin, tell)
    await server.serve_forever()


async def _carry(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    delay: float,
    look: Callable[[bytes], None] | None = None,
) -> None:
    loop = asyncio.get_running_loop()
    on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def deliver() -> None:
        while True:
            due, data = await on_the_way.get()
            await asyncio.sleep(due - loop.time())
            if not data:
                writer.close()
                return
            writer.write(data)
            await writer.drain()

    delivery = asyncio.ensure_future(deliver())
    data = b"-"
    while data:
        data = await reader.read(_CHUNK)
        if look is not None:
            look(data)
        on_the_way.put_nowait((loop.time() + delay, data))
    await delivery


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2])))
