"""Credentials of registries are read from secrets of each kind."""

from __future__ import annotations

import pytest
from modal_proto import api_pb2

from jiffy.errors import InvalidError, UnavailableError
from jiffy.image.registry import Credentials
from jiffy.server.registries import find_credentials

AWS = {"AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}


def test_a_name_and_a_password() -> None:
    variables = {"REGISTRY_USERNAME": "me", "REGISTRY_PASSWORD": "sesame"}
    found = find_credentials(api_pb2.REGISTRY_AUTH_TYPE_STATIC_CREDS, variables)
    assert found == Credentials("me", "sesame")


def test_an_account_of_google() -> None:
    found = find_credentials(api_pb2.REGISTRY_AUTH_TYPE_GCP, {"SERVICE_ACCOUNT_JSON": "{}"})
    assert found == Credentials("_json_key", "{}")


def test_aws_is_asked_for_a_password(s3_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_address)
    found = find_credentials(api_pb2.REGISTRY_AUTH_TYPE_AWS, AWS)
    assert found is not None and found.username == "AWS" and found.password


def test_aws_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(UnavailableError, match="gives no password"):
        find_credentials(api_pb2.REGISTRY_AUTH_TYPE_AWS, AWS)


def test_public_registries_need_none() -> None:
    assert find_credentials(api_pb2.REGISTRY_AUTH_TYPE_PUBLIC, {}) is None


@pytest.mark.parametrize(
    "kind",
    [
        api_pb2.REGISTRY_AUTH_TYPE_STATIC_CREDS,
        api_pb2.REGISTRY_AUTH_TYPE_GCP,
        api_pb2.REGISTRY_AUTH_TYPE_AWS,
    ],
)
def test_what_a_secret_lacks_is_named(kind: int) -> None:
    with pytest.raises(InvalidError, match="the registry's secret has no "):
        find_credentials(kind, {})
