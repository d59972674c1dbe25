"""Deployments of the API: apps that have a name and versions, live until they are stopped, and are looked up by others."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Final, cast

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from jiffy.errors import ConflictError, InvalidError, NotFoundError
from jiffy.server.caller import Caller
from jiffy.server.environments import DEFAULT_ENVIRONMENT
from jiffy.server.handles import locate_handle
from jiffy.server.known_functions import read_function
from jiffy.server.layouts import make_layout
from jiffy.server.scheduler import Scheduler
from jiffy.server.schedules import Schedules
from jiffy.store.apps import App, Version
from jiffy.store.stores import Stores

_LISTED_SECONDS: Final = 24 * 3600.0
_CREATES: Final = (
    api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING,
    api_pb2.OBJECT_CREATION_TYPE_CREATE_FAIL_IF_EXISTS,
)


class Deployments:
    def __init__(self, stores: Stores, scheduler: Scheduler, schedules: Schedules) -> None:
        self._stores = stores
        self._scheduler = scheduler
        self._schedules = schedules

    async def app_publish(self, request: api_pb2.AppPublishRequest, caller: Caller) -> api_pb2.AppPublishResponse:
        """What the app consists of from now on. For a deployment, with a name, that is a new version."""
        app = await self._stores.apps.get(request.app_id)
        if request.app_state == api_pb2.APP_STATE_DEPLOYED and request.name and app.name != request.name:
            await self._stores.apps.name(app.app_id, request.name)
        if request.tags:
            await self._stores.apps.set_tags(app.app_id, dict(request.tags))
        version = Version(
            app_id=app.app_id,
            version=0,
            deployed_at=time.time(),
            deployed_by=caller.token_id,
            client_version=request.client_version or caller.client_version,
            tag=request.deployment_tag,
            commit_info=request.commit_info.SerializeToString(),
            function_ids=dict(request.function_ids),
            class_ids=dict(request.class_ids),
            definition_ids=dict(request.definition_ids),
            request_id=caller.new_id("rq"),
        )
        if request.app_state == api_pb2.APP_STATE_DEPLOYED:
            deployed_at = await self._deploy(version, app)
        else:
            deployed_at = version.deployed_at
            await self._stores.apps.publish(app.app_id, request.app_state, version.function_ids, version.class_ids)
            await self._activate(version, app)
        return api_pb2.AppPublishResponse(url=caller.url(f"/apps/{app.app_id}"), deployed_at=deployed_at)

    async def app_rollback(self, request: api_pb2.AppRollbackRequest, caller: Caller) -> api_pb2.AppRollbackResponse:
        """Bring back a version: by its number, or, by a negative one, so many before the newest."""
        app = await self._stores.apps.get(request.app_id)
        earlier = await self._earlier(app, request.version)
        deployed_at = await self._deploy(_again(earlier, caller), app)
        return api_pb2.AppRollbackResponse(url=caller.url(f"/apps/{app.app_id}"), deployed_at=deployed_at)

    async def app_rollover(self, request: api_pb2.AppRolloverRequest, caller: Caller) -> api_pb2.AppRolloverResponse:
        """Replace all containers of an app; what they run they finish. The app is as it was, but has a new version."""
        app = await self._live(request.app_id)
        versions = await self._stores.apps.versions(app.app_id)
        if not versions:
            raise InvalidError(f"app {app.name or app.app_id} is not deployed")
        made = await self._stores.apps.deploy(_again(versions[0], caller), api_pb2.APP_STATE_DEPLOYED)
        for function_id in app.function_ids.values():
            await self._scheduler.roll_over(function_id)
        return api_pb2.AppRolloverResponse(url=caller.url(f"/apps/{app.app_id}"), deployed_at=made.deployed_at)

    async def app_get_by_deployment_name(
        self, request: api_pb2.AppGetByDeploymentNameRequest, caller: Caller
    ) -> api_pb2.AppGetByDeploymentNameResponse:
        environment = request.environment_name or DEFAULT_ENVIRONMENT
        app = await self._stores.apps.find(environment, request.name)
        if app is None:
            return api_pb2.AppGetByDeploymentNameResponse(environment_name=environment)
        return api_pb2.AppGetByDeploymentNameResponse(
            app_id=app.app_id, environment_name=environment, lifecycle=await self._lifecycle(app)
        )

    async def app_get_or_create(
        self, request: api_pb2.AppGetOrCreateRequest, caller: Caller
    ) -> api_pb2.AppGetOrCreateResponse:
        """An app by its name, for objects that belong to it: it need not have any function."""
        environment = request.environment_name or DEFAULT_ENVIRONMENT
        app = await self._stores.apps.find(environment, request.app_name)
        if app is not None and request.object_creation_type == api_pb2.OBJECT_CREATION_TYPE_CREATE_FAIL_IF_EXISTS:
            raise ConflictError(f"there is an app {request.app_name} already")
        if app is None and request.object_creation_type not in _CREATES:
            raise NotFoundError(f"no app is deployed as {request.app_name} in environment {environment}")
        if app is None:
            app_id = caller.new_id("ap")
            await self._stores.apps.add(app_id, request.app_name, api_pb2.APP_STATE_DEPLOYED, environment)
            await self._stores.apps.name(app_id, request.app_name)
            app = await self._stores.apps.get(app_id)
        return api_pb2.AppGetOrCreateResponse(app_id=app.app_id, handle_metadata=await self._handle(app))

    async def app_get_layout(
        self, request: api_pb2.AppGetLayoutRequest, caller: Caller
    ) -> api_pb2.AppGetLayoutResponse:
        app = await self._stores.apps.get(request.app_id)
        layout = await make_layout(self._stores, app, ())
        for each in layout.objects:
            if each.HasField("function_handle_metadata"):
                located = locate_handle(each.function_handle_metadata, caller.endpoint_url)
                each.function_handle_metadata.CopyFrom(located)
        return api_pb2.AppGetLayoutResponse(app_layout=layout)

    async def app_list(self, request: api_pb2.AppListRequest, caller: Caller) -> api_pb2.AppListResponse:
        """Live ones, and those that stopped within a day."""
        environment = request.environment_name or DEFAULT_ENVIRONMENT
        apps = await self._stores.apps.listed(environment, time.time() - _LISTED_SECONDS)
        return api_pb2.AppListResponse(
            apps=[
                api_pb2.AppListResponse.AppListItem(
                    app_id=app.app_id,
                    description=app.description,
                    name=app.name,
                    state=_state(app),
                    created_at=app.created_at,
                    stopped_at=app.stopped_at or 0.0,
                    n_running_tasks=await self._stores.tasks.count_live(app.app_id),
                    metadata=await self._handle(app),
                )
                for app in apps
            ]
        )

    async def app_deployment_history(
        self, request: api_pb2.AppDeploymentHistoryRequest, caller: Caller
    ) -> api_pb2.AppDeploymentHistoryResponse:
        app = await self._stores.apps.get(request.app_id)
        histories = [_history(each) for each in await self._stores.apps.versions(app.app_id)]
        return api_pb2.AppDeploymentHistoryResponse(
            app_deployment_histories=histories, production_app_version=app.version
        )

    async def app_set_tags(self, request: api_pb2.AppSetTagsRequest, caller: Caller) -> Empty:
        await self._live(request.app_id)
        await self._stores.apps.set_tags(request.app_id, dict(request.tags))
        return Empty()

    async def app_get_tags(self, request: api_pb2.AppGetTagsRequest, caller: Caller) -> api_pb2.AppGetTagsResponse:
        return api_pb2.AppGetTagsResponse(tags=(await self._stores.apps.get(request.app_id)).tags)

    async def app_get_lifecycle(
        self, request: api_pb2.AppGetLifecycleRequest, caller: Caller
    ) -> api_pb2.AppGetLifecycleResponse:
        app = await self._stores.apps.get(request.app_id)
        return api_pb2.AppGetLifecycleResponse(lifecycle=await self._lifecycle(app))

    async def app_get_info(self, request: api_pb2.AppGetInfoRequest, caller: Caller) -> api_pb2.AppGetInfoResponse:
        app = await self._stores.apps.get(request.app_id)
        answer = api_pb2.AppGetInfoResponse(info=await self._handle(app))
        for name, function_id in app.function_ids.items():
            definition = (await read_function(self._stores.functions, function_id)).definition
            (answer.info.servers if definition.is_server else answer.info.functions)[name] = function_id
            _summarize(definition, answer.function_info_summaries[function_id])
        return answer

    async def _earlier(self, app: App, number: int) -> Version:
        """The version of a number, or, of a negative one, so many before the newest."""
        wanted = number if number > 0 else app.version + number
        if wanted < 1:
            raise NotFoundError(
                f"app {app.name} has no earlier version to bring back", why=f"its newest is {app.version}"
            )
        versions = {each.version: each for each in await self._stores.apps.versions(app.app_id)}
        if (earlier := versions.get(wanted)) is None:
            raise NotFoundError(f"app {app.name} has no version {wanted}", why=f"its newest is {app.version}")
        if wanted == app.version:
            raise InvalidError(f"app {app.name} is at version {wanted} already")
        return earlier

    async def _deploy(self, version: Version, before: App) -> float:
        """Gives when that was: a request that is repeated deploys nothing more."""
        made = await self._stores.apps.deploy(version, api_pb2.APP_STATE_DEPLOYED)
        await self._activate(made, before)
        await self._schedules.set(made.app_id, list(made.function_ids.values()))
        return made.deployed_at

    async def _activate(self, version: Version, before: App) -> None:
        """Have each function follow its definition of this version. Functions that are not part of it any more keep no
        containers."""
        for function_id in sorted(version.function_ids.values()):
            definition_id = version.definition_ids.get(function_id)
            if definition_id:
                is_new = await self._stores.functions.follow(definition_id)
                await self._scheduler.redefine(function_id)
                if is_new:
                    await self._scheduler.roll_over(function_id)
            await self._scheduler.add_demand(function_id, 0)
        for function_id in sorted({*before.function_ids.values()} - {*version.function_ids.values()}):
            await self._stores.functions.scale(function_id, {"min_containers": 0})
            await self._scheduler.redefine(function_id)
            await self._scheduler.roll_over(function_id)

    async def _live(self, app_id: str) -> App:
        app = await self._stores.apps.get(app_id)
        if app.stopped_at is not None:
            raise ConflictError(f"app {app.name or app_id} was stopped", hint="deploy it again")
        return app

    async def _handle(self, app: App) -> api_pb2.AppHandleMetadata:
        return api_pb2.AppHandleMetadata(
            description=app.description,
            app_id=app.app_id,
            environment_name=app.environment,
            lifecycle=await self._lifecycle(app),
        )

    async def _lifecycle(self, app: App) -> api_pb2.AppLifecycle:
        newest = next(iter(await self._stores.apps.versions(app.app_id)), None) if app.version else None
        return api_pb2.AppLifecycle(
            app_state=_state(app),
            created_at=app.created_at,
            deployed_at=newest.deployed_at if newest is not None else 0.0,
            deployed_by=newest.deployed_by if newest is not None else "",
            version=app.version,
            stopped_at=app.stopped_at or 0.0,
        )


def _state(app: App) -> api_pb2.AppState.ValueType:
    return cast("api_pb2.AppState.ValueType", app.state)


def _summarize(definition: api_pb2.Function, summary: api_pb2.AppGetInfoResponse.FunctionInfoSummary) -> None:
    if definition.resources.gpu_config.gpu_type:
        summary.gpu_config.add().CopyFrom(definition.resources.gpu_config)
    if definition.HasField("schedule"):
        summary.schedule.CopyFrom(definition.schedule)
    summary.web_function = bool(definition.web_url)
    if definition.web_url:
        summary.requires_proxy_auth = definition.webhook_config.requires_proxy_auth


def _again(version: Version, caller: Caller) -> Version:
    """The same once more, as the newest."""
    return replace(
        version,
        deployed_at=time.time(),
        deployed_by=caller.token_id,
        rollback_version=version.version,
        request_id=caller.new_id("rq"),
    )


def _kind(version: Version) -> api_pb2.DeploymentType.ValueType:
    if version.is_rollover:
        return api_pb2.DEPLOYMENT_TYPE_ROLLOVER
    return api_pb2.DEPLOYMENT_TYPE_ROLLBACK if version.rollback_version else api_pb2.DEPLOYMENT_TYPE_STANDARD


def _history(version: Version) -> api_pb2.AppDeploymentHistory:
    return api_pb2.AppDeploymentHistory(
        app_id=version.app_id,
        version=version.version,
        client_version=version.client_version,
        deployed_at=version.deployed_at,
        deployed_by=version.deployed_by,
        tag=version.tag,
        rollback_version=0 if version.is_rollover else version.rollback_version,
        rollback_allowed=True,
        commit_info=api_pb2.CommitInfo.FromString(version.commit_info),
        deployment_type=_kind(version),
    )
