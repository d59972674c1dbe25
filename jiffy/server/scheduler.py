"""Carries out what the core decides, and tells it what happens.

Everything that must survive is in the store before it counts. An order that the store cannot carry out now is carried out
later: nothing else would.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Final

from modal_proto import api_pb2

from jiffy import failpoints
from jiffy.core import facts, orders
from jiffy.core.actions import Action, LaunchContainer, StopContainer
from jiffy.core.aftermath import Ended, Requeue, judge_running_input
from jiffy.core.attempts import Backoff
from jiffy.core.events import ContainerExited, ExitReason
from jiffy.core.facts import Fact
from jiffy.core.orders import Order
from jiffy.core.placement import Need, Placement, Refusal
from jiffy.core.pools import Container
from jiffy.core.scheduler import STOP_GRACE
from jiffy.core.scheduler import Scheduler as Core
from jiffy.core.sizing import Wanted
from jiffy.errors import JiffyError, NotFoundError, is_passing
from jiffy.identifiers import task_id as fresh_task_id
from jiffy.jobs import Jobs
from jiffy.server.bells import Bells
from jiffy.server.known_functions import KnownFunction, read_function
from jiffy.server.queues import Asking, Queues
from jiffy.server.requests import Requests
from jiffy.server.results import make_failure, make_result, make_terminated, make_timeout
from jiffy.server.workforce import Connections
from jiffy.store.calls import Claim, Input, Result
from jiffy.store.stores import Stores

logger = logging.getLogger(__name__)

_RETRY_SECONDS: Final = 1.0
_UNHEARD_SECONDS: Final = 10.0
_INFORMATION: Final = api_pb2.FILE_DESCRIPTOR_INFO

Prepare = Callable[[KnownFunction, str], Awaitable[LaunchContainer]]


class Scheduler:
    """`prepare` makes the order that launches a container of a function with a task id."""

    def __init__(self, stores: Stores, connections: Connections, prepare: Prepare, bells: Bells) -> None:
        self._stores = stores
        self._connections = connections
        self._prepare = prepare
        self._bells = bells
        self._core = Core(fresh_task_id)
        self._queues = Queues(stores.calls)
        self.requests = Requests(self)
        self._functions: dict[str, KnownFunction] = {}
        self._launching: dict[str, asyncio.Task[None]] = {}
        self._cancelled: defaultdict[str, list[str]] = defaultdict(list)
        self._gave_output: set[str] = set()
        self._jobs = Jobs()
        self._timer: asyncio.TimerHandle | None = None

    def tell(self, fact: Fact) -> None:
        """Something happened; what follows from it is begun."""
        self._carry_out(self._core.handle(fact, _clock()))
        self._set_timer()

    # What the server's nouns ask for

    async def add_demand(self, function_id: str, inputs: int, *, called: bool = False) -> None:
        """Inputs of a function became pending, and are in the store. With 0: it may need containers without any. `called`:
        containers were called for them."""
        await self.function(function_id)
        if not called:
            self._queues.call(function_id, inputs)
        self.tell(facts.InputsArrived(function_id, inputs))

    def call_containers(self, function_id: str, inputs: int) -> None:
        """That wait, to look for inputs."""
        self._queues.call(function_id, inputs)

    async def function(self, function_id: str) -> KnownFunction:
        if (known := self._functions.get(function_id)) is None:
            known = await read_function(self._stores.functions, function_id)
            known = self._functions.setdefault(function_id, known)
        if self._core.find_pool(function_id) is None:
            self._define(known)
        return known

    def _define(self, known: KnownFunction, layers: tuple[str, ...] = ()) -> None:
        self.tell(facts.FunctionDefined(known.function_id, known.app_id, known.settings, layers, known.labels))

    def peek_function(self, task_id: str) -> KnownFunction | None:
        """The function of a container that lives."""
        container = self._core.find_container(task_id)
        return None if container is None else self._functions.get(container.function_id)

    async def redefine(self, function_id: str) -> None:
        """Its next container uses the new definition, and so do those of its variants."""
        for each in self._family(function_id):
            del self._functions[each]
            self._define(await self.function(each))

    async def roll_over(self, function_id: str) -> None:
        """Have the containers that there are finish what they run, and new ones take what comes."""
        for each in self._family(function_id):
            self.tell(facts.FunctionRolledOver(each))
            self._see_off(self._core.containers())

    def _family(self, function_id: str) -> list[str]:
        """A function and its variants, as far as they are in use."""
        known = self._functions.values()
        return [each.function_id for each in known if function_id in (each.function_id, each.base_id)]

    def count_containers(self, function_id: str) -> int:
        """That live or are on their way."""
        pool = self._core.find_pool(function_id)
        return 0 if pool is None else pool.ready + pool.starting

    def is_short(self, function_id: str) -> bool:
        """Whether more waits than its containers can take, and it may have no more of them."""
        pool = self._core.find_pool(function_id)
        return pool is not None and pool.is_full

    def may_grow(self, function_id: str) -> bool:
        """Whether more containers of a function are on their way, or may come."""
        pool = self._core.find_pool(function_id)
        return pool is None or pool.starting > 0 or pool.ready < pool.settings.limits.maximum

    def find_container(self, task_id: str) -> Container:
        if (container := self._core.find_container(task_id)) is None:
            raise NotFoundError(f"container {task_id} has ended")
        return container

    def peek_container(self, task_id: str) -> Container | None:
        return self._core.find_container(task_id)

    def containers(self) -> list[Container]:
        return list(self._core.containers())

    def containers_of(self, app_id: str) -> list[Container]:
        return self._core.containers_of(app_id)

    async def take_inputs(self, task_id: str, limit: int, key: str, linger: float = 0.0) -> list[Input] | None:
        """Inputs for a container, when there are some; None when it should end. Fewer than `limit` only when no more have
        come within `linger` seconds."""
        container = self.find_container(task_id)
        function = await self.function(container.function_id)
        if not container.ready:
            await self._stores.tasks.mark(task_id, "ready_at")
        self.tell(facts.ContainerAsked(task_id))
        asking = Asking(
            task_id=task_id,
            function_id=function.function_id,
            limit=limit,
            key=key,
            window=function.settings.scaledown_window,
            linger=linger,
            rested=lambda: self.tell(facts.ContainerRested(task_id)),
            is_stopping=lambda: container.stopping,
        )
        inputs = await self._queues.take(asking)
        failpoints.reach("input-claimed")
        if inputs:
            self.tell(facts.InputsTaken(task_id, deadlines_of(inputs, function.settings.timeout)))
        return inputs

    async def record_outputs(self, task_id: str, results: list[Result], seconds: float) -> None:
        """A container finished inputs, which ran for `seconds` on average. Results for inputs that it no longer holds are
        dropped."""
        changed = await self._stores.calls.finish(task_id, results)
        failpoints.reach("output-recorded")
        self._ring(changed)
        await asyncio.sleep(0)  # who waits for an output has it before the container has its answer
        self.tell(facts.InputsEnded(task_id, tuple(result.input_id for result in results), seconds))
        if any(result.backoff is not None for result in results) and (function := self.peek_function(task_id)):
            await self.add_demand(function.function_id, 0)
        if task_id not in self._gave_output and self._core.find_container(task_id) is not None:
            self._gave_output.add(task_id)
            await self._stores.tasks.mark(task_id, "first_output_at")

    async def fail_start(self, task_id: str, result: api_pb2.GenericResult) -> None:
        """A container could not import the program, or set it up: what waits for it fails with the same error."""
        container = self.find_container(task_id)
        self.tell(facts.ContainerBrokeDown(task_id))
        self.requests.fail(container.function_id, result.exception)
        waiting = await self._stores.calls.pending(container.function_id)
        backoff = (await self.function(container.function_id)).backoff
        self._ring(await self._stores.calls.fail_pending([make_result(entry, result, backoff) for entry in waiting]))
        self.tell(facts.InputsArrived(container.function_id, 0))

    async def stop_app(self, app_id: str, reason: str) -> None:
        """End an app's work: unfinished inputs are recorded as terminated, containers end."""
        self.tell(facts.AppStopped(app_id, reason))
        await self._terminate(await self._stores.calls.unfinished_of_app(app_id), reason)

    async def stop_strays(self) -> None:
        """Finish what was begun when an app was stopped, and the store failed or the server died."""
        for app_id in dict.fromkeys(container.app_id for container in self._core.containers()):
            if (await self._stores.apps.get(app_id)).stopped_at is not None:
                self.tell(facts.AppStopped(app_id, "its app was stopped"))
        await self._terminate(await self._stores.calls.abandoned(), "its call was cancelled, or its app stopped")

    async def watch_claims(self) -> None:
        """An input that was claimed when the store failed to say so has a deadline all the same."""
        for claim in await self._stores.calls.claimed_before(time.time() - _UNHEARD_SECONDS):
            container = self._core.find_container(claim.task_id)
            if container is not None and claim.input_id not in container.running:
                timeout = (await self.function(claim.function_id)).settings.timeout
                self.tell(facts.InputsTaken(claim.task_id, deadlines_of([claim], timeout)))

    async def recount_demand(self) -> None:
        """Of all functions with inputs that wait: also those of which nobody has told, because the server that accepted them
        died, or could not say so."""
        for function_id in await self._stores.calls.functions_with_pending():
            await self.add_demand(function_id, 0)

    async def cancel_call(self, call_id: str, *, terminate_containers: bool) -> None:
        """Record what is unfinished as terminated, and tell the containers that run it."""
        await self._stores.calls.cancel(call_id)
        unfinished = await self._stores.calls.unfinished_of_call(call_id)
        await self._terminate(unfinished, "the call was cancelled")
        for entry in unfinished:
            if entry.task_id is None or self._core.find_container(entry.task_id) is None:
                continue
            if terminate_containers:
                self.tell(facts.ContainerUnwanted(entry.task_id, "its call was cancelled"))
            else:
                self._cancelled[entry.task_id].append(entry.input_id)
                self._bells.ring(entry.task_id)

    def stop_container(self, task_id: str, reason: str, *, graceful: bool) -> None:
        """What it runs goes to others; with `graceful` it finishes that first."""
        fact = facts.ContainerSpared if graceful else facts.ContainerUnwanted
        self.tell(fact(task_id, reason))
        if (container := self._core.find_container(task_id)) is not None:
            self._see_off([container])

    def take_cancelled(self, task_id: str) -> list[str]:
        """Inputs that a container should give up, each told once."""
        return self._cancelled.pop(task_id, [])

    # The workforce, for containers that belong to no function

    @property
    def placement(self) -> Placement:
        return self._core.placement

    def wanted(self) -> list[Wanted]:
        """Containers of functions for which no worker has room."""
        return self._core.wanted()

    def place(self, need: Need) -> str | Refusal:
        return self._core.placement.place(need)

    def reserve(self, worker_id: str, task_id: str, need: Need) -> None:
        self._core.placement.reserve(worker_id, task_id, need)

    def reservations(self) -> Iterator[tuple[str, str, Need]]:
        """Each container's id, worker and need."""
        return self._core.placement.reserved()

    def free(self, worker_id: str, task_id: str) -> None:
        self._connections.forget(worker_id, task_id)
        self._carry_out(self._core.free(task_id))

    def send(self, worker_id: str, action: Action) -> None:
        self._connections.send(worker_id, action)

    # Carrying out

    def _carry_out(self, decided: Iterable[Order]) -> None:
        """What is for the store is done in turn, the rest at once."""
        in_turn = []
        for order in decided:
            match order:
                case orders.Launch():
                    self._launching[order.task_id] = self._jobs.begin(self._launch(order))
                case orders.Retire():
                    self._retire(self.find_container(order.task_id), order.reason)
                case orders.Stop():
                    self._jobs.begin(self._stop(order))
                case orders.CallContainers():
                    self._queues.call_all(order.function_id)
                case orders.Fence():
                    self._connections.fence(order.worker_id)
                case _:
                    in_turn.append(order)
        if in_turn:
            self._jobs.begin(self._carry_out_in_turn(in_turn))

    async def _carry_out_in_turn(self, decided: Iterable[Order]) -> None:
        for order in decided:
            while True:
                try:
                    await self._record(order)
                    break
                except NotFoundError as error:
                    logger.error("%s is given up: %s", type(order).__name__, error)
                    break
                except JiffyError as error:
                    logger.error("%s is tried again: %s", type(order).__name__, error)
                    await asyncio.sleep(_RETRY_SECONDS)

    async def _record(self, order: Order) -> None:
        match order:
            case orders.CountDemand():
                await self._count(order)
            case orders.Settle():
                await self._settle(order)
            case orders.FailWaiting():
                await self._fail_waiting(order)
            case orders.TimeOut():
                await self._time_out(order)
            case orders.Explain():
                await self._explain(order)

    async def _fail_waiting(self, order: orders.FailWaiting) -> None:
        self.requests.fail(order.function_id, order.failure.message)
        pending = await self._stores.calls.pending(order.function_id)
        backoff = (await self.function(order.function_id)).backoff
        failures = [make_failure(entry, order.failure, backoff) for entry in pending]
        self._ring(await self._stores.calls.fail_pending(failures))
        if backoff is not None:
            await self.add_demand(order.function_id, 0)

    async def _launch(self, order: orders.Launch) -> None:
        try:
            action = await self._record_and_prepare(order)
        except JiffyError as error:
            self._note_end(order.task_id, ExitReason.LAUNCH_FAILED, str(error))
            return
        except Exception as error:
            logger.exception("the launch of %s failed", order.task_id)
            self._note_end(
                order.task_id, ExitReason.LAUNCH_FAILED, f"jiffy failed to prepare it: {error!r}; see its log"
            )
            return
        finally:
            del self._launching[order.task_id]
        self._note_layers(order.function_id, action.layers)
        container = self._core.find_container(order.task_id)
        if container is None or container.stopping:
            self._note_end(order.task_id, ExitReason.STOPPED, "it was not needed any more")
        else:
            self._connections.send(order.worker_id, action)
            failpoints.reach("launch-sent")

    async def _record_and_prepare(self, order: orders.Launch) -> LaunchContainer:
        """What is not to be had for the moment is asked for again: that is not the function's failure."""
        while True:
            try:
                await self._stores.tasks.add(order.task_id, order.function_id, order.app_id, order.worker_id)
                failpoints.reach("launch-recorded")
                return await self._prepare(await self.function(order.function_id), order.task_id)
            except JiffyError as error:
                container = self._core.find_container(order.task_id)
                if not is_passing(error) or container is None or container.stopping:
                    raise
                logger.error("the launch of %s is tried again: %s", order.task_id, error)
                await asyncio.sleep(_RETRY_SECONDS)

    def _note_layers(self, function_id: str, layers: tuple[str, ...]) -> None:
        """The next containers go rather where these are."""
        known, pool = self._functions.get(function_id), self._core.find_pool(function_id)
        if known is not None and pool is not None and pool.wish.layers != layers:
            self._define(known, layers)

    def _retire(self, container: Container, reason: str) -> None:
        """One that waits for inputs is told so when it asks."""
        if self.requests.serves(container.task_id):
            self.dismiss(container, reason)
        else:
            self._queues.call_all(container.function_id)

    def _see_off(self, containers: Iterable[Container]) -> None:
        """Those that answer requests may finish these, if it does not take too long."""
        for container in containers:
            if container.stopping and container.running and self.requests.serves(container.task_id):
                self._jobs.begin(self._await_last_request(container))

    async def _await_last_request(self, container: Container) -> None:
        function = await self.function(container.function_id)
        seconds = function.definition.http_config.exit_grace_period
        await self.requests.drain(container.function_id, container.task_id, seconds)
        self.dismiss(container, "its time to finish is over")

    def dismiss(self, container: Container, reason: str) -> None:
        """It ends in good order."""
        self._connections.send(container.worker_id, StopContainer(container.task_id, reason, STOP_GRACE))

    async def _stop(self, order: orders.Stop) -> None:
        """At once, but for one that answers requests and may finish these."""
        if (job := self._launching.get(order.task_id)) is not None:
            await asyncio.wait([job])
        if order.grace_seconds and (function := self.peek_function(order.task_id)) is not None:
            await self.requests.drain(
                function.function_id, order.task_id, function.definition.http_config.exit_grace_period
            )
        action = StopContainer(order.task_id, order.reason, order.grace_seconds)
        self._connections.send(order.worker_id, action)

    def _note_end(self, task_id: str, reason: ExitReason, detail: str) -> None:
        self.tell(facts.ContainerEnded(task_id, Ended(reason, 0, detail, 0)))

    async def _count(self, order: orders.CountDemand) -> None:
        function = await self.function(order.function_id)
        limits = function.settings.limits
        counted = await self._stores.calls.demand(order.function_id, limits.maximum * limits.slots)
        if counted.is_stopped:
            await self._terminate(await self._stores.calls.unfinished_of_app(function.app_id), "its app was stopped")
            self.tell(facts.AppStopped(function.app_id, "its app was stopped"))
            self._functions.pop(order.function_id, None)
            return
        oldest = 0.0 if counted.oldest_at is None else time.time() - counted.oldest_at
        later = None if counted.next_at is None else max(0.0, counted.next_at - time.time())
        waiting, running, since = self.requests.demand(order.function_id)
        self.tell(
            facts.DemandCounted(
                order.function_id, counted.waiting + waiting, counted.running + running, max(oldest, since), later
            )
        )

    async def _settle(self, order: orders.Settle) -> None:
        """Fail what must fail while the container still holds it, and let go of the rest."""

        def judge(entry: Input) -> Result | None:
            verdict = judge_running_input(order.ended, entry.losses + 1)
            return None if isinstance(verdict, Requeue) else make_failure(entry, verdict, backoff)

        backoff = await self._backoff_of(order.task_id)
        if (job := self._launching.get(order.task_id)) is not None:
            await asyncio.wait([job])
        ended = order.ended
        reason = f"{ended.reason}: {ended.detail}" if ended.detail else str(ended.reason)
        settled = await self._stores.calls.settle(order.task_id, reason, judge)
        failpoints.reach("end-settled")
        self._connections.forget(order.worker_id, order.task_id)
        self._cancelled.pop(order.task_id, None)
        self._queues.forget(order.task_id)
        if (container := self._core.find_unsettled(order.task_id)) is not None:
            self.requests.forget(container.function_id, order.task_id)
        self._gave_output.discard(order.task_id)
        self._ring(settled.calls)
        for function_id, count in settled.requeued.items():
            self._queues.call(function_id, count)
        self.tell(facts.ContainerSettled(order.task_id))
        if settled.app_id:
            self._bells.ring(settled.app_id)

    async def _backoff_of(self, task_id: str) -> Backoff | None:
        container = self._core.find_unsettled(task_id)
        return None if container is None else (await self.function(container.function_id)).backoff

    async def _time_out(self, order: orders.TimeOut) -> None:
        entry = await self._stores.calls.get_input(order.input_id)
        function = await self.function(entry.function_id)
        result = make_timeout(entry, function.settings.timeout, function.backoff)
        self._ring(await self._stores.calls.finish(order.task_id, [result]))
        if function.backoff is not None:
            await self.add_demand(function.function_id, 0)

    async def _explain(self, order: orders.Explain) -> None:
        function = await self.function(order.function_id)
        text = f"jiffy: {function.definition.function_name} waits: {order.reason}\n"
        await self._stores.logs.write(function.app_id, "", order.function_id, _INFORMATION, text)
        self._bells.ring(function.app_id)

    async def _terminate(self, inputs: list[Input], reason: str) -> None:
        for entry in inputs:
            result = make_terminated(entry, reason)
            if entry.task_id is None:
                self._ring(await self._stores.calls.fail_pending([result]))
            else:
                self._ring(await self._stores.calls.finish(entry.task_id, [result]))

    def _ring(self, calls: Iterable[str]) -> None:
        for call_id in calls:
            self._bells.ring(call_id)

    # What workers tell

    def container_exited(self, event: ContainerExited) -> None:
        """Also told again after a restart, when the last server died before it acted on it."""
        function = self.peek_function(event.task_id)
        limit = function.settings.memory_limit_bytes if function is not None else 0
        self.tell(facts.ContainerEnded(event.task_id, Ended(event.reason, event.exit_code, event.detail, limit)))

    # Its time

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._jobs.cancel()

    def _set_timer(self) -> None:
        at = self._core.next_alarm()
        if at is None or (self._timer is not None and self._timer.when() <= at):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(at, self._let_time_pass)

    def _let_time_pass(self) -> None:
        self._timer = None
        self.tell(facts.TimePassed())


def _clock() -> float:
    return asyncio.get_running_loop().time()


def deadlines_of(inputs: Iterable[Input | Claim], timeout: float) -> dict[str, float]:
    """When the time of each is up, on the scheduler's clock. They were claimed by the clock on the wall."""
    ahead = _clock() - time.time()
    return {entry.input_id: (entry.claimed_at or time.time()) + timeout + ahead for entry in inputs}
