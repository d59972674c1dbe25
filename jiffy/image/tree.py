"""Several indexes seen as one tree: later ones over earlier ones, as overlayfs stacks them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from jiffy.errors import InvalidError
from jiffy.image.index import Entry, Index, Kind

_MOST_LINKS: Final = 40


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
        """Where a path leads once all links on it are followed, the last one too; `..` never leaves the root, and what does
        not exist is taken as it is."""
        pending = [name for name in path.split(b"/") if name][::-1]
        resolved: list[bytes] = []
        links = 0
        while pending:
            name = pending.pop()
            if name == b"..":
                del resolved[-1:]
                continue
            if name == b".":
                continue
            found = self.lookup(b"/" + b"/".join([*resolved, name]))
            if found is None or found.kind is not Kind.SYMLINK:
                resolved.append(name)
                continue
            links += 1
            if links > _MOST_LINKS:
                raise InvalidError(f"{path!r} leads through a loop of links")
            if found.target.startswith(b"/"):
                resolved.clear()
            pending.extend([name for name in found.target.split(b"/") if name][::-1])
        return b"/" + b"/".join(resolved)

    def find(self, path: bytes) -> Entry | None:
        """What is at a path, links followed."""
        return self.lookup(self.resolve(path))

    def below(self, path: bytes) -> Iterator[Entry]:
        """The entry at a path and all that is in it, folders first; links are not followed."""
        merged: dict[bytes, Entry] = {}
        for number, index in enumerate(reversed(self._topmost_first)):
            merged.update((entry.path, self._own_link(entry, number)) for entry in index.below(path))
        return iter(merged.values())

    def _own_link(self, entry: Entry, layer: int) -> Entry:
        """Each layer counts its hard links by itself."""
        return replace(entry, link=entry.link * len(self._topmost_first) + layer) if entry.link else entry

    def __iter__(self) -> Iterator[Entry]:
        return self.below(b"/")
