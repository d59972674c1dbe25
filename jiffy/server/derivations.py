"""What is made of objects: indexes of the client's files, EROFS images, layers fitted onto others.

Each thing is made once, however many ask at the same time, and remembered; it is made again when it was lost.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence

from modal_proto import api_pb2

from jiffy.identifiers import derived_id
from jiffy.image.bytecode import Compiler
from jiffy.image.client import client_index, dependencies_index
from jiffy.image.erofs import write_erofs
from jiffy.image.graft import graft
from jiffy.image.index import Index, encode_index
from jiffy.image.tree import Tree
from jiffy.objects.catalogue import encode_catalogue, make_catalogue
from jiffy.objects.chunks import LARGE, ChunkList, encode_chunk_map, list_chunks
from jiffy.objects.local import LocalObjects
from jiffy.store.images import ImageContent
from jiffy.store.mounts import CLIENT_REFERENCE, Mount
from jiffy.store.stores import Stores

Report = Callable[[str], None]


def has_dependencies(builder: str) -> bool:
    """Whether images of a builder have what the client imports; containers of later ones get it from the host."""
    return builder <= "2024.10"


class Derivations:
    """`remote_chunks` gives the chunks of an object that is in a registry only."""

    def __init__(
        self,
        stores: Stores,
        objects: LocalObjects,
        remote_chunks: Callable[[str], ChunkList | None] = lambda digest: None,
    ) -> None:
        self._stores = stores
        self._objects = objects
        self._remote_chunks = remote_chunks
        self._locks: dict[str, asyncio.Lock] = {}
        self._made: dict[str, dict[str, str]] = {}

    async def client_mount(self, name: str, version: str) -> Mount:
        """The mount that holds the client's own files; made when a Python is known."""
        mount = Mount(derived_id("mo", name), f"{CLIENT_REFERENCE}{version}", derived_id("ck", name))
        await self._stores.mounts.add(mount, namespace=api_pb2.DEPLOYMENT_NAMESPACE_GLOBAL, name=name)
        return mount

    async def client_layer(self, version: str, content: ImageContent, report: Report) -> str:
        """The index of the client's files, with bytecode for an image's Python."""
        compiler = self._compiler(content)
        made = await self.make(f"client/{version}/{content.python}", lambda: client_index(version, compiler, report))
        return made["index"]

    async def dependencies_layer(self, builder: str, version: str, content: ImageContent, report: Report) -> str:
        """The index of the packages that the client needs in a container of an image."""
        compiler = self._compiler(content)
        made = await self.make(
            f"dependencies/{builder}/{content.python}{'/musl' if content.is_musl else ''}",
            lambda: dependencies_index(builder, version, compiler, content.is_musl, report),
        )
        return made["index"]

    def _compiler(self, content: ImageContent) -> Compiler:
        return Compiler(
            content.python, content.layers, content.python_program or f"/usr/bin/python{content.python}", self._objects
        )

    async def erofs_image(self, index: str) -> str:
        """The EROFS image of an index: an object too, written once for all hosts."""
        return (await self.make(f"erofs/{index}", lambda: asyncio.to_thread(self._write_erofs, index)))["index"]

    async def catalogue(self, index: str) -> str:
        """The small objects of an index in the order of their paths: a list in the form of a profile."""
        made = await self.make(f"catalogue/{index}", lambda: asyncio.to_thread(self._write_catalogue, index))
        return made["index"]

    def _write_catalogue(self, index: str) -> str:
        return self._objects.put(encode_catalogue(make_catalogue(self.load_index(index).files())))

    async def chunk_map(self, index: str) -> str:
        """The lists of chunks of an index's large objects."""

        async def make() -> str:
            listed = self.load_index(index).digests()
            large = [digest for digest, size in listed if size >= LARGE]
            lists = [(digest, await self._chunk_list(digest)) for digest in large if self._has_chunks(digest)]
            return self._objects.put(encode_chunk_map(lists))

        return (await self.make(f"chunks/{index}", make))["index"]

    def _has_chunks(self, digest: str) -> bool:
        return self._objects.has(digest) or self._remote_chunks(digest) is not None

    async def _chunk_list(self, digest: str) -> str:
        made = await self.make(f"chunk-list/{digest}", lambda: asyncio.to_thread(self._list_chunks, digest))
        return made["index"]

    def _list_chunks(self, digest: str) -> str:
        return self._objects.put((self._remote_chunks(digest) or list_chunks(self._objects.path(digest))).encode())

    def _write_erofs(self, index: str) -> str:
        with self._objects.writer() as writer:
            write_erofs(self.load_index(index), writer)
            return writer.publish()[0]

    async def graft_layer(self, lowers: tuple[str, ...], layer: str) -> str:
        """The index of a layer made to fit on others (bottom first): their links followed, their folders kept."""
        key = (*lowers, layer)
        name = f"graft/{hashlib.sha256(' '.join(key).encode()).hexdigest()}"
        return (await self.make(name, lambda: asyncio.to_thread(self._graft, lowers, layer), of=key))["index"]

    async def merge_layers(self, layers: tuple[str, ...]) -> str:
        """One index of several, where later ones win."""
        if len(layers) == 1:
            return layers[0]
        name = f"merge/{hashlib.sha256(' '.join(layers).encode()).hexdigest()}"
        return (await self.make(name, lambda: asyncio.to_thread(self._merge, layers), of=layers))["index"]

    def _merge(self, layers: tuple[str, ...]) -> str:
        return self._objects.put(encode_index(self.load_tree(layers)))

    def _graft(self, lowers: tuple[str, ...], layer: str) -> str:
        return self._objects.put(encode_index(graft(self.load_tree(lowers), self.load_index(layer))))

    def load_tree(self, layers: Sequence[str]) -> Tree:
        return Tree([self.load_index(layer) for layer in layers])

    def load_index(self, digest: str) -> Index:
        return Index.from_file(self._objects.path(digest))

    async def make(
        self, name: str, make: Callable[[], Awaitable[dict[str, str] | str]], of: Sequence[str] = ()
    ) -> dict[str, str]:
        """Make a thing once and remember it; make it again when its index has been lost. It is kept as long as those are
        that it was made `of`. What was made before is found without the database: each start of a container asks."""
        made = self._made.get(name)
        if made is None or not self._objects.keep(made["index"]):
            made = self._made[name] = await self._make_once(name, make, of)
        return made

    async def _make_once(
        self, name: str, make: Callable[[], Awaitable[dict[str, str] | str]], of: Sequence[str]
    ) -> dict[str, str]:
        async with self._locks.setdefault(name, asyncio.Lock()):
            known = await self._stores.images.find_made(name)
            if known is not None and await asyncio.to_thread(self._objects.keep, known["index"]):
                return known
            made = await make()
            content = {"index": made} if isinstance(made, str) else made
            if of:
                content["of"] = " ".join(of)
            await self._stores.images.remember_made(name, content)
            return content
