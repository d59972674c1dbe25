"""One server: the parts put together, started and stopped in order."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web

from jiffy.datadir import DataDirectory
from jiffy.fleet.buying import buy
from jiffy.fleet.fleet import Fleet, no_fleet
from jiffy.fleet.providers import open_provider
from jiffy.fleet.settings import read_fleet
from jiffy.grpc.server import GrpcServer
from jiffy.image.importing import KnownLayers
from jiffy.image.pull import Pulls
from jiffy.objects.cloud import CloudObjects
from jiffy.objects.local import LocalObjects
from jiffy.objects.mirror import Mirror
from jiffy.objects.recovery import Marker
from jiffy.periodic import keep_running, repeat
from jiffy.server.additions import Additions
from jiffy.server.app_servers import AppServers
from jiffy.server.apps import Apps
from jiffy.server.bases import Bases
from jiffy.server.blobs import Blobs
from jiffy.server.bridges import Bridges
from jiffy.server.build_functions import BuildFunctions
from jiffy.server.builder import Builder
from jiffy.server.builds import Builds
from jiffy.server.call_queries import CallQueries
from jiffy.server.call_records import CallRecords
from jiffy.server.calls import Calls
from jiffy.server.cancellations import Cancellations
from jiffy.server.certificates import ensure_certificate
from jiffy.server.channels import Channels
from jiffy.server.collection import Collection
from jiffy.server.command_router import CommandRouter
from jiffy.server.containers import Containers
from jiffy.server.definitions import Definitions
from jiffy.server.deployments import Deployments
from jiffy.server.derivations import Derivations
from jiffy.server.dicts import Dicts
from jiffy.server.downloads import Downloads
from jiffy.server.environments import Environments
from jiffy.server.execs import Execs
from jiffy.server.exports import Exports
from jiffy.server.functions import Functions
from jiffy.server.http import full_application, public_application
from jiffy.server.image_names import ImageNames
from jiffy.server.images import Images
from jiffy.server.imports import Imports
from jiffy.server.issued_tokens import IssuedTokens
from jiffy.server.launches import Launches
from jiffy.server.layer_spans import LayerSpans
from jiffy.server.layers import Layers
from jiffy.server.listeners import Listeners, publish_address
from jiffy.server.log_queries import LogQueries
from jiffy.server.message_queues import MessageQueues
from jiffy.server.mounts import Mounts
from jiffy.server.offers import make_offer
from jiffy.server.options import ServerOptions
from jiffy.server.packs import Packs
from jiffy.server.profiles import Profiles
from jiffy.server.pythons import Pythons
from jiffy.server.remote_objects import RemoteObjects
from jiffy.server.restoring import restore
from jiffy.server.retention import Retention
from jiffy.server.router_identity import RouterIdentity
from jiffy.server.scaling import Scaling
from jiffy.server.scheduler import Scheduler
from jiffy.server.schedules import Schedules
from jiffy.server.secrets import Secrets
from jiffy.server.service import Service
from jiffy.server.stage_run import Workshop
from jiffy.server.standing import Standing, lead_in_turn, stand_alone
from jiffy.server.steps import Steps
from jiffy.server.streams import Streams
from jiffy.server.tasks import Tasks
from jiffy.server.token_flows import TokenFlows
from jiffy.server.token_identity import TokenIdentity
from jiffy.server.token_page import TokenPage
from jiffy.server.tokens import Tokens
from jiffy.server.variants import Variants
from jiffy.server.volume_files import VolumeFiles
from jiffy.server.volume_mounts import VolumeMounts
from jiffy.server.volumes import Volumes
from jiffy.server.web import Web
from jiffy.server.web_calls import WebCalls
from jiffy.server.worker_events import WorkerEvents
from jiffy.server.workers import Workers
from jiffy.store.stores import Stores
from jiffy.store.tokens import TokenKind

logger = logging.getLogger(__name__)

_MIRROR_SECONDS: Final = 2.0
_SYNC_SECONDS: Final = 30.0
_NO_OPTIONS: Final = ServerOptions()


@asynccontextmanager
async def run_server(
    data: DataDirectory, listeners: Listeners, options: ServerOptions = _NO_OPTIONS
) -> AsyncIterator[None]:
    """A server on a data directory, serving from entry to exit."""
    async with AsyncExitStack() as stack:
        standing = await (lead_in_turn if options.shared else stand_alone)(stack, data, listeners, options)
        objects = LocalObjects(data.objects, data.incoming)
        await asyncio.to_thread(objects.sweep)
        marker = Marker(data.synced, objects, data.partial)
        await asyncio.to_thread(marker.recover)
        stack.push_async_callback(asyncio.to_thread, marker.sync)
        await keep_running(stack, repeat(_SYNC_SECONDS, marker.sync, "syncing objects of registries"))
        parts = _assemble(standing, objects, data, listeners, options)
        stack.push_async_callback(parts.scheduler.close)
        stack.push_async_callback(parts.builds.close)
        stack.push_async_callback(parts.packs.close)
        stack.push_async_callback(parts.spans.close)
        stack.push_async_callback(parts.remote.close)
        stack.push_async_callback(parts.pulls.close)
        stack.push_async_callback(parts.bridges.close_all)
        await restore(parts.scheduler, parts.stores)
        stack.push_async_callback(parts.servers.close)
        stack.push_async_callback(parts.execs.close)
        await parts.servers.restore()
        await standing.have_demand_told(stack, parts.scheduler)
        await _listen_http(stack, parts, listeners.http)
        stack.push_async_callback(parts.workers.close)
        await _listen_grpc(stack, parts, listeners)
        if options.gate:
            await parts.bridges.open_for_gate(data)
        await keep_running(stack, parts.channels.accept_forever())
        await keep_running(stack, parts.apps.watch_forever())
        await keep_running(stack, parts.schedules.run_forever())
        await keep_running(stack, Retention(parts.stores, options.output_seconds, options.log_seconds).run_forever())
        await keep_running(stack, parts.collection.run_forever())
        if parts.fleet is not None:
            stack.push_async_callback(parts.fleet.close)
            await keep_running(stack, parts.fleet.run_forever())
        if options.mirror:
            await _keep_mirrored(stack, Mirror(objects, CloudObjects(options.mirror)))
        publish_address(data, listeners)
        stack.callback(data.address.unlink, missing_ok=True)
        yield


@dataclass(frozen=True, slots=True)
class _Parts:
    stores: Stores
    nouns: list[object]
    environments: Environments
    apps: Apps
    schedules: Schedules
    scheduler: Scheduler
    servers: AppServers
    channels: Channels
    execs: Execs
    tokens: Tokens
    builds: Builds
    packs: Packs
    bridges: Bridges
    workers: Workers
    collection: Collection
    fleet: Fleet | None
    spans: LayerSpans
    remote: RemoteObjects
    pulls: Pulls
    application: web.Application


def _assemble(
    standing: Standing, objects: LocalObjects, data: DataDirectory, listeners: Listeners, options: ServerOptions
) -> _Parts:
    stores, bells = standing.stores, standing.bells
    environments = Environments(stores.environments)
    tokens = Tokens(data.signing_key, stores.tokens)
    token_flows = TokenFlows(stores.tokens)
    workers = Workers()
    spans = LayerSpans(options.registry_mirrors)
    remote = RemoteObjects(data.remote, stores, LocalObjects(data.objects, data.incoming, durable=False), spans)
    remote.refresh()
    derivations = Derivations(stores, objects, remote.chunks)
    profiles = Profiles(stores.profiles, objects, derivations.load_index)
    packs = Packs(derivations, objects)
    launches = Launches(stores, derivations, profiles, packs)
    scheduler = Scheduler(stores, workers, launches.prepare, bells)
    steps = Steps(scheduler)
    definitions = Definitions(stores, objects, tokens.key.encode())
    layers = Layers(objects)
    downloads = Downloads(objects)
    pulls = Pulls(data)
    workshop = Workshop(layers, derivations, steps, Additions(objects, downloads), make_offer(options.offers))
    builder = Builder(workshop, Bases(stores, derivations, objects, pulls, remote, options.registry_mirrors), objects)
    build_functions = BuildFunctions(stores, scheduler, launches, layers, bells)
    builds = Builds(stores, definitions, builder, build_functions, derivations, bells)
    blobs = Blobs(stores, objects)
    apps = Apps(stores, scheduler, builds, bells)
    schedules = Schedules(stores, scheduler)
    files = VolumeFiles(objects, tokens.key.encode())
    volumes = Volumes(stores, objects, files)
    mounts = VolumeMounts(stores, objects, volumes, derivations, scheduler)
    streams = Streams(stores, bells, blobs.read)
    channels = Channels(data.container_socket("channel"), workers.send_now)
    servers = AppServers(stores, scheduler, channels)
    execs = Execs(channels)
    endpoints = Web(stores, WebCalls(stores, scheduler, streams, bells), servers)
    nouns: list[object] = [
        environments,
        Dicts(stores),
        MessageQueues(stores, bells),
        Tasks(stores, scheduler),
        tokens,
        apps,
        Deployments(stores, scheduler, schedules),
        Functions(stores, scheduler),
        Scaling(stores, scheduler),
        Calls(stores, scheduler, bells),
        CallRecords(stores),
        CallQueries(stores),
        Variants(stores),
        token_flows,
        streams,
        volumes,
        mounts,
        Cancellations(stores, scheduler, bells),
        Containers(stores, scheduler, bells),
        servers,
        CommandRouter(stores, scheduler, tokens, execs),
        Images(stores, definitions, builds, bells),
        ImageNames(stores),
        LogQueries(stores, bells),
        Mounts(stores, objects, blobs, derivations, Pythons(derivations, objects, downloads, options.python_builds)),
        Secrets(stores),
        blobs,
    ]
    bridges = Bridges(stores, nouns, lambda: public_application(blobs, files, endpoints), tokens, environments.check)
    workers.listener = WorkerEvents(
        stores, scheduler, bells, profiles, steps, build_functions.heard, bridges.open, bridges.close, mounts, execs
    )

    collection = Collection(
        stores.references, objects, KnownLayers(data.layers, objects), remote.forget, options.output_seconds
    )

    pin = ensure_certificate(data.certificate) if options.gate else ""
    fleet = _make_fleet(options, pin, data, stores, scheduler, steps) if options.fleet else None

    async def check_token(token: str) -> TokenKind | None:
        token_id, _, secret = token.partition(":")
        return await stores.tokens.kind_of(token_id, secret)

    def describe() -> dict[str, object]:
        return {"status": "ok", "leads": True, "workers": len(workers.connected()), "pid": os.getpid()}

    application = full_application(
        blobs,
        files,
        endpoints,
        objects,
        workers,
        collection,
        Exports(stores, derivations, objects),
        Imports(stores, objects, builder, remote),
        remote,
        IssuedTokens(stores.tokens, options.gate, pin),
        TokenPage(token_flows),
        check_token,
        describe,
        fleet.describe if fleet is not None else no_fleet,
    )
    return _Parts(
        stores,
        nouns,
        environments,
        apps,
        schedules,
        scheduler,
        servers,
        channels,
        execs,
        tokens,
        builds,
        packs,
        bridges,
        workers,
        collection,
        fleet,
        spans,
        remote,
        pulls,
        application,
    )


def _make_fleet(
    options: ServerOptions, pin: str, data: DataDirectory, stores: Stores, scheduler: Scheduler, steps: Steps
) -> Fleet:
    settings = read_fleet(Path(options.fleet))
    return Fleet(
        settings,
        open_provider(settings, f"{settings.name}-{pin[:12]}", data),
        stores.machines,
        stores.tokens,
        scheduler.placement,
        lambda: [*scheduler.wanted(), *steps.wanted()],
        settings.servers or (f"https://{options.gate}",),
        pin,
        buy,
    )


async def _listen_http(stack: AsyncExitStack, parts: _Parts, listener: socket.socket) -> None:
    runner = web.AppRunner(parts.application, access_log=None, shutdown_timeout=1)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.SockSite(runner, listener).start()


async def _listen_grpc(stack: AsyncExitStack, parts: _Parts, listeners: Listeners) -> None:
    identity = RouterIdentity(parts.tokens, TokenIdentity(parts.stores, listeners.http_port))
    server = GrpcServer(Service(parts.nouns, identity, parts.environments.check))
    await server.start(listeners.grpc)
    stack.push_async_callback(server.close)


async def _keep_mirrored(stack: AsyncExitStack, mirror: Mirror) -> None:
    await keep_running(stack, repeat(_MIRROR_SECONDS, mirror.run, "mirroring objects"))
    stack.callback(mirror.cancel)
