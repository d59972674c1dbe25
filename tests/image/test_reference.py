"""References of images, with the defaults that people expect."""

from __future__ import annotations

import pytest

from jiffy.errors import InvalidError
from jiffy.image.reference import parse_reference

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("python", "docker.io/library/python:latest"),
        ("python:3.12-slim", "docker.io/library/python:3.12-slim"),
        ("team/app", "docker.io/team/app:latest"),
        ("index.docker.io/python", "docker.io/library/python:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app:1", "localhost:5000/app:1"),
        ("registry.example.com/a/b/c:x_y", "registry.example.com/a/b/c:x_y"),
        (f"app@{DIGEST}", f"docker.io/library/app@{DIGEST}"),
        (f"app:1@{DIGEST}", f"docker.io/library/app:1@{DIGEST}"),
    ],
)
def test_what_is_left_out_is_added(text: str, expected: str) -> None:
    assert str(parse_reference(text)) == expected
    assert parse_reference(expected) == parse_reference(text)


def test_a_digest_is_asked_for_rather_than_a_tag() -> None:
    assert parse_reference(f"app:1@{DIGEST}").wanted == DIGEST


@pytest.mark.parametrize(
    ("text", "local"),
    [("localhost:5000/a", True), ("127.0.0.1/a", True), ("127.0.0.1:5000/a", True), ("a.b/c", False), ("a", False)],
)
def test_plain_http_is_for_this_host(text: str, local: bool) -> None:
    assert parse_reference(text).is_local is local


@pytest.mark.parametrize("text", ["", "UPPER", "a b", "a:b c", "a@sha256:x", "a/../b", "host:port/a", "-a", "a//b"])
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidError):
        parse_reference(text)
