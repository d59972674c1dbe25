"""Containers of the API as people look at them: listed, described, stopped."""

from __future__ import annotations

from modal_proto import api_pb2

from jiffy.server.caller import Caller
from jiffy.server.environments import DEFAULT_ENVIRONMENT
from jiffy.server.scheduler import Scheduler
from jiffy.store.apps import App
from jiffy.store.stores import Stores


class Tasks:
    def __init__(self, stores: Stores, scheduler: Scheduler) -> None:
        self._stores = stores
        self._scheduler = scheduler

    async def task_list(self, request: api_pb2.TaskListRequest, caller: Caller) -> api_pb2.TaskListResponse:
        """Those that live, of one app or of an environment."""
        apps = {app.app_id: app for app in await self._apps(request)}
        return api_pb2.TaskListResponse(
            tasks=[
                api_pb2.TaskStats(
                    task_id=task.task_id,
                    app_id=task.app_id,
                    app_description=apps[task.app_id].description,
                    started_at=task.started_at or 0.0,
                    enqueued_at=task.created_at,
                )
                for task in await self._stores.tasks.live()
                if task.app_id in apps
            ]
        )

    async def _apps(self, request: api_pb2.TaskListRequest) -> list[App]:
        if request.app_id:
            return [await self._stores.apps.get(request.app_id)]
        return await self._stores.apps.listed(request.environment_name or DEFAULT_ENVIRONMENT, 0.0)

    async def task_get_info(self, request: api_pb2.TaskGetInfoRequest, caller: Caller) -> api_pb2.TaskGetInfoResponse:
        task = await self._stores.tasks.get(request.task_id)
        info = api_pb2.TaskInfo(
            id=task.task_id,
            enqueued_at=task.created_at,
            started_at=task.started_at or 0.0,
            finished_at=task.ended_at or 0.0,
        )
        return api_pb2.TaskGetInfoResponse(app_id=task.app_id, info=info)

    async def container_stop(
        self, request: api_pb2.ContainerStopRequest, caller: Caller
    ) -> api_pb2.ContainerStopResponse:
        """What it runs goes to another. One that has ended stays so."""
        await self._stores.tasks.get(request.task_id)
        self._scheduler.stop_container(request.task_id, "somebody stopped it", graceful=request.graceful)
        return api_pb2.ContainerStopResponse()
