"""The modal client's own files and the packages it needs, as indexes for containers of a given Python."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import re
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from jiffy.errors import NotFoundError, UnavailableError
from jiffy.image.bytecode import Compiler, run_pip
from jiffy.image.folder import import_folder
from jiffy.image.index import encode_index
from jiffy.objects.base import Digest
from jiffy.objects.local import LocalObjects

_PACKAGES: Final = ("modal", "modal_proto", "modal_version", "synchronicity")
_PLATFORMS: Final = ("manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux_2_28_x86_64", "manylinux1_x86_64")
_MUSL_PLATFORMS: Final = ("musllinux_1_2_x86_64", "musllinux_1_1_x86_64")
_DEPENDENCIES: Final = "__modal/deps"
_SITE: Final = 'import sys\n\nsys.path.append("/__modal/deps")\n'

Report = Callable[[str], None]


async def client_index(version: str, compiler: Compiler, report: Report) -> Digest:
    """The client of one version at /pkg, with bytecode."""
    report(f"preparing the modal client {version} for Python {compiler.series}")
    async with _workplace(compiler.objects, f"client-{version}-{compiler.series}") as folder:
        packages = await _find_client(version, folder / "download")
        tree = folder / "tree"
        for name in _PACKAGES:
            await asyncio.to_thread(_copy_package, packages / name, tree / "pkg" / name)
        return await _store(tree, folder, compiler, report)


async def dependencies_index(
    builder: str, client_version: str, compiler: Compiler, musl: bool, report: Report
) -> Digest:
    """What the client imports, at /__modal/deps, and what makes Python look there. `musl`: the image has that C library."""
    report(f"preparing the client's dependencies for Python {compiler.series}")
    async with _workplace(compiler.objects, f"dependencies-{builder}-{compiler.series}") as folder:
        packages = await _find_client(client_version, folder / "download")
        listed = _find_requirements(packages / "modal", builder)
        if listed is None:
            raise NotFoundError(f"modal {client_version} has no image builder {builder}")
        tree = folder / "tree"
        platforms = _MUSL_PLATFORMS if musl else _PLATFORMS
        await _install(listed.read_text(), compiler.series, platforms, folder, tree / _DEPENDENCIES)
        (tree / "pkg").mkdir()
        (tree / "pkg" / "sitecustomize.py").write_text(_SITE)
        return await _store(tree, folder, compiler, report)


@asynccontextmanager
async def _workplace(objects: LocalObjects, name: str) -> AsyncIterator[Path]:
    """A folder that is gone afterwards; after a kill, the next sweep finds it by the process it was for."""
    folder = objects.incoming / f"{os.getpid()}-{name}"
    folder.mkdir()
    try:
        yield folder
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _find_requirements(client: Path, builder: str) -> Path | None:
    """Where a client lists them: before 1.1 the folder had another name."""
    places = [client / folder / f"{builder}.txt" for folder in ("builder", "requirements")]
    return next((place for place in places if place.exists()), None)


async def _find_client(version: str, download: Path) -> Path:
    """Where the client's packages are: installed beside jiffy if it is the same version, else fetched."""
    if importlib.metadata.version("modal") == version:
        return Path(str(importlib.metadata.distribution("modal").locate_file("")))
    if not re.fullmatch(r"[0-9]+(\.[0-9a-z]+)*", version):
        raise NotFoundError(f"no modal client has the version {version!r}")
    target = ("--target", str(download), "--no-compile", "--only-binary", ":all:", "--no-deps")
    await run_pip("install", *target, f"modal=={version}")
    (metadata,) = download.glob("modal-*.dist-info/METADATA")
    match = re.search(r"^Requires-Dist: (synchronicity[^;\n]*)", metadata.read_text(), re.M)
    await run_pip("install", *target, match[1].replace(" ", "") if match else "synchronicity")
    return download


async def _install(requirements: str, python: str, platforms: Sequence[str], folder: Path, target: Path) -> None:
    """Install wheels for another Python than this one, perhaps. A certificate bundle may be of any version: the pinned one
    is not always to be had, and newer is better."""
    relaxed = re.sub(r"^certifi==.*$", "certifi", requirements, flags=re.M)
    file = folder / "requirements.txt"
    accepted = [option for platform in platforms for option in ("--platform", platform)]
    options = ("--no-deps", "--no-compile", "--only-binary", ":all:", "--python-version", python, *accepted)
    for text in (requirements, relaxed):
        file.write_text(text)
        try:
            await run_pip("install", "--target", str(target), *options, "--requirement", str(file))
            return
        except UnavailableError:
            if text is relaxed:
                raise


def _copy_package(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyi"))


async def _store(tree: Path, folder: Path, compiler: Compiler, report: Report) -> Digest:
    scratch = folder / "scratch"
    scratch.mkdir()
    if not await compiler.compile(tree, scratch):
        report(f"no Python {compiler.series} on this host: the files go without bytecode, imports take longer")
    return await asyncio.to_thread(_store_now, tree, compiler.objects)


def _store_now(tree: Path, objects: LocalObjects) -> Digest:
    with objects.batch() as batch:
        entries = import_folder(tree, batch)
    return objects.put(encode_index(entries))
