"""Secrets keep what each that changes them has set."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from jiffy.errors import InvalidError, NotFoundError
from jiffy.store.secrets import Secret
from jiffy.store.stores import Stores


def setting(name: str, variables: dict[str, str]) -> dict[str, str]:
    return variables | {name: "set"}


async def test_what_is_changed_at_the_same_time_is_kept(stores: Stores) -> None:
    await stores.secrets.put(Secret("st-1", "main", "login", "", {"USER": "me"}))
    names = [f"KEY_{number}" for number in range(10)]
    changes = [stores.secrets.change("st-1", partial(setting, name)) for name in names]
    await asyncio.gather(*changes)
    assert (await stores.secrets.get("st-1")).variables == {"USER": "me", **dict.fromkeys(names, "set")}


async def test_a_change_that_is_refused_changes_nothing(stores: Stores) -> None:
    def refuse(variables: dict[str, str]) -> dict[str, str]:
        variables.clear()
        raise InvalidError("no")

    await stores.secrets.put(Secret("st-1", "main", "login", "", {"USER": "me"}))
    with pytest.raises(InvalidError):
        await stores.secrets.change("st-1", refuse)
    assert (await stores.secrets.get("st-1")).variables == {"USER": "me"}


async def test_a_secret_that_is_not_there_is_not_changed(stores: Stores) -> None:
    with pytest.raises(NotFoundError, match="no secret st-none"):
        await stores.secrets.change("st-none", dict)
