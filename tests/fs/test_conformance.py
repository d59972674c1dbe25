"""What a root must do in every mode: the same tree, the same contents, the same changes."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from jiffy.datadir import DataDirectory
from jiffy.fs.lazy_mount import LazyMount
from jiffy.fs.mode import Mode
from jiffy.fs.prefetch import Request
from jiffy.image.erofs import write_erofs
from jiffy.image.index import Entry, Index, Kind, encode_index
from jiffy.objects.chunks import encode_chunk_map, list_chunks
from jiffy.objects.eviction import LayerUse
from jiffy.objects.local import LocalObjects
from jiffy.objects.sources import open_sources
from jiffy.objects.tiers import Tiers
from jiffy.worker.roots import Root, Roots
from tests.fs.conftest import kill_daemon
from tests.objects.origin import Origin, serve_origin

pytestmark = pytest.mark.root

T = TypeVar("T")

SMALL = {f"/many/file-{number:05}".encode(): b"%d" % number for number in range(10_000)}
HUGE = os.urandom(2**20) * 24
SCRIPT = b"#!/bin/sh\necho it runs as $(id -u)\n"
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
"""cap_net_bind_service=ep, as setcap writes it."""

ODD_NAMES = (b"x" * 255, b"\xff\xfe", b"a b\n\t", "grün".encode(), b"..data", b"-rf", b"trailing\\")


def entry(path: bytes, data: bytes = b"", mode: int = 0o644, **more: object) -> Entry:
    digest = hashlib.sha256(data).hexdigest() if data else ""
    return Entry(path, Kind.FILE, mode, size=len(data), digest=digest, mtime_ns=10**18, **more)  # type: ignore[arg-type]


CONTENTS = {
    b"/file": b"content",
    b"/set-user-id": SCRIPT,
    b"/twin-a": b"linked",
    b"/twin-b": b"linked",
    b"/attributes": b"with attributes",
    b"/capable": b"\x7fELF is not checked",
    b"/huge": HUGE,
    b"/sparse": b"start" + bytes(3 * 2**20) + b"end",
    **{b"/names/" + name: b"odd " + name for name in ODD_NAMES},
}

TREE = [
    Entry(b"/", Kind.DIRECTORY, 0o755),
    *(Entry(b"/" + name, Kind.DIRECTORY, 0o755) for name in (b"many", b"names", b"folder", b"folder/deep")),
    Entry(b"/sticky", Kind.DIRECTORY, 0o1777, uid=7, gid=70_000),
    entry(b"/file", CONTENTS[b"/file"], uid=1000, gid=70_000),
    entry(b"/empty"),
    entry(b"/set-user-id", SCRIPT, 0o4755),
    entry(b"/twin-a", b"linked", link=1),
    entry(b"/twin-b", b"linked", link=1),
    entry(b"/attributes", CONTENTS[b"/attributes"], xattrs=((b"trusted.t", b"\0\1"), (b"user.u", b"value"))),
    entry(b"/capable", CONTENTS[b"/capable"], 0o755, xattrs=((b"security.capability", CAPABILITY),)),
    entry(b"/huge", HUGE),
    entry(b"/sparse", CONTENTS[b"/sparse"]),
    Entry(b"/link", Kind.SYMLINK, 0o777, target=b"folder/../file"),
    Entry(b"/dangling", Kind.SYMLINK, 0o777, target=b"/nowhere/" + b"x" * 200),
    Entry(b"/long-link", Kind.SYMLINK, 0o777, target=b"y" * 4000),
    Entry(b"/character", Kind.CHARACTER, 0o600, device=os.makedev(1, 3)),
    Entry(b"/block", Kind.BLOCK, 0o600, device=os.makedev(259, 70_000)),
    Entry(b"/fifo", Kind.FIFO, 0o600),
    Entry(b"/socket", Kind.SOCKET, 0o600),
    *(entry(b"/names/" + name, b"odd " + name) for name in ODD_NAMES),
    *(entry(path, data) for path, data in SMALL.items()),
]


@dataclass
class MountedRoot:
    """`at` is the container's root; `do` runs what touches it in a thread, as the daemon's keeper runs in this loop."""

    at: Path
    lower: Path
    mount: LazyMount
    origin: Origin

    async def do(self, job: Callable[[], T]) -> T:
        return await asyncio.to_thread(job)

    def contents_fetched(self) -> list[str]:
        wanted = {hashlib.sha256(data).hexdigest(): path.decode(errors="replace") for path, data in CONTENTS.items()}
        asked = [request.removeprefix("/objects/").partition("?")[0] for request in self.origin.requests]
        return [wanted[digest] for digest in asked if digest in wanted]


@pytest.fixture(scope="module")
def image() -> bytes:
    written = io.BytesIO()
    write_erofs(Index.load(encode_index(TREE)), written)
    return written.getvalue()


@pytest.fixture(params=list(Mode))
async def root(request: pytest.FixtureRequest, tmp_path: Path, image: bytes) -> AsyncIterator[MountedRoot]:
    (tmp_path / "huge").write_bytes(HUGE)
    chunk_list = list_chunks(tmp_path / "huge").encode()
    list_digest = hashlib.sha256(chunk_list).hexdigest()
    chunk_map = encode_chunk_map([(hashlib.sha256(HUGE).hexdigest(), list_digest)])
    everything = [image, chunk_list, chunk_map, *CONTENTS.values(), *SMALL.values()]
    with serve_origin({hashlib.sha256(data).hexdigest(): data for data in everything}) as origin:
        async with _mounted(tmp_path, origin, image, request.param) as (mount, roots, mounted):
            mount.tell(Request.CHUNK_MAP, hashlib.sha256(chunk_map).hexdigest())
            yield MountedRoot(mounted.path, roots.layer_mounts(mounted)[0], mount, origin)


@asynccontextmanager
async def _mounted(
    tmp_path: Path, origin: Origin, image: bytes, mode: Mode
) -> AsyncIterator[tuple[LazyMount, Roots, Root]]:
    data = DataDirectory(tmp_path / "store")
    data.create()
    token = tmp_path / "token.json"
    token.write_text(json.dumps({"token_id": "id", "token_secret": "secret"}))
    lazy = data.mounts / "lazy"
    lazy.mkdir()
    mount = LazyMount(lazy, data, [origin.url], token, mode)
    await mount.start()
    objects = LocalObjects(data.objects, data.incoming, durable=False)
    roots = Roots(data, Tiers(objects, open_sources([origin.url], "id:secret")), mount, LayerUse(data.layer_use))
    try:
        layers = [hashlib.sha256(image).hexdigest()]
        await roots.prepare(layers)
        mounted = await roots.mount("root", layers)
        yield mount, roots, mounted
        await roots.remove(mounted)
    finally:
        roots.close()
        await mount.stop()


def paths_below(at: Path) -> set[bytes]:
    top = os.fsencode(at)
    return {b"/"} | {
        (folder + b"/" + name).removeprefix(top) for folder, folders, files in os.walk(top) for name in folders + files
    }


def names_in(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir()}


async def test_every_path_is_there_and_no_other(root: MountedRoot) -> None:
    assert await root.do(lambda: paths_below(root.at)) == {each.path for each in TREE}
    assert root.contents_fetched() == []


async def test_every_entry_has_its_stat(root: MountedRoot) -> None:
    def check() -> None:
        for each in TREE:
            found = os.lstat(os.fsencode(root.at) + each.path)
            kind = {Kind.FILE: stat.S_IFREG, Kind.DIRECTORY: stat.S_IFDIR, Kind.SYMLINK: stat.S_IFLNK}.get(each.kind)
            other = {Kind.CHARACTER: stat.S_IFCHR, Kind.BLOCK: stat.S_IFBLK, Kind.FIFO: stat.S_IFIFO}.get(each.kind)
            assert stat.S_IFMT(found.st_mode) == (kind or other or stat.S_IFSOCK), each.path
            assert stat.S_IMODE(found.st_mode) == each.mode, each.path
            assert (found.st_uid, found.st_gid, found.st_mtime_ns) == (each.uid, each.gid, each.mtime_ns), each.path
            if each.kind is Kind.FILE:
                assert found.st_size == each.size, each.path
            assert found.st_rdev == each.device, each.path

    await root.do(check)
    assert root.contents_fetched() == []


async def test_every_content_is_right(root: MountedRoot) -> None:
    def check() -> None:
        for path, data in CONTENTS.items():
            assert Path(os.fsdecode(os.fsencode(root.at) + path)).read_bytes() == data, path
        assert (root.at / "empty").read_bytes() == b""

    await root.do(check)


async def test_ten_thousand_names_are_listed_and_found(root: MountedRoot) -> None:
    many = root.at / "many"
    names = {Path(path.decode()).name for path in SMALL}
    assert await root.do(lambda: names_in(many)) == names
    assert await root.do(lambda: all((many / name).exists() for name in list(names)[::37]))
    assert not await root.do((many / "file-10000").exists)
    assert await root.do((many / "file-04321").read_bytes) == b"4321"


async def test_links_lead_where_they_say(root: MountedRoot) -> None:
    assert await root.do(lambda: str((root.at / "long-link").readlink())) == "y" * 4000
    assert await root.do(lambda: str((root.at / "dangling").readlink())) == "/nowhere/" + "x" * 200
    assert await root.do((root.at / "link").read_bytes) == b"content"
    assert not await root.do((root.at / "dangling").exists)


async def test_names_of_one_file_are_one_file(root: MountedRoot) -> None:
    first, second = [await root.do((root.lower / name).stat) for name in ("twin-a", "twin-b")]
    assert (first.st_ino, first.st_nlink) == (second.st_ino, second.st_nlink)
    assert first.st_nlink == 2
    assert await root.do((root.at / "twin-a").read_bytes) == await root.do((root.at / "twin-b").read_bytes)


async def test_attributes_and_capabilities_are_shown_and_no_others(root: MountedRoot) -> None:
    def attributes(name: str) -> dict[str, bytes]:
        return {each: os.getxattr(root.at / name, each) for each in os.listxattr(root.at / name)}

    assert await root.do(lambda: attributes("attributes")) == {"trusted.t": b"\0\1", "user.u": b"value"}
    assert await root.do(lambda: attributes("capable")) == {"security.capability": CAPABILITY}
    assert await root.do(lambda: attributes("file")) == {}
    with pytest.raises(OSError) as caught:
        await root.do(lambda: os.getxattr(root.at / "file", "user.none"))
    assert caught.value.errno == errno.ENODATA


async def test_files_are_mapped_in_pieces(root: MountedRoot) -> None:
    """By another process: a page that is waited for holds the interpreter of who looks at it."""
    script = f"""
