"""Functions as they are defined now: a definition, what options of a variant change, what was set since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from modal_proto import api_pb2

from jiffy.core.attempts import Backoff
from jiffy.core.pools import Settings
from jiffy.server.settings import read_settings
from jiffy.store.functions import Functions, StoredFunction

_REMEMBERED: Final = 1000
_PLAIN: Final = (
    "timeout_secs",
    "max_concurrent_inputs",
    "target_concurrent_inputs",
    "batch_max_size",
    "batch_linger_ms",
    "cloud_provider_str",
)
_MESSAGES: Final = ("resources", "retry_policy", "scheduler_placement")
_SCALING: Final = {
    "concurrency_limit": "max_containers",
    "warm_pool_size": "min_containers",
    "buffer_containers": "buffer_containers",
    "task_idle_timeout_secs": "scaledown_window",
}


@dataclass(frozen=True, slots=True)
class KnownFunction:
    """Not to be changed. `base_id` is that of the function whose definition it follows: its own but for a variant.
    `parameters`: a serialized ClassParameterSet."""

    function_id: str
    base_id: str
    app_id: str
    definition: api_pb2.Function
    settings: Settings
    parameters: bytes = b""

    @property
    def backoff(self) -> Backoff | None:
        """How its failed inputs are tried again; None when they are not."""
        policy = self.definition.retry_policy
        if not policy.retries:
            return None
        longest = (policy.max_delay_ms or 60_000) / 1000
        return Backoff(policy.retries, policy.initial_delay_ms / 1000, policy.backoff_coefficient or 1.0, longest)

    @property
    def labels(self) -> tuple[frozenset[str], ...]:
        """Of each set its worker must have one: `region=` and the like, as it says where it may run."""
        place = self.definition.scheduler_placement
        asked = {"region": place.regions, "zone": [place._zone] if place._zone else []}
        return tuple(frozenset(f"{name}={value}" for value in values) for name, values in asked.items() if values)


async def read_function(functions: Functions, function_id: str) -> KnownFunction:
    return await know_function(functions, await functions.get(function_id))


async def know_function(functions: Functions, stored: StoredFunction) -> KnownFunction:
    """What a stored function is now, with what it follows."""
    base = await functions.get(stored.base_id) if stored.base_id else stored
    return _read(
        stored.function_id,
        base.function_id,
        stored.app_id,
        stored.definition or base.definition or b"",
        stored.options or b"",
        tuple({**base.scaling, **stored.scaling}.items()),
        stored.parameters or b"",
    )


@lru_cache(_REMEMBERED)
def _read(
    function_id: str,
    base_id: str,
    app_id: str,
    definition: bytes,
    options: bytes,
    scaling: tuple[tuple[str, int], ...],
    parameters: bytes,
) -> KnownFunction:
    read = api_pb2.Function.FromString(definition)
    if options:
        apply_options(read, api_pb2.FunctionOptions.FromString(options))
    scale(read, dict(scaling))
    return KnownFunction(function_id, base_id, app_id, read, read_settings(read), parameters)


def apply_options(definition: api_pb2.Function, options: api_pb2.FunctionOptions) -> None:
    """Change a definition as with_options and its like ask for."""
    given: dict[str, Any] = {field.name: value for field, value in options.ListFields()}
    for name in _PLAIN:
        if name in given:
            setattr(definition, name, given[name])
    for name in _MESSAGES:
        if name in given:
            getattr(definition, name).CopyFrom(given[name])
    scale(definition, {to: given[name] for name, to in _SCALING.items() if name in given})
    if options.replace_secret_ids:
        definition.ClearField("secret_ids")
    definition.secret_ids.extend(options.secret_ids)
    definition.mount_ids.extend(options.mount_ids)
    if options.replace_volume_mounts:
        definition.ClearField("volume_mounts")
    definition.volume_mounts.extend(options.volume_mounts)
    if options.replace_cloud_bucket_mounts:
        definition.ClearField("cloud_bucket_mounts")
    definition.cloud_bucket_mounts.extend(options.cloud_bucket_mounts)


def scale(definition: api_pb2.Function, scaling: Mapping[str, int]) -> None:
    """Set fields of the autoscaler's settings, and those that came before them: 0 is a setting like any other."""
    older = {to: name for name, to in _SCALING.items() if name != "buffer_containers"}
    for name, value in scaling.items():
        setattr(definition.autoscaler_settings, name, value)
        if name in older:
            setattr(definition, older[name], value)
