"""`jiffy serve --mirror`: a bucket follows what the server has."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jiffy.objects.cloud import CloudObjects
from jiffy.objects.local import LocalObjects
from tests.cli.test_commands import jiffy
from tests.servers import ServerUnderTest

_PATIENCE = 60


@pytest.fixture
def small_server(disk_folder: Path) -> Iterator[ServerUnderTest]:
    """One with a few objects, and without a worker's images."""
    server = ServerUnderTest(disk_folder / "mirrored", disk_folder)
    server.data.create()
    yield server
    server.stop()
    shutil.rmtree(server.data.root)


def test_a_bucket_gets_all_objects_of_a_server(small_server: ServerUnderTest, bucket: str) -> None:
    objects = LocalObjects(small_server.data.objects, small_server.data.incoming)
    for number in range(20):
        objects.put(b"%d" % number)
    url = f"s3://{bucket}/objects"
    small_server.start("--no-worker", "--mirror", url)
    await_mirror(url, objects)
    objects.put(b"new")
    await_mirror(url, objects)


def await_mirror(url: str, objects: LocalObjects) -> None:
    cloud = CloudObjects(url)
    deadline = time.monotonic() + _PATIENCE
    while set(cloud) != set(objects):
        assert time.monotonic() < deadline, "the bucket lags behind"
        time.sleep(0.1)


def test_what_is_no_bucket_is_refused(tmp_path: os.PathLike[str]) -> None:
    outcome = jiffy("serve", "--no-worker", "--data", str(tmp_path), "--mirror", "ftp://somewhere")
    assert (outcome.code, "ftp://somewhere" in outcome.words) == (1, True)
