"""After a restart: what the last server had begun is finished, and what lives goes on."""

from __future__ import annotations

from jiffy.core import facts
from jiffy.server.known_functions import read_function
from jiffy.server.scheduler import Scheduler, deadlines_of
from jiffy.store.stores import Stores


async def restore(scheduler: Scheduler, stores: Stores) -> None:
    """Take up the containers that lived when the last server died; their workers will say which still do."""
    await stores.calls.release_orphans()
    await stores.calls.cancel_web_calls()
    for stored in await stores.tasks.live():
        function = await scheduler.function(stored.function_id)
        deadlines = deadlines_of(await stores.calls.claimed(stored.task_id), function.settings.timeout)
        is_ready = stored.ready_at is not None
        scheduler.tell(facts.WorkerExpected(stored.worker_id))
        scheduler.tell(
            facts.ContainerRestored(stored.task_id, stored.function_id, stored.worker_id, is_ready, deadlines)
        )
    await scheduler.stop_strays()
    await scheduler.recount_demand()
    await _keep_warm(scheduler, stores)


async def _keep_warm(scheduler: Scheduler, stores: Stores) -> None:
    """Functions that want containers without inputs."""
    for app in await stores.apps.live():
        for function_id in app.function_ids.values():
            if (await read_function(stores.functions, function_id)).settings.limits.minimum:
                await scheduler.add_demand(function_id, 0)