import mmap
with open({str(root.at / "huge")!r}, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
    print(view[0], view[{len(HUGE) // 2}], view[-1], len(view))
"""
    done = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    output, _ = await done.communicate()
    assert output.split() == [b"%d" % number for number in (HUGE[0], HUGE[len(HUGE) // 2], HUGE[-1], len(HUGE))]


async def test_programs_run_from_it(root: MountedRoot) -> None:
    done = await root.do(lambda: subprocess.run([root.at / "set-user-id"], capture_output=True, text=True, check=True))
    assert done.stdout == "it runs as 0\n"


async def test_writing_copies_the_file_up_and_leaves_the_layer(root: MountedRoot) -> None:
    def change() -> None:
        with (root.at / "file").open("ab") as file:
            file.write(b" and more")

    await root.do(change)
    assert await root.do((root.at / "file").read_bytes) == b"content and more"
    assert await root.do((root.at / "file").stat) != await root.do((root.lower / "file").stat)
    assert (await root.do((root.lower / "file").stat)).st_size == len(b"content")


async def test_a_copy_keeps_attributes_owner_and_time(root: MountedRoot) -> None:
    def change() -> tuple[dict[str, bytes], os.stat_result]:
        path = root.at / "attributes"
        path.chmod(0o600)
        with path.open("r+b") as file:
            file.write(b"W")
        return {each: os.getxattr(path, each) for each in os.listxattr(path)}, path.stat()

    attributes, status = await root.do(change)
    assert attributes == {"trusted.t": b"\0\1", "user.u": b"value"}
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert await root.do((root.at / "attributes").read_bytes) == b"With attributes"


async def test_changing_a_huge_file_in_name_or_mode_fetches_nothing(root: MountedRoot) -> None:
    def change() -> None:
        (root.at / "huge").chmod(0o600)
        os.chown(root.at / "huge", 5, 6)
        (root.at / "huge").rename(root.at / "renamed")
        os.utime(root.at / "renamed", (1, 1))
        assert (root.at / "renamed").stat().st_size == len(HUGE)

    await root.do(change)
    assert root.contents_fetched() == []
    assert await root.do((root.at / "renamed").read_bytes) == HUGE


async def test_folders_are_renamed_with_all_that_is_in_them(root: MountedRoot) -> None:
    def change() -> None:
        (root.at / "many").rename(root.at / "moved")

    await root.do(change)
    assert not await root.do((root.at / "many").exists)
    assert await root.do((root.at / "moved" / "file-00077").read_bytes) == b"77"
    assert len(await root.do(lambda: names_in(root.at / "moved"))) == len(SMALL)


async def test_what_is_removed_stays_removed(root: MountedRoot) -> None:
    def change() -> None:
        (root.at / "file").unlink()
        (root.at / "folder" / "deep").rmdir()
        (root.at / "folder").rmdir()
        (root.at / "folder").mkdir()
        (root.at / "file").write_bytes(b"another")

    await root.do(change)
    assert await root.do(lambda: names_in(root.at / "folder")) == set()
    assert await root.do((root.at / "file").read_bytes) == b"another"


async def test_a_random_reader_of_a_huge_file_does_not_fetch_all_of_it(root: MountedRoot) -> None:
    def look() -> bytes:
        with (root.at / "huge").open("rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            file.seek(len(HUGE) // 2 + 5)
            return file.read(100)

    assert await root.do(look) == HUGE[len(HUGE) // 2 + 5 :][:100]
    assert sum(request.endswith(hashlib.sha256(HUGE).hexdigest()) for request in root.origin.requests) < 8


async def test_wrong_bytes_are_an_error_and_never_seen(root: MountedRoot) -> None:
    digest = hashlib.sha256(CONTENTS[b"/capable"]).hexdigest()
    right = root.origin.objects[digest]
    root.origin.objects[digest] = right[:-1] + b"!"
    with pytest.raises(OSError) as caught:
        await root.do((root.at / "capable").read_bytes)
    assert caught.value.errno == errno.EIO
    root.origin.objects[digest] = right
    assert await root.do((root.at / "capable").read_bytes) == right


async def test_a_killed_daemon_is_followed_by_one_that_goes_on(root: MountedRoot) -> None:
    script = "exec 3< sparse; head -c 5 <&3; read line; cat <&3 | sha256sum"
    holder = await asyncio.create_subprocess_exec(
        *("sh", "-c", script), cwd=root.at, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert holder.stdin is not None and holder.stdout is not None
    assert await holder.stdout.readexactly(5) == b"start"
    for number in range(3):
        await kill_daemon(root.mount)
        assert await root.do((root.at / "many" / f"file-{number:05}").read_bytes) == b"%d" % number
        assert not await root.do((root.at / f"none-{number}").exists)
    holder.stdin.close()
    rest = hashlib.sha256(CONTENTS[b"/sparse"][5:]).hexdigest()
    assert (await holder.stdout.read()).split()[0].decode() == rest
    await holder.wait()


async def test_what_waits_for_a_killed_daemon_is_answered_by_the_next(root: MountedRoot) -> None:
    os.kill(root.mount.pid, signal.SIGSTOP)
    names = [f"file-{number:05}" for number in range(5000, 5003)]
    readers = [asyncio.create_task(root.do((root.at / "many" / name).read_bytes)) for name in names]
    await asyncio.sleep(0.2)
    os.kill(root.mount.pid, signal.SIGKILL)
    async with asyncio.timeout(20):
        assert await asyncio.gather(*readers) == [b"5000", b"5001", b"5002"]
