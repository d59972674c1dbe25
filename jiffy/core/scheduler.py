"""Where the platform decides: facts in, orders out. It does nothing itself and knows no time but what it is told.

What it holds can be told again by the store and by the workers: after a restart the next one is given what lives, and
asks for what it lacks. So nothing here must survive. It is one state machine, and long for that: what needs no state of
others stands beside it (placement, pools, autoscaling, fairness, aftermath, leaving).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from heapq import heapify, heappop, heappush
from typing import Final

from jiffy.core import facts, orders
from jiffy.core.aftermath import Ended, Fail, is_failed_start, judge_waiting_inputs
from jiffy.core.alarms import Alarms
from jiffy.core.autoscaler import Demand
from jiffy.core.events import ExitReason
from jiffy.core.facts import Fact
from jiffy.core.fairness import Shares
from jiffy.core.leaving import choose_to_leave, is_room_coming
from jiffy.core.orders import Order
from jiffy.core.placement import Need, Placement, Refusal, Room, Wish
from jiffy.core.pools import Container, Pool
from jiffy.core.sizing import Wanted

LEASE_SECONDS: Final = 8.0
"""A worker reports every two seconds. One that is silent for longer is dead to the platform, even if it runs."""

RECONNECT_SECONDS: Final = 3.0
"""What a worker has to come back when its connection broke."""

HEARTBEAT_GRACE: Final = 60.0
STOP_GRACE: Final = 10.0
PATIENCE: Final = 5.0
"""Seconds that a container which fits nowhere waits before a worker is held for it."""

HOLD_SECONDS: Final = 30.0
_LONGEST_PAUSE: Final = 30.0
_RECOUNT_SECONDS: Final = 0.25

_Alarm = tuple[str, str]


class Scheduler:
    """`new_task_id` gives ids of containers that were never used before."""

    def __init__(self, new_task_id: Callable[[], str]) -> None:
        self._new_task_id = new_task_id
        self._pools: dict[str, Pool] = {}
        self._containers: dict[str, Container] = {}
        self.placement = Placement()
        self._workers: set[str] = set()
        self._shares = Shares()
        self._alarms: Alarms[_Alarm] = Alarms()
        self._short: dict[str, None] = {}
        self._orders: list[Order] = []
        self._now = 0.0
        self._steps: dict[type, Callable[..., None]] = {
            facts.FunctionDefined: self._define,
            facts.FunctionRolledOver: self._roll_over,
            facts.AppStopped: self._stop_app,
            facts.InputsArrived: self._note_arrivals,
            facts.DemandCounted: self._weigh,
            facts.InputsTaken: self._note_taken,
            facts.InputsEnded: self._note_ended_inputs,
            facts.WorkerJoined: self._welcome,
            facts.WorkerExpected: self._expect,
            facts.WorkerWasHeard: self._hear,
            facts.WorkerDisconnected: self._miss,
            facts.ContainerRestored: self._restore,
            facts.ContainerStarted: self._note_started,
            facts.ContainerAsked: self._note_asking,
            facts.ContainerRested: self._spare,
            facts.ContainerBeat: self._note_beat,
            facts.ContainerBrokeDown: self._note_breakdown,
            facts.ContainerUnwanted: self._dismiss,
            facts.ContainerSpared: self._dismiss_gently,
            facts.ContainerEnded: self._note_end,
            facts.ContainerSettled: self._bury,
            facts.TimePassed: self._ring,
        }

    def handle(self, fact: Fact, now: float) -> list[Order]:
        """What follows from a fact. `now` never goes back."""
        self._now = max(self._now, now)
        self._steps[type(fact)](fact)
        return self._take_orders()

    def next_alarm(self) -> float | None:
        """When TimePassed should be told; None when nothing waits for a time."""
        return self._alarms.next()

    # What others may look at

    def find_pool(self, function_id: str) -> Pool | None:
        return self._pools.get(function_id)

    def find_container(self, task_id: str) -> Container | None:
        """One that has not ended."""
        container = self._containers.get(task_id)
        return None if container is None or container.ended else container

    def find_unsettled(self, task_id: str) -> Container | None:
        """Also one that has ended, until that is recorded."""
        return self._containers.get(task_id)

    def containers(self) -> Collection[Container]:
        """All whose end is not recorded."""
        return self._containers.values()

    def containers_of(self, app_id: str) -> list[Container]:
        return [container for container in self._containers.values() if container.app_id == app_id]

    def wanted(self) -> list[Wanted]:
        """Containers for which no worker has room."""
        short = ((pool, pool.lacking(self._now)) for pool in (self._pools[function_id] for function_id in self._short))
        return [
            Wanted(self._possible_need(pool), lacking, self.placement.binding_labels(pool.wish))
            for pool, lacking in short
            if lacking
        ]

    def free(self, task_id: str) -> list[Order]:
        """A container that belongs to no function, and took room of `placement`, is gone."""
        self.placement.free(task_id)
        self._recount_short()
        return self._take_orders()

    def _take_orders(self) -> list[Order]:
        taken, self._orders = self._orders, []
        return taken

    # Functions and their demand

    def _define(self, fact: facts.FunctionDefined) -> None:
        wish = Wish(fact.function_id, fact.layers, fact.labels)
        pool = self._pools.get(fact.function_id)
        if pool is None:
            pool = self._pools[fact.function_id] = Pool(fact.function_id, fact.app_id, fact.settings, wish)
        pool.settings, pool.wish = fact.settings, wish

    def _roll_over(self, fact: facts.FunctionRolledOver) -> None:
        pool = self._pools.get(fact.function_id)
        for container in [] if pool is None else list(pool.containers.values()):
            self._let_finish(container, "its function is defined anew")

    def _stop_app(self, fact: facts.AppStopped) -> None:
        for container in self.containers_of(fact.app_id):
            self._end(container, fact.reason)
        for pool in [pool for pool in self._pools.values() if pool.app_id == fact.app_id]:
            pool.closed = True
            self._satisfy(pool)
            self._forget_if_over(pool)

    def _forget_if_over(self, pool: Pool) -> None:
        if pool.closed and not pool.containers:
            del self._pools[pool.function_id]
            for kind in ("recount", "again"):
                self._alarms.cancel((kind, pool.function_id))

    def _note_arrivals(self, fact: facts.InputsArrived) -> None:
        pool = self._pools[fact.function_id]
        if fact.count:
            pool.pace.note_arrivals(fact.count, self._now)
        self._count(pool)

    def _count(self, pool: Pool) -> None:
        """Have the demand counted, and again if it may have changed since the counting began."""
        if pool.counting:
            pool.stale = True
            return
        pool.counting = True
        self._orders.append(orders.CountDemand(pool.function_id))

    def _weigh(self, fact: facts.DemandCounted) -> None:
        """Launch what the function lacks."""
        pool = self._pools.get(fact.function_id)
        if pool is None:
            return
        pool.counting = False
        pool.demand = Demand(fact.waiting, max(fact.running, pool.running), fact.oldest_seconds)
        pool.has_more_waiting = fact.waiting >= pool.settings.limits.maximum * pool.settings.limits.slots
        if pool.stale:
            pool.stale = False
            self._count(pool)
        if fact.later is not None:
            self._alarms.set(("again", pool.function_id), self._now + fact.later)
        if self._now < pool.not_before:
            self._alarms.set(("recount", pool.function_id), pool.not_before)
            return
        if pool.lacking(self._now):
            self._short[pool.function_id] = None
            self._fill()
        else:
            self._satisfy(pool)
        if pool.demand.waiting and not pool.refusal and len(pool.containers) < pool.settings.limits.maximum:
            wait = max(_RECOUNT_SECONDS, pool.pace.start_seconds or 0.0)
            self._alarms.set(("recount", pool.function_id), self._now + wait)

    def _satisfy(self, pool: Pool) -> None:
        pool.refusal, pool.refused_since = "", None
        self._short.pop(pool.function_id, None)
        self._release_hold(pool)

    def _release_hold(self, pool: Pool) -> None:
        self._alarms.cancel(("hold", pool.function_id))
        if self.placement.release(pool.function_id):
            self._recount_short()

    def _recount_short(self) -> None:
        for function_id in self._short:
            self._count(self._pools[function_id])

    # Launching

    def _fill(self) -> None:
        """Launch for the functions that lack containers: the app that has the least goes first, then who has waited most."""
        queue = [(*self._rank(self._pools[function_id]), function_id) for function_id in self._short]
        heapify(queue)
        while queue:
            pool = self._pools[heappop(queue)[-1]]
            if self._now < pool.not_before:
                continue
            if not pool.lacking(self._now):
                self._satisfy(pool)
                if pool.has_more_waiting:
                    self._count(pool)
            elif self._launch_one(pool):
                heappush(queue, (*self._rank(pool), pool.function_id))

    def _rank(self, pool: Pool) -> tuple[float, float]:
        return self._shares.dominant(pool.app_id, self.placement.total()), pool.short_since(self._now)

    def _launch_one(self, pool: Pool) -> bool:
        need = self._possible_need(pool)
        placed = self.placement.place(need, pool.wish)
        if isinstance(placed, Refusal):
            self._refuse(pool, need, placed)
            return False
        container = Container(self._new_task_id(), pool.function_id, pool.app_id, placed, self._now)
        self._adopt(container, pool, need)
        self._orders.append(orders.Launch(container.task_id, pool.function_id, pool.app_id, placed))
        self._release_hold(pool)
        return True

    def _possible_need(self, pool: Pool) -> Need:
        """What past runs used, unless no worker ever has so much: then what was asked for."""
        need = pool.need()
        return need if self.placement.could_ever(need, pool.wish) else pool.settings.need

    def _refuse(self, pool: Pool, need: Need, refusal: Refusal) -> None:
        if pool.refused_since is None:
            pool.refused_since = self._now
        if refusal.reason != pool.refusal:
            pool.refusal = refusal.reason
            self._orders.append(orders.Explain(pool.function_id, refusal.reason))
        if refusal.forever:
            failure = Fail(f"The function cannot run: {refusal.reason}.", internal=False)
            self._orders.append(orders.FailWaiting(pool.function_id, failure))
            self._satisfy(pool)
        elif not self._make_room(pool, need):
            self._hold_room(pool, need)

    def _make_room(self, pool: Pool, need: Need) -> bool:
        """Have an idle container of another function end, unless enough are ending already."""
        everyone = self._containers.values()
        if is_room_coming(need, pool.wish, [container for container in everyone if container.stopping], self.placement):
            return True
        others = [
            container
            for container in everyone
            if container.is_idle and container.function_id != pool.function_id and self._can_go(container)
        ]
        leaving = choose_to_leave(need, pool.wish, others, self.placement)
        if leaving is not None:
            self._retire(leaving, "its room is needed")
        return leaving is not None

    def _can_go(self, container: Container) -> bool:
        return self._pools[container.function_id].may_spare_one(self._now)

    def _hold_room(self, pool: Pool, need: Need) -> None:
        """Small containers must not take for ever what a large one waits for: after a while room is held for it, unless its
        function has another."""
        waited = self._now - pool.short_since(self._now)
        if waited < PATIENCE:
            self._alarms.set(("recount", pool.function_id), self._now + PATIENCE - waited)
            return
        if pool.containers or self.placement.is_held_for(pool.function_id):
            return
        if (worker_id := self.placement.emptiest_that_could(need, pool.wish)) is not None:
            self.placement.hold(worker_id, pool.function_id, need)
            self._alarms.set(("hold", pool.function_id), self._now + HOLD_SECONDS)

    def _adopt(self, container: Container, pool: Pool, need: Need) -> None:
        container.beat_at = self._now
        self._containers[container.task_id] = container
        pool.add(container)
        self.placement.reserve(container.worker_id, container.task_id, need, pool.function_id)
        self._shares.take(pool.app_id, need, 1)
        if not container.ready:
            self._alarms.set(("startup", container.task_id), self._now + pool.settings.startup_timeout)

    # Containers

    def _restore(self, fact: facts.ContainerRestored) -> None:
        if fact.task_id in self._containers:
            return
        pool = self._pools[fact.function_id]
        container = Container(fact.task_id, fact.function_id, pool.app_id, fact.worker_id, self._now, restored=True)
        container.ready = fact.ready
        container.idle_since = self._now if fact.ready else None
        self._adopt(container, pool, pool.need())
        self._run(container, fact.deadlines)
        if container.ready:
            self._watch_heart(container)

    def _note_started(self, fact: facts.ContainerStarted) -> None:
        if (container := self.find_container(fact.task_id)) is not None:
            container.started = True

    def _note_asking(self, fact: facts.ContainerAsked) -> None:
        container = self.find_container(fact.task_id)
        if container is None:
            return
        pool = self._pools[container.function_id]
        pool.note_asking(container)
        if not container.running and container.idle_since is None:
            container.idle_since = self._now
        if container.ready:
            return
        container.started = True
        pool.note_ready(container)
        pool.failed_starts = 0
        if not container.restored:
            pool.pace.note_start(self._now - container.launched_at)
        self._alarms.cancel(("startup", container.task_id))
        self._watch_heart(container)
        self._count(pool)

    def _note_taken(self, fact: facts.InputsTaken) -> None:
        if (container := self.find_container(fact.task_id)) is not None:
            self._run(container, fact.deadlines)

    def _run(self, container: Container, deadlines: dict[str, float]) -> None:
        if not deadlines:
            return
        was_idle = not container.running
        container.idle_since = None
        self._pools[container.function_id].note_taken(container, deadlines)
        if was_idle:
            self._alarms.set(("deadline", container.task_id), min(container.running.values()))

    def _note_ended_inputs(self, fact: facts.InputsEnded) -> None:
        container = self.find_container(fact.task_id)
        if container is None:
            return
        pool = self._pools[container.function_id]
        pool.note_done(container, fact.input_ids)
        if not container.running:
            container.idle_since = self._now
        if fact.seconds:
            pool.pace.note_inputs(fact.seconds, len(fact.input_ids))

    def _note_beat(self, fact: facts.ContainerBeat) -> None:
        if (container := self.find_container(fact.task_id)) is not None:
            container.beat_at = self._now

    def _watch_heart(self, container: Container) -> None:
        if self._pools[container.function_id].settings.beats:
            self._alarms.set(("heart", container.task_id), container.beat_at + HEARTBEAT_GRACE)

    def _note_breakdown(self, fact: facts.ContainerBrokeDown) -> None:
        if (container := self.find_container(fact.task_id)) is not None:
            container.broke_down = True

    def _dismiss(self, fact: facts.ContainerUnwanted) -> None:
        if (container := self.find_container(fact.task_id)) is not None:
            self._end(container, fact.reason)

    def _dismiss_gently(self, fact: facts.ContainerSpared) -> None:
        if (container := self.find_container(fact.task_id)) is not None:
            self._let_finish(container, fact.reason)

    def _spare(self, fact: facts.ContainerRested) -> None:
        container = self.find_container(fact.task_id)
        if container is None or not container.is_idle:
            return
        if self._can_go(container):
            self._retire(container, "nothing was there for it to do")
        elif self._pools[container.function_id].demand.waiting:
            self._count(self._pools[container.function_id])

    def _end(self, container: Container, reason: str) -> None:
        """One that waits is told by an answer, one that works by a signal, also when it was to finish first. One that is not
        ready has nothing to end in good order."""
        pool = self._pools[container.function_id]
        was_to_finish = pool.finishing.pop(container.task_id, None) is not None
        if container.is_idle:
            self._retire(container, reason)
        elif was_to_finish or not container.stopping:
            pool.note_stopping(container)
            grace = STOP_GRACE if container.ready else 0.0
            self._orders.append(orders.Stop(container.task_id, container.worker_id, reason, grace))

    def _let_finish(self, container: Container, reason: str) -> None:
        """One that works ends when it asks for more. Others may have to take its place."""
        if container.stopping:
            return
        pool = self._pools[container.function_id]
        if container.running:
            pool.note_finishing(container)
        else:
            self._end(container, reason)
        self._count(pool)

    def _retire(self, container: Container, reason: str) -> None:
        self._pools[container.function_id].note_stopping(container)
        self._orders.append(orders.Retire(container.task_id, reason))
        self._alarms.set(("insist", container.task_id), self._now + STOP_GRACE)

    def _note_end(self, fact: facts.ContainerEnded) -> None:
        """What it was given goes to others once that is recorded."""
        container = self.find_container(fact.task_id)
        if container is None:
            return
        container.ended = True
        self._pools[container.function_id].note_stopping(container)
        for kind in ("startup", "deadline", "heart", "insist"):
            self._alarms.cancel((kind, container.task_id))
        self._orders.append(orders.Settle(container.task_id, container.worker_id, fact.ended))
        was_cut_off = container.restored  # its server went while it started: that says nothing of its function
        if not container.ready and not container.broke_down and not was_cut_off:
            self._judge_failed_start(self._pools[container.function_id], fact.ended)

    def _bury(self, fact: facts.ContainerSettled) -> None:
        container = self._containers.pop(fact.task_id)
        pool = self._pools[container.function_id]
        pool.remove(container)
        if (need := self.placement.need_of(container.task_id)) is not None:
            self._shares.take(pool.app_id, need, -1)
        self.placement.free(container.task_id)
        self._count(pool)
        self._recount_short()
        self._forget_if_over(pool)

    def _judge_failed_start(self, pool: Pool, ended: Ended) -> None:
        if is_failed_start(ended):
            pool.failed_starts += 1
            pool.not_before = self._now + min(_LONGEST_PAUSE, 0.25 * 2**pool.failed_starts)
        verdict = judge_waiting_inputs(ended, pool.failed_starts)
        if verdict is not None:
            self._orders.append(orders.FailWaiting(pool.function_id, verdict))

    # Workers

    def _welcome(self, fact: facts.WorkerJoined) -> None:
        """Containers that the worker does not know are lost, those that are not known here are stopped, and so are those
        that were to end already: the order may not have reached it."""
        room, known = fact.room, set(fact.containers)
        for worker_id in fact.succeeds:
            if worker_id in self._workers:
                self._fence(worker_id)
        self._extend_lease(room.worker_id, LEASE_SECONDS)
        self._use(room)
        for container in self._containers_on(room.worker_id):
            if container.task_id not in known and self._was_told(container):
                self._lose(container)
            elif container.stopping and not room.leaving:
                stop = orders.Stop(container.task_id, room.worker_id, "it was to end", STOP_GRACE)
                self._orders.append(stop)
        for task_id in fact.containers:
            if task_id not in self._containers:
                self._orders.append(orders.Stop(task_id, room.worker_id, "it was given up", 0.0))
        self._recount_short()

    def _was_told(self, container: Container) -> bool:
        """Whether its worker ought to know it; it does not while the order is still to come."""
        return container.started or container.restored

    def _expect(self, fact: facts.WorkerExpected) -> None:
        if fact.worker_id not in self._workers:
            self._extend_lease(fact.worker_id, RECONNECT_SECONDS)

    def _hear(self, fact: facts.WorkerWasHeard) -> None:
        if fact.room.worker_id not in self._workers:
            return
        self._extend_lease(fact.room.worker_id, LEASE_SECONDS)
        self._use(fact.room)
        for task_id, (cpu_millis, memory_bytes) in fact.usage.items():
            if (container := self.find_container(task_id)) is not None:
                self._pools[container.function_id].note_usage(cpu_millis, memory_bytes)

    def _use(self, room: Room) -> None:
        """Place containers there, or, when it is leaving, have those there finish what they run and replace them."""
        if not room.leaving:
            self.placement.put(room)
            return
        self.placement.remove(room.worker_id)
        for container in self._containers_on(room.worker_id):
            self._let_finish(container, "its worker is leaving")

    def _miss(self, fact: facts.WorkerDisconnected) -> None:
        if fact.worker_id not in self._workers:
            return
        if fact.for_good:
            self._fence(fact.worker_id)
        else:
            self.placement.remove(fact.worker_id)
            self._extend_lease(fact.worker_id, RECONNECT_SECONDS)

    def _extend_lease(self, worker_id: str, seconds: float) -> None:
        self._workers.add(worker_id)
        self._alarms.set(("lease", worker_id), self._now + seconds)

    def _containers_on(self, worker_id: str) -> list[Container]:
        return [container for container in self._containers.values() if container.worker_id == worker_id]

    def _fence(self, worker_id: str) -> None:
        """Its work runs elsewhere from now on, and what it still tells is refused."""
        self._workers.discard(worker_id)
        self.placement.remove(worker_id)
        self._alarms.cancel(("lease", worker_id))
        self._orders.append(orders.Fence(worker_id))
        for container in self._containers_on(worker_id):
            self._lose(container)

    def _lose(self, container: Container) -> None:
        self._note_end(facts.ContainerEnded(container.task_id, Ended(ExitReason.LOST, 0, "its worker is gone", 0)))

    # Time

    def _ring(self, fact: facts.TimePassed) -> None:
        for kind, key in self._alarms.due(self._now):
            match kind:
                case "again":
                    self._orders.append(orders.CallContainers(key))
                    self._count(self._pools[key])
                case "recount":
                    self._count(self._pools[key])
                case "hold":
                    self._give_up_hold(self._pools[key])
                case "lease":
                    self._fence(key)
                case _:
                    self._ring_container(kind, self._containers[key])

    def _give_up_hold(self, pool: Pool) -> None:
        self._release_hold(pool)
        pool.refused_since = self._now
        self._alarms.set(("recount", pool.function_id), self._now + PATIENCE)

    def _ring_container(self, kind: str, container: Container) -> None:
        match kind:
            case "startup":
                self._give_up_start(container)
            case "deadline":
                self._check_deadlines(container)
            case "heart":
                self._check_heart(container)
            case "insist":
                stop = orders.Stop(container.task_id, container.worker_id, "it did not end by itself", 0.0)
                self._orders.append(stop)

    def _give_up_start(self, container: Container) -> None:
        seconds = self._pools[container.function_id].settings.startup_timeout
        message = f"The container was not ready within its startup timeout of {seconds:g} s."
        failure = Fail(message, internal=False, timed_out=True)
        container.broke_down = True
        self._orders.append(orders.FailWaiting(container.function_id, failure))
        self._end(container, message)

    def _check_deadlines(self, container: Container) -> None:
        late = [input_id for input_id, deadline in container.running.items() if deadline <= self._now]
        for input_id in late:
            self._orders.append(orders.TimeOut(container.task_id, input_id))
        if late:
            pool = self._pools[container.function_id]
            pool.note_stopping(container)
            pool.note_done(container, late)
            stop = orders.Stop(container.task_id, container.worker_id, "an input reached its timeout", STOP_GRACE)
            self._orders.append(stop)
        if container.running:
            self._alarms.set(("deadline", container.task_id), min(container.running.values()))

    def _check_heart(self, container: Container) -> None:
        if self._now < container.beat_at + HEARTBEAT_GRACE:
            self._watch_heart(container)
        elif not container.stopping:
            self._end(container, f"no heartbeat for {self._now - container.beat_at:.0f} s")
