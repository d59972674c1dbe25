"""Base images made from Debian's packages: Debian and its Python, laid out as the official python images are.

No container registry is asked. mmdebstrap installs into a temporary folder and writes a tar, whose contents become objects
as they come. What is in a base and what is not: docs/decisions/005.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from jiffy.errors import InvalidError, JiffyError, UnavailableError, UnsupportedError
from jiffy.image.archive import import_archive
from jiffy.image.index import Entry, Index, Kind, encode_index
from jiffy.objects.base import Digest
from jiffy.objects.local import LocalObjects

MIRROR_VARIABLE: Final = "JIFFY_DEBIAN_MIRROR"
_SUITES: Final = {"3.11": "bookworm", "3.13": "trixie"}
_REFERENCE: Final = re.compile(r"(?:docker\.io/)?(?:library/)?python:(\d+\.\d+)(?:\.\d+)?-slim-([a-z]+)")
_PACKAGES: Final = ("ca-certificates", "python3", "python3-pip", "python3-venv")
_LEFT_OUT: Final = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/info/*")
_EMPTIED: Final = (b"/dev", b"/proc", b"/sys", b"/tmp", b"/run", b"/var/log", b"/var/cache/apt", b"/var/lib/apt/lists")
_PER_CONTAINER: Final = (b"/etc/resolv.conf", b"/etc/hostname", b"/etc/hosts")
_BUILD_ONLY: Final = (b"/etc/apt/apt.conf.d/99mmdebstrap", b"/etc/dpkg/dpkg.cfg.d/99mmdebstrap", b"/etc/machine-id")
_OF_DEBIAN_ONLY: Final = re.compile(rb"/usr/lib/python3/dist-packages/(pip|wheel)-[^/]*\.dist-info(/|$)")
"""What tells pip of a package that it then wants to replace, and cannot: Debian does not say which files it has."""
_LOCAL_NAMES: Final = {"python": "python3", "python3": "python3", "pip": "pip3", "pip3": "pip3"}
_PATH: Final = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class BaseImage:
    """`index` is the digest of the tree's index; `python_version` is such as `Python 3.11.2`."""

    index: Digest
    environment: dict[str, str]
    working_directory: str
    python_version: str
    distribution: str


def parse_base_name(reference: str) -> tuple[str, str] | None:
    """The Python series and the Debian name of a reference such as python:3.11-slim-trixie; None for any other."""
    match = _REFERENCE.fullmatch(reference)
    return None if match is None else (match[1], match[2])


def has_python(series: str) -> bool:
    """Whether Debian's packages have a Python such as 3.11."""
    return series in _SUITES


async def bootstrap_python(
    series: str, objects: LocalObjects, report: Report, *, packages: Sequence[str] = ()
) -> BaseImage:
    """Make the base with a Python such as 3.11, and with more of Debian's packages. UnsupportedError when Debian has no such
    Python, UnavailableError when the packages cannot be had."""
    suite = _SUITES.get(series)
    if suite is None:
        raise UnsupportedError(
            f"no base image with Python {series}",
            why=f"Debian's packages have {', '.join(_SUITES)}, and no registry has it here",
            hint=f'use debian_slim(python_version="{max(_SUITES)}") or one of the others',
        )
    if shutil.which("mmdebstrap") is None:
        raise UnavailableError("mmdebstrap is not installed", hint="apt-get install mmdebstrap")
    report(f"making a base image of Debian {suite} with Python {series} from packages, once")
    started = time.monotonic()
    bootstrap = _Bootstrap(suite, packages, objects, report)
    try:
        entries = await asyncio.to_thread(bootstrap.run)
    except asyncio.CancelledError:
        bootstrap.kill()
        raise
    index = await asyncio.to_thread(lambda: objects.put(encode_index(entries)))
    size = sum(entry.size for entry in entries)
    seconds = time.monotonic() - started
    report(f"made the base image: {len(entries)} entries, {size / 1e6:.0f} MB, {seconds:.1f} s")
    version = _installed_version(Index.from_file(objects.path(index)), objects, series)
    return BaseImage(
        index=index,
        environment={"PATH": _PATH, "LANG": "C.UTF-8", "PYTHON_VERSION": version},
        working_directory="",
        python_version=f"Python {version}",
        distribution=f"debian {suite}",
    )


