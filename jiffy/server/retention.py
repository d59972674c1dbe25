"""What is kept for a time only: finished calls with their outputs, what containers printed, values of dicts that nobody
uses, items of queues, and objects without a name whose client is gone."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from jiffy.errors import JiffyError
from jiffy.server.named_objects import SILENCE_ALLOWED
from jiffy.store.stores import Stores

logger = logging.getLogger(__name__)

OUTPUT_SECONDS: Final = 7 * 24 * 3600.0
LOG_SECONDS: Final = 30 * 24 * 3600.0
_DICT_SECONDS: Final = 7 * 24 * 3600.0
_PAUSE: Final = 60.0
_CALLS_AT_ONCE: Final = 200
_LINES_AT_ONCE: Final = 1000


class Retention:
    """`output_seconds`: how long the outputs of a call are kept after it was made; `log_seconds`: how long lines are."""

    def __init__(
        self, stores: Stores, output_seconds: float = OUTPUT_SECONDS, log_seconds: float = LOG_SECONDS
    ) -> None:
        self._stores = stores
        self._output_seconds = output_seconds
        self._log_seconds = log_seconds

    async def run_forever(self) -> None:
        while True:
            try:
                await self.run()
            except JiffyError as error:
                logger.error("what is old is dropped later: %s", error)
            await asyncio.sleep(max(1.0, min(_PAUSE, self._output_seconds, self._log_seconds)))

    async def run(self) -> None:
        now = time.time()
        while (
            await self._stores.call_history.forget_before(now - self._output_seconds, _CALLS_AT_ONCE) == _CALLS_AT_ONCE
        ):
            await asyncio.sleep(0)
        while await self._stores.logs.forget_before(now - self._log_seconds, _LINES_AT_ONCE) == _LINES_AT_ONCE:
            await asyncio.sleep(0)
        silent = await self._stores.named_objects.silent(now - SILENCE_ALLOWED)
        if silent:
            await self._stores.named_objects.delete([each.object_id for each in silent])
        await self._stores.dicts.drop_unused(now - _DICT_SECONDS)
        await self._stores.queue_items.drop_expired()
        await self._stores.volumes.forget_uses()
