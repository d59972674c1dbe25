"""Buckets mounted in containers: CloudBucketMount, with an S3 server of the tests' own."""

from __future__ import annotations

import uuid
from typing import Any

import boto3
import pytest

from tests.conftest import ProgramFolder
from tests.inventory import await_nothing_about
from tests.servers import ServerUnderTest

PROGRAM = """
    import os
    import modal

    secret = modal.Secret.from_dict({{"AWS_ACCESS_KEY_ID": "name", "AWS_SECRET_ACCESS_KEY": "secret"}})
    bucket = modal.CloudBucketMount("{bucket}", bucket_endpoint_url="{endpoint}", secret=secret{more})
    app = modal.App("buckets", image=modal.Image.debian_slim())

    @app.function(volumes={{"/bucket": bucket}})
    def work():
        {body}

    @app.local_entrypoint()
    def main():
        print("result", work.remote())
"""


@pytest.fixture
def s3(s3_address: str) -> Any:
    client = boto3.client(
        "s3",
        endpoint_url=s3_address,
        region_name="us-east-1",
        aws_access_key_id="name",
        aws_secret_access_key="secret",
    )
    client.bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=client.bucket)
    # of a bucket without versions moto tells a version, and refuses it in the next request
    client.put_bucket_versioning(Bucket=client.bucket, VersioningConfiguration={"Status": "Enabled"})
    for name in ("one.txt", "folder/two.txt", "folder/deeper/three.txt"):
        client.put_object(Bucket=client.bucket, Key=name, Body=f"this is {name}".encode())
    return client


@pytest.fixture
def write(program: ProgramFolder, s3: Any, s3_address: str) -> Any:
    def write(body: str, more: str = "", bucket: str = "") -> Any:
        text = PROGRAM.format(bucket=bucket or s3.bucket, endpoint=s3_address, more=more, body=body)
        return program(text)

    return write


def test_files_of_a_bucket_are_read_and_new_ones_are_in_it_when_they_are_closed(
    server: ServerUnderTest, s3: Any, write: Any
) -> None:
    body = """
        found = sorted(os.path.join(at, name) for at, _, names in os.walk("/bucket") for name in names)
        text = open("/bucket/folder/two.txt").read()
        with open("/bucket/folder/new.bin", "wb") as file:
            for number in range(20):
                file.write(bytes([number]) * 1_000_000)
        with open("/bucket/folder/small.txt", "w") as file:
            file.write("a few words")
        os.remove("/bucket/one.txt")
        return [*found, text]
    """
    outcome = server.run(write(body.strip()))
    assert outcome.code == 0, outcome.output
    found = ["/bucket/folder/deeper/three.txt", "/bucket/folder/two.txt", "/bucket/one.txt", "this is folder/two.txt"]
    assert f"result {found}" in outcome.output
    new = s3.get_object(Bucket=s3.bucket, Key="folder/new.bin")["Body"].read()
    assert new == b"".join(bytes([number]) * 1_000_000 for number in range(20))
    assert s3.get_object(Bucket=s3.bucket, Key="folder/small.txt")["Body"].read() == b"a few words"
    names = {each["Key"] for each in s3.list_objects_v2(Bucket=s3.bucket)["Contents"]}
    assert names == {"folder/two.txt", "folder/deeper/three.txt", "folder/new.bin", "folder/small.txt"}


def test_of_a_bucket_a_prefix_may_be_mounted_for_reading_only(server: ServerUnderTest, write: Any) -> None:
    body = """
        try:
            open("/bucket/new.txt", "w")
        except OSError as error:
            return sorted(os.listdir("/bucket")), error.strerror
    """
    outcome = server.run(write(body.strip(), more=', key_prefix="folder/", read_only=True'))
    assert outcome.code == 0, outcome.output
    assert "result (['deeper', 'two.txt'], 'Read-only file system')" in outcome.output


def test_what_others_put_into_a_bucket_is_seen_soon(server: ServerUnderTest, s3: Any, write: Any) -> None:
    body = """
        import time
        print("waiting", os.listdir("/bucket"), flush=True)
        while not os.path.exists("/bucket/later.txt"):
            time.sleep(0.2)
        return open("/bucket/later.txt").read()
    """
    run = server.begin(write(body.strip()))
    run.await_line("waiting")
    s3.put_object(Bucket=s3.bucket, Key="later.txt", Body=b"it came")
    outcome = run.finish()
    assert outcome.code == 0, outcome.output
    assert "result it came" in outcome.output


def test_a_bucket_that_is_not_there_is_named_in_the_log(server: ServerUnderTest, write: Any) -> None:
    outcome = server.run(write('return os.listdir("/bucket")', bucket="nobody-has-this"))
    assert outcome.code != 0
    assert "bucket nobody-has-this" in outcome.words
    assert "NoSuchBucket" in outcome.words


def test_a_role_is_refused_by_name(server: ServerUnderTest, write: Any) -> None:
    outcome = server.run(write("return 1", more=', oidc_auth_role_arn="arn:aws:iam::1:role/r"'))
    assert outcome.code != 0
    assert "asks for a role by OIDC" in outcome.words
    assert "AWS_ACCESS_KEY_ID" in outcome.words


def test_a_worker_that_is_killed_leaves_no_mount(server: ServerUnderTest, s3: Any, write: Any) -> None:
    """Its container runs again elsewhere, with a mount of its own."""
    body = """
        import time
        print("mounted", os.listdir("/bucket"), flush=True)
        time.sleep(5)
        return "done"
    """
    run = server.begin(write(body.strip()))
    run.await_line("mounted")
    server.kill_worker()
    outcome = run.finish()
    assert outcome.code == 0, outcome.output
    assert "result done" in outcome.output
    assert await_nothing_about(f"rclone mount :s3:{s3.bucket}") == []
