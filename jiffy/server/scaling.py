"""How many containers a function has: what its program sets while it runs, and what is so now."""

from __future__ import annotations

from typing import Final

from modal_proto import api_pb2

from jiffy.errors import InvalidError
from jiffy.server.caller import Caller
from jiffy.server.scheduler import Scheduler
from jiffy.server.settings import DEFAULT_MAXIMUM, DEFAULT_SCALEDOWN_WINDOW
from jiffy.store.stores import Stores

_COUNTED: Final = 10_000_000
"""As many inputs of a function are counted."""


class Scaling:
    def __init__(self, stores: Stores, scheduler: Scheduler) -> None:
        self._stores = stores
        self._scheduler = scheduler

    async def function_update_scheduling_params(
        self, request: api_pb2.FunctionUpdateSchedulingParamsRequest, caller: Caller
    ) -> api_pb2.FunctionUpdateSchedulingParamsResponse:
        """Until the function is defined anew."""
        stored = await self._stores.functions.get(request.function_id)
        scaling = {**stored.scaling, **{field.name: value for field, value in request.settings.ListFields()}}
        if not request.HasField("settings"):
            scaling["min_containers"] = request.warm_pool_size_override
        if 0 < scaling.get("max_containers", 0) < scaling.get("min_containers", 0):
            raise InvalidError("min_containers cannot be more than max_containers")
        await self._stores.functions.scale(stored.function_id, scaling)
        await self._scheduler.redefine(stored.function_id)
        await self._scheduler.add_demand(stored.function_id, 0)
        known = await self._scheduler.function(stored.function_id)
        return api_pb2.FunctionUpdateSchedulingParamsResponse(current_settings=known.definition.autoscaler_settings)

    async def function_get_current_stats(
        self, request: api_pb2.FunctionGetCurrentStatsRequest, caller: Caller
    ) -> api_pb2.FunctionStats:
        function_id = request.function_id
        await self._stores.functions.get(function_id)
        counted = await self._stores.calls.demand(function_id, _COUNTED)
        return api_pb2.FunctionStats(
            backlog=counted.waiting,
            num_total_tasks=self._scheduler.count_containers(function_id),
            num_running_inputs=counted.running,
        )

    async def function_get_dynamic_concurrency(
        self, request: api_pb2.FunctionGetDynamicConcurrencyRequest, caller: Caller
    ) -> api_pb2.FunctionGetDynamicConcurrencyResponse:
        """A container takes more than its target while more waits than the containers that there may be can take."""
        function = await self._scheduler.function(self._scheduler.find_container(caller.require_task()).function_id)
        is_short = self._scheduler.is_short(function.function_id)
        concurrency = request.max_concurrency if is_short else request.target_concurrency
        return api_pb2.FunctionGetDynamicConcurrencyResponse(concurrency=max(1, concurrency))

    async def function_get_scheduling_params(
        self, request: api_pb2.FunctionGetSchedulingParamsRequest, caller: Caller
    ) -> api_pb2.FunctionGetSchedulingParamsResponse:
        stored = await self._stores.functions.get(request.function_id)
        base = await self._stores.functions.get(stored.base_id) if stored.base_id else stored
        static = api_pb2.Function.FromString(base.definition or b"").autoscaler_settings
        known = await self._scheduler.function(stored.function_id)
        configuration = api_pb2.AutoscalerConfiguration(
            settings=known.definition.autoscaler_settings,
            default_settings=api_pb2.AutoscalerSettings(
                max_containers=DEFAULT_MAXIMUM, scaledown_window=int(DEFAULT_SCALEDOWN_WINDOW)
            ),
            static_settings=static,
            override_settings=api_pb2.AutoscalerSettings(**stored.scaling),
        )
        return api_pb2.FunctionGetSchedulingParamsResponse(autoscaler_configuration=configuration)
