"""Where FROM leads: images that were imported, bases made from Debian's packages, the uv that PyPI has, and registries."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from typing import Final

from jiffy.errors import UnavailableError
from jiffy.image.bytecode import run_pip
from jiffy.image.debian import bootstrap_python, has_python, parse_base_name
from jiffy.image.folder import import_folder
from jiffy.image.importing import Imported
from jiffy.image.index import Entry, Kind, encode_index
from jiffy.image.pull import Pulls
from jiffy.image.reference import parse_reference
from jiffy.image.registry import Credentials
from jiffy.objects.local import LocalObjects
from jiffy.server.derivations import Derivations
from jiffy.server.oci_config import read_config
from jiffy.server.remote_objects import RemoteObjects
from jiffy.store.images import ImageContent
from jiffy.store.stores import Stores

_UV: Final = re.compile(r"ghcr\.io/astral-sh/uv(?::([\w.-]+))?(?:@sha256:[0-9a-f]{64})?")
_PLATFORM: Final = "linux/amd64"
_TELL_SECONDS: Final = 2.0
_UV_PLATFORM: Final = "musllinux_1_1_x86_64"
"""Its program is linked statically: it runs in any image."""

Report = Callable[[str], None]


class Bases:
    """`mirrors` are addresses of registries that are asked in place of a host's."""

    def __init__(
        self,
        stores: Stores,
        derivations: Derivations,
        objects: LocalObjects,
        pulls: Pulls,
        remote: RemoteObjects,
        mirrors: Mapping[str, str],
    ) -> None:
        self._stores = stores
        self._derivations = derivations
        self._objects = objects
        self._pulls = pulls
        self._remote = remote
        self._mirrors = mirrors

    async def find(self, reference: str, credentials: Credentials | None, report: Report) -> ImageContent:
        """The image that a reference names. A JiffyError says why it is not to be had."""
        if reference == "scratch":
            return await self._scratch()
        if (imported := await self._imported(reference)) is not None:
            return imported
        if (match := _UV.fullmatch(reference)) is not None:
            return await self._uv(match[1] or "latest", report)
        python, _ = parse_base_name(reference) or ("", "")
        if python and has_python(python):
            return await self._debian(python, report)
        try:
            return await self._pulled(reference, credentials, report)
        except UnavailableError:
            if python:
                report(f"{reference} cannot be pulled")
                return await self._debian(python, report)
            raise

    async def _imported(self, reference: str) -> ImageContent | None:
        """What `jiffy image import` brought by this name."""
        image_id = await self._stores.image_names.referred(str(parse_reference(reference)))
        return (await self._stores.images.get(image_id)).content if image_id else None

    async def _pulled(self, reference: str, credentials: Credentials | None, report: Report) -> ImageContent:
        report(f"pulling {reference}")
        imported: Imported | None = None
        told = time.monotonic()
        async for news in self._pulls.pull(reference, _PLATFORM, credentials, self._mirrors):
            if isinstance(news, Imported):
                imported = news
            elif news.total and time.monotonic() - told > _TELL_SECONDS:
                told = time.monotonic()
                done = news.read + news.known
                report(f"pulled {done / 1e6:.0f} of {news.total / 1e6:.0f} MB, {news.files} files")
        if imported is None:
            raise UnavailableError(f"{reference} was not pulled")
        await self._remote.learn(imported.index, imported.first)
        report(f"pulled {reference}: {imported.files} files, {imported.size / 1e6:.0f} MB")
        return read_config(imported.index, imported.config)

    async def _scratch(self) -> ImageContent:
        root = Entry(b"/", Kind.DIRECTORY, 0o755)
        index = await asyncio.to_thread(lambda: self._objects.put(encode_index([root])))
        return ImageContent(layers=(index,), python="", python_version_info="")

    async def _debian(self, python: str, report: Report) -> ImageContent:
        async def make() -> dict[str, str]:
            base = await bootstrap_python(python, self._objects, report)
            environment = "\n".join(f"{name}={value}" for name, value in base.environment.items())
            return {
                "index": base.index,
                "environment": environment,
                "working_directory": base.working_directory,
                "python_version": base.python_version,
            }

        made = await self._derivations.make(f"base/python/{python}", make)
        return ImageContent(
            layers=(made["index"],),
            python=python,
            python_version_info=made["python_version"],
            environment=dict(line.split("=", 1) for line in made["environment"].splitlines()),
            working_directory=made["working_directory"],
            python_program=f"/usr/bin/python{python}",
        )

    async def _uv(self, version: str, report: Report) -> ImageContent:
        """The image that has only /uv and /uvx: from the wheel, which holds the same programs."""

        async def make() -> str:
            report(f"fetching uv {version} from the package index")
            folder = self._objects.incoming / f"{os.getpid()}-uv-{version}"
            wanted = "uv" if version == "latest" else f"uv=={version}"
            options = ("--no-deps", "--no-compile", "--only-binary", ":all:", "--platform", _UV_PLATFORM)
            try:
                await run_pip("install", "--target", str(folder / "wheel"), *options, wanted)
                tree = folder / "tree"
                tree.mkdir()
                for name in ("uv", "uvx"):
                    (folder / "wheel" / "bin" / name).rename(tree / name)
                    (tree / name).chmod(0o755)
                with self._objects.batch() as batch:
                    entries = import_folder(tree, batch)
                return self._objects.put(encode_index(entries))
            finally:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

        made = await self._derivations.make(f"base/uv/{version}", make)
        return ImageContent(layers=(made["index"],), python="", python_version_info="")
