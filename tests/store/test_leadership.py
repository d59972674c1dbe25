"""One of several servers leads; what one that was succeeded still wants to write is refused."""

from __future__ import annotations

import asyncio

import pytest

from jiffy.errors import UnavailableError
from jiffy.store.base import Connection
from jiffy.store.leadership import Leader, LeadersDatabase, Leadership
from jiffy.store.stores import Stores, make_stores
from jiffy.store.tokens import TokenKind

ONE, OTHER = "https://one:9902", "https://other:9902"


@pytest.fixture
def leadership(stores: Stores) -> Leadership:
    return Leadership(stores.database)


async def test_nobody_leads_at_first(leadership: Leadership) -> None:
    assert await leadership.current() is None


async def test_one_leads_and_the_others_know_where(leadership: Leadership) -> None:
    term = await leadership.take(ONE, 30)
    assert term is not None
    assert await leadership.take(OTHER, 30) is None
    assert await leadership.current() == Leader(ONE, term)


async def test_of_many_who_want_to_lead_one_does(leadership: Leadership) -> None:
    terms = await asyncio.gather(*(leadership.take(f"https://{number}", 30) for number in range(20)))
    assert sum(term is not None for term in terms) == 1


async def test_who_does_not_say_so_again_is_succeeded(leadership: Leadership) -> None:
    first = await leadership.take(ONE, 0.05)
    assert first is not None
    await asyncio.sleep(0.1)
    assert await leadership.current() is None
    second = await leadership.take(OTHER, 30)
    assert second is not None and second > first
    assert not await leadership.renew(first, 30)
    assert await leadership.current() == Leader(OTHER, second)


async def test_who_says_so_in_time_leads_on(leadership: Leadership) -> None:
    term = await leadership.take(ONE, 0.2)
    assert term is not None
    assert await leadership.renew(term, 30)
    await asyncio.sleep(0.3)
    assert await leadership.take(OTHER, 30) is None


async def test_who_comes_back_at_the_same_address_leads_again_with_a_new_term(leadership: Leadership) -> None:
    first = await leadership.take(ONE, 30)
    second = await leadership.take(ONE, 30)
    assert first is not None and second is not None and second > first
    assert not await leadership.renew(first, 30)


async def test_who_gives_up_is_succeeded_at_once(leadership: Leadership) -> None:
    term = await leadership.take(ONE, 30)
    assert term is not None
    await leadership.release(term)
    assert await leadership.take(OTHER, 30) is not None


async def test_who_was_succeeded_gives_up_nothing(leadership: Leadership) -> None:
    first = await leadership.take(ONE, 30)
    second = await leadership.take(ONE, 30)
    assert first is not None and second is not None
    await leadership.release(first)
    assert await leadership.current() == Leader(ONE, second)


async def test_only_the_leader_writes(stores: Stores, leadership: Leadership) -> None:
    first = await leadership.take(ONE, 30)
    assert first is not None
    leaders = make_stores(LeadersDatabase(stores.database, first, margin=1))
    await leaders.tokens.add("ak-1", "as-1")
    await leadership.take(ONE, 30)
    with pytest.raises(UnavailableError, match="does not lead any more"):
        await leaders.tokens.add("ak-2", "as-2")
    assert await stores.tokens.kind_of("ak-1", "as-1") is TokenKind.CLIENT
    assert await stores.tokens.kind_of("ak-2", "as-2") is None
    assert [token.token_id for token in await leaders.tokens.issued()] == ["ak-1"], "reading harms nobody"


async def test_a_leader_whose_time_is_nearly_over_writes_nothing(stores: Stores, leadership: Leadership) -> None:
    """The engine may take a moment to notice that a transaction stands still."""
    term = await leadership.take(ONE, 0.5)
    assert term is not None
    with pytest.raises(UnavailableError):
        await make_stores(LeadersDatabase(stores.database, term, margin=1)).tokens.add("ak-1", "as-1")


@pytest.mark.parametrize("way", ["write", "commit"])
async def test_nothing_of_a_refused_write_is_done(way: str, stores: Stores, leadership: Leadership) -> None:
    term = await leadership.take(ONE, 30)
    assert term is not None
    done = []

    def work(connection: Connection) -> None:
        done.append(connection)

    with pytest.raises(UnavailableError):
        await getattr(LeadersDatabase(stores.database, term + 1, margin=1), way)(work)
    assert not done
