"""Brings inputs and containers together: launches, hands out inputs, times out, cleans up after the dead.

Everything that must survive is in the store before it counts; what is kept here can be told again by the store and by
the workers after a restart.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial
from typing import Any, Final

from modal_proto import api_pb2

from jiffy.core.actions import LaunchContainer, StopContainer
from jiffy.core.aftermath import Ended, Fail, Requeue, judge_running_input, judge_waiting_inputs
from jiffy.core.autoscaler import containers_to_start
from jiffy.core.events import ContainerExited, ExitReason
from jiffy.core.placement import Refusal
from jiffy.errors import JiffyError, NotFoundError
from jiffy.identifiers import task_id as fresh_task_id
from jiffy.server.bells import Bells
from jiffy.server.pools import LiveTask, Pool, read_settings
from jiffy.server.results import make_failure, make_result, make_terminated, make_timeout
from jiffy.server.workforce import Workforce
from jiffy.store.calls import Input, Result
from jiffy.store.stores import Stores

logger = logging.getLogger(__name__)

STOP_GRACE: Final = 10.0
HEARTBEAT_GRACE: Final = 60.0
_INFORMATION: Final = api_pb2.FILE_DESCRIPTOR_INFO


Prepare = Callable[[Pool, str], Awaitable[LaunchContainer]]


class Scheduler:
    """`prepare` makes the order that launches a container of a pool with a task id."""

    def __init__(self, stores: Stores, workforce: Workforce, prepare: Prepare, bells: Bells) -> None:
        self._stores = stores
        self._workforce = workforce
        self._prepare = prepare
        self._bells = bells
        self._pools: dict[str, Pool] = {}
        self._tasks: dict[str, LiveTask] = {}
        self._jobs: set[asyncio.Task[None]] = set()

    # What the server's nouns ask for

    async def add_demand(self, function_id: str, inputs: int) -> None:
        """Inputs of a function became pending, and are in the store."""
        pool = await self.pool(function_id)
        pool.call(inputs)
        await self.adjust(pool)

    async def pool(self, function_id: str) -> Pool:
        if (pool := self._pools.get(function_id)) is None:
            stored = await self._stores.functions.get(function_id)
            definition = api_pb2.Function.FromString(stored.definition or b"")
            pool = Pool(function_id, stored.app_id, definition, read_settings(definition))
            pool = self._pools.setdefault(function_id, pool)
        return pool

    def peek_pool(self, function_id: str) -> Pool | None:
        return self._pools.get(function_id)

    def forget_pool(self, function_id: str) -> None:
        """The function was defined anew; its next container uses the new definition."""
        if (pool := self._pools.get(function_id)) is not None and not pool.tasks:
            del self._pools[function_id]

    def find_task(self, task_id: str) -> LiveTask:
        if (task := self._tasks.get(task_id)) is None:
            raise NotFoundError(f"container {task_id} has ended")
        return task

    def peek_task(self, task_id: str) -> LiveTask | None:
        return self._tasks.get(task_id)

    def live_tasks(self, app_id: str) -> list[LiveTask]:
        return [task for task in self._tasks.values() if task.app_id == app_id]

    async def take_inputs(self, task_id: str, limit: int, key: str) -> list[Input] | None:
        """Inputs for a container, when there are some; None when it should end."""
        task = self.find_task(task_id)
        pool = await self.pool(task.function_id)
        await self._note_ready(task, pool)
        task.waiting += 1
        try:
            return await self._wait_for_inputs(task, pool, limit, key)
        finally:
            task.waiting -= 1

    async def _wait_for_inputs(self, task: LiveTask, pool: Pool, limit: int, key: str) -> list[Input] | None:
        while not task.stopping:
            place = pool.line_up()
            try:
                inputs = await self._stores.calls.claim(pool.function_id, task.task_id, limit, key)
                if inputs:
                    self._watch(task, pool, inputs)
                    return inputs
                await asyncio.wait_for(asyncio.shield(place), pool.settings.scaledown_window)
            except TimeoutError:
                if pool.may_retire(task):
                    self._retire(task)
            finally:
                pool.leave(place)
        return None

    async def record_outputs(self, task_id: str, results: list[Result]) -> None:
        """A container finished inputs. Results for inputs that it no longer holds are dropped."""
        for call_id in await self._stores.calls.finish(task_id, results):
            self._bells.ring(call_id)
        if (task := self._tasks.get(task_id)) is not None:
            for result in results:
                task.forget_input(result.input_id)
            if not task.gave_output:
                task.gave_output = True
                await self._stores.tasks.mark(task_id, "first_output_at")

    async def fail_start(self, task_id: str, result: api_pb2.GenericResult) -> None:
        """A container could not import the program, or set it up: what waits for it fails with the same error."""
        task = self.find_task(task_id)
        task.failed_to_start = True
        pool = await self.pool(task.function_id)
        results = [make_result(entry, result) for entry in await self._stores.calls.pending(pool.function_id)]
        await self._record_failures(results)

    async def stop_app(self, app_id: str, reason: str) -> None:
        """End an app's work: unfinished inputs are recorded as terminated, containers end."""
        unfinished = await self._stores.calls.unfinished_of_app(app_id)
        await self._terminate(unfinished, reason)
        for task in self.live_tasks(app_id):
            self.stop_task(task, reason)

    async def cancel_call(self, call_id: str, *, terminate_containers: bool) -> None:
        """Record what is unfinished as terminated, and tell the containers that run it."""
        await self._stores.calls.cancel(call_id)
        unfinished = await self._stores.calls.unfinished_of_call(call_id)
        await self._terminate(unfinished, "the call was cancelled")
        for entry in unfinished:
            if entry.task_id is None or (task := self._tasks.get(entry.task_id)) is None:
                continue
            if terminate_containers:
                self.stop_task(task, "its call was cancelled")
            else:
                task.cancelled_inputs.append(entry.input_id)
                self._bells.ring(task.task_id)

    def stop_task(self, task: LiveTask, reason: str) -> None:
        """End a container: one that waits for an input is told by an answer, one that works by a signal. One that is not
        ready yet has nothing to end in good order."""
        if task.waiting and not task.running:
            self._retire(task)
        else:
            task.stopping = True
            grace = STOP_GRACE if task.ready else 0.0
            self._workforce.send(task.worker_id, StopContainer(task.task_id, reason, grace))

    # Launching

    async def adjust(self, pool: Pool) -> None:
        """Launch what the pool lacks now."""
        async with pool.adjusting:
            if (delay := pool.not_before - time.monotonic()) > 0:
                self._later(delay, lambda: self.adjust(pool))
                return
            unfinished = await self._stores.calls.count_unfinished_of_function(pool.function_id)
            app = await self._stores.apps.get(pool.app_id)
            if app.stopped_at is not None:
                await self._terminate(await self._stores.calls.unfinished_of_app(pool.app_id), "its app was stopped")
                return
            wanted = containers_to_start(unfinished, pool.supply(), pool.settings.limits)
            for _ in range(wanted):
                if not await self._launch(pool):
                    break

    async def adjust_all(self) -> None:
        """Room appeared, or the server started: look at every function that has inputs waiting."""
        for function_id in await self._stores.calls.functions_with_pending():
            await self.adjust(await self.pool(function_id))

    async def _launch(self, pool: Pool) -> bool:
        placed = self._workforce.place(pool.settings.need)
        if isinstance(placed, Refusal):
            await self._explain_refusal(pool, placed)
            return False
        pool.refusal = ""
        task = LiveTask(fresh_task_id(), pool.function_id, pool.app_id, placed)
        self._adopt(task, pool)
        self._workforce.reserve(placed, task.task_id, pool.settings.need)
        await self._stores.tasks.add(task.task_id, pool.function_id, pool.app_id, placed)
        self._spawn(self._order(pool, task))
        return True

    async def _order(self, pool: Pool, task: LiveTask) -> None:
        try:
            self._workforce.send(task.worker_id, await self._prepare(pool, task.task_id))
        except JiffyError as error:
            await self._end(task.task_id, ExitReason.LAUNCH_FAILED, 0, str(error))

    def _adopt(self, task: LiveTask, pool: Pool) -> None:
        self._tasks[task.task_id] = task
        pool.tasks[task.task_id] = task
        seconds = pool.settings.startup_timeout
        task.startup_timer = self._later(seconds, lambda: self._give_up_start(task, seconds))

    async def _give_up_start(self, task: LiveTask, seconds: float) -> None:
        if not task.ready and task.task_id in self._tasks:
            message = f"The container was not ready within its startup timeout of {seconds:g} s."
            failure = api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_TIMEOUT, exception=message)
            await self.fail_start(task.task_id, failure)
            self.stop_task(task, message)

    async def _explain_refusal(self, pool: Pool, refusal: Refusal) -> None:
        if refusal.reason != pool.refusal:
            pool.refusal = refusal.reason
            await self._inform(pool, f"jiffy: {pool.definition.function_name} waits: {refusal.reason}\n")
        if refusal.forever:
            failure = Fail(f"{pool.definition.function_name} cannot run: {refusal.reason}.", internal=False)
            pending = await self._stores.calls.pending(pool.function_id)
            await self._record_failures([make_failure(entry, failure) for entry in pending])

    async def _inform(self, pool: Pool, text: str) -> None:
        await self._stores.logs.write(pool.app_id, "", pool.function_id, _INFORMATION, text)
        self._bells.ring(pool.app_id)

    # Inputs that run

    async def _note_ready(self, task: LiveTask, pool: Pool) -> None:
        if task.ready:
            return
        task.ready = True
        pool.failed_starts = 0
        if task.startup_timer is not None:
            task.startup_timer.cancel()
        await self._stores.tasks.mark(task.task_id, "ready_at")
        self._spawn(self.adjust(pool))

    def _watch(self, task: LiveTask, pool: Pool, inputs: list[Input]) -> None:
        for entry in inputs:
            left = (entry.claimed_at or time.time()) + pool.settings.timeout - time.time()
            task.forget_input(entry.input_id)
            task.running[entry.input_id] = self._later(left, partial(self._time_out, task, pool, entry))

    async def _time_out(self, task: LiveTask, pool: Pool, entry: Input) -> None:
        task.forget_input(entry.input_id)
        await self._finish(task.task_id, [make_timeout(entry, pool.settings.timeout)])
        self.stop_task(task, "an input reached its timeout")

    async def _terminate(self, inputs: list[Input], reason: str) -> None:
        for entry in inputs:
            result = make_terminated(entry, reason)
            if entry.task_id is None:
                await self._record_failures([result])
            else:
                await self._finish(entry.task_id, [result])

    async def _finish(self, task_id: str, results: list[Result]) -> None:
        for call_id in await self._stores.calls.finish(task_id, results):
            self._bells.ring(call_id)

    async def _record_failures(self, results: list[Result]) -> None:
        for call_id in await self._stores.calls.fail_pending(results):
            self._bells.ring(call_id)

    # Containers that end

    async def container_exited(self, event: ContainerExited) -> None:
        await self._end(event.task_id, event.reason, event.exit_code, event.detail)

    async def containers_lost(self, task_ids: list[str]) -> None:
        """Their worker is gone, or does not know them."""
        for task_id in task_ids:
            await self._end(task_id, ExitReason.LOST, 0, "its worker is gone")

    def stop_given_up(self, worker_id: str, task_ids: Iterable[str]) -> None:
        """A worker that was taken for lost is back, with containers whose inputs run elsewhere by now."""
        for task_id in task_ids:
            self._workforce.send(worker_id, StopContainer(task_id, "it was given up", 0))

    async def _end(self, task_id: str, reason: ExitReason, exit_code: int, detail: str) -> None:
        text = f"{reason}: {detail}" if detail else str(reason)
        is_news = await self._stores.tasks.end(task_id, text, time.time())
        self._workforce.free(task_id)
        if not is_news:
            return
        task = self._tasks.pop(task_id, None)
        if task is not None:
            task.cancel_timers()
            pool = await self.pool(task.function_id)
            pool.tasks.pop(task_id, None)
            ended = Ended(reason, exit_code, detail, pool.settings.memory_limit_bytes)
            await self._settle_inputs(task, ended)
            if not task.ready and not task.failed_to_start:
                await self._judge_failed_start(pool, ended)
            self._bells.ring(pool.app_id)
        await self.adjust_all()

    async def _settle_inputs(self, task: LiveTask, ended: Ended) -> None:
        """Fail what must fail while the task still holds it, then let go of the rest."""
        failures = []
        for entry in await self._stores.calls.claimed(task.task_id):
            verdict = judge_running_input(ended, entry.losses + 1)
            if not isinstance(verdict, Requeue):
                failures.append(make_failure(entry, verdict))
        await self._finish(task.task_id, failures)
        await self._stores.calls.release(task.task_id)

    async def _judge_failed_start(self, pool: Pool, ended: Ended) -> None:
        if ended.reason is not ExitReason.STOPPED:
            pool.failed_starts += 1
            pool.not_before = time.monotonic() + min(30.0, 0.25 * 2**pool.failed_starts)
        verdict = judge_waiting_inputs(ended, pool.failed_starts)
        if verdict is not None:
            pending = await self._stores.calls.pending(pool.function_id)
            await self._record_failures([make_failure(entry, verdict) for entry in pending])

    # After a restart, and from time to time

    async def restore(self) -> set[str]:
        """Finish what the last server had begun when it died, and take up the containers that lived then. Their workers,
        whose ids are given, will say which still do."""
        await self._stores.calls.release_orphans()
        await self._terminate(await self._stores.calls.abandoned(), "its call was cancelled, or its app stopped")
        for stored in await self._stores.tasks.live():
            pool = await self.pool(stored.function_id)
            task = LiveTask(stored.task_id, stored.function_id, stored.app_id, stored.worker_id, restored=True)
            task.ready = stored.ready_at is not None
            task.gave_output = stored.first_output_at is not None
            self._adopt(task, pool)
            self._watch(task, pool, await self._stores.calls.claimed(stored.task_id))
            self._workforce.reserve(stored.worker_id, stored.task_id, pool.settings.need)
        return {task.worker_id for task in self._tasks.values()}

    async def stop_silent_tasks(self) -> None:
        """Stop containers whose process hangs: it answers no heartbeat."""
        for task in list(self._tasks.values()):
            silence = time.monotonic() - task.heartbeat_at
            if task.ready and not task.stopping and silence > HEARTBEAT_GRACE:
                self.stop_task(task, f"no heartbeat for {silence:.0f} s")

    async def stop_strays(self) -> None:
        """Stop containers of apps that were stopped when nobody could tell them."""
        for app_id in {task.app_id for task in self._tasks.values() if not task.stopping}:
            if (await self._stores.apps.get(app_id)).stopped_at is not None:
                for task in self.live_tasks(app_id):
                    self.stop_task(task, "its app was stopped")

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel_timers()
        for job in list(self._jobs):
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)

    def _retire(self, task: LiveTask) -> None:
        """Let a waiting container end by itself; if it does not, end it."""
        task.stopping = True
        self._pools[task.function_id].call_all()
        self._later(STOP_GRACE, lambda: self._insist(task))

    async def _insist(self, task: LiveTask) -> None:
        if task.task_id in self._tasks:
            self._workforce.send(task.worker_id, StopContainer(task.task_id, "it did not end by itself", 0))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        job = asyncio.get_running_loop().create_task(work)
        self._jobs.add(job)
        job.add_done_callback(self._note_done)

    def _note_done(self, job: asyncio.Task[None]) -> None:
        self._jobs.discard(job)
        if not job.cancelled() and (error := job.exception()) is not None:
            logger.error("a scheduler job failed", exc_info=error)

    def _later(self, seconds: float, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(max(0.0, seconds), lambda: self._spawn(work()))
