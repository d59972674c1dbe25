"""Boot packs of profiles, made beside the starts that could use them."""

from __future__ import annotations

import asyncio
import logging

from jiffy.objects.base import Digest
from jiffy.objects.local import LocalObjects
from jiffy.objects.pack import LEAST_OBJECTS, encode_packed_profile, write_pack
from jiffy.objects.profile import read_profile
from jiffy.server.derivations import Derivations

logger = logging.getLogger(__name__)


class Packs:
    def __init__(self, derivations: Derivations, objects: LocalObjects) -> None:
        self._derivations = derivations
        self._objects = objects
        self._packed: dict[Digest, Digest] = {}
        self._jobs: dict[Digest, asyncio.Task[None]] = {}

    def find(self, profile: Digest) -> Digest:
        """A profile with its boot pack, if there is one; if not it is made for later starts, and the profile must do."""
        packed = self._packed.get(profile)
        if packed is not None and self._objects.keep(packed):
            return packed
        if profile not in self._jobs:
            self._jobs[profile] = asyncio.ensure_future(self._make(profile))
        return profile

    async def close(self) -> None:
        jobs = list(self._jobs.values())
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)

    async def _make(self, profile: Digest) -> None:
        try:
            made = await self._derivations.make(f"pack/{profile}", lambda: asyncio.to_thread(self._pack, profile))
            self._packed[profile] = made["index"]
        except Exception:
            logger.exception("no boot pack was made of profile %s", profile)
        finally:
            del self._jobs[profile]

    def _pack(self, digest: Digest) -> dict[str, str]:
        encoded = self._objects.read(digest)
        profile = read_profile(encoded)
        if len(profile) < LEAST_OBJECTS:
            return {"index": digest}
        pack = write_pack(profile, self._objects)
        return {"index": self._objects.put(encode_packed_profile(pack, encoded)), "beside": pack.data}
