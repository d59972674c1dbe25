"""A small world that runs jiffy's own server code for a simulated minute, with everything that can go wrong, and checks
that its promises hold all the time and that all work ends once nothing goes wrong any more."""

from __future__ import annotations

import asyncio
import secrets
import time
from random import Random
from typing import Any
from unittest import mock

from modal_proto import api_pb2

from jiffy.errors import JiffyError
from jiffy.server.caller import Caller
from jiffy.store.functions import StoredFunction
from jiffy.store.stores import make_stores
from tests.sim.clients import SimClient
from tests.sim.ground import Ground, ServerDatabase
from tests.sim.loop import run
from tests.sim.network import Network, UnreachableError
from tests.sim.servers import PLACE, SimServer
from tests.sim.workers import CPU_MILLIS, MEMORY_BYTES, SimContainer, SimWorker

TROUBLE_SECONDS = 45.0
BOUND_SECONDS = 150.0
"""So long after the last fault some work ends, or a container: it may take a heartbeat's grace, a pause between starts that
fail, a timeout, a scaledown window."""

_PATIENCE = 8.0
"""Longer than it takes a request to be given up that was lost before."""

_STARVING = 8.0
"""Longer than it takes to count and to launch when the store is slow."""

_PROMPTLY = 3.0
"""When nothing goes wrong, an input and a container that wait find each other in less."""


