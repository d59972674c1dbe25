"""Secrets of the API: made by a program for itself, or by name for many. Their values leave the server only in the
environment of containers and of steps of builds."""

from __future__ import annotations

from typing import Final

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from jiffy.errors import ConflictError, InvalidError, NotFoundError
from jiffy.identifiers import derived_id
from jiffy.server.caller import Caller
from jiffy.server.environments import DEFAULT_ENVIRONMENT
from jiffy.store.secrets import Secret
from jiffy.store.stores import Stores

_LARGEST: Final = 2**20


class Secrets:
    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    async def secret_get_or_create(
        self, request: api_pb2.SecretGetOrCreateRequest, caller: Caller
    ) -> api_pb2.SecretGetOrCreateResponse:
        environment = request.environment_name or DEFAULT_ENVIRONMENT
        name = request.deployment_name
        found = await self._stores.secrets.find(environment, name) if name else None
        kind = request.object_creation_type
        if kind == api_pb2.OBJECT_CREATION_TYPE_UNSPECIFIED or (
            kind == api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING and found is not None
        ):
            secret = _require(found, name, list(request.required_keys))
        else:
            if kind == api_pb2.OBJECT_CREATION_TYPE_CREATE_FAIL_IF_EXISTS and found is not None:
                raise ConflictError(f"there is a secret {name} already", hint="--force replaces it")
            secret = await self._create(request, environment, found, caller)
        return api_pb2.SecretGetOrCreateResponse(secret_id=secret.secret_id, metadata=_metadata(secret))

    async def secret_list(self, request: api_pb2.SecretListRequest, caller: Caller) -> api_pb2.SecretListResponse:
        environment = request.environment_name or DEFAULT_ENVIRONMENT
        items = [
            api_pb2.SecretListItem(
                label=secret.name,
                created_at=secret.created_at,
                environment_name=environment,
                secret_id=secret.secret_id,
                metadata=_metadata(secret),
            )
            for secret in await self._stores.secrets.named(environment)
        ]
        return api_pb2.SecretListResponse(items=items, environment_name=environment)

    async def secret_get_info(
        self, request: api_pb2.SecretGetInfoRequest, caller: Caller
    ) -> api_pb2.SecretGetInfoResponse:
        secret = await self._stores.secrets.get(request.secret_id)
        return api_pb2.SecretGetInfoResponse(metadata=_metadata(secret))

    async def secret_update(self, request: api_pb2.SecretUpdateRequest, caller: Caller) -> Empty:
        """Each update sets a variable, or removes it; the others stay."""
        set_here = {update.key: update.value for update in request.updates if update.HasField("value")}
        removed = {update.key for update in request.updates if not update.HasField("value")}

        def change(variables: dict[str, str]) -> dict[str, str]:
            return _check({name: variables[name] for name in variables if name not in removed} | set_here)

        await self._stores.secrets.change(request.secret_id, change)
        return Empty()

    async def secret_delete(self, request: api_pb2.SecretDeleteRequest, caller: Caller) -> Empty:
        await self._stores.secrets.delete(request.secret_id)
        return Empty()

    async def _create(
        self, request: api_pb2.SecretGetOrCreateRequest, environment: str, found: Secret | None, caller: Caller
    ) -> Secret:
        name = request.deployment_name
        if found is not None:
            secret = found
        else:
            secret_id = derived_id("st", environment, name) if name else caller.new_id("st")
            secret = Secret(secret_id, environment, name, request.app_id, {})
        return await self._put(secret, dict(request.env_dict))

    async def _put(self, secret: Secret, variables: dict[str, str]) -> Secret:
        changed = Secret(secret.secret_id, secret.environment, secret.name, secret.app_id, _check(variables))
        await self._stores.secrets.put(changed)
        return await self._stores.secrets.get(secret.secret_id)


def _check(variables: dict[str, str]) -> dict[str, str]:
    """The same, if a secret may have them."""
    if sum(len(name) + len(value) for name, value in variables.items()) > _LARGEST:
        raise InvalidError("a secret of more than 1 MiB", hint="put large things in a file or a volume")
    if bad := [name for name in variables if not name or "=" in name or "\0" in name + variables[name]]:
        raise InvalidError(f"{bad[0][:40]!r} cannot be an environment variable")
    return variables


def _require(secret: Secret | None, name: str, keys: list[str]) -> Secret:
    if secret is None:
        raise NotFoundError(f"no secret is named {name}", hint=f"modal secret create {name} KEY=VALUE makes it")
    if missing := [key for key in keys if key not in secret.variables]:
        raise NotFoundError(f"secret {name} has no {', '.join(missing)}", why=f"it has {', '.join(secret.variables)}")
    return secret


def _metadata(secret: Secret) -> api_pb2.SecretMetadata:
    return api_pb2.SecretMetadata(
        name=secret.name,
        keys=sorted(secret.variables),
        environment_name=secret.environment,
        creation_info=api_pb2.CreationInfo(created_at=secret.created_at),
    )
