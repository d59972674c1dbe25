"""A bucket has what the server has: hosts fetch from it, whatever else the server does."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from jiffy.errors import UnavailableError
from jiffy.objects.cloud import CloudObjects
from jiffy.objects.local import LocalObjects
from jiffy.objects.mirror import Mirror
from jiffy.objects.sources import Sources
from jiffy.objects.tiers import Tiers

DATA = [b"object %d" % number for number in range(300)]


@pytest.fixture
def cloud(bucket: str) -> CloudObjects:
    return CloudObjects(f"s3://{bucket}/server")


def test_all_objects_get_there_once(objects: LocalObjects, cloud: CloudObjects) -> None:
    digests = {objects.put(data) for data in DATA}
    mirror = Mirror(objects, cloud)
    assert mirror.run() == len(DATA)
    assert set(cloud) == digests
    assert mirror.run() == 0
    more = objects.put(b"one more")
    assert mirror.run() == 1
    assert set(cloud) == {*digests, more}


def test_what_was_collected_here_is_deleted_there(objects: LocalObjects, cloud: CloudObjects) -> None:
    digests = [objects.put(data) for data in DATA[:10]]
    mirror = Mirror(objects, cloud)
    mirror.run()
    objects.delete(digests[0])
    mirror.run()
    assert set(cloud) == set(digests[1:])
    objects.put(DATA[0])
    assert mirror.run() == 1, "it is needed again"


def test_after_a_restart_nothing_is_uploaded_twice(objects: LocalObjects, cloud: CloudObjects) -> None:
    for data in DATA[:20]:
        objects.put(data)
    Mirror(objects, cloud).run()
    gone = next(iter(objects))
    objects.delete(gone)
    assert Mirror(objects, cloud).run() == 0
    assert gone not in set(cloud)


def test_a_bucket_that_is_away_is_tried_again(
    objects: LocalObjects, bucket: str, monkeypatch: pytest.MonkeyPatch, s3_address: str
) -> None:
    objects.put(DATA[0])
    with monkeypatch.context() as context:
        context.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        away = Mirror(objects, CloudObjects(f"s3://{bucket}/server"))
        with pytest.raises(UnavailableError):
            away.run()
    assert Mirror(objects, CloudObjects(f"s3://{bucket}/server")).run() == 1


def test_one_that_is_cancelled_uploads_no_more(objects: LocalObjects, cloud: CloudObjects) -> None:
    objects.put(DATA[0])
    mirror = Mirror(objects, cloud)
    mirror.cancel()
    assert mirror.run() == 0
    assert set(cloud) == set()


def test_a_host_fetches_from_it(objects: LocalObjects, cloud: CloudObjects, tmp_path: Path) -> None:
    objects.put(DATA[0])
    Mirror(objects, cloud).run()
    for name in ("host", "coming"):
        (tmp_path / name).mkdir()
    tiers = Tiers(LocalObjects(tmp_path / "host", tmp_path / "coming"), Sources([cloud]))
    assert tiers.read(hashlib.sha256(DATA[0]).hexdigest()) == DATA[0]
