"""Files of git's repositories, from a server that speaks its protocol: git's own."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import encode_basic_auth, web

from jiffy.errors import InvalidError, NotFoundError, UnavailableError
from jiffy.image.index import Entry, Kind
from jiffy.objects.local import LocalObjects
from jiffy.server.repositories import Repositories, is_repository, without_login
from tests.server.test_additions import Adding

SETTINGS = ("-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "init.defaultBranch=main")


def git(folder: Path, *arguments: str) -> str:
    command = ["git", *SETTINGS, "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository `here.git` with a branch, a tag and two commits, and `other.git`, which it has as a submodule."""
    root = tmp_path_factory.mktemp("repositories")
    for name in ("other", "here"):
        (root / name).mkdir()
        git(root / name, "init", "--quiet")
        (root / name / "file").write_text(f"first of {name}")
        git(root / name, "add", ".")
        git(root / name, "commit", "--quiet", "-m", "first")
    here = root / "here"
    git(here, "tag", "v1")
    (here / "file").write_text("second")
    (here / "folder").mkdir()
    (here / "folder" / "run").write_text("#!/bin/sh")
    (here / "folder" / "run").chmod(0o755)
    (here / "out").symlink_to("/etc")
    (here / ".gitmodules").write_text('[submodule "sub"]\n\tpath = sub\n\turl = ../other.git\n')
    git(here, "update-index", "--add", "--cacheinfo", f"160000,{git(root / 'other', 'rev-parse', 'HEAD')},sub")
    git(here, "add", ".gitmodules", "file", "folder", "out")
    git(here, "commit", "--quiet", "-m", "second")
    git(here, "branch", "side", "v1")
    for name in ("other", "here"):
        git(root, "clone", "--quiet", "--bare", str(root / name), str(root / f"{name}.git"))
    return root


@pytest.fixture
async def git_address(origin: Path) -> AsyncIterator[str]:
    """Where `git http-backend` answers; below /private/ to somebody with the password `ses@me` only."""

    async def answer(request: web.Request) -> web.Response:
        path = request.path.removeprefix("/private")
        if path != request.path and request.headers.get("Authorization") != encode_basic_auth("somebody", "ses@me"):
            return web.Response(status=401, headers={"WWW-Authenticate": "Basic"})
        environment = {
            **os.environ,
            "GIT_PROJECT_ROOT": str(origin),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": request.query_string,
            "REQUEST_METHOD": request.method,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
        }
        pipe = asyncio.subprocess.PIPE
        backend = await asyncio.create_subprocess_exec("git", "http-backend", stdin=pipe, stdout=pipe, env=environment)
        said, _ = await backend.communicate(await request.read())
        head, _, body = said.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        status = int(headers.pop("Status", "200").split()[0])
        return web.Response(status=status, body=body, headers=headers)

    application = web.Application(handler_args={"auto_decompress": False})
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/here.git"
    await runner.cleanup()


class Fetching:
    def __init__(self, objects: LocalObjects) -> None:
        self._objects = objects
        self._repositories = Repositories(objects)

    async def __call__(self, address: str, *, keep_git: bool = False) -> dict[str, Entry]:
        entries = await self._repositories.fetch(address, keep_git=keep_git)
        assert list(self._objects.incoming.iterdir()) == []
        return {entry.path.decode(): entry for entry in entries}

    def content(self, entry: Entry) -> bytes:
        return self._objects.read(entry.digest)

    def text(self, entry: Entry) -> str:
        return self.content(entry).decode()


@pytest.fixture
def fetch(objects: LocalObjects) -> Fetching:
    return Fetching(objects)


async def test_all_files_are_there_with_those_of_submodules(fetch: Fetching, git_address: str) -> None:
    found = await fetch(git_address)
    assert set(found) == {"/", "/.gitmodules", "/file", "/folder", "/folder/run", "/out", "/sub", "/sub/file"}
    assert fetch.text(found["/file"]) == "second" and fetch.text(found["/sub/file"]) == "first of other"
    assert found["/folder/run"].mode == 0o755
    assert (found["/out"].kind, found["/out"].target) == (Kind.SYMLINK, b"/etc")


