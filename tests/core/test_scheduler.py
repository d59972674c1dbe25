"""The scheduler as a table of facts and orders: no clock, no store, no worker."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from jiffy.core import facts, orders
from jiffy.core.aftermath import Ended
from jiffy.core.autoscaler import Limits
from jiffy.core.events import ExitReason
from jiffy.core.orders import Order
from jiffy.core.placement import Need, Room
from jiffy.core.pools import Settings
from jiffy.core.scheduler import (
    HEARTBEAT_GRACE,
    HOLD_SECONDS,
    LEASE_SECONDS,
    PATIENCE,
    RECONNECT_SECONDS,
    STOP_GRACE,
    Scheduler,
)

GIBIBYTE = 2**30


class Table:
    """A scheduler, its clock, and a store that counts what it is told."""

    def __init__(self) -> None:
        numbers = count(1)
        self.scheduler = Scheduler(lambda: f"ta-{next(numbers)}")
        self.now = 100.0
        self.demand: dict[str, tuple[int, int, float]] = {}

    def tell(self, fact: facts.Fact) -> list[Order]:
        """What follows, with each count answered at once."""
        done: list[Order] = []
        waiting = self.scheduler.handle(fact, self.now)
        while waiting:
            order = waiting.pop(0)
            if isinstance(order, orders.CountDemand):
                counted = facts.DemandCounted(order.function_id, *self.demand.get(order.function_id, (0, 0, 0.0)))
                waiting += self.scheduler.handle(counted, self.now)
            else:
                done.append(order)
        return done

    def define(self, name: str = "fu-1", app_id: str = "ap-1", memory: float = 0.5, **limits: int) -> None:
        given = {"minimum": 0, "maximum": 10, "slots": 1, **limits}
        settings = Settings(Limits(**given), Need(100, int(memory * GIBIBYTE)), 60.0, 30.0, 20.0)
        self.tell(facts.FunctionDefined(name, app_id, settings))

    def join(self, name: str = "wo-1", memory: int = 4, containers: tuple[str, ...] = ()) -> list[Order]:
        return self.tell(facts.WorkerJoined(Room(name, 4000, memory * GIBIBYTE), containers))

    def arrive(self, inputs: int, name: str = "fu-1", running: int = 0) -> list[Order]:
        self.demand[name] = (inputs, running, 0.0)
        return self.tell(facts.InputsArrived(name, inputs))

    def pass_time(self, seconds: float) -> list[Order]:
        """With reports of all workers that are there."""
        self.now += seconds
        return self.tell(facts.TimePassed())

    def end(self, task_id: str, reason: ExitReason = ExitReason.FINISHED) -> list[Order]:
        done = self.tell(facts.ContainerEnded(task_id, Ended(reason, 1, "", 0)))
        return [*done, *self.tell(facts.ContainerSettled(task_id))]

    def begin_work(self, task_id: str) -> None:
        self.tell(facts.ContainerAsked(task_id))
        self.tell(facts.InputsTaken(task_id, {f"in-{task_id}": self.now + 30}))

    def rest(self, task_id: str) -> None:
        """It has done its work and asks for more."""
        self.tell(facts.InputsEnded(task_id, (f"in-{task_id}",), 9.0))
        self.tell(facts.ContainerAsked(task_id))


@pytest.fixture
def table() -> Table:
    made = Table()
    made.join()
    made.define()
    return made


def kinds(done: list[Order], kind: type) -> list[Any]:
    return [order for order in done if isinstance(order, kind)]


def test_an_input_launches_a_container(table: Table) -> None:
    assert table.arrive(1) == [orders.Launch("ta-1", "fu-1", "ap-1", "wo-1")]


def test_an_input_that_comes_while_demand_is_counted_is_counted_again(table: Table) -> None:
    (first,) = table.scheduler.handle(facts.InputsArrived("fu-1", 1), table.now)
    assert first == orders.CountDemand("fu-1")
    assert table.scheduler.handle(facts.InputsArrived("fu-1", 1), table.now) == []
    assert first in table.scheduler.handle(facts.DemandCounted("fu-1", 0, 0), table.now)


def test_a_function_has_at_most_its_maximum_with_those_that_are_ending(table: Table) -> None:
    table.define(maximum=2)
    assert len(table.arrive(10)) == 2
    table.begin_work("ta-1")
    ended = table.tell(facts.ContainerEnded("ta-1", Ended(ExitReason.FINISHED, 0, "", 0)))
    assert ended == [orders.Settle("ta-1", "wo-1", Ended(ExitReason.FINISHED, 0, "", 0))]
    assert table.arrive(10) == [], "its end is not recorded yet"
    assert len(kinds(table.tell(facts.ContainerSettled("ta-1")), orders.Launch)) == 1


def test_why_inputs_wait_is_said_once(table: Table) -> None:
    table.define("fu-large", memory=3)
    table.arrive(2, "fu-large")
    table.now += 1
    assert kinds(table.arrive(3, "fu-large"), orders.Explain) == []
    assert len(table.scheduler.containers()) == 1


def test_what_fits_nowhere_fails_with_the_reason(table: Table) -> None:
    table.define("fu-huge", memory=64)
    explained, failed = table.arrive(1, "fu-huge")
    assert isinstance(explained, orders.Explain)
    assert isinstance(failed, orders.FailWaiting) and "no worker has" in failed.failure.message


def test_a_container_that_rested_for_its_window_goes_unless_it_is_kept(table: Table) -> None:
    table.define(minimum=1)
    table.arrive(2)
    table.demand.clear()
    for task_id in ("ta-1", "ta-2"):
        table.begin_work(task_id)
        table.rest(task_id)
    assert kinds(table.tell(facts.ContainerRested("ta-1")), orders.Retire) == [
        orders.Retire("ta-1", "nothing was there for it to do")
    ]
    assert table.tell(facts.ContainerRested("ta-2")) == []


def test_one_that_was_told_to_go_and_stays_is_killed(table: Table) -> None:
    table.arrive(1)
    table.begin_work("ta-1")
    table.rest("ta-1")
    table.demand.clear()
    table.tell(facts.ContainerRested("ta-1"))
    table.now += STOP_GRACE / 2
    assert table.tell(facts.WorkerWasHeard(Room("wo-1", 4000, 4 * GIBIBYTE))) == []
    assert kinds(table.pass_time(STOP_GRACE), orders.Stop)[0].grace_seconds == 0


def test_an_idle_container_gives_way_to_who_has_none(table: Table) -> None:
    table.define("fu-large", "ap-2", memory=3)
    table.arrive(1, "fu-large")
    table.begin_work("ta-1")
    table.rest("ta-1")
    table.demand.clear()
    table.define("fu-other", "ap-3", memory=2)
    done = table.arrive(1, "fu-other")
    assert orders.Retire("ta-1", "its room is needed") in done
    assert orders.Launch("ta-2", "fu-other", "ap-3", "wo-1") in table.end("ta-1")


def test_one_that_is_leaving_already_is_enough(table: Table) -> None:
    table.arrive(2)
    table.demand.clear()
    for task_id in ("ta-1", "ta-2"):
        table.begin_work(task_id)
        table.rest(task_id)
    table.define("fu-other", "ap-3", memory=3.5)
    assert len(kinds(table.arrive(1, "fu-other"), orders.Retire)) == 1
    assert kinds(table.arrive(1, "fu-other"), orders.Retire) == []


def test_the_app_that_has_least_goes_first(table: Table) -> None:
    table.define("fu-greedy", "ap-greedy", memory=1)
    table.define("fu-modest", "ap-modest", memory=1)
    table.arrive(4, "fu-greedy")
    assert kinds(table.arrive(4, "fu-modest"), orders.Launch) == []
    table.begin_work("ta-1")
    (launched,) = kinds(table.end("ta-1"), orders.Launch)
    assert launched.function_id == "fu-modest"


def test_room_is_held_for_a_large_one_that_small_ones_keep_out(table: Table) -> None:
    table.define("fu-large", "ap-2", memory=4)
    table.arrive(2)
    table.arrive(1, "fu-large")
    for _ in range(3):
        table.now += PATIENCE / 2
        table.tell(facts.WorkerWasHeard(Room("wo-1", 4000, 4 * GIBIBYTE)))
        table.tell(facts.TimePassed())
    assert kinds(table.arrive(8), orders.Launch) == [], "what becomes free is for the large one"
    table.demand["fu-1"] = (0, 0, 0.0)
    table.end("ta-1", ExitReason.STOPPED)
    (launched,) = kinds(table.end("ta-2", ExitReason.STOPPED), orders.Launch)
    assert launched.function_id == "fu-large"


def test_room_that_was_held_in_vain_is_given_back(table: Table) -> None:
    table.define("fu-large", "ap-2", memory=4)
    table.arrive(1)
    table.arrive(1, "fu-large")
    launched: list[orders.Launch] = []
    for _ in range(int((PATIENCE + HOLD_SECONDS) / 2) + 2):
        table.now += 2
        table.tell(facts.WorkerWasHeard(Room("wo-1", 4000, 4 * GIBIBYTE)))
        launched += kinds(table.tell(facts.TimePassed()), orders.Launch)
        launched += kinds(table.arrive(3), orders.Launch)
    assert launched and {launch.function_id for launch in launched} == {"fu-1"}


def test_a_silent_worker_is_fenced_and_its_work_given_to_others(table: Table) -> None:
    table.arrive(1)
    table.begin_work("ta-1")
    table.now += 1
    table.join("wo-2")
    table.now += LEASE_SECONDS - 1
    done = table.tell(facts.TimePassed())
    assert orders.Fence("wo-1") in done
    assert kinds(done, orders.Settle)[0].ended.reason is ExitReason.LOST
    done += table.tell(facts.ContainerSettled("ta-1"))
    assert kinds(done, orders.Launch)[0].worker_id == "wo-2"


def test_a_worker_that_lost_its_connection_has_a_moment_to_come_back(table: Table) -> None:
    table.arrive(1)
    table.tell(facts.WorkerDisconnected("wo-1"))
    table.now += RECONNECT_SECONDS / 2
    assert table.join(containers=("ta-1",)) == []
    table.tell(facts.WorkerDisconnected("wo-1"))
    assert orders.Fence("wo-1") in table.pass_time(RECONNECT_SECONDS)


def test_a_container_that_nobody_knows_is_stopped(table: Table) -> None:
    assert table.join(containers=("ta-stray",)) == [orders.Stop("ta-stray", "wo-1", "it was given up", 0.0)]


def test_a_container_that_was_to_end_ends_when_its_worker_is_back(table: Table) -> None:
    table.tell(facts.ContainerRestored("ta-old", "fu-1", "wo-9", ready=True, deadlines={"in-1": table.now + 30}))
    table.tell(facts.AppStopped("ap-1", "it was stopped"))
    assert table.join("wo-9", containers=("ta-old",)) == [orders.Stop("ta-old", "wo-9", "it was to end", STOP_GRACE)]


def test_an_input_whose_time_is_up_takes_its_container_with_it(table: Table) -> None:
    table.arrive(1)
    table.begin_work("ta-1")
    for _ in range(10):
        table.now += 3
        table.tell(facts.WorkerWasHeard(Room("wo-1", 4000, 4 * GIBIBYTE)))
    done = table.tell(facts.TimePassed())
    assert orders.TimeOut("ta-1", "in-ta-1") in done
    assert orders.Stop("ta-1", "wo-1", "an input reached its timeout", STOP_GRACE) in done


def test_a_container_without_a_heartbeat_is_stopped(table: Table) -> None:
    table.arrive(1)
    table.tell(facts.ContainerAsked("ta-1"))
    done: list[Order] = []
    for _ in range(int(HEARTBEAT_GRACE / 4) + 1):
        table.now += 4
        table.tell(facts.WorkerWasHeard(Room("wo-1", 4000, 4 * GIBIBYTE)))
        done += table.tell(facts.TimePassed())
    assert "no heartbeat" in kinds(done, orders.Retire)[0].reason


def test_time_goes_on_whatever_moment_a_heartbeat_comes_at(table: Table) -> None:
    """Sums of times are rounded: an alarm that is due must not be set again for the same moment."""
    table.arrive(1)
    table.tell(facts.ContainerAsked("ta-1"))
    for step in range(1000):
        table.now += 0.1 * step + 1 / 3
        table.tell(facts.ContainerBeat("ta-1"))
        table.tell(facts.WorkerWasHeard(Room("wo-1", 4000, 4 * GIBIBYTE)))
        table.now += HEARTBEAT_GRACE
        heart = table.now
        table.tell(facts.WorkerWasHeard(Room("wo-1", 4000, 4 * GIBIBYTE)))
        table.tell(facts.ContainerBeat("ta-1"))
        table.tell(facts.TimePassed())
        due = table.scheduler.next_alarm()
        assert due is not None and due > heart


def test_an_input_that_is_tried_again_later_is_looked_for_then(table: Table) -> None:
    table.tell(facts.DemandCounted("fu-1", 0, 0, later=3.0))
    assert table.pass_time(2) == []
    assert table.pass_time(1) == [orders.CallContainers("fu-1")]


def test_containers_of_a_function_that_is_defined_anew_finish_what_they_run(table: Table) -> None:
    table.arrive(2)
    table.begin_work("ta-1")
    table.tell(facts.ContainerAsked("ta-2"))
    table.demand["fu-1"] = (0, 1, 0.0)
    done = table.tell(facts.FunctionRolledOver("fu-1"))
    assert [order.task_id for order in kinds(done, orders.Retire)] == ["ta-2"]
    assert "ta-1" not in [order.task_id for order in kinds(done, orders.Stop)]
    table.rest("ta-1")
    assert table.scheduler.find_container("ta-1").stopping  # type: ignore[union-attr]
    assert len(kinds(table.arrive(1), orders.Launch)) == 1


@pytest.mark.parametrize("end", [facts.ContainerUnwanted("ta-1", "no time"), facts.AppStopped("ap-1", "no time")])
def test_one_that_was_to_finish_is_not_waited_for_once_it_is_to_end(table: Table, end: facts.Fact) -> None:
    table.arrive(1)
    table.begin_work("ta-1")
    table.tell(facts.FunctionRolledOver("fu-1"))
    stop = orders.Stop("ta-1", "wo-1", "no time", STOP_GRACE)
    assert stop in table.tell(end)
    assert stop not in table.tell(end)


def test_containers_that_fail_to_start_are_launched_later_and_later(table: Table) -> None:
    table.arrive(1)
    assert kinds(table.end("ta-1"), orders.Launch) == []
    (launched,) = kinds(table.pass_time(0.6), orders.Launch)
    assert kinds(table.end(launched.task_id), orders.Launch) == []
    assert kinds(table.pass_time(0.6), orders.Launch) == []
    (launched,) = kinds(table.pass_time(0.6), orders.Launch)
    assert kinds(table.end(launched.task_id), orders.FailWaiting), "the third is the last"


def test_containers_whose_server_went_while_they_started_say_nothing_of_their_function(table: Table) -> None:
    old = tuple(f"ta-old{number}" for number in range(4))
    for task_id in old:
        table.tell(facts.ContainerRestored(task_id, "fu-1", "wo-9", ready=False, deadlines={}))
    table.join("wo-9", containers=old)
    table.arrive(1)
    done = [order for task_id in old for order in table.end(task_id)]
    assert kinds(done, orders.FailWaiting) == []
    assert kinds([*done, *table.arrive(1)], orders.Launch), "another is launched at once"


def test_what_past_runs_used_counts_as_much_as_what_was_asked_for(table: Table) -> None:
    table.arrive(1)
    table.tell(facts.WorkerWasHeard(Room("wo-1", 4000, 4 * GIBIBYTE), {"ta-1": (100, 2 * GIBIBYTE)}))
    table.begin_work("ta-1")
    assert len(kinds(table.arrive(5, running=1), orders.Launch)) == 1, "of 4 GiB, half is reserved and 2 are expected"


def test_nothing_is_launched_for_an_app_that_was_stopped(table: Table) -> None:
    table.define(minimum=1)
    (launched,) = table.arrive(0)
    assert isinstance(launched, orders.Launch)
    assert table.tell(facts.AppStopped("ap-1", "it was stopped"))
    assert table.end("ta-1", ExitReason.STOPPED)[1:] == []
    assert table.scheduler.find_pool("fu-1") is None


def leave(table: Table, name: str = "wo-1") -> list[Order]:
    return table.tell(facts.WorkerWasHeard(Room(name, 4000, 4 * GIBIBYTE, leaving=True), {}))


def test_a_worker_that_leaves_gets_no_more_and_what_waits_there_ends(table: Table) -> None:
    table.arrive(1)
    table.tell(facts.ContainerAsked("ta-1"))
    assert kinds(leave(table), orders.Retire) == [orders.Retire("ta-1", "its worker is leaving")]
    assert kinds(table.arrive(3), orders.Launch) == []
    assert {order.worker_id for order in kinds(table.join("wo-2"), orders.Launch)} == {"wo-2"}


def test_what_runs_on_a_worker_that_leaves_may_finish_and_new_inputs_go_elsewhere(table: Table) -> None:
    table.join("wo-2")
    (launch,) = kinds(table.arrive(1), orders.Launch)
    table.begin_work(launch.task_id)
    table.demand["fu-1"] = (0, 1, 0.0)
    assert leave(table, launch.worker_id) == [], "it is neither stopped nor needed twice"
    container = table.scheduler.find_container(launch.task_id)
    assert container is not None and container.stopping and container.running
    (other,) = kinds(table.arrive(1, running=1), orders.Launch)
    assert other.worker_id != launch.worker_id


def test_what_starts_on_a_worker_that_leaves_is_started_elsewhere(table: Table) -> None:
    table.join("wo-2")
    (launch,) = kinds(table.arrive(1), orders.Launch)
    told = leave(table, launch.worker_id)
    assert [order.task_id for order in kinds(told, orders.Stop)] == [launch.task_id]
    assert [order.worker_id == launch.worker_id for order in kinds(told, orders.Launch)] == [False]


def test_a_worker_that_leaves_and_reconnects_may_still_finish(table: Table) -> None:
    table.arrive(1)
    table.tell(facts.ContainerStarted("ta-1"))
    table.begin_work("ta-1")
    leave(table)
    table.tell(facts.WorkerDisconnected("wo-1", False))
    room = Room("wo-1", 4000, 4 * GIBIBYTE, leaving=True)
    assert kinds(table.tell(facts.WorkerJoined(room, ("ta-1",))), orders.Stop) == []


def test_a_worker_that_takes_anothers_place_says_that_it_is_dead(table: Table) -> None:
    table.arrive(1)
    table.tell(facts.ContainerStarted("ta-1"))
    table.begin_work("ta-1")
    table.tell(facts.WorkerDisconnected("wo-1", False))
    room = Room("wo-2", 4000, 4 * GIBIBYTE)
    told = table.tell(facts.WorkerJoined(room, (), ("wo-1", "wo-unheard-of")))
    assert orders.Fence("wo-1") in told
    assert [order.task_id for order in kinds(told, orders.Settle)] == ["ta-1"]
    assert kinds(table.tell(facts.WorkerJoined(room, (), ("wo-1",))), orders.Fence) == []


def test_a_queue_that_is_longer_than_was_counted_is_counted_again_before_it_is_given_up(table: Table) -> None:
    """Two were counted, and two taken since: others may wait still."""
    table.define("fu-2", memory=3.0, maximum=2)
    table.define("fu-3", memory=0.1)
    (first,) = kinds(table.arrive(2, "fu-2"), orders.Launch)
    assert "full" in table.scheduler._pools["fu-2"].refusal
    table.begin_work(first.task_id)
    table.rest(first.task_id)
    table.tell(facts.InputsTaken(first.task_id, {"in-2": table.now + 30}))
    table.demand["fu-2"] = (5, 1, 9.0)
    table.arrive(1, "fu-3")
    assert [order.function_id for order in kinds(table.join("wo-2"), orders.Launch)] == ["fu-2"]
