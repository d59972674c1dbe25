"""Lines of apps and of builds are found later, by their time and by what they are of."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from jiffy.core.events import LogWritten
from jiffy.store.functions import StoredFunction
from jiffy.store.stores import open_stores
from tests.server.conftest import Api

SCRATCH = ("FROM scratch", "ENV A=b")


async def make_image(
    api: Api, lines: Sequence[str], base: str = "", *, anew: bool = False
) -> api_pb2.ImageGetOrCreateResponse:
    bases = [api_pb2.BaseImage(image_id=base, docker_tag="base")] if base else []
    image = api_pb2.Image(dockerfile_commands=lines, base_images=bases)
    request = api_pb2.ImageGetOrCreateRequest(image=image, builder_version="2025.06", force_build=anew)
    made: api_pb2.ImageGetOrCreateResponse = await api.stub.ImageGetOrCreate(request, metadata=api.metadata)
    return made


async def join(api: Api, image_id: str, last: str = "") -> list[api_pb2.ImageJoinStreamingResponse]:
    """All answers, the last of which has the result."""
    request = api_pb2.ImageJoinStreamingRequest(image_id=image_id, timeout=20, last_entry_id=last)
    async with api.stub.ImageJoinStreaming.open(metadata=api.metadata) as stream:
        await stream.send_message(request, end=True)
        return [answer async for answer in stream]


def text_of(answers: Sequence[api_pb2.ImageJoinStreamingResponse]) -> str:
    return "".join(log.data for answer in answers for log in answer.task_logs)


async def fetch(api: Api, step: api_pb2.ImageBuildStep, **fields: Any) -> list[str]:
    request = api_pb2.AppFetchLogsRequest(
        app_id=step.builder_app_id, since=step.started_at, until=step.finished_at, **fields
    )
    answer = await api.stub.AppFetchLogs(request, metadata=api.metadata)
    return [item.data for batch in answer.batches for item in batch.items]


async def chain(api: Api, image_id: str) -> list[api_pb2.ImageBuildStep]:
    request = api_pb2.ImageBuildChainGetRequest(image_id=image_id)
    return list((await api.stub.ImageBuildChainGet(request, metadata=api.metadata)).build_steps)


async def test_a_build_tells_its_lines_then_its_result(api: Api) -> None:
    made = await make_image(api, SCRATCH)
    answers = await join(api, made.image_id)
    assert "ENV A=b" in text_of(answers)
    assert answers[-1].eof and answers[-1].result.status == api_pb2.GenericResult.GENERIC_STATUS_SUCCESS


async def test_who_comes_back_hears_only_what_is_new(api: Api) -> None:
    made = await make_image(api, SCRATCH)
    answers = await join(api, made.image_id)
    assert text_of(await join(api, made.image_id, answers[-2].entry_id)) == ""


async def test_who_comes_late_hears_all(api: Api) -> None:
    made = await make_image(api, SCRATCH)
    assert text_of(await join(api, made.image_id)) == text_of(await join(api, made.image_id)) != ""


async def test_a_build_that_fails_again_tells_its_last_try_only(api: Api) -> None:
    wrong = ("FROM scratch", "COPY nothing /")
    heard = []
    for _ in range(2):
        made = await make_image(api, wrong)
        answers = await join(api, made.image_id)
        assert answers[-1].result.status == api_pb2.GenericResult.GENERIC_STATUS_FAILURE
        heard.append(text_of(answers))
    assert heard[0] == heard[1]


async def test_the_builds_that_led_to_an_image_are_listed_with_their_times(api: Api) -> None:
    first = await make_image(api, SCRATCH)
    await join(api, first.image_id)
    second = await make_image(api, ("FROM base", "ENV C=d"), first.image_id)
    heard = text_of(await join(api, second.image_id))
    steps = await chain(api, second.image_id)
    assert [step.image_id for step in steps] == [first.image_id, second.image_id]
    assert "".join(await fetch(api, steps[1])) == heard
    assert "ENV A=b" in "".join(await fetch(api, steps[0]))


async def test_a_chain_ends_where_an_image_was_deleted(api: Api) -> None:
    first = await make_image(api, SCRATCH)
    await join(api, first.image_id)
    second = await make_image(api, ("FROM base", "ENV C=d"), first.image_id)
    await join(api, second.image_id)
    (step, _) = await chain(api, second.image_id)
    await api.stub.ImageDelete(api_pb2.ImageDeleteRequest(image_id=first.image_id), metadata=api.metadata)
    assert [each.image_id for each in await chain(api, second.image_id)] == [second.image_id]
    assert await fetch(api, step) == []


async def test_lines_are_counted_by_time_and_stream(api: Api) -> None:
    made = await make_image(api, SCRATCH)
    lines = text_of(await join(api, made.image_id)).count("\n")
    (step,) = await chain(api, made.image_id)
    for seconds in (1, 60):
        request = api_pb2.AppCountLogsRequest(
            app_id=made.image_id, since=step.started_at, until=step.finished_at, bucket_secs=seconds
        )
        counted = await api.stub.AppCountLogs(request, metadata=api.metadata)
        assert sum(bucket.stdout_logs for bucket in counted.buckets) == lines > 0
        assert all(bucket.bucket_start_at.seconds % seconds == 0 for bucket in counted.buckets)
    assert not [bucket for bucket in counted.buckets if bucket.stderr_logs or bucket.system_logs]


async def test_lines_are_chosen_by_text_stream_and_number(api: Api) -> None:
    made = await make_image(api, SCRATCH)
    await join(api, made.image_id)
    (step,) = await chain(api, made.image_id)
    lines = await fetch(api, step)
    assert await fetch(api, step, search_text="ENV") == [line for line in lines if "ENV" in line]
    assert await fetch(api, step, limit=1) == lines[-1:]
    assert await fetch(api, step, source=api_pb2.FILE_DESCRIPTOR_STDERR) == []
    assert await fetch(api, step, task_id="ta-none") == []
    step.started_at.CopyFrom(Timestamp(seconds=step.finished_at.seconds + 10))
    assert await fetch(api, step) == []


@pytest.mark.parametrize("seconds", [0, 1])
async def test_too_fine_a_count_is_refused(api: Api, seconds: int) -> None:
    request = api_pb2.AppCountLogsRequest(app_id="ap-1", until=Timestamp(seconds=10**9), bucket_secs=seconds)
    with pytest.raises(GRPCError) as caught:
        await api.stub.AppCountLogs(request, metadata=api.metadata)
    assert caught.value.status is Status.INVALID_ARGUMENT


async def test_lines_of_one_container_are_followed_until_it_ends(api: Api) -> None:
    """Clients before 1.4 name the container only."""
    stores = open_stores(api.data.database)
    await stores.apps.add("ap-1", "an app", api_pb2.APP_STATE_DEPLOYED)
    await stores.functions.add(StoredFunction("fu-1", "ap-1", "f", b"", b""))
    for task_id in ("ta-1", "ta-2"):
        await stores.tasks.add(task_id, "fu-1", "ap-1", "wo-1")
    written = [LogWritten(name, 1, f"of {name}\n", time.time()) for name in ("ta-1", "ta-2", "ta-1")]
    await stores.tasks.apply("wo-1", list(enumerate(written, 1)))
    await stores.tasks.end("ta-1", "", time.time())
    stores.close()
    async with api.stub.AppGetLogs.open(metadata=api.metadata) as stream:
        await stream.send_message(api_pb2.AppGetLogsRequest(task_id="ta-1", timeout=20), end=True)
        batches = [batch async for batch in stream]
    assert [item.data for batch in batches for item in batch.items] == ["of ta-1\n", "of ta-1\n"]
    assert batches[-1].app_done


async def test_lines_of_one_call_are_refused_where_they_are_followed_too(api: Api) -> None:
    async with api.stub.AppGetLogs.open(metadata=api.metadata) as stream:
        await stream.send_message(api_pb2.AppGetLogsRequest(app_id="ap-1", function_call_id="fc-1"), end=True)
        with pytest.raises(GRPCError) as caught:
            await stream.recv_message()
    assert caught.value.status is Status.FAILED_PRECONDITION
