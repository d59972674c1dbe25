"""Where FROM leads: bases made from Debian's packages, the uv that PyPI has, and images of registries."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Callable
from typing import Final

from jiffy.errors import UnsupportedError
from jiffy.image.bytecode import run_pip
from jiffy.image.debian import bootstrap_python, has_python, parse_base_name
from jiffy.image.folder import import_folder
from jiffy.image.index import Entry, Kind, encode_index
from jiffy.objects.local import LocalObjects
from jiffy.server.derivations import Derivations
from jiffy.server.registries import Credentials
from jiffy.store.images import ImageContent

_UV: Final = re.compile(r"ghcr\.io/astral-sh/uv(?::([\w.-]+))?(?:@sha256:[0-9a-f]{64})?")
_UV_PLATFORM: Final = "musllinux_1_1_x86_64"
"""Its program is linked statically: it runs in any image."""

Report = Callable[[str], None]


class Bases:
    def __init__(self, derivations: Derivations, objects: LocalObjects) -> None:
        self._derivations = derivations
        self._objects = objects

    async def find(self, reference: str, credentials: Credentials | None, report: Report) -> ImageContent:
        """The image that a reference names. UnsupportedError and UnavailableError when it is not to be had."""
        if reference == "scratch":
            return await self._scratch()
        if (match := _UV.fullmatch(reference)) is not None:
            return await self._uv(match[1] or "latest", report)
        parsed = parse_base_name(reference)
        if parsed is not None and has_python(parsed[0]):
            return await self._debian(parsed[0], report)
        raise UnsupportedError(
            f"no image {reference}",
            why="this version of jiffy pulls from no registry",
            hint="use modal.Image.debian_slim()",
        )

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