class _Bootstrap:
    """One run of mmdebstrap, in a thread; `kill` ends it from outside."""

    def __init__(self, suite: str, packages: Sequence[str], objects: LocalObjects, report: Report) -> None:
        self._suite = suite
        self._packages = packages
        self._objects = objects
        self._loop = asyncio.get_running_loop()
        self._report_now = report
        self._process: subprocess.Popen[bytes] | None = None
        self._last_lines: deque[str] = deque(maxlen=5)
        self._folder = objects.incoming / f"{os.getpid()}-bootstrap-{suite}"

    def run(self) -> list[Entry]:
        self._folder.mkdir()
        try:
            return lay_out(self._import())
        finally:
            self.kill()
            shutil.rmtree(self._folder, ignore_errors=True)

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _import(self) -> list[Entry]:
        environment = {**os.environ, "TMPDIR": str(self._folder), "LC_ALL": "C.UTF-8"}
        self._process = subprocess.Popen(
            ["unshare", "--mount", *_command(self._suite, self._packages)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        watcher = threading.Thread(target=self._watch, daemon=True)
        watcher.start()
        assert self._process.stdout is not None
        failure: JiffyError | None = None
        entries: list[Entry] = []
        try:
            with self._objects.batch() as batch:
                entries = import_archive(self._process.stdout, batch)  # type: ignore[arg-type]
                self._check_exit(watcher)
        except InvalidError as error:
            failure = error
        if failure is not None:
            self._check_exit(watcher)
            raise failure
        return entries

    def _check_exit(self, watcher: threading.Thread) -> None:
        assert self._process is not None
        code = self._process.wait()
        watcher.join()
        if code != 0:
            raise UnavailableError(
                f"Debian {self._suite} could not be installed from packages",
                why=" / ".join(self._last_lines) or f"mmdebstrap ended with code {code}",
                hint=f"is a mirror reachable? {MIRROR_VARIABLE} names another",
            )

    def _watch(self) -> None:
        """Report each stage, and how far the packages are."""
        assert self._process is not None and self._process.stderr is not None
        done, told = 0, time.monotonic()
        for raw in self._process.stderr:
            line = raw.decode(errors="replace").strip()
            if line.startswith("I: "):
                self._report(line.removeprefix("I: "))
            elif line.startswith(("E: ", "W: ", "Err:")):
                self._last_lines.append(line)
            done += line.startswith(("Unpacking ", "Setting up "))
            if done and time.monotonic() - told > 1:
                told = time.monotonic()
                self._report(f"packages: {done} steps done")

    def _report(self, line: str) -> None:
        self._loop.call_soon_threadsafe(self._report_now, line)


def _command(suite: str, packages: Sequence[str]) -> list[str]:
    """SIGKILL may end it at any time: its mounts are in a namespace of its own, its files below TMPDIR."""
    options = [f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT]
    mirror = os.environ.get(MIRROR_VARIABLE)
    return [
        *("mmdebstrap", "--mode=root", "--format=tar", "--variant=minbase", "--verbose"),
        *options,
        *("--dpkgopt=path-include=/usr/share/doc/*/copyright", "--dpkgopt=force-unsafe-io"),
        f"--include={','.join((*_PACKAGES, *packages))}",
        suite,
        "-",
        *([f"deb {mirror} {suite} main"] if mirror else []),
    ]


def lay_out(entries: Iterable[Entry]) -> list[Entry]:
    """The tree as a base image has it: nothing of the host, `python` and `pip` where official images have them, and pip
    allowed to install."""
    tree = {entry.path: entry for entry in entries if not _is_left_out(entry.path)}
    for path in _PER_CONTAINER:
        tree[path] = Entry(path=path, kind=Kind.FILE, mode=0o644)
    for name, target in _LOCAL_NAMES.items():
        path = b"/usr/local/bin/" + name.encode()
        tree[path] = Entry(path=path, kind=Kind.SYMLINK, mode=0o777, target=b"/usr/bin/" + target.encode())
    return list(_without_lone_links(tree.values()))


def _is_left_out(path: bytes) -> bool:
    if path in _BUILD_ONLY or path.endswith(b"/EXTERNALLY-MANAGED") or _OF_DEBIAN_ONLY.match(path):
        return True
    return any(path.startswith(folder + b"/") for folder in _EMPTIED)


def _without_lone_links(entries: Iterable[Entry]) -> list[Entry]:
    """A link group of one, its other names left out, is an ordinary file."""
    kept = list(entries)
    groups: dict[int, int] = {}
    for entry in kept:
        groups[entry.link] = groups.get(entry.link, 0) + 1
    return [replace(entry, link=0) if groups[entry.link] == 1 else entry for entry in kept]


def _installed_version(index: Index, objects: LocalObjects, series: str) -> str:
    """From dpkg's records, such as 3.11.2."""
    status = index.lookup(b"/var/lib/dpkg/status")
    text = objects.read(status.digest).decode(errors="replace") if status is not None else ""
    match = re.search(rf"^Package: python{re.escape(series)}$.*?^Version: ([0-9.]+)", text, re.M | re.S)
    return match[1] if match is not None else series
