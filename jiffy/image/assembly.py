"""Layers of an OCI image put together to one tree.

Each layer is a change of those below it, but looser than what a container's upper folder tells: folders may be missing, and
names may lead through links of lower layers. They are resolved within the tree, so nothing leads out of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from jiffy.errors import InvalidError
from jiffy.image.change import Change
from jiffy.image.index import LONGEST_PATH, MOST_ENTRIES, Entry, Kind, sort_key
from jiffy.image.links import MOST_LINKS

_FOLDER: Final = Entry(b"", Kind.DIRECTORY, 0o755)


@dataclass(slots=True)
class _Node:
    """`children` is None for what is no folder."""

    entry: Entry
    children: dict[bytes, _Node] | None = field(default=None)


class Assembly:
    """A tree that layers are added to, the lowest first."""

    def __init__(self) -> None:
        self._root = _Node(_FOLDER, {})
        self._links = 0
        self._last: tuple[bytes, dict[bytes, _Node]] | None = None

    def add(self, layer: Change) -> None:
        """What a layer takes away is taken from those below, whatever the layer itself puts there. InvalidError when it
        makes no tree."""
        self._last = None
        for path in sorted(layer.removed | layer.opaque):
            self._take_away(path, keep=path in layer.opaque)
        below = {path: self._find_file(target) for path, target in layer.untouched.items()}
        numbers: dict[int, int] = {}
        for entry in sorted(layer.entries, key=lambda entry: (entry.path.count(b"/"), sort_key(entry.path))):
            if entry.path in below:
                entry = self._same_file(entry, below[entry.path])
            elif entry.link:
                entry = replace(entry, link=numbers.get(entry.link) or self._next_link(numbers, entry.link))
            self._put(entry)

    def entries(self) -> Iterator[Entry]:
        """All of the tree, folders first. InvalidError when it is too large."""
        pending = [(b"/", self._root)]
        count = 0
        while pending:
            path, node = pending.pop()
            count += 1
            if count > MOST_ENTRIES or len(path) > LONGEST_PATH:
                raise InvalidError("the image's layers make too large a tree")
            yield node.entry if node.entry.path == path else replace(node.entry, path=path)
            for name, child in (node.children or {}).items():
                pending.append((path.rstrip(b"/") + b"/" + name, child))

    def _put(self, entry: Entry) -> None:
        path, _, name = entry.path.rpartition(b"/")
        if not name:
            self._root.entry = entry
            return
        if self._last is None or self._last[0] != path:
            self._last = path, self._folder([part for part in path.split(b"/") if part])
        folder = self._last[1]
        known = folder.get(name)
        if entry.kind is Kind.DIRECTORY:
            children = known.children if known is not None else None
            folder[name] = _Node(entry, {} if children is None else children)
        else:
            folder[name] = _Node(entry)

    def _take_away(self, path: bytes, *, keep: bool) -> None:
        names = [name for name in path.split(b"/") if name]
        if not names:
            self._root.children = {}
            return
        found = self._resolve(names[:-1])
        if found is None or found.children is None:
            return
        if keep:
            node = found.children.get(names[-1])
            if node is not None and node.children is not None:
                node.children = {}
        else:
            found.children.pop(names[-1], None)

    def _folder(self, names: list[bytes]) -> dict[bytes, _Node]:
        """The children of a folder, links on the way followed; folders that are missing are made."""
        node = self._resolve(names, make=True)
        if node is None or node.children is None:
            raise InvalidError(f"{b'/'.join(names)[:100]!r} is both a file and a folder")
        return node.children

    def _resolve(self, names: list[bytes], *, make: bool = False) -> _Node | None:
        trail = [self._root]
        pending = names[::-1]
        links = 0
        while pending:
            name = pending.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                trail = trail[:-1] if len(trail) > 1 else trail
                continue
            children = trail[-1].children
            if children is None:
                return None
            node = children.get(name)
            if node is None:
                if not make:
                    return None
                node = children[name] = _Node(_FOLDER, {})
            if node.entry.kind is Kind.SYMLINK:
                links += 1
                if links > MOST_LINKS:
                    raise InvalidError(f"{b'/'.join(names)[:100]!r} leads through a loop of links")
                if node.entry.target.startswith(b"/"):
                    trail = [self._root]
                pending.extend(node.entry.target.split(b"/")[::-1])
                continue
            trail.append(node)
        return trail[-1]

    def _find_file(self, path: bytes) -> _Node:
        """A file of a layer below, to which a name of this one is linked."""
        *folders, name = [part for part in path.split(b"/") if part] or [b""]
        folder = self._resolve(folders)
        node = None if folder is None or folder.children is None else folder.children.get(name)
        if node is None or node.children is not None:
            raise InvalidError(f"a name links to {path[:100]!r}, which is not there")
        return node

    def _same_file(self, entry: Entry, node: _Node) -> Entry:
        if not node.entry.link:
            self._links += 1
            node.entry = replace(node.entry, link=self._links)
        return replace(node.entry, path=entry.path)

    def _next_link(self, numbers: dict[int, int], link: int) -> int:
        """Each layer counts its hard links by itself."""
        self._links += 1
        numbers[link] = self._links
        return self._links
