"""A recording of what one start reads: which objects, and of large ones which parts."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence, Set
from pathlib import Path

from jiffy.datadir import DataDirectory
from jiffy.fs.recorder import Recorder
from jiffy.fs.residency import forget_pages, read_ranges, resident_ranges
from jiffy.objects.base import Digest, object_path
from jiffy.objects.chunks import read_chunk_map
from jiffy.objects.profile import Profile, Ranges


async def begin_recording(
    data: DataDirectory, root: Path, layers: Sequence[Path], chunk_maps: Sequence[Digest]
) -> Recording:
    """Of a root that is an overlay of `layers`, topmost first. `chunk_maps` name its large objects: the page cache forgets
    them, so that it tells at the end what of them was read."""
    large = await asyncio.to_thread(_forget_large, data, chunk_maps)
    return Recording(data, Recorder(root, layers), large)


class Recording:
    def __init__(self, data: DataDirectory, recorder: Recorder, large: Set[Digest]) -> None:
        self._data = data
        self._recorder = recorder
        self._large = large
        self._began_at = time.time()

    def close(self) -> Profile:
        """End, and give what was read."""
        return {digest: self._ranges(digest) if digest in self._large else () for digest in self._recorder.close()}

    def _ranges(self, digest: Digest) -> Ranges:
        """The map of an object that became whole before tells nothing of this start."""
        have = self._data.partial / f"{digest}.have"
        try:
            if have.stat().st_mtime >= self._began_at or have.with_suffix("").exists():
                return read_ranges(have)
        except FileNotFoundError:
            pass
        try:
            return resident_ranges(_path(self._data, digest))
        except FileNotFoundError:
            return ()


def _forget_large(data: DataDirectory, chunk_maps: Sequence[Digest]) -> Set[Digest]:
    large: set[Digest] = set()
    for chunk_map in chunk_maps:
        with contextlib.suppress(FileNotFoundError):
            large.update(read_chunk_map(_path(data, chunk_map).read_bytes()))
    for digest in large:
        forget_pages(_path(data, digest))
    return large


def _path(data: DataDirectory, digest: Digest) -> Path:
    return data.objects / object_path(digest)
