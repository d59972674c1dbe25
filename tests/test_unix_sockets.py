from __future__ import annotations

import asyncio
from pathlib import Path

from jiffy.unix_sockets import connect_to, listen_at


async def accept_one(path: Path, name: bytes = b"") -> tuple[bytes, object]:
    loop = asyncio.get_running_loop()
    with listen_at(path) as listener:
        accepting = asyncio.ensure_future(loop.sock_accept(listener))
        with await connect_to(path, name) as connection:
            await loop.sock_sendall(connection, b"hello")
            accepted, peer = await accepting
            with accepted:
                return await loop.sock_recv(accepted, 10), peer


async def test_a_path_may_be_longer_than_the_kernel_takes(tmp_path: Path) -> None:
    folder = tmp_path / ("deep" * 30)
    folder.mkdir()
    assert (await accept_one(folder / "socket"))[0] == b"hello"


async def test_what_an_earlier_process_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    listen_at(path).close()
    assert path.exists()
    assert (await accept_one(path))[0] == b"hello"


async def test_who_connects_may_say_a_name(tmp_path: Path) -> None:
    assert await accept_one(tmp_path / "socket", b"\0jiffy/test") == (b"hello", b"\0jiffy/test")
