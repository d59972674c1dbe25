"""Makes what containers are made of: images, and the client's own files for each Python.

Each thing is made once, however many ask at the same time; what was reported while it was made can be read by all.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from modal_proto import api_pb2

from jiffy.errors import JiffyError, NotFoundError, UnsupportedError
from jiffy.identifiers import derived_id
from jiffy.image.bytecode import Compiler
from jiffy.image.client import client_index, dependencies_index
from jiffy.image.debian import bootstrap_python, parse_base_name
from jiffy.image.erofs import write_erofs
from jiffy.image.graft import graft
from jiffy.image.index import Entry, Index, encode_index
from jiffy.image.recipe import Recipe, read_recipe
from jiffy.objects.catalogue import encode_catalogue, make_catalogue
from jiffy.objects.chunks import LARGE, encode_chunk_map, list_chunks
from jiffy.objects.local import LocalObjects
from jiffy.server.bells import Bells
from jiffy.store.images import ImageContent, StoredImage
from jiffy.store.mounts import CLIENT_REFERENCE, Mount
from jiffy.store.stores import Stores

logger = logging.getLogger(__name__)

T = TypeVar("T")
Report = Callable[[str], None]


@dataclass(slots=True)
class Build:
    """One image on its way. `lines` is what was reported; `failure` is set when it cannot be made."""

    lines: list[str] = field(default_factory=list)
    job: asyncio.Task[None] | None = None
    failure: str = ""


class Builds:
    def __init__(self, stores: Stores, objects: LocalObjects, bells: Bells) -> None:
        self._stores = stores
        self._objects = objects
        self._bells = bells
        self._builds: dict[str, Build] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._made: dict[str, dict[str, str]] = {}

    def build(self, image: StoredImage, client_version: str) -> Build:
        """The build of an image, started if it is not under way. A failed one is tried again."""
        build = self._builds.get(image.image_id)
        if build is None or build.failure:
            build = self._builds[image.image_id] = Build()
            build.job = asyncio.ensure_future(self._run(build, image, client_version))
        return build

    async def close(self) -> None:
        jobs = [build.job for build in self._builds.values() if build.job is not None]
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)

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
            f"dependencies/{builder}/{content.python}",
            lambda: dependencies_index(builder, version, compiler, report),
        )
        return made["index"]

    def _compiler(self, content: ImageContent) -> Compiler:
        return Compiler(content.python, content.layers[0], self._objects)

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
            large = [digest for digest, size in self.load_index(index).digests() if size >= LARGE]
            lists = [(digest, await self._chunk_list(digest)) for digest in large]
            return self._objects.put(encode_chunk_map(lists))

        return (await self.make(f"chunks/{index}", make))["index"]

    async def _chunk_list(self, digest: str) -> str:
        made = await self.make(f"chunk-list/{digest}", lambda: asyncio.to_thread(self._list_chunks, digest))
        return made["index"]

    def _list_chunks(self, digest: str) -> str:
        return self._objects.put(list_chunks(self._objects.path(digest)).encode())

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
        entries: dict[bytes, Entry] = {}
        for layer in layers:
            entries.update((entry.path, entry) for entry in self.load_index(layer))
        return self._objects.put(encode_index(entries.values()))

    def _graft(self, lowers: tuple[str, ...], layer: str) -> str:
        topmost_first = [self.load_index(digest) for digest in reversed(lowers)]
        return self._objects.put(encode_index(graft(topmost_first, self.load_index(layer))))

    def load_index(self, digest: str) -> Index:
        return Index.from_file(self._objects.path(digest))

    async def _run(self, build: Build, image: StoredImage, client_version: str) -> None:
        def report(line: str) -> None:
            build.lines.append(line)
            self._bells.ring(image.image_id)

        try:
            content = await self._make_content(image, report)
            await self.client_layer(client_version, content, report)
            await self.dependencies_layer(image.builder_version, client_version, content, report)
            await self._stores.images.complete(image.image_id, content)
        except JiffyError as error:
            build.failure = str(error)
        except Exception as error:
            logger.exception("the build of %s failed", image.image_id)
            build.failure = f"jiffy failed to make the image: {error!r}; see its log"
        if not build.failure:
            del self._builds[image.image_id]
        self._bells.ring(image.image_id)

    async def _make_content(self, image: StoredImage, report: Report) -> ImageContent:
        definition = api_pb2.Image.FromString(image.definition)
        recipe = read_recipe(definition.dockerfile_commands)
        for alias in definition.base_images:
            if alias.docker_tag == recipe.base:
                base = (await self._stores.images.get(alias.image_id)).content
                if base is None:
                    raise NotFoundError(f"the base image {alias.image_id} was never finished")
                return apply_recipe(base, recipe)
        return apply_recipe(await self._base(recipe.base, report), recipe)

    async def _base(self, reference: str, report: Report) -> ImageContent:
        parsed = parse_base_name(reference)
        if parsed is None:
            raise UnsupportedError(
                f"no image {reference}",
                why="this version of jiffy pulls from no registry",
                hint="use modal.Image.debian_slim()",
            )
        python, _ = parsed

        async def make() -> dict[str, str]:
            base = await bootstrap_python(python, self._objects, report)
            environment = "\n".join(f"{name}={value}" for name, value in base.environment.items())
            return {
                "index": base.index,
                "environment": environment,
                "working_directory": base.working_directory,
                "python_version": base.python_version,
            }

        made = await self.make(f"base/python/{python}", make)
        return ImageContent(
            layers=(made["index"],),
            python=python,
            python_version_info=made["python_version"],
            environment=dict(line.split("=", 1) for line in made["environment"].splitlines()),
            working_directory=made["working_directory"],
        )

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


def apply_recipe(base: ImageContent, recipe: Recipe) -> ImageContent:
    """A base's content with what the recipe changes."""
    return replace(
        base,
        environment={**base.environment, **recipe.environment},
        working_directory=_or(recipe.working_directory, base.working_directory),
        entrypoint=_or(recipe.entrypoint, base.entrypoint),
        command=_or(recipe.command, base.command),
    )


def _or(value: T | None, otherwise: T) -> T:
    return otherwise if value is None else value
