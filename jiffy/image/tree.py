"""Several indexes seen as one tree: later ones over earlier ones, as overlayfs stacks them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from jiffy.image.index import Entry, Index, Kind
from jiffy.image.links import follow


class Tree:
    """`layers` bottom first."""

    def __init__(self, layers: Sequence[Index]) -> None:
        self._topmost_first = tuple(reversed(layers))

    def lookup(self, path: bytes) -> Entry | None:
        """What is at a path whose folders are no links."""
        for index in self._topmost_first:
            if (found := index.lookup(path)) is not None:
                return found
        return None

    def resolve(self, path: bytes) -> bytes:
        """Where a path leads once all links on it are followed, the last one too; what does not exist is taken as it is."""
        return follow(path, self._target_of)

    def find(self, path: bytes) -> Entry | None:
        """What is at a path, links followed."""
        return self.lookup(self.resolve(path))

    def below(self, path: bytes) -> Iterator[Entry]:
        """The entry at a path and all that is in it, folders first; links are not followed."""
        merged: dict[bytes, Entry] = {}
        for number, index in enumerate(reversed(self._topmost_first)):
            merged.update((entry.path, self._own_link(entry, number)) for entry in index.below(path))
        return iter(merged.values())

    def _target_of(self, path: bytes) -> bytes | None:
        found = self.lookup(path)
        return found.target if found is not None and found.kind is Kind.SYMLINK else None

    def _own_link(self, entry: Entry, layer: int) -> Entry:
        """Each layer counts its hard links by itself."""
        return replace(entry, link=entry.link * len(self._topmost_first) + layer) if entry.link else entry

    def __iter__(self) -> Iterator[Entry]:
        return self.below(b"/")
