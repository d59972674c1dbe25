"""What the server tells of its images to those who mount or inspect them without the rest of the platform."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass

from aiohttp import web

from jiffy.errors import NotFoundError
from jiffy.image.reference import parse_reference
from jiffy.objects.local import LocalObjects
from jiffy.objects.profile import Profile, read_profile
from jiffy.server.derivations import Derivations
from jiffy.server.environments import DEFAULT_ENVIRONMENT
from jiffy.server.oci_config import write_config
from jiffy.server.profiles import landmark_name
from jiffy.store.images import ImageContent, StoredImage
from jiffy.store.stores import Stores


@dataclass(frozen=True, slots=True)
class ListedImage:
    """`size`: bytes of all files; `created_at`: seconds since the epoch."""

    image_id: str
    python: str
    layers: int
    files: int
    size: int
    created_at: float
    names: list[str]


@dataclass(frozen=True, slots=True)
class MountableImage:
    """As in an order to launch: digests, bottom first; `profile` is empty when no start was recorded."""

    image_id: str
    layers: tuple[str, ...]
    catalogues: tuple[str, ...]
    chunk_maps: tuple[str, ...]
    profile: str


@dataclass(frozen=True, slots=True)
class ReadFile:
    """`read`: bytes of it that starts read, of `size`."""

    path: str
    size: int
    read: int


class Exports:
    def __init__(self, stores: Stores, derivations: Derivations, objects: LocalObjects) -> None:
        self._stores = stores
        self._derivations = derivations
        self._objects = objects

    async def answer_list(self, request: web.Request) -> web.StreamResponse:
        images = await self._stores.images.finished()
        names = await self._stores.image_names.references()
        return web.json_response([asdict(each) for each in await asyncio.to_thread(self._list, images, names)])

    async def answer_one(self, request: web.Request) -> web.StreamResponse:
        image_id = await self._identify(request.match_info["image_id"])
        content = await self._content(image_id)
        profile = await self._stores.profiles.find(f"image/{image_id}")
        profile = profile or await self._stores.profiles.find(landmark_name(content.layers[0]))
        image = MountableImage(
            image_id=image_id,
            layers=tuple([await self._derivations.erofs_image(layer) for layer in content.layers]),
            catalogues=tuple([await self._derivations.catalogue(layer) for layer in content.layers]),
            chunk_maps=tuple([await self._derivations.chunk_map(layer) for layer in content.layers]),
            profile="" if profile is None else profile.digest,
        )
        return web.json_response(asdict(image))

    async def answer_content(self, request: web.Request) -> web.StreamResponse:
        """What an export needs: the indexes, and the configuration as the OCI has it."""
        image = await self._stores.images.get(await self._identify(request.match_info["image_id"]))
        content = await self._content(image.image_id)
        told = {"layers": content.layers, "config": write_config(content), "created_at": image.created_at}
        return web.json_response({"image_id": image.image_id, **told})

    async def answer_profile(self, request: web.Request) -> web.StreamResponse:
        image_id = await self._identify(request.match_info["image_id"])
        content = await self._content(image_id)
        profile = await self._stores.profiles.find(f"image/{image_id}")
        if profile is None:
            raise NotFoundError(f"nothing is known of what starts of {image_id} read", hint="run a function of it")
        read = read_profile(await asyncio.to_thread(self._objects.read, profile.digest))
        files = await asyncio.to_thread(self._find_files, content, read)
        return web.json_response({"runs": profile.runs, "files": [asdict(file) for file in files]})

    async def _identify(self, name: str) -> str:
        """The id of an image that is named by its id, by what a program published it as, or by a registry's reference."""
        if name.startswith("im-"):
            return name
        found = await self._stores.image_names.find(DEFAULT_ENVIRONMENT, name if ":" in name else f"{name}:latest")
        if found is not None:
            return found.image_id
        referred = await self._stores.image_names.referred(str(parse_reference(name)))
        if not referred:
            raise NotFoundError(f"no image is named {name}", hint="jiffy image list shows all")
        return referred

    async def _content(self, image_id: str) -> ImageContent:
        content = (await self._stores.images.get(image_id)).content
        if content is None:
            raise NotFoundError(f"image {image_id} was never finished")
        return content

    def _list(self, images: list[StoredImage], names: dict[str, list[str]]) -> list[ListedImage]:
        listed = []
        for image in images:
            assert image.content is not None
            indexes = [self._derivations.load_index(layer) for layer in image.content.layers]
            files, size = sum(map(len, indexes)), sum(index.total_size() for index in indexes)
            listed.append(
                ListedImage(
                    image_id=image.image_id,
                    python=image.content.python,
                    layers=len(indexes),
                    files=files,
                    size=size,
                    created_at=image.created_at,
                    names=names.get(image.image_id, []),
                )
            )
        return listed

    def _find_files(self, content: ImageContent, read: Profile) -> list[ReadFile]:
        """In the order of the profile. What starts read of the program and the client is of no image."""
        places: dict[str, tuple[str, int]] = {}
        for layer in content.layers:
            for path, digest, size in self._derivations.load_index(layer).files():
                places.setdefault(digest, (path.decode(errors="replace"), size))
        found = []
        for digest, ranges in read.items():
            if digest in places:
                name, size = places[digest]
                found.append(ReadFile(name, size, min(size, sum(count for _, count in ranges)) if ranges else size))
        return found
