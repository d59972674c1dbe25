"""Credentials of container registries, as the client's secrets hold them."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from modal_proto import api_pb2

from jiffy.errors import InvalidError, UnavailableError, UnsupportedError
from jiffy.image.registry import Credentials


def find_credentials(kind: int, variables: Mapping[str, str]) -> Credentials | None:
    """From a secret's variables; `kind` is a RegistryAuthType. InvalidError names what the secret lacks. AWS is asked for
    a password: not for the event loop."""
    match kind:
        case api_pb2.REGISTRY_AUTH_TYPE_STATIC_CREDS:
            return Credentials(_take(variables, "REGISTRY_USERNAME"), _take(variables, "REGISTRY_PASSWORD"))
        case api_pb2.REGISTRY_AUTH_TYPE_GCP:
            return Credentials("_json_key", _take(variables, "SERVICE_ACCOUNT_JSON"))
        case api_pb2.REGISTRY_AUTH_TYPE_AWS:
            return _ask_aws(variables)
    return None


def _ask_aws(variables: Mapping[str, str]) -> Credentials:
    try:
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.session import get_session
    except ModuleNotFoundError as error:
        raise UnsupportedError(
            "cannot log in to a registry of AWS", why="botocore is not installed", hint="pip install 'jiffy[cloud]'"
        ) from error
    client = get_session().create_client(
        "ecr",
        region_name=_take(variables, "AWS_REGION"),
        aws_access_key_id=_take(variables, "AWS_ACCESS_KEY_ID"),
        aws_secret_access_key=_take(variables, "AWS_SECRET_ACCESS_KEY"),
        aws_session_token=variables.get("AWS_SESSION_TOKEN"),
    )
    try:
        token = client.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    except (BotoCoreError, ClientError) as error:
        raise UnavailableError("AWS gives no password for its registry", why=str(error)) from error
    username, _, password = base64.b64decode(token).decode().partition(":")
    return Credentials(username, password)


def _take(variables: Mapping[str, str], name: str) -> str:
    if not variables.get(name):
        raise InvalidError(f"the registry's secret has no {name}")
    return variables[name]
