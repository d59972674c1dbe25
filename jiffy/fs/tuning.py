"""What of FUSE can be tuned. docs/decisions/019 says what each did, and why the values are these."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tuning:
    """Of one mount. `threads` of the daemon answer its requests, a descriptor each; one request reads at most `pages` of
    4 KiB, a sequential reader is ahead by `read_ahead_kib`; of requests that nobody waits for `background` are under way
    at most, and from `congestion` on the kernel makes fewer. `direct`: files that the daemon reads do not go through the
    page cache."""

    threads: int = 16
    pages: int = 256
    read_ahead_kib: int = 1024
    background: int = 256
    congestion: int = 192
    direct: bool = False


DEFAULT: Tuning = Tuning()
