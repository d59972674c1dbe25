"""What an open file of the lazy layer reads from, when the kernel does not read by itself."""

from __future__ import annotations

import os
from typing import Protocol

from jiffy.objects.partial import PartialObject, Partials


class Content(Protocol):
    """Of one object. `share` gives another to be closed by itself."""

    size: int

    def read(self, offset: int, size: int) -> bytes: ...

    def share(self) -> Content: ...

    def close(self) -> None: ...


class FileContent:
    """A file that is whole: in the directory, or in memory. Owns the descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self.descriptor, size, offset)

    def share(self) -> FileContent:
        return FileContent(os.dup(self.descriptor))

    def close(self) -> None:
        os.close(self.descriptor)


class PartialContent:
    """An object that arrives while it is read."""

    def __init__(self, partials: Partials, partial: PartialObject) -> None:
        self._partials = partials
        self._partial = partial
        self.size = partial.size

    def read(self, offset: int, size: int) -> bytes:
        return self._partial.read(offset, size)

    def share(self) -> PartialContent:
        return PartialContent(self._partials, self._partials.hold(self._partial))

    def close(self) -> None:
        self._partials.release(self._partial)
