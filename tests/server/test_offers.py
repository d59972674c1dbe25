"""What of this host builds may use is what was named, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from jiffy.errors import InvalidError
from jiffy.image.index import Entry, Index, Kind, encode_index
from jiffy.image.tree import Tree
from jiffy.server.offers import Offer, make_offer, read_release


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A host with certificates, a configuration of pip and a proxy."""
    (tmp_path / "certificates").write_text("trusted")
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://index.example.com/simple\nfind-links = /a/folder\ntrusted-host = index.example.com\n"
    )
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_TRUSTED_HOST", "PIP_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificates"))
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com:3128")
    return tmp_path


def test_nothing_is_offered_unless_it_is_named() -> None:
    assert make_offer(()) == Offer()


def test_certificates_are_a_file_that_programs_are_pointed_to() -> None:
    offer = make_offer(("certificates",))
    place = offer.variables["PIP_CERT"]
    assert offer.files[place] == b"trusted"
    assert place in offer.files["/etc/apt/apt.conf.d/90jiffy-build"].decode()
    assert "HTTPS_PROXY" not in offer.variables


def test_indexes_are_those_of_pip_less_what_only_this_host_has() -> None:
    variables = make_offer(("pip",)).variables
    assert variables["PIP_INDEX_URL"] == variables["UV_DEFAULT_INDEX"] == "https://index.example.com/simple"
    assert variables["PIP_TRUSTED_HOST"] == "index.example.com"
    assert "PIP_FIND_LINKS" not in variables


def test_proxies_are_passed_on() -> None:
    assert make_offer(("proxies",)).variables == {"HTTPS_PROXY": "http://proxy.example.com:3128"}


def test_all_is_all() -> None:
    assert {"PIP_CERT", "PIP_INDEX_URL", "HTTPS_PROXY"} <= set(make_offer(("all",)).variables)


def test_what_there_is_not_is_refused() -> None:
    with pytest.raises(InvalidError, match="cannot offer everything"):
        make_offer(("everything",))


def test_sources_are_for_images_of_the_same_release_only() -> None:
    entries = [Entry(path, Kind.DIRECTORY, 0o755) for path in (b"/", b"/etc", b"/etc/apt")]
    tree = Tree([Index.load(encode_index([*entries, Entry(b"/etc/apt/sources.list", Kind.FILE, 0o644)]))])
    offer = Offer(files={"/x": b"x"}, release="debian bookworm", release_files={"/etc/apt/sources.list.d/y.list": b"y"})
    assert offer.files_for(tree, "debian trixie") == {"/x": b"x"}
    assert offer.files_for(tree, "debian bookworm") == {
        "/x": b"x",
        "/etc/apt/sources.list": b"",
        "/etc/apt/sources.list.d/y.list": b"y",
    }


def test_a_release_is_read_from_its_file() -> None:
    assert read_release('ID=debian\nVERSION_CODENAME="bookworm"\n') == "debian bookworm"
    assert read_release("ID=debian\n") == ""
