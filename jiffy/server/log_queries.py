"""Logs of the API: streamed as they come, or asked for by time: counted first, then fetched. Those of a build are asked for
by its image."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Final, cast

from google.protobuf.timestamp_pb2 import Timestamp
from modal_proto import api_pb2

from jiffy.errors import InvalidError, NotFoundError, UnsupportedError
from jiffy.server.bells import Bells
from jiffy.server.caller import Caller
from jiffy.server.entries import entry_id, read_entry_id
from jiffy.store.images import StoredImage
from jiffy.store.logs import LogLine, LogQuery
from jiffy.store.stores import Stores

MOST_LINES: Final = 10_000
LONGEST_POLL: Final = 55.0
_MOST_BUCKETS: Final = 10_000
_MOST_STEPS: Final = 1000
Request = api_pb2.AppFetchLogsRequest | api_pb2.AppCountLogsRequest


class LogQueries:
    def __init__(self, stores: Stores, bells: Bells) -> None:
        self._stores = stores
        self._bells = bells

    async def app_get_logs(
        self, request: api_pb2.AppGetLogsRequest, caller: Caller
    ) -> AsyncIterator[api_pb2.TaskLogsBatch]:
        """What the app, or what is named of it, printed after the last entry that the client saw; ends with app_done, or at
        its timeout. Clients before 1.4 name a container without its app."""
        _refuse_what_is_not_known(request)
        app_id = request.app_id or (await self._stores.tasks.get(request.task_id)).app_id
        query = LogQuery(
            owner_id=app_id,
            since=0.0,
            until=float("inf"),
            task_id=request.task_id,
            function_id=request.function_id,
            stream=request.file_descriptor,
            text=request.search_text,
        )
        position = read_entry_id(request.last_entry_id)
        deadline = time.monotonic() + min(request.timeout, LONGEST_POLL)
        with self._bells.listen(app_id) as bell:
            while True:
                done = await self._is_done(app_id, request.task_id)
                while lines := await self._stores.logs.following(query, position):
                    for line in lines:
                        yield log_batch(line)
                    position = lines[-1].position
                if done:
                    yield api_pb2.TaskLogsBatch(app_done=True)
                    return
                if not await bell.wait(deadline - time.monotonic()):
                    return

    async def app_fetch_logs(
        self, request: api_pb2.AppFetchLogsRequest, caller: Caller
    ) -> api_pb2.AppFetchLogsResponse:
        """The last lines of a time, in order."""
        limit = min(request.limit or MOST_LINES, MOST_LINES)
        lines = await self._stores.logs.last(_query(request), limit)
        return api_pb2.AppFetchLogsResponse(batches=[log_batch(line) for line in lines])

    async def app_count_logs(
        self, request: api_pb2.AppCountLogsRequest, caller: Caller
    ) -> api_pb2.AppCountLogsResponse:
        """Lines in each stretch of `bucket_secs` seconds that has any; they begin at multiples of it."""
        query, seconds = _query(request), request.bucket_secs
        if not seconds or (query.until - query.since) / seconds > _MOST_BUCKETS:
            raise InvalidError(
                f"stretches of {seconds} s", why=f"the time that is asked for has more than {_MOST_BUCKETS}"
            )
        counts = await self._stores.logs.count(query, seconds)
        buckets = [
            api_pb2.AppCountLogsResponse.LogBucket(
                bucket_start_at=Timestamp(seconds=start),
                stdout_logs=streams.get(api_pb2.FILE_DESCRIPTOR_STDOUT, 0),
                stderr_logs=streams.get(api_pb2.FILE_DESCRIPTOR_STDERR, 0),
                system_logs=streams.get(api_pb2.FILE_DESCRIPTOR_INFO, 0),
            )
            for start, streams in sorted(counts.items())
        ]
        return api_pb2.AppCountLogsResponse(app_id=request.app_id, buckets=buckets)

    async def image_build_chain_get(
        self, request: api_pb2.ImageBuildChainGetRequest, caller: Caller
    ) -> api_pb2.ImageBuildChainGetResponse:
        """The builds that led to an image, the first one first; each is asked for its lines by its image's id."""
        image = await self._stores.images.get(request.image_id)
        steps = [await self._step(image)]
        while (bases := api_pb2.Image.FromString(image.definition).base_images) and len(steps) < _MOST_STEPS:
            try:
                image = await self._stores.images.get(bases[0].image_id)
            except NotFoundError:
                break
            steps.append(await self._step(image))
        return api_pb2.ImageBuildChainGetResponse(build_steps=steps[::-1])

    async def _is_done(self, app_id: str, task_id: str) -> bool:
        if task_id:
            return (await self._stores.tasks.get(task_id)).ended_at is not None
        app = await self._stores.apps.get(app_id)
        return app.stopped_at is not None and not await self._stores.tasks.count_live(app_id)

    async def _step(self, image: StoredImage) -> api_pb2.ImageBuildStep:
        first, last = await self._stores.logs.span(image.image_id) or (image.created_at, image.created_at)
        step = api_pb2.ImageBuildStep(image_id=image.image_id, builder_app_id=image.image_id)
        step.started_at.FromMilliseconds(int(first * 1000))
        step.finished_at.FromMilliseconds(int(last * 1000) + 1000)
        return step


def log_batch(line: LogLine) -> api_pb2.TaskLogsBatch:
    """One line as a client gets it."""
    stream = cast("api_pb2.FileDescriptor.ValueType", line.stream)
    log = api_pb2.TaskLogs(data=line.text, file_descriptor=stream, timestamp=line.written_at)
    return api_pb2.TaskLogsBatch(
        task_id=line.task_id, function_id=line.function_id, entry_id=entry_id(line.position), items=[log]
    )


def _refuse_what_is_not_known(request: Request | api_pb2.AppGetLogsRequest) -> None:
    if request.function_call_id or request.sandbox_id:
        raise UnsupportedError(
            "logs of one call or sandbox", why="lines are known by their app, function and container"
        )


def _query(request: Request) -> LogQuery:
    _refuse_what_is_not_known(request)
    return LogQuery(
        owner_id=request.app_id,
        since=request.since.ToMilliseconds() / 1000,
        until=request.until.ToMilliseconds() / 1000 if request.HasField("until") else float("inf"),
        task_id=request.task_id,
        function_id=request.function_id,
        stream=request.source,
        text=request.search_text,
    )
