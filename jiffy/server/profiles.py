"""What starts read, kept so that the next ones need not wait for it: by function, by image, and by Python for images that
were never started.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from jiffy.errors import CorruptError, NotFoundError
from jiffy.image.index import Index
from jiffy.objects.base import Digest
from jiffy.objects.local import LocalObjects
from jiffy.objects.profile import Profile, encode_profile, merge, read_profile
from jiffy.store.profiles import Profiles as StoredProfiles

_ENOUGH_RUNS: Final = 3
"""Runs that are recorded of one function; more would hardly find anything new."""


@dataclass(frozen=True, slots=True)
class Start:
    """What is started: a function of an image whose layers are these indexes, with a Python such as 3.11."""

    function: str
    image_id: str
    python: str
    layers: tuple[Digest, ...]

    @property
    def names(self) -> tuple[str, str, str]:
        """Its profiles, the closest first."""
        return f"function/{self.image_id}/{self.function}", f"image/{self.image_id}", f"python/{self.python}"


@dataclass(frozen=True, slots=True)
class Advice:
    """`profile` names the list of what to prefetch, empty for none; `is_known`: it is of this image, not of others alone;
    `record` asks for what this start reads."""

    profile: Digest
    is_known: bool
    record: bool

    @property
    def is_settled(self) -> bool:
        """Whether the list will hardly change any more."""
        return self.is_known and not self.record


def landmark_name(layer: Digest) -> str:
    """Of what an image itself says that starts want; `layer` is its index."""
    return f"landmark/{layer}"


class Profiles:
    def __init__(self, stored: StoredProfiles, objects: LocalObjects, load_index: Callable[[Digest], Index]) -> None:
        self._stored = stored
        self._objects = objects
        self._load_index = load_index
        self._fitted: dict[tuple[Digest, tuple[Digest, ...]], Digest] = {}
        self._starts: dict[str, Start] = {}

    async def advise(self, task_id: str, start: Start) -> Advice:
        """For a container that is about to be launched."""
        self._starts[task_id] = start
        own, image, python = [await self._stored.find(name) for name in start.names]
        record = own is None or own.runs < _ENOUGH_RUNS
        if (known := own or image or await self._stored.find(landmark_name(start.layers[0]))) is not None:
            return Advice(known.digest, True, record)
        if python is not None:
            return Advice(await self._fit(python.digest, start.layers), False, record)
        return Advice("", False, record)

    async def record(self, task_id: str, read: Profile) -> None:
        """A start has read these objects, in this order."""
        start = self._starts.get(task_id)
        if start is None:
            return
        for name in start.names:
            known = await self._stored.find(name)
            merged = await asyncio.to_thread(self._merge, known.digest if known is not None else "", read)
            await self._stored.put(name, merged)

    def forget(self, task_id: str) -> None:
        self._starts.pop(task_id, None)

    def _merge(self, known: Digest, read: Profile) -> Digest:
        return self._objects.put(encode_profile(merge(self._read(known), read)))

    def _read(self, known: Digest) -> Profile:
        """Nothing when it was lost, or was written by another version."""
        try:
            return read_profile(self._objects.read(known)) if known else {}
        except (NotFoundError, CorruptError):
            return {}

    async def _fit(self, profile: Digest, layers: tuple[Digest, ...]) -> Digest:
        """What of a profile of other images an image has."""
        key = (profile, layers)
        fitted = self._fitted.get(key)
        if fitted is None or not self._objects.keep(fitted):
            fitted = self._fitted[key] = await asyncio.to_thread(self._fit_now, profile, layers)
        return fitted

    def _fit_now(self, profile: Digest, layers: tuple[Digest, ...]) -> Digest:
        held = {digest for layer in layers for digest, _ in self._load_index(layer).digests()}
        wanted = {digest: ranges for digest, ranges in self._read(profile).items() if digest in held}
        return self._objects.put(encode_profile(wanted))
