"""Credentials of container registries, as the client's secrets hold them."""

from __future__ import annotations

from collections.abc import Mapping

from modal_proto import api_pb2

from jiffy.errors import InvalidError, UnsupportedError
from jiffy.image.registry import Credentials


def read_credentials(kind: int, variables: Mapping[str, str]) -> Credentials | None:
    """From a secret's variables; `kind` is a RegistryAuthType. InvalidError names what the secret lacks."""
    match kind:
        case api_pb2.REGISTRY_AUTH_TYPE_STATIC_CREDS:
            return Credentials(_take(variables, "REGISTRY_USERNAME"), _take(variables, "REGISTRY_PASSWORD"))
        case api_pb2.REGISTRY_AUTH_TYPE_GCP:
            return Credentials("_json_key", _take(variables, "SERVICE_ACCOUNT_JSON"))
        case api_pb2.REGISTRY_AUTH_TYPE_AWS:
            raise UnsupportedError("cannot log in to a registry of AWS", why="this version of jiffy does not yet")
    return None


def _take(variables: Mapping[str, str], name: str) -> str:
    if not variables.get(name):
        raise InvalidError(f"the registry's secret has no {name}")
    return variables[name]
