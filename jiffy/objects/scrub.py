"""Reads cached objects again, slowly, and mends those whose bytes have changed on the disk.

A broken object is overwritten where it lies: whoever has it open or mapped gets the right bytes from then on, and no
look-up that the kernel remembers leads to the wrong ones. What cannot be fetched anew is put aside, so that it is missed
and not read.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jiffy.errors import JiffyError
from jiffy.objects.base import Digest
from jiffy.objects.tiers import Tiers

logger = logging.getLogger(__name__)

_CHUNK: Final = 2**20


@dataclass(slots=True)
class Findings:
    """Counts of objects and bytes that were read, and the digests of what was broken."""

    objects: int = 0
    size: int = 0
    mended: int = 0
    put_aside: int = 0


class Scrubber:
    """`quarantine` is a folder, `rate` is how many bytes a second are read at most."""

    def __init__(self, tiers: Tiers, quarantine: Path, rate: float) -> None:
        self._tiers = tiers
        self._quarantine = quarantine
        self._rate = rate

    def run(self, cancelled: threading.Event, report: Callable[[Findings], None] = lambda _: None) -> Findings:
        """Look at every object once. `report` hears what was found so far, after each of them."""
        findings = Findings()
        for digest in self._tiers.local:
            if cancelled.is_set():
                break
            self._look_at(digest, findings, cancelled)
            report(findings)
        return findings

    def _look_at(self, digest: Digest, findings: Findings, cancelled: threading.Event) -> None:
        path = self._tiers.local.path(digest)
        try:
            found = self._read(path, findings, cancelled)
        except FileNotFoundError:
            return
        except OSError as error:
            logger.error("object %s cannot be read: %s", digest, error)
            found = ""
        findings.objects += 1
        if found != digest and not cancelled.is_set():
            logger.error("object %s has the wrong bytes", digest)
            self._mend(digest, path, findings)

    def _read(self, path: Path, findings: Findings, cancelled: threading.Event) -> Digest:
        checksum = hashlib.sha256()
        with path.open("rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_NOREUSE)
            while chunk := file.read(_CHUNK):
                checksum.update(chunk)
                findings.size += len(chunk)
                if cancelled.wait(len(chunk) / self._rate):
                    break
        return checksum.hexdigest()

    def _mend(self, digest: Digest, path: Path, findings: Findings) -> None:
        try:
            source = self._tiers.fetch_to_memory(digest)
        except JiffyError as error:
            logger.error("object %s is put aside: %s", digest, error)
            self._quarantine.mkdir(exist_ok=True)
            shutil.move(path, self._quarantine / digest)
            findings.put_aside += 1
            return
        try:
            _overwrite(path, source)
        finally:
            os.close(source)
        findings.mended += 1


def _overwrite(path: Path, source: int) -> None:
    size = os.fstat(source).st_size
    path.chmod(0o644)
    target = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        offset = 0
        while offset < size:
            offset += os.pwrite(target, os.pread(source, _CHUNK, offset), offset)
        os.ftruncate(target, size)
        os.fsync(target)
    finally:
        os.close(target)
        path.chmod(0o444)
