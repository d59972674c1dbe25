"""Objects in a bucket: a real S3 server, and a folder."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import boto3
import pytest

from jiffy.errors import CorruptError, NotFoundError, UnavailableError
from jiffy.objects.base import object_path
from jiffy.objects.cloud import CloudObjects
from jiffy.objects.local import LocalObjects
from jiffy.objects.sources import Sources, open_sources
from jiffy.objects.tiers import Tiers

CONTENTS = {hashlib.sha256(data).hexdigest(): data for data in (b"%d" % number * 9999 for number in range(100))}
DIGESTS = list(CONTENTS)


@pytest.fixture(params=[pytest.param("s3", marks=pytest.mark.service), "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        return f"s3://{request.getfixturevalue('bucket')}/some/prefix"
    (tmp_path / "folder").mkdir()
    return f"file://{tmp_path}/folder"


@pytest.fixture
def cloud(url: str, tmp_path: Path) -> CloudObjects:
    """With all objects but the last."""
    cloud = CloudObjects(url)
    folder = tmp_path / "contents"
    folder.mkdir()
    for digest in DIGESTS[:-1]:
        (folder / digest).write_bytes(CONTENTS[digest])
    cloud.put_many((digest, folder / digest) for digest in DIGESTS[:-1])
    return cloud


def test_an_object_is_fetched_whole(cloud: CloudObjects) -> None:
    assert cloud.fetch(DIGESTS[0], b"".join) == CONTENTS[DIGESTS[0]]


def test_a_part_of_an_object_is_fetched(cloud: CloudObjects) -> None:
    assert cloud.fetch(DIGESTS[50], b"".join, (5000, 3000)) == CONTENTS[DIGESTS[50]][5000:8000]


def test_a_part_beyond_the_end_is_no_answer(cloud: CloudObjects) -> None:
    with pytest.raises(CorruptError):
        cloud.fetch(DIGESTS[50], b"".join, (len(CONTENTS[DIGESTS[50]]) - 5, 10))


def test_many_objects_come_and_what_is_lacking_does_not(cloud: CloudObjects) -> None:
    came: dict[str, bytes] = {}
    cloud.fetch_many(DIGESTS, lambda digest, parts: came.update({digest: b"".join(parts)}))
    assert came == {digest: CONTENTS[digest] for digest in DIGESTS[:-1]}


def test_it_knows_what_it_has(cloud: CloudObjects) -> None:
    assert sorted(cloud) == sorted(DIGESTS[:-1])
    assert cloud.missing(DIGESTS) == [DIGESTS[-1]]


def test_what_is_deleted_is_gone(cloud: CloudObjects) -> None:
    cloud.delete_many([*DIGESTS[:3], DIGESTS[-1]])
    assert sorted(cloud) == sorted(DIGESTS[3:-1])


def test_an_object_that_is_not_there_is_not_found(cloud: CloudObjects) -> None:
    with pytest.raises(NotFoundError):
        cloud.fetch(DIGESTS[-1], b"".join)
    with pytest.raises(NotFoundError):
        cloud.fetch(DIGESTS[-1], b"".join, (0, 1))


def test_a_host_reads_and_prefetches_from_it(cloud: CloudObjects, url: str, objects: LocalObjects) -> None:
    tiers = Tiers(objects, open_sources([url], ""))
    assert tiers.ensure(DIGESTS[0]).read_bytes() == CONTENTS[DIGESTS[0]]
    tiers.prefetch(DIGESTS, threading.Event())
    assert {digest: objects.read(digest) for digest in DIGESTS[:-1]} == {d: CONTENTS[d] for d in DIGESTS[:-1]}
    assert list(objects.incoming.iterdir()) == []


def test_wrong_bytes_in_a_bucket_reach_nobody(
    cloud: CloudObjects, bucket: str, s3_address: str, objects: LocalObjects
) -> None:
    digest = DIGESTS[0]
    url = f"s3://{bucket}/wrong"
    client = boto3.client("s3", endpoint_url=s3_address, region_name="us-east-1")
    client.put_object(Bucket=bucket, Key=f"wrong/{object_path(digest)}", Body=b"something else")
    with pytest.raises(CorruptError):
        Tiers(objects, open_sources([url], "")).ensure(digest)
    assert list(objects) == []


def test_a_bucket_that_does_not_exist_has_nothing(credentials: None) -> None:
    with pytest.raises(NotFoundError, match="no-such-bucket-anywhere"):
        Sources([CloudObjects("s3://no-such-bucket-anywhere")], deadline=0.2).fetch(DIGESTS[0], b"".join)


def test_a_server_that_is_away_is_unavailable(monkeypatch: pytest.MonkeyPatch, credentials: None) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(UnavailableError, match="s3://bucket"):
        Sources([CloudObjects("s3://bucket")], deadline=0.2).fetch(DIGESTS[0], b"".join)
