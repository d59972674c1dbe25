"""`jiffy serve --mirror`: a bucket follows what the server has."""

from __future__ import annotations

import os
import time

from jiffy.objects.cloud import CloudObjects
from jiffy.objects.local import LocalObjects
from tests.cli.test_commands import jiffy
from tests.servers import ServerUnderTest


def test_a_bucket_gets_all_objects_of_a_server(unstarted_server: ServerUnderTest, bucket: str) -> None:
    server = unstarted_server
    url = f"s3://{bucket}/objects"
    server.start("--no-worker", "--mirror", url)
    objects = LocalObjects(server.data.objects, server.data.incoming)
    cloud = CloudObjects(url)
    deadline = time.monotonic() + 120
    while set(cloud) != set(objects):
        assert time.monotonic() < deadline, "the bucket lags behind"
        time.sleep(0.5)
    digest = objects.put(b"new")
    while digest not in set(cloud):
        assert time.monotonic() < deadline, "the bucket lags behind"
        time.sleep(0.2)


def test_what_is_no_bucket_is_refused(tmp_path: os.PathLike[str]) -> None:
    outcome = jiffy("serve", "--no-worker", "--data", str(tmp_path), "--mirror", "ftp://somewhere")
    assert (outcome.code, "ftp://somewhere" in outcome.words) == (1, True)