@pytest.mark.parametrize("reference", ["v1", "side", "refs/tags/v1", "COMMIT"])
async def test_a_branch_a_tag_or_a_commit_is_chosen(
    fetch: Fetching, git_address: str, origin: Path, reference: str
) -> None:
    reference = reference.replace("COMMIT", git(origin / "here", "rev-parse", "v1"))
    found = await fetch(f"{git_address}#{reference}")
    assert fetch.text(found["/file"]) == "first of here"


async def test_a_folder_of_it_is_chosen(fetch: Fetching, git_address: str) -> None:
    for inside in ("folder", "/folder/"):
        assert set(await fetch(f"{git_address}#main:{inside}")) == {"/", "/run"}
    assert set(await fetch(f"{git_address}#:folder")) == {"/", "/run"}


@pytest.mark.parametrize("inside", ["..", "../../..", "folder/../..", "out", "file", "nothing"])
async def test_no_folder_outside_is_to_be_had(fetch: Fetching, git_address: str, inside: str) -> None:
    with pytest.raises(NotFoundError, match="has no folder"):
        await fetch(f"{git_address}#main:{inside}")


async def test_the_same_commit_gives_the_same_entries(fetch: Fetching, git_address: str) -> None:
    assert await fetch(git_address) == await fetch(git_address)


async def test_what_git_knows_is_kept_when_it_is_wanted_but_no_password(fetch: Fetching, git_address: str) -> None:
    """The submodule is as private."""
    private = git_address.replace("/here.git", "/private/here.git")
    with pytest.raises(UnavailableError):
        await fetch(private)
    found = await fetch(private.replace("http://", "http://somebody:ses%40me@"), keep_git=True)
    assert {"/.git/HEAD", "/sub/file"} <= set(found)
    contents = [fetch.content(entry) for entry in found.values() if entry.digest]
    assert not [data for data in contents if b"ses%40me" in data or b"ses@me" in data or b"Authorization" in data]


@pytest.mark.parametrize("reference", ["-x", "+main", "--upload-pack=touch"])
async def test_a_reference_is_no_option(fetch: Fetching, git_address: str, reference: str) -> None:
    with pytest.raises(InvalidError, match="is no branch"):
        await fetch(f"{git_address}#{reference}")


async def test_what_cannot_be_had_is_told_in_gits_words(
    fetch: Fetching, git_address: str, objects: LocalObjects
) -> None:
    with pytest.raises(UnavailableError, match="nothing"):
        await fetch(f"{git_address}#nothing")
    with pytest.raises(UnavailableError, match="git failed"):
        await fetch("http://127.0.0.1:9/x.git")
    assert list(objects.incoming.iterdir()) == []


async def test_add_puts_a_repository_in_an_image(objects: LocalObjects, git_address: str) -> None:
    add = Adding(objects)
    (place,) = (added := await add(f"{git_address}#v1")).names
    assert {entry.path.decode() for entry in added.entries} == {place, f"{place}/file"}
    added = await add(f"--keep-git-dir=true {git_address}#v1")
    assert any(entry.path.endswith(b"/.git/HEAD") for entry in added.entries)


def test_addresses_of_repositories_are_known() -> None:
    for address in ("git@host:a", "git://host/a", "ssh://host/a", "https://host/a.git", "http://host/a.git#b:c"):
        assert is_repository(address)
    for address in ("https://host/a.tgz", "a.git", "https://host/a.git/b", "ext::sh -c id", "file:///a.git"):
        assert not is_repository(address)
    assert without_login("https://user:word@host/a.git") == "https://host/a.git"
    assert without_login("https://host/a@b.git") == "https://host/a@b.git"
