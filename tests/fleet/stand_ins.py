"""Servers of the tests' own that speak as much of an API as a fleet uses: Google's Compute Engine, Kubernetes.

They are strict: what the real ones would refuse is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

_ZONE = "/compute/v1/projects/{project}/zones/{zone}"
_PODS = "/api/v1/namespaces/{namespace}/pods"
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclass
class StandIn:
    """`things` are what was made, by name. `refusal`: the next to be made is refused with this status and reason."""

    things: dict[str, Any] = field(default_factory=dict)
    refusal: tuple[int, str] | None = None
    address: str = ""

    def take_refusal(self) -> tuple[int, str] | None:
        refusal, self.refusal = self.refusal, None
        return refusal


@asynccontextmanager
async def serve_compute_engine() -> AsyncIterator[StandIn]:
    """An instance runs once somebody has waited for the operation that makes it."""
    state = StandIn()

    def failure(status: int, reason: str) -> web.Response:
        error = {"code": status, "message": f"refused: {reason}", "errors": [{"reason": reason}]}
        return web.json_response({"error": error}, status=status)

    async def insert(request: web.Request) -> web.Response:
        instance = await request.json()
        if request.query["requestId"].count("-") != 4 or not _NAME.fullmatch(instance["name"]):
            return failure(400, "invalid")
        if refusal := state.take_refusal():
            if refusal[0] != 200:
                return failure(*refusal)
            error = {"errors": [{"code": refusal[1], "message": "try another zone"}]}
            return web.json_response({"name": "op-failed", "status": "DONE", "error": error})
        state.things[instance["name"]] = {**instance, "status": "PROVISIONING"}
        return web.json_response({"name": f"op-{instance['name']}", "status": "RUNNING"})

    async def wait(request: web.Request) -> web.Response:
        name = request.match_info["operation"]
        state.things[name.removeprefix("op-")]["status"] = "RUNNING"
        return web.json_response({"name": name, "status": "DONE"})

    async def find(request: web.Request) -> web.Response:
        """One a page."""
        label, _, value = request.query["filter"].removeprefix("labels.").partition("=")
        found = [thing for _, thing in sorted(state.things.items()) if thing["labels"].get(label) == value]
        place = int(request.query.get("pageToken", 0))
        answer: dict[str, Any] = {"items": found[place : place + 1]} if found else {}
        if place + 1 < len(found):
            answer["nextPageToken"] = str(place + 1)
        return web.json_response(answer)

    async def delete(request: web.Request) -> web.Response:
        if request.match_info["name"] not in state.things:
            return failure(404, "notFound")
        state.things[request.match_info["name"]]["status"] = "STOPPING"
        return web.json_response({"name": "op-delete", "status": "RUNNING"})

    application = web.Application()
    application.router.add_post(f"{_ZONE}/instances", insert)
    application.router.add_get(f"{_ZONE}/instances", find)
    application.router.add_delete(f"{_ZONE}/instances/{{name}}", delete)
    application.router.add_post(f"{_ZONE}/operations/{{operation}}/wait", wait)
    async with TestServer(application) as server:
        state.address = str(server.make_url("")).rstrip("/")
        yield state


@asynccontextmanager
async def serve_kubernetes() -> AsyncIterator[StandIn]:
    """A pod is pending when it is made, and stays a while when it is deleted."""
    state = StandIn()

    def failure(status: int, reason: str) -> web.Response:
        told = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": reason, "code": status}
        return _plain_json({**told, "reason": "Forbidden" if status == 403 else reason}, status=status)

    async def create(request: web.Request) -> web.Response:
        pod = await request.json()
        name = pod["metadata"]["name"]
        if pod["kind"] != "Pod" or not _NAME.fullmatch(name) or not pod["spec"]["containers"][0]["image"]:
            return failure(422, "Invalid")
        if refusal := state.take_refusal():
            return failure(*refusal)
        if name in state.things:
            return failure(409, "AlreadyExists")
        pod["status"] = {"phase": "Pending"}
        state.things[name] = pod
        return _plain_json(pod, status=201)

    async def find(request: web.Request) -> web.Response:
        label, _, value = request.query["labelSelector"].partition("=")
        found = [pod for pod in state.things.values() if pod["metadata"]["labels"].get(label) == value.strip("=")]
        return _plain_json({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": found})

    async def delete(request: web.Request) -> web.Response:
        pod = state.things.get(request.match_info["name"])
        if pod is None:
            return failure(404, "NotFound")
        pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        return _plain_json(pod)

    application = web.Application()
    application.router.add_post(_PODS, create)
    application.router.add_get(_PODS, find)
    application.router.add_delete(f"{_PODS}/{{name}}", delete)
    async with TestServer(application) as server:
        state.address = str(server.make_url("")).rstrip("/")
        yield state


def _plain_json(told: Any, status: int = 200) -> web.Response:
    """As Kubernetes does, without a charset."""
    return web.Response(body=json.dumps(told).encode(), status=status, headers={"Content-Type": "application/json"})
