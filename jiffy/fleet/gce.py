"""Machines of Google Compute Engine. Who may use it is found as Google's own tools find it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Collection, Mapping
from typing import Any, Final

from jiffy.errors import ExhaustedError, InvalidError, JiffyError, UnavailableError
from jiffy.extras import load_extra
from jiffy.fleet.base import Join, Kind
from jiffy.fleet.boot import cloud_config
from jiffy.fleet.settings import GceSettings

_API: Final = "https://compute.googleapis.com"
_SCOPE: Final = "https://www.googleapis.com/auth/compute"
_FLEET: Final = "jiffy-fleet"
_ALIVE: Final = frozenset({"PROVISIONING", "STAGING", "RUNNING", "REPAIRING"})
_EXHAUSTED: Final = "ZONE_RESOURCE_POOL_EXHAUSTED"
_NO_CAPACITY: Final = frozenset({_EXHAUSTED, f"{_EXHAUSTED}_WITH_DETAILS", "QUOTA_EXCEEDED", "quotaExceeded"})
_SECONDS: Final = 30.0
_NOT_FOUND: Final = 404


class GceProvider:
    look_seconds: Final = 10.0
    appears_seconds: Final = 60.0

    def __init__(self, settings: GceSettings, fleet: str, package: str) -> None:
        self._settings = settings
        self._fleet = fleet
        self._package = package
        what = "machines of Google cannot be had"
        self._requests = load_extra("requests", what, "gce")
        transport = load_extra("google.auth.transport.requests", what, "gce")
        self._session = transport.AuthorizedSession(_find_credentials(settings, what))
        zone = f"projects/{settings.project}/zones/{settings.zone}"
        self._zone = f"{settings.endpoint or _API}/compute/v1/{zone}"

    async def start(self, machine_id: str, kind: Kind, join: Join) -> None:
        instance = self._instance(machine_id, kind, join)
        operation = await self._ask("POST", "/instances", instance, {"requestId": str(uuid.uuid4())})
        while operation.get("status") not in (None, "DONE"):
            operation = await self._ask("POST", f"/operations/{operation['name']}/wait")
        if errors := operation.get("error", {}).get("errors"):
            raise _explain(errors[0]["code"], errors[0].get("message", ""))

    async def running(self) -> Collection[str]:
        found: set[str] = set()
        page = ""
        while True:
            asked = {"filter": f"labels.{_FLEET}={self._fleet}", **({"pageToken": page} if page else {})}
            answer = await self._ask("GET", "/instances", query=asked)
            found.update(each["name"] for each in answer.get("items", ()) if each["status"] in _ALIVE)
            if not (page := answer.get("nextPageToken", "")):
                return found

    async def end(self, machine_id: str) -> None:
        await self._ask("DELETE", f"/instances/{machine_id}", may_be_gone=True)

    async def close(self) -> None:
        await asyncio.to_thread(self._session.close)

    def _instance(self, machine_id: str, kind: Kind, join: Join) -> dict[str, Any]:
        settings = self._settings
        disk = {"sourceImage": settings.image, "diskSizeGb": str(-(-settings.disk // 2**30))}
        scheduling = {"provisioningModel": "SPOT", "instanceTerminationAction": "DELETE"} if kind.spot else {}
        return {
            "name": machine_id,
            "machineType": f"zones/{settings.zone}/machineTypes/{kind.instance}",
            "labels": {_FLEET: self._fleet},
            "disks": [{"boot": True, "autoDelete": True, "initializeParams": disk}],
            "networkInterfaces": [{"network": settings.network, "accessConfigs": [{"type": "ONE_TO_ONE_NAT"}]}],
            "metadata": {"items": [{"key": "user-data", "value": cloud_config(join, self._package)}]},
            "scheduling": {"automaticRestart": False, **scheduling},
        }

    async def _ask(
        self,
        verb: str,
        path: str,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        *,
        may_be_gone: bool = False,
    ) -> dict[str, Any]:
        def ask() -> Any:
            return self._session.request(verb, self._zone + path, json=body, params=query, timeout=_SECONDS)

        try:
            answer = await asyncio.to_thread(ask)
        except self._requests.RequestException as error:
            raise UnavailableError("Google does not answer", why=str(error)) from error
        if answer.ok:
            return dict(answer.json())
        if may_be_gone and answer.status_code == _NOT_FOUND:
            return {}
        told = _read_error(answer)
        code = (told.get("errors") or [{}])[0].get("reason", "")
        if answer.status_code >= 500 or answer.status_code == 429:
            raise UnavailableError("Google does not answer", why=told.get("message", str(answer.status_code)))
        raise _explain(code, told.get("message", answer.text[:200]))


def _find_credentials(settings: GceSettings, what: str) -> Any:
    if settings.endpoint:
        return load_extra("google.auth.credentials", what, "gce").AnonymousCredentials()
    google_auth = load_extra("google.auth", what, "gce")
    try:
        return google_auth.default(scopes=[_SCOPE])[0]
    except google_auth.exceptions.GoogleAuthError as error:
        raise InvalidError(what, why=str(error), hint="gcloud auth application-default login") from error


def _read_error(answer: Any) -> Mapping[str, Any]:
    try:
        told = answer.json().get("error", {})
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _explain(code: str, message: str) -> JiffyError:
    why = f"{code}: {message}" if code else message
    if code in _NO_CAPACITY:
        return ExhaustedError("Google has no such machine for now", why=why)
    return InvalidError("Google refuses", why=why)
