"""`jiffy cache` tells what is held, and mends it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from jiffy.datadir import DataDirectory
from jiffy.objects.local import LocalObjects
from tests.cli.test_commands import jiffy
from tests.objects.origin import Origin, serve_origin


@pytest.fixture
def data(tmp_path: Path) -> DataDirectory:
    directory = DataDirectory(tmp_path / "data")
    directory.create()
    directory.token.write_text('{"token_id": "id", "token_secret": "secret"}')
    return directory


@pytest.fixture
def objects(data: DataDirectory) -> LocalObjects:
    return LocalObjects(data.objects, data.incoming)


@pytest.fixture
def origin() -> Iterator[Origin]:
    with serve_origin({}) as running:
        yield running


def test_it_tells_how_much_is_held(data: DataDirectory, objects: LocalObjects) -> None:
    objects.put(b"x" * 1000)
    objects.put(b"y" * 500)
    figures = json.loads(jiffy("cache", "show", "--json", "--data", str(data.root)).output)
    assert (figures["objects"], figures["bytes"], figures["put_aside"]) == (2, 1500, 0)
    assert "2 objects" in jiffy("cache", "show", "--data", str(data.root)).words


def test_a_broken_object_is_fetched_anew(data: DataDirectory, objects: LocalObjects, origin: Origin) -> None:
    digest = objects.put(b"sound")
    origin.objects[digest] = b"sound"
    os.truncate(objects.path(digest), 1)
    outcome = jiffy("cache", "scrub", "--data", str(data.root), "--source", origin.url)
    assert outcome.code == 0
    assert "1 mended" in outcome.words
    assert objects.read(digest) == b"sound"


def test_one_that_cannot_be_had_is_put_aside_and_told(data: DataDirectory, objects: LocalObjects) -> None:
    digest = objects.put(b"sound")
    os.truncate(objects.path(digest), 1)
    outcome = jiffy("cache", "scrub", "--data", str(data.root))
    assert outcome.code == 1
    assert "1 put aside" in outcome.words
    assert (data.quarantine / digest).exists()
    assert json.loads(jiffy("cache", "show", "--json", "--data", str(data.root)).output)["put_aside"] == 1


def test_where_nothing_is_held_it_says_so(tmp_path: Path) -> None:
    for verb in ("show", "scrub"):
        outcome = jiffy("cache", verb, "--data", str(tmp_path))
        assert outcome.code == 1
        assert "holds no objects" in outcome.words
