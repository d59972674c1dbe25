"""What is bought takes all that is wanted, and no other choice costs less."""

from __future__ import annotations

import itertools
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from jiffy.core.placement import Need
from jiffy.core.sizing import Offer, Wanted
from jiffy.fleet.buying import buy

GIBIBYTE = 2**30
SMALL = Offer("small", 2000, 4 * GIBIBYTE, 0.1)
LARGE = Offer("large", 16000, 64 * GIBIBYTE, 0.9)


def wanted(cpu: float, memory: int, count: int) -> Wanted:
    return Wanted(Need(int(1000 * cpu), memory * GIBIBYTE), count)


def test_few_small_containers_go_to_a_small_machine_and_many_to_a_large_one() -> None:
    assert buy([SMALL, LARGE], [wanted(1, 2, 2)]) == {"small": 1}
    assert buy([SMALL, LARGE], [wanted(1, 4, 16)]) == {"large": 1}


def test_a_container_is_not_divided_among_machines() -> None:
    assert buy([SMALL], [wanted(1.5, 1, 3)]) == {"small": 3}


def test_what_only_one_offer_has_room_for_goes_there_and_others_with_it() -> None:
    assert buy([SMALL, LARGE], [wanted(1, 32, 1), wanted(1, 2, 8)]) == {"large": 1}


def test_of_two_with_the_same_price_fewer_machines_are_bought() -> None:
    double = Offer("double", 4000, 8 * GIBIBYTE, 0.2)
    assert buy([SMALL, double], [wanted(1, 2, 4)]) == {"double": 1}


offers = st.lists(
    st.builds(
        lambda cpu, memory, price: Offer("", 1000 * cpu, memory * GIBIBYTE, price / 10),
        st.integers(1, 8),
        st.integers(1, 16),
        st.integers(1, 9),
    ),
    min_size=1,
    max_size=3,
)
wishes = st.lists(st.builds(wanted, st.integers(1, 4), st.integers(1, 8), st.integers(1, 3)), min_size=1, max_size=2)


@settings(max_examples=40, deadline=None)
@given(offers, wishes)
def test_no_choice_that_places_each_by_itself_is_cheaper(kinds: list[Offer], wishes: list[Wanted]) -> None:
    named = [Offer(f"{i}", o.cpu_millis, o.memory_bytes, o.price) for i, o in enumerate(kinds)]
    possible = [each for each in wishes if any(offer.suits(each) for offer in named)]
    bought = buy(named, possible) if possible else {}
    paid = sum(offer.price * bought.get(offer.name, 0) for offer in named)
    for choice in itertools.product(*[[offer for offer in named if offer.suits(each)] for each in possible]):
        alone = 0.0
        for offer, each in zip(choice, possible, strict=True):
            fit = min(offer.cpu_millis // each.need.cpu_millis, offer.memory_bytes // each.need.memory_bytes)
            alone += offer.price * math.ceil(each.count / fit)
        assert paid <= alone + 1e-4
    for resource in ("cpu_millis", "memory_bytes"):
        room = sum(getattr(offer, resource) * bought.get(offer.name, 0) for offer in named)
        assert room >= sum(getattr(each.need, resource) * each.count for each in possible)
