"""Containers ask the name servers that the host asks, unless only the host can reach them."""

from __future__ import annotations

from pathlib import Path

from jiffy.runtime.resolv import hosts_file, resolver_file


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_the_hosts_own_servers_are_used(tmp_path: Path) -> None:
    text = "search lan\nnameserver 10.0.0.2\n"
    assert resolver_file(write(tmp_path, "a", text), tmp_path / "absent") == text


def test_a_stub_on_the_loopback_is_looked_behind(tmp_path: Path) -> None:
    stub = write(tmp_path, "stub", "nameserver 127.0.0.53\n")
    behind = write(tmp_path, "behind", "nameserver 10.0.0.3\n")
    assert resolver_file(stub, behind) == "nameserver 10.0.0.3\n"


def test_without_a_server_that_containers_can_reach_public_ones_are_used(tmp_path: Path) -> None:
    stub = write(tmp_path, "stub", "nameserver ::1\n")
    assert "nameserver 1.1.1.1" in resolver_file(stub, tmp_path / "absent")
    assert "nameserver 1.1.1.1" in resolver_file(tmp_path / "absent", tmp_path / "absent")


def test_a_container_knows_itself_and_localhost() -> None:
    lines = [line.split() for line in hosts_file("box", "172.21.0.9").splitlines()]
    assert ["172.21.0.9", "box"] in lines
    assert ["127.0.0.1", "localhost"] in lines
