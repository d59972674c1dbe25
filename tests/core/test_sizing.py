"""A fleet buys what is wanted and no more, within what may be spent, and ends what nobody uses."""

from __future__ import annotations

from collections.abc import Sequence

from jiffy.core.placement import Need
from jiffy.core.sizing import Bounds, Machine, Offer, Situation, Wanted, cost, plan

GIBIBYTE = 2**30
SMALL = Offer("small", 2000, 4 * GIBIBYTE, 0.1)
LARGE = Offer("large", 8000, 32 * GIBIBYTE, 0.5)
OFFERS = (SMALL, LARGE)
ONE = Wanted(Need(1000, 2 * GIBIBYTE), 1)


class Shop:
    """Sells one of the cheapest that suits for each that is wanted, and remembers what was asked for."""

    def __init__(self) -> None:
        self.asked: list[Wanted] = []

    def __call__(self, offers: Sequence[Offer], wanted: Sequence[Wanted]) -> dict[str, int]:
        self.asked = list(wanted)
        bought: dict[str, int] = {}
        for each in wanted:
            cheapest = min((offer for offer in offers if offer.suits(each)), key=lambda offer: offer.price)
            bought[cheapest.name] = bought.get(cheapest.name, 0) + each.count
        return bought


def situation(
    *wanted: Wanted, machines: Sequence[Machine] = (), free: Need | None = None, spent: float = 0.0
) -> Situation:
    return Situation(1000.0, wanted, machines, free or Need(0, 0), spent)


def idle(name: str, offer: Offer = SMALL, since: float = 0.0) -> Machine:
    return Machine(name, offer, 0.0, joined=True, idle_since=since)


def test_nothing_is_bought_for_nothing() -> None:
    made = plan(situation(), OFFERS, Bounds(), Shop())
    assert (made.start, made.end, made.held_back) == ({}, {}, "")


def test_what_is_wanted_is_bought() -> None:
    assert plan(situation(ONE), OFFERS, Bounds(), Shop()).start == {"small": 1}


def test_a_machine_on_its_way_up_is_counted_on() -> None:
    coming = Machine("m-1", SMALL, started_at=990.0)
    shop = Shop()
    assert plan(situation(Wanted(ONE.need, 2), machines=[coming]), OFFERS, Bounds(), shop).start == {}
    plan(situation(Wanted(ONE.need, 5), machines=[coming]), OFFERS, Bounds(), shop)
    assert shop.asked == [Wanted(ONE.need, 3)]


def test_one_that_has_joined_is_not_counted_on_its_room_was_refused_already() -> None:
    there = Machine("m-1", SMALL, 0.0, joined=True)
    assert plan(situation(ONE, machines=[there]), OFFERS, Bounds(), Shop()).start == {"small": 1}


def test_one_that_does_not_join_is_ended_and_replaced() -> None:
    late = Machine("m-1", SMALL, started_at=1000.0 - 601)
    made = plan(situation(ONE, machines=[late]), OFFERS, Bounds(), Shop())
    assert made.end == {"m-1": "it did not join within 600 s"}
    assert made.start == {"small": 1}


def test_spare_room_is_bought_as_far_as_it_is_not_free() -> None:
    bounds = Bounds(spare=Need(2000, 4 * GIBIBYTE))
    shop = Shop()
    plan(situation(free=Need(500, GIBIBYTE)), OFFERS, bounds, shop)
    assert shop.asked == [Wanted(Need(1500, 3 * GIBIBYTE), 1)]
    assert plan(situation(free=Need(2000, 4 * GIBIBYTE)), OFFERS, bounds, Shop()).start == {}


def test_there_are_as_many_as_there_must_be() -> None:
    assert plan(situation(machines=[idle("m-1")]), OFFERS, Bounds(minimum=3), Shop()).start == {"small": 2}


def test_there_are_no_more_than_there_may_be() -> None:
    made = plan(situation(Wanted(ONE.need, 5)), OFFERS, Bounds(maximum=2), Shop())
    assert (made.start, made.held_back) == ({"small": 2}, "there may be 2 machines")


def test_no_more_is_spent_in_an_hour_or_a_day_than_may_be() -> None:
    five = Wanted(ONE.need, 5)
    made = plan(situation(five), OFFERS, Bounds(hourly=0.25), Shop())
    assert (made.start, made.held_back) == ({"small": 2}, "0.25 an hour may be spent")
    made = plan(situation(five, spent=9.85), OFFERS, Bounds(daily=10.0), Shop())
    assert (made.start, made.held_back) == ({"small": 1}, "10 a day may be spent, and 9.85 is")


def test_what_fits_no_offer_is_said_and_the_rest_is_bought() -> None:
    giant = Wanted(Need(1000, 512 * GIBIBYTE), 1)
    made = plan(situation(ONE, giant), OFFERS, Bounds(), Shop())
    assert (made.start, made.held_back) == ({"small": 1}, "no offer has room for all that is wanted")


def test_a_machine_needs_the_labels_and_gpus_that_are_asked_for() -> None:
    labelled = Wanted(ONE.need, 1, (frozenset({"region=eu", "region=us"}),))
    with_gpu = Wanted(Need(1000, GIBIBYTE, gpus=1, gpu_types=("T4",)), 1)
    european = Offer("european", 2000, 4 * GIBIBYTE, 0.2, labels=frozenset({"region=eu"}))
    graphics = Offer("graphics", 2000, 4 * GIBIBYTE, 0.9, gpus=1, gpu_type="T4")
    made = plan(situation(labelled, with_gpu), (*OFFERS, european, graphics), Bounds(), Shop())
    assert made.start == {"european": 1, "graphics": 1}


def test_those_that_are_idle_for_long_end_the_dearest_first() -> None:
    machines = [idle("m-1"), idle("m-2", LARGE), idle("m-3", since=900.0), Machine("m-4", SMALL, 0.0, joined=True)]
    assert set(plan(situation(machines=machines), OFFERS, Bounds(), Shop()).end) == {"m-1", "m-2"}
    assert set(plan(situation(machines=machines), OFFERS, Bounds(minimum=3), Shop()).end) == {"m-2"}


def test_spare_room_keeps_idle_machines() -> None:
    machines = [idle("m-1"), idle("m-2")]
    bounds = Bounds(spare=Need(2000, 4 * GIBIBYTE))
    free = Need(4000, 8 * GIBIBYTE)
    assert list(plan(situation(machines=machines, free=free), OFFERS, bounds, Shop()).end) == ["m-1"]


def test_nothing_is_ended_while_something_is_wanted() -> None:
    assert plan(situation(ONE, machines=[idle("m-1")]), OFFERS, Bounds(), Shop()).end == {}


def test_the_cost_is_of_the_time_between() -> None:
    bills = [(0.5, 0.0, 7200.0), (1.0, 3600.0, 5400.0), (9.0, 0.0, 100.0)]
    assert cost(bills, 3600.0, 7200.0) == 0.5 + 0.5
