"""Base images from Debian's packages: what is asked for, and how the tree is laid out."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from jiffy.errors import UnavailableError, UnsupportedError
from jiffy.image.debian import MIRROR_VARIABLE, bootstrap_python, lay_out, parse_base_name
from jiffy.image.index import Entry, Kind
from tests.objects.conftest import make_objects


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("python:3.11-slim-bookworm", ("3.11", "bookworm")),
        ("python:3.13.1-slim-trixie", ("3.13", "trixie")),
        ("docker.io/library/python:3.12-slim-bookworm", ("3.12", "bookworm")),
        ("ubuntu:22.04", None),
        ("python:3.11", None),
    ],
)
def test_references_of_official_python_images_are_known(reference: str, expected: tuple[str, str] | None) -> None:
    assert parse_base_name(reference) == expected


async def test_a_python_that_debian_lacks_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r'use debian_slim\(python_version="3\.13"\)'):
        await bootstrap_python("3.12", make_objects(tmp_path / "store"), print)


@pytest.mark.root
async def test_a_mirror_that_cannot_be_reached_is_named_as_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MIRROR_VARIABLE, "http://127.0.0.1:1/debian")
    objects = make_objects(tmp_path / "store")
    with pytest.raises(UnavailableError, match=MIRROR_VARIABLE):
        await bootstrap_python("3.11", objects, print)
    assert list(objects) == []
    assert list(objects.incoming.iterdir()) == []


async def test_a_machine_without_the_bootstrap_tool_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    with pytest.raises(UnavailableError, match="apt-get install mmdebstrap"):
        await bootstrap_python("3.11", make_objects(tmp_path / "store"), print)


def tree(*paths: str) -> list[Entry]:
    return [Entry(path.encode(), Kind.FILE, 0o644) for path in paths]


def names(entries: list[Entry]) -> set[str]:
    return {entry.path.decode() for entry in entries}


def test_python_and_pip_are_where_official_images_have_them() -> None:
    laid_out = {entry.path.decode(): entry for entry in lay_out(tree("/usr/bin/python3"))}
    for name, target in {"python": "python3", "python3": "python3", "pip": "pip3", "pip3": "pip3"}.items():
        assert laid_out[f"/usr/local/bin/{name}"].target == f"/usr/bin/{target}".encode()


def test_pip_may_install() -> None:
    path = "/usr/lib/python3.11/EXTERNALLY-MANAGED"
    assert path not in names(lay_out(tree(path)))


def test_pip_may_replace_itself() -> None:
    described = [f"/usr/lib/python3/dist-packages/{name}.dist-info" for name in ("pip-25.1.1", "wheel-0.46.1")]
    assert names(lay_out(tree(*described, f"{described[0]}/METADATA"))).isdisjoint(described)


def test_nothing_of_the_machine_that_made_it_stays() -> None:
    left_out = ["/var/cache/apt/x.deb", "/tmp/x", "/var/log/dpkg.log", "/etc/machine-id", "/dev/console", "/proc/1"]
    laid_out = lay_out(tree(*left_out, "/etc/resolv.conf"))
    assert names(laid_out).isdisjoint(left_out)
    assert next(entry for entry in laid_out if entry.path == b"/etc/resolv.conf").size == 0


def test_a_file_whose_other_names_were_left_out_is_an_ordinary_file() -> None:
    twins = [Entry(b"/a", Kind.FILE, 0o644, link=3), Entry(b"/tmp/b", Kind.FILE, 0o644, link=3)]
    assert next(entry for entry in lay_out(twins) if entry.path == b"/a").link == 0
