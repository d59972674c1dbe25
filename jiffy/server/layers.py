"""Layers of images: indexes stacked on each other, one more for each step that changed something.

A change that takes something away cannot be stacked: an index has no sign for what is gone. The layers from the lowest one
that had it upwards become one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Final

from jiffy.image.change import Applied, Change, apply_change, flatten, is_hidden, read_change
from jiffy.image.graft import graft
from jiffy.image.index import Entry, Index, Kind, encode_index
from jiffy.image.tree import Tree
from jiffy.objects.base import Digest
from jiffy.objects.local import LocalObjects

MOST_LAYERS: Final = 12
"""Of one image: each is looked through for each name that is not there."""

_LARGEST_TEXT: Final = 2**20


class Layers:
    """Each call reads and writes indexes: not for the event loop."""

    def __init__(self, objects: LocalObjects) -> None:
        self._objects = objects

    def tree(self, layers: Sequence[Digest]) -> Tree:
        return Tree([self._load(layer) for layer in layers])

    def put(self, entries: Iterable[Entry]) -> Digest:
        return self._objects.put(encode_index(entries))

    def store(self, data: bytes) -> Digest:
        """The content of a file; empty ones have none."""
        return self._objects.put(data) if data else ""

    def read(self, tree: Tree, path: str) -> str:
        """A small text file of a tree; empty when there is none."""
        entry = tree.find(path.encode())
        if entry is None or not entry.digest or entry.size > _LARGEST_TEXT:
            return ""
        return self._objects.read(entry.digest).decode(errors="replace")

    def add_change(
        self,
        layers: tuple[Digest, ...],
        change: Digest,
        ignored: Collection[bytes],
        dropped: Collection[bytes],
        above: tuple[Digest, ...] = (),
    ) -> tuple[Digest, ...]:
        """The layers after a container's change. It ran with the layers `above` on top, which are not part of the result;
        nor is what lies at or below one of `dropped`. `ignored` are its mount points."""
        tree = self.tree(layers)
        read = _without(read_change(self._objects.read(change)), dropped)
        applied = apply_change(self.tree((*layers, *above)), read, ignored)
        applied.hidden = {path for path in applied.hidden if tree.lookup(path) is not None}
        if not applied.hidden and not _is_news(tree, applied.entries):
            return layers
        return self._stack(layers, applied)

    def graft(self, layers: tuple[Digest, ...], entries: Iterable[Entry]) -> Digest:
        """A layer of entries that fits on others, links below followed."""
        return self.put(graft(self.tree(layers), entries))

    def add_entries(self, layers: tuple[Digest, ...], entries: Iterable[Entry]) -> tuple[Digest, ...]:
        """The layers with entries placed over them, links below followed."""
        tree = self.tree(layers)
        grafted = graft(tree, entries)
        if not _is_news(tree, grafted):
            return layers
        return self._stack(layers, apply_change(tree, Change(entries=sorted(grafted, key=lambda entry: entry.path))))

    def _stack(self, layers: tuple[Digest, ...], applied: Applied) -> tuple[Digest, ...]:
        if not applied.hidden:
            return self._compact(without_repeats((*layers, self.put(applied.entries))))
        lowest = next(
            number
            for number, layer in enumerate(layers)
            if any(self._load(layer).lookup(path) is not None for path in applied.hidden)
        )
        return without_repeats((*layers[:lowest], self.put(flatten(self.tree(layers[lowest:]), applied))))

    def _compact(self, layers: tuple[Digest, ...]) -> tuple[Digest, ...]:
        """Where there are too many, the two neighbours that have least become one."""
        while len(layers) > MOST_LAYERS:
            sizes = [len(self._load(layer)) for layer in layers]
            first = min(range(len(layers) - 1), key=lambda number: sizes[number] + sizes[number + 1])
            merged = self.put(self.tree(layers[first : first + 2]))
            layers = without_repeats((*layers[:first], merged, *layers[first + 2 :]))
        return layers

    def _load(self, digest: Digest) -> Index:
        return Index.from_file(self._objects.path(digest))


def without_repeats(layers: Sequence[Digest]) -> tuple[Digest, ...]:
    """Each layer where it comes last. Further down nothing of it is seen, and overlayfs refuses one that is there twice."""
    return tuple(reversed(dict.fromkeys(reversed(layers))))


def _without(change: Change, dropped: Collection[bytes]) -> Change:
    change.entries = [entry for entry in change.entries if not is_hidden(entry.path, dropped)]
    change.removed = {path for path in change.removed if not is_hidden(path, dropped)}
    return change


def _is_news(tree: Tree, entries: Iterable[Entry]) -> bool:
    """Whether entries are more than what was there before."""
    return any(not _is_same(entry, tree.lookup(entry.path)) for entry in entries)


def _is_same(entry: Entry, below: Entry | None) -> bool:
    """A folder may have been touched; of a file, other names do not count."""
    if below is None or entry.kind is not below.kind:
        return False
    if entry.kind is Kind.DIRECTORY:
        return replace(entry, mtime_ns=0) == replace(below, mtime_ns=0)
    return replace(entry, link=0) == replace(below, link=0)
