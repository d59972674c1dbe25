"""Repositories of git whose files an ADD puts into an image."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import unquote, urlsplit

from jiffy.errors import InvalidError, NotFoundError, UnavailableError, UnsupportedError
from jiffy.image.folder import import_folder
from jiffy.image.index import Entry
from jiffy.objects.local import LocalObjects

_ADDRESS: Final = re.compile(r"(git@|git://|ssh://)|https?://[^#]+\.git(#.*)?$")
_ENVIRONMENT: Final = {"GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": "http:https:git:ssh"}


def is_repository(address: str) -> bool:
    """Whether an ADD means a repository: git@..., git://..., ssh://..., or a path that ends with .git."""
    return _ADDRESS.match(address) is not None


def without_login(address: str) -> str:
    """An address as it may be shown and kept."""
    return re.sub(r"^(https?://)[^/@]*@", r"\1", address)


class Repositories:
    def __init__(self, objects: LocalObjects) -> None:
        self._objects = objects

    async def fetch(self, address: str, *, keep_git: bool) -> list[Entry]:
        """The files of `URL#REF:FOLDER`, with those of its submodules; REF is a branch, a tag or a commit. Times and
        owners are left out. UnavailableError when git fails, NotFoundError for a folder that it does not have."""
        if shutil.which("git") is None:
            raise UnsupportedError(f"cannot add {address}", why="git is not installed on the server")
        url, _, rest = address.partition("#")
        reference, _, inside = rest.partition(":")
        folder = self._objects.incoming / f"{os.getpid()}-git-{hashlib.sha256(address.encode()).hexdigest()[:16]}"
        try:
            await self._check_out(url, reference or "HEAD", folder)
            return await asyncio.to_thread(self._import, folder, inside, keep_git)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _check_out(self, address: str, reference: str, folder: Path) -> None:
        if reference.startswith(("-", "+")) or ":" in reference:
            raise InvalidError(f"{reference!r} is no branch, tag or commit")
        login = _login(address)
        here = ("-C", str(folder))
        await _git("init", "--quiet", str(folder))
        await _git(*here, "remote", "add", "origin", "--", without_login(address))
        await _git(*here, "fetch", "--quiet", "--depth", "1", "origin", reference, settings=login)
        await _git(*here, "checkout", "--quiet", "FETCH_HEAD")
        await _git(*here, "submodule", "--quiet", "update", "--init", "--recursive", "--depth", "1", settings=login)

    def _import(self, folder: Path, inside: str, keep_git: bool) -> list[Entry]:
        chosen = (folder / inside.lstrip("/")).resolve()
        if not chosen.is_relative_to(folder.resolve()) or not chosen.is_dir():
            raise NotFoundError(f"the repository has no folder {inside}")
        if not keep_git:
            for path in [*folder.rglob(".git")]:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
        with self._objects.batch() as batch:
            return import_folder(chosen, batch)


def _login(address: str) -> dict[str, str]:
    """The user and password of an address as a setting for its host: in no file, and in no command that others see."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or parts.username is None:
        return {}
    words = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    host = parts.netloc.rpartition("@")[2]
    header = f"Authorization: Basic {base64.b64encode(words.encode()).decode()}"
    return {f"http.{parts.scheme}://{host}/.extraHeader": header}


async def _git(*arguments: str, settings: Mapping[str, str] = MappingProxyType({})) -> None:
    given = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (name, value) in enumerate(settings.items()):
        given |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    process = await asyncio.create_subprocess_exec(
        "git",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **_ENVIRONMENT, **given},
    )
    try:
        _, errors = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise UnavailableError("git failed", why=errors.decode(errors="replace").strip()[-300:])
