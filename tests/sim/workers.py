"""Simulated workers and containers: they obey and tell as the real ones do, and die in all ways that those can."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from aiohttp import WSCloseCode
from modal_proto import api_pb2

from jiffy.core.actions import Action, LaunchContainer, StopContainer
from jiffy.core.events import (
    PROTOCOL,
    ContainerExited,
    ContainerStarted,
    Event,
    ExitReason,
    WorkerConnected,
    WorkerReported,
)
from jiffy.errors import JiffyError, NotFoundError
from jiffy.identifiers import random_id
from jiffy.server.caller import Caller
from jiffy.worker.connection import Connection
from tests.sim.network import Socket, UnreachableError, connect
from tests.sim.servers import PLACE

if TYPE_CHECKING:
    from tests.sim.world import World

_PAUSE = 0.3
CPU_MILLIS = 4000
MEMORY_BYTES = 4 * 2**30


class SimWorker:
    """One host, on which a worker process runs, is killed, and runs again."""

    def __init__(self, world: World, place: str) -> None:
        self.world = world
        self.place = place
        self.is_paused = False
        self.is_dead = False
        self.worker_id = ""
        self.succeeds: tuple[str, ...] = ()
        self._run: asyncio.Task[None] | None = None
        self._begin()

    def _begin(self) -> None:
        self.is_dead = False
        self.succeeds = self._remember_predecessors()
        self.worker_id = random_id("wo")
        self.connection = Connection(_find_nothing, self._hello, self._report, self._obey)
        self.containers: dict[str, SimContainer] = {}
        self.known: set[str] = set()
        self._socket: Socket | None = None
        self._run = asyncio.get_running_loop().create_task(self._stay_connected())
        self.world.note(f"{self.place}: {self.worker_id} begins")

    def _remember_predecessors(self) -> tuple[str, ...]:
        """Of every other host the disk is a new one: nobody says that those before are dead."""
        if not self.worker_id or self.world.random.random() < 0.5:
            return ()
        return (self.worker_id, *self.succeeds)[:2]

    def kill(self) -> None:
        """With all of its containers; another process begins after a while."""
        if self.is_dead or self.is_paused:
            return
        self.is_dead = True
        self.world.note(f"{self.place}: {self.worker_id} is killed")
        self._end()
        if self._socket is not None:
            self._socket.break_off()
        asyncio.get_running_loop().call_later(self.world.random.uniform(0.1, 5), self._begin)

    def _end(self) -> None:
        assert self._run is not None
        self._run.cancel()
        for container in list(self.containers.values()):
            container.vanish()

    def pause(self, seconds: float) -> None:
        """As by SIGSTOP: it hears and says nothing, while its containers go on."""
        if self.is_paused or self.is_dead:
            return
        self.world.note(f"{self.place}: paused for {seconds:.1f} s")
        self.is_paused = True
        if self._socket is not None:
            self._socket.frozen = True
        asyncio.get_running_loop().call_later(seconds, self._resume)

    def _resume(self) -> None:
        self.is_paused = False
        if self._socket is not None:
            self._socket.frozen = False

    async def _stay_connected(self) -> None:
        while True:
            await asyncio.sleep(self.world.random.uniform(0.05, _PAUSE))
            server = self.world.server
            if self.is_paused or server is None or not server.is_ready:
                continue
            if self.world.network.are_parted(self.place, PLACE):
                continue
            self._socket, theirs = connect(self.world.network, self.place, PLACE)
            serving = self.world.network.spawn(server.accept(theirs))
            try:
                await self.connection.talk(self._socket)
            except (ConnectionError, JiffyError):
                pass
            finally:
                self._socket.break_off()
            await asyncio.wait({serving}, timeout=0)

    def _hello(self) -> WorkerConnected:
        known = tuple(sorted(self.connection.outbox.ended().union(self.containers)))
        return WorkerConnected(self.worker_id, known, CPU_MILLIS, MEMORY_BYTES, 1, PROTOCOL, succeeds=self.succeeds)

    def _report(self) -> WorkerReported:
        return WorkerReported(self.worker_id, 0.0, MEMORY_BYTES, len(self.containers))

    def _obey(self, action: Action) -> None:
        self.world.note(f"{self.place}: {type(action).__name__} {action.task_id}")
        match action:
            case LaunchContainer() if action.task_id not in self.known:
                self.known.add(action.task_id)
                self.containers[action.task_id] = SimContainer(self, action)
            case StopContainer() if action.task_id in self.containers:
                self.containers[action.task_id].stop(action)

    def tell(self, event: Event) -> None:
        self.connection.outbox.put(event)

    async def leave(self) -> None:
        """At the end of the run."""
        self._end()
        if self._socket is not None:
            await self._socket.close(WSCloseCode.GOING_AWAY)


def _find_nothing() -> tuple[str, str]:
    raise AssertionError("the simulation connects")


class SimContainer:
    """A container whose program works as long as its input says, unless it meets its fate."""

    def __init__(self, worker: SimWorker, order: LaunchContainer) -> None:
        self.worker = worker
        self.world = worker.world
        self.task_id = order.task_id
        self.function_id = order.environment["function"]
        self.waits_since: float | None = None
        self._stop: StopContainer | None = None
        self._heart: asyncio.Task[None] | None = None
        self._requests = 0
        self._run = asyncio.get_running_loop().create_task(self._live())
        self.world.containers[self.task_id] = self

    def vanish(self) -> None:
        """Nobody is told."""
        self._run.cancel()
        if self._heart is not None:
            self._heart.cancel()
        self.worker.containers.pop(self.task_id, None)
        self.world.containers.pop(self.task_id, None)

    @property
    def is_stopping(self) -> bool:
        return self._stop is not None

    def die(self) -> None:
        """Its process is killed from outside; its worker sees that."""
        self._end(137, ExitReason.FINISHED)

    def stop(self, order: StopContainer) -> None:
        """It ends when it hears the signal, or is killed when its grace is over."""
        if self._stop is None:
            self._stop = order
            heard = self.world.random.uniform(0, 0.2) if self.world.random.random() < 0.9 else order.grace_seconds
            seconds = min(order.grace_seconds, heard)
            asyncio.get_running_loop().call_later(seconds, self._end, 130, ExitReason.STOPPED)

    def _end(self, code: int, reason: ExitReason) -> None:
        if self.worker.containers.get(self.task_id) is self:
            self.vanish()
            reason = ExitReason.STOPPED if self._stop is not None else reason
            self.world.note(f"{self.task_id} ends: {reason} {code}")
            self.worker.tell(ContainerExited(self.task_id, code, reason, "", time.time()))

    async def _live(self) -> None:
        random = self.world.random
        await asyncio.sleep(random.uniform(0.02, 0.3))
        if random.random() < self.world.misfortune:
            return self._end(1, random.choice((ExitReason.LAUNCH_FAILED, ExitReason.FINISHED)))
        self.worker.tell(ContainerStarted(self.task_id, "address", time.time()))
        await asyncio.sleep(random.uniform(0.1, 0.5))
        self._heart = asyncio.get_running_loop().create_task(self._beat())
        try:
            while await self._work_once():
                pass
        except NotFoundError:
            return self._end(1, ExitReason.FINISHED)
        return self._end(0, ExitReason.FINISHED)

    async def _work_once(self) -> bool:
        """False when there is nothing more to do."""
        self.waits_since = asyncio.get_running_loop().time()
        given = await self._ask("function_get_inputs", api_pb2.FunctionGetInputsRequest(function_id=self.function_id))
        self.waits_since = None
        if not given.inputs or given.inputs[0].kill_switch:
            return False
        outputs = [await self._run_input(item) for item in given.inputs]
        request = api_pb2.FunctionPutOutputsRequest(outputs=[output for output in outputs if output is not None])
        await self._ask("function_put_outputs", request)
        return True

    async def _run_input(self, item: api_pb2.FunctionGetInputsItem) -> api_pb2.FunctionPutOutputsItem:
        random, began = self.world.random, time.time()
        self.world.note(f"{self.task_id} runs {item.input_id} try {item.retry_count}")
        seconds = float(item.input.args.decode())
        await asyncio.sleep(seconds)
        fate = random.random()
        if fate < self.world.misfortune / 4:
            self._end(random.choice((1, 139)), ExitReason.FINISHED)
            await asyncio.get_running_loop().create_future()
        if fate < self.world.misfortune / 2 and self._heart is not None:
            self._heart.cancel()  # it hangs
            await asyncio.get_running_loop().create_future()
        result = api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_SUCCESS, data=item.input.args)
        return api_pb2.FunctionPutOutputsItem(
            input_id=item.input_id,
            result=result,
            input_started_at=began,
            output_created_at=time.time(),
            retry_count=item.retry_count,
        )

    async def _beat(self) -> None:
        while True:
            await self._ask("container_heartbeat", api_pb2.ContainerHeartbeatRequest())
            await asyncio.sleep(1)

    async def _ask(self, name: str, request: Any) -> Any:
        """Until it is answered: the client in a container does not give up. NotFoundError is for good."""
        self._requests += 1
        caller = Caller("", self.task_id, "1.6.4", "server", 1, f"{self.task_id}/{self._requests}")
        while True:
            try:
                return await self.world.ask(self.worker.place, name, request, caller)
            except NotFoundError:
                raise
            except (UnreachableError, JiffyError):
                await asyncio.sleep(self.world.random.uniform(0.05, 1.0))
