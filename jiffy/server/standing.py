"""Where a server stands: alone on its store, or as one of several of which one leads.

Only who leads decides. The others answer what needs nothing but the store, and wait for their turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final

from jiffy.datadir import DataDirectory
from jiffy.errors import JiffyError
from jiffy.files import replace_file
from jiffy.periodic import keep_running
from jiffy.server.bells import Bells
from jiffy.server.call_queries import CallQueries
from jiffy.server.call_records import CallRecords
from jiffy.server.calls import Calls
from jiffy.server.certificates import ensure_certificate
from jiffy.server.dicts import Dicts
from jiffy.server.doorbell import Doorbell
from jiffy.server.environments import Environments
from jiffy.server.following import LEASE_SECONDS, await_lead, begin_anew, keep_leading, serve_beside
from jiffy.server.forwarding import Forwarding
from jiffy.server.image_names import ImageNames
from jiffy.server.listeners import Listeners, publish_address
from jiffy.server.log_queries import LogQueries
from jiffy.server.message_queues import MessageQueues
from jiffy.server.options import ServerOptions
from jiffy.server.router_identity import RouterIdentity
from jiffy.server.scheduler import Scheduler
from jiffy.server.secrets import Secrets
from jiffy.server.token_identity import TokenIdentity
from jiffy.server.tokens import Tokens, read_signing_key
from jiffy.server.variants import Variants
from jiffy.store.base import Database
from jiffy.store.ciphers import Cipher, KeyCipher
from jiffy.store.leadership import LeadersDatabase, Leadership
from jiffy.store.sqlite import SqliteDatabase
from jiffy.store.stores import Stores, make_stores, open_postgres

logger = logging.getLogger(__name__)

_RECOUNT_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Standing:
    """What a server that decides writes to, and whose bells it rings. `doorbell` leads to the other servers, if there may be
    some."""

    stores: Stores
    bells: Bells
    doorbell: Doorbell | None = None

    async def have_demand_told(self, stack: AsyncExitStack, scheduler: Scheduler) -> None:
        """Of inputs that other servers accept; those of which one could not tell are found."""
        if self.doorbell is not None:
            self.doorbell.scheduler = scheduler.add_demand
            await keep_running(stack, _recount_forever(scheduler))


async def stand_alone(
    stack: AsyncExitStack, data: DataDirectory, listeners: Listeners, options: ServerOptions
) -> Standing:
    """ConflictError when another server uses the store."""
    database: Database
    if options.store:
        database = engine = await asyncio.to_thread(open_postgres, options.store)
        stack.callback(engine.close)
        await asyncio.to_thread(partial(engine.hold, alone=True))
    else:
        database = await asyncio.to_thread(SqliteDatabase, data.database)
        stack.callback(database.close)
    stores = make_stores(database, _cipher(data))
    await stores.secrets.encrypt_all()
    await _ensure_token(data, stores)
    return Standing(stores, Bells())


async def lead_in_turn(
    stack: AsyncExitStack, data: DataDirectory, listeners: Listeners, options: ServerOptions
) -> Standing:
    """When nobody else leads; until then this server serves beside the one that does."""
    engine = await asyncio.to_thread(open_postgres, options.store)
    stack.callback(engine.close)
    await asyncio.to_thread(partial(engine.hold, alone=False))
    stores = make_stores(engine, _cipher(data))
    await _ensure_token(data, stores)
    ensure_certificate(data.certificate)
    doorbell, leadership, address = Doorbell(engine), Leadership(engine), f"https://{options.gate}"
    await keep_running(stack, doorbell.run())
    if (term := await leadership.take(address, LEASE_SECONDS)) is None:
        await _follow(data, listeners, stores, doorbell, leadership, address)
        begin_anew()
    stack.push_async_callback(_release, leadership, term)
    await keep_running(stack, keep_leading(leadership, term))
    leaders = make_stores(LeadersDatabase(engine, term, engine.idle_seconds), _cipher(data))
    await leaders.secrets.encrypt_all()
    return Standing(leaders, doorbell.bells, doorbell)


async def _follow(
    data: DataDirectory, listeners: Listeners, stores: Stores, doorbell: Doorbell, leadership: Leadership, address: str
) -> None:
    """Until it is this server's turn."""
    forwarding = Forwarding(data.certificate, listeners.http_port)
    tokens = Tokens(data.signing_key, stores.tokens)
    environments = Environments(stores.environments)
    nouns = (
        environments,
        Dicts(stores),
        MessageQueues(stores, doorbell.bells),
        CallRecords(stores),
        CallQueries(stores),
        Variants(stores),
        tokens,
        Calls(stores, doorbell, doorbell.bells),
        LogQueries(stores, doorbell.bells),
        ImageNames(stores),
        Secrets(stores),
    )

    def follow(leader: str) -> None:
        forwarding.follow(leader)
        publish_address(data, listeners, leader)
        doorbell.bells.ring_all_here()

    identity = RouterIdentity(tokens, TokenIdentity(stores, listeners.http_port))
    async with serve_beside(forwarding, nouns, identity, environments.check, listeners.grpc, listeners.http):
        await await_lead(leadership, address, follow)


async def _recount_forever(scheduler: Scheduler) -> None:
    while True:
        await asyncio.sleep(_RECOUNT_SECONDS)
        try:
            await scheduler.recount_demand()
        except JiffyError as error:
            logger.error("demand is counted later: %s", error)


async def _release(leadership: Leadership, term: int) -> None:
    """Another leads soon enough also when the store does not answer."""
    with contextlib.suppress(JiffyError):
        await leadership.release(term)


def _cipher(data: DataDirectory) -> Cipher:
    return KeyCipher(read_signing_key(data.signing_key).encode())


async def _ensure_token(data: DataDirectory, stores: Stores) -> None:
    """Mint the first token, once. The file is its owner's only copy of the secret."""
    if not data.token.exists():
        token = {"token_id": f"ak-{secrets.token_hex(11)}", "token_secret": f"as-{secrets.token_hex(22)}"}
        replace_file(data.token, json.dumps(token), private=True)
    token = json.loads(data.token.read_text())
    await stores.tokens.add(token["token_id"], token["token_secret"])