class World:
    """`trace` is told what happens."""

    def __init__(self, seed: int, trace: list[str]) -> None:
        self.random = Random(seed)
        self._trace = trace
        self.network = Network(Random(self.random.random()))
        self.ground = Ground(self._check)
        self.server: SimServer | None = None
        self.workers: list[SimWorker] = []
        self.containers: dict[str, SimContainer] = {}
        self.misfortune = 0.0
        self._store_fails = 0.0
        self._store_speed = self.random.choice((2000.0, 2000.0, 50.0, 8.0))
        self._scalers: dict[str, api_pb2.AutoscalerSettings] = {}
        self._waiting_beside: dict[tuple[str, str], float] = {}
        self._starving_since: dict[str, float] = {}
        self._needs: dict[str, api_pb2.Resources] = {}
        self._last_output = 0
        self._calm_since = 0.0
        self._progress_at = 0.0
        self._done: tuple[int, ...] = ()
        self._violated: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def note(self, what: str) -> None:
        self._trace.append(f"{asyncio.get_running_loop().time() - 1000:9.3f} {what}")

    async def ask(self, place: str, name: str, request: Any, caller: Caller) -> Any:
        server = self.server
        if server is None or not server.is_ready:
            await asyncio.sleep(0.05)
            raise UnreachableError("no server")
        return await self.network.ask(place, PLACE, lambda: server.answer(name, request, caller), server.died)

    async def put_function(self, function: StoredFunction) -> None:
        definition = api_pb2.Function.FromString(function.definition or b"")
        self._scalers[function.function_id] = definition.autoscaler_settings
        self._needs[function.function_id] = definition.resources
        stores = make_stores(ServerDatabase(self.ground, self.random))
        await stores.functions.add(function)

    # The course of things

    async def live(self) -> None:
        """To the end, or until something does not hold."""
        course = asyncio.get_running_loop().create_task(self._run_its_course())
        try:
            await asyncio.wait({course, self._violated}, return_when=asyncio.FIRST_COMPLETED)
            (self._violated if self._violated.done() else course).result()
        finally:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _run_its_course(self) -> None:
        await self._start_server()
        self.workers = [SimWorker(self, f"host-{number}") for number in range(self.random.randint(1, 3))]
        clients = [SimClient(self, number) for number in range(self.random.randint(1, 3))]
        running = [asyncio.get_running_loop().create_task(client.run()) for client in clients]
        await self._make_trouble()
        await self._settle(running)
        self._check_end()

    async def _settle(self, running: list[asyncio.Task[None]]) -> None:
        """Nothing goes wrong from here on; everybody must come to an end."""
        self.network.heal()
        self.misfortune = self._store_fails = 0.0
        self._calm_since = asyncio.get_running_loop().time()
        while any(not client.done() for client in running):
            for client in running:
                if client.done():
                    client.result()
            self._check_no_container_waits_beside_work()
            self._check_nobody_starves()
            await self._await_progress("SELECT input_id, task_id FROM inputs WHERE finished_at IS NULL")
        for client in running:
            client.result()
        while self.ground.rows("SELECT task_id FROM tasks WHERE ended_at IS NULL"):
            await self._await_progress("SELECT task_id, worker_id FROM tasks WHERE ended_at IS NULL")
        while any(worker.is_paused for worker in self.workers):
            await asyncio.sleep(1)
        await asyncio.sleep(15)

    async def _await_progress(self, unfinished: str) -> None:
        """For a moment; too long without any is a violation."""
        now = asyncio.get_running_loop().time()
        done = self.ground.rows(
            """SELECT (SELECT count(*) FROM outputs) AS outputs, (SELECT count(*) FROM tasks) AS tasks,
            (SELECT count(*) FROM tasks WHERE ended_at IS NOT NULL) AS ended"""
        )[0]
        if tuple(done) != self._done:
            self._done, self._progress_at = tuple(done), now
        assert now - self._progress_at < BOUND_SECONDS, (
            f"no end of {[tuple(row) for row in self.ground.rows(unfinished)]}"
        )
        await asyncio.sleep(0.5)

    async def _make_trouble(self) -> None:
        loop, random = asyncio.get_running_loop(), self.random
        end = loop.time() + TROUBLE_SECONDS
        self.misfortune = random.choice((0.0, 0.02, 0.2))
        self._store_fails = random.choice((0.0, 0.0, 0.01))
        every = random.choice((2.0, 5.0, 15.0))
        while (left := end - loop.time()) > 0:
            await asyncio.sleep(min(left, random.expovariate(1 / every)))
            await random.choice(
                (self._kill_server, self._kill_worker, self._pause_worker, self._kill_container, self._part)
            )()

    async def _start_server(self) -> None:
        while True:
            server = SimServer(self.ground, Random(self.random.random()), self._does_store_fail, self._store_speed)
            self.note("server starts")
            try:
                await server.start()
                self.server = server
                return
            except JiffyError:
                server.kill()
                await asyncio.sleep(0.2)

    async def _kill_server(self) -> None:
        assert self.server is not None
        self.note("server is killed")
        self.server.kill()
        self.server = None
        await asyncio.sleep(self.random.choice((0.1, 1.0, 4.0)))
        await self._start_server()

    async def _kill_worker(self) -> None:
        self.random.choice(self.workers).kill()

    async def _pause_worker(self) -> None:
        self.random.choice(self.workers).pause(self.random.choice((1.0, 5.0, 12.0, 20.0)))

    async def _kill_container(self) -> None:
        if self.containers:
            container = self.containers[self.random.choice(sorted(self.containers))]
            self.note(f"{container.task_id} is killed")
            container.die()

    async def _part(self) -> None:
        worker = self.random.choice(self.workers)
        self.note(f"{worker.place} is cut off")
        self.network.part(worker.place, PLACE)
        seconds = self.random.choice((1.0, 5.0, 15.0))
        asyncio.get_running_loop().call_later(seconds, self.network.join, worker.place, PLACE)

    def _does_store_fail(self) -> bool:
        return bool(self._store_fails) and self.random.random() < self._store_fails

    # What must hold

    def _check(self) -> None:
        """After each commit."""
        try:
            self._check_limits()
            self._check_outputs()
            if self.server is not None:
                self._check_room()
        except AssertionError as error:
            if not self._violated.done():
                self._violated.set_exception(error)

    def _check_limits(self) -> None:
        live = self.ground.rows("SELECT function_id, count(*) AS live FROM tasks WHERE ended_at IS NULL GROUP BY 1")
        for row in live:
            most = self._scalers[row["function_id"]].max_containers
            assert row["live"] <= most, f"{row['function_id']} has {row['live']} containers of {most}"

    def _check_outputs(self) -> None:
        """Each is of the container that held the input."""
        query = """SELECT outputs.position, outputs.body, inputs.task_id, inputs.finished_at, inputs.input_id
            FROM outputs JOIN inputs USING (input_id) WHERE outputs.position>?"""
        for row in self.ground.rows(query, self._last_output):
            self._last_output = max(self._last_output, row["position"])
            output = api_pb2.FunctionGetOutputsItem.FromString(row["body"])
            assert row["finished_at"] is not None, f"{row['input_id']} has an output and is not finished"
            assert output.task_id == (row["task_id"] or ""), (
                f"{output.task_id} recorded the output of {row['input_id']}, which {row['task_id']} holds"
            )

    def _check_room(self) -> None:
        assert self.server is not None
        taken: dict[str, list[int]] = {}
        for _, worker_id, need in self.server.scheduler.reservations():
            sums = taken.setdefault(worker_id, [0, 0])
            sums[0] += need.cpu_millis
            sums[1] += need.memory_bytes
        for worker_id, (cpu_millis, memory_bytes) in taken.items():
            assert cpu_millis <= CPU_MILLIS and memory_bytes <= MEMORY_BYTES, f"{worker_id} has too much reserved"

    def _check_no_container_waits_beside_work(self) -> None:
        """But for a moment: what another container had to give back is there for this one at once."""
        now = asyncio.get_running_loop().time()
        beside = [pair for container in self.containers.values() if (pair := self._work_beside(container, now))]
        self._waiting_beside = {pair: self._waiting_beside.get(pair, now) for pair in beside}
        for (task_id, input_id), since in self._waiting_beside.items():
            assert now - since < _PROMPTLY, f"{task_id} waits while {input_id} does"

    def _work_beside(self, container: SimContainer, now: float) -> tuple[str, str] | None:
        """A container that has waited for a while, and an input of its function that does too."""
        if container.waits_since is None or now - max(container.waits_since, self._calm_since) < _PATIENCE:
            return None
        live = self.ground.rows("SELECT 1 FROM tasks WHERE task_id=? AND ended_at IS NULL", container.task_id)
        if not live or container.is_stopping or container.worker.is_paused:
            return None
        waiting = self.ground.rows(
            """SELECT input_id FROM inputs WHERE function_id=? AND task_id IS NULL AND finished_at IS NULL
            AND created_at<? ORDER BY position""",
            container.function_id,
            time.time() - _PROMPTLY,
        )
        return (container.task_id, waiting[0]["input_id"]) if waiting else None

    def _check_nobody_starves(self) -> None:
        """An input waits only where its function has all its containers, or where there is no room for another."""
        now = asyncio.get_running_loop().time()
        waiting = self.ground.rows(
            """SELECT function_id, MIN(created_at) AS oldest FROM inputs WHERE task_id IS NULL AND finished_at IS NULL
            GROUP BY function_id"""
        )
        starving = [
            row["function_id"]
            for row in waiting
            if row["oldest"] < time.time() - _STARVING and self._could_have_another(row["function_id"])
        ]
        self._starving_since = {function_id: self._starving_since.get(function_id, now) for function_id in starving}
        for function_id, since in self._starving_since.items():
            assert now - since < _STARVING, f"{function_id} starves since {since - 1000:.3f} although there is room"

    def _could_have_another(self, function_id: str) -> bool:
        live = self.ground.rows("SELECT function_id, worker_id FROM tasks WHERE ended_at IS NULL")
        if self.server is None or self.server.is_pausing(function_id):
            return False
        if sum(row["function_id"] == function_id for row in live) >= self._scalers[function_id].max_containers:
            return False
        paused = {worker.worker_id for worker in self.workers if worker.is_paused}
        if any(row["function_id"] == function_id and row["worker_id"] in paused for row in live):
            return False  # what was launched there counts as on its way until the worker is given up
        need = self._needs[function_id]
        connected = {worker.hello.worker_id for worker in self.server.workers.connected()}
        for worker in self.workers:
            if worker.is_paused or worker.worker_id not in connected or self.server.is_held(worker.worker_id):
                continue
            taken = [self._needs[row["function_id"]] for row in live if row["worker_id"] == worker.worker_id]
            cpu_millis = need.milli_cpu + sum(other.milli_cpu for other in taken)
            memory_mb = need.memory_mb + sum(other.memory_mb for other in taken)
            if cpu_millis <= CPU_MILLIS and memory_mb * 2**20 <= MEMORY_BYTES:
                return True
        return False

    def _check_end(self) -> None:
        unfinished = self.ground.rows("SELECT input_id FROM inputs WHERE finished_at IS NULL")
        assert not unfinished, f"{len(unfinished)} inputs never ended"
        lost = self.ground.rows("SELECT input_id FROM inputs WHERE input_id NOT IN (SELECT input_id FROM outputs)")
        assert not lost, f"{len(lost)} inputs have no output"
        assert not self.containers, f"containers are left: {sorted(self.containers)}"


def simulate(seed: int) -> tuple[str, list[str]]:
    """What did not hold, empty when everything did, and all that happened. The same seed gives the same."""
    numbers = Random(seed + 1)
    trace: list[str] = []

    async def main() -> str:
        try:
            await World(seed, trace).live()
        except AssertionError as error:
            return str(error) or repr(error)
        return ""

    with mock.patch.object(secrets, "randbits", numbers.getrandbits):
        return run(main), trace
