"""What a function's definition asks of the platform, in the platform's words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from modal_proto import api_pb2

from jiffy.core.autoscaler import Limits
from jiffy.core.placement import Need
from jiffy.core.pools import Settings
from jiffy.errors import UnsupportedError

DEFAULT_TIMEOUT: Final = 300.0
DEFAULT_SCALEDOWN_WINDOW: Final = 60.0
DEFAULT_MAXIMUM: Final = 100
DEFAULT_CPU_MILLIS: Final = 125
DEFAULT_MEMORY_BYTES: Final = 128 * 2**20
_NO_LIMIT: Final = 1_000_000
_FALLBACKS: Final = "jiffy_gpus"


def note_fallbacks(definition: api_pb2.Function, wanted: Sequence[api_pb2.GPUConfig]) -> None:
    """Kinds of GPUs that will do, the most wanted first: a definition has a place for one only."""
    if len({_gpu_count(each) for each in wanted}) > 1:
        raise UnsupportedError(
            f"{definition.function_name} asks for different numbers of GPUs",
            why="which one it gets would decide how many",
            hint='give each kind the same number: gpu=["H100:2", "A100:2"]',
        )
    definition.experimental_options[_FALLBACKS] = ",".join(each.gpu_type for each in wanted)


def _gpu_count(wanted: api_pb2.GPUConfig) -> int:
    return wanted.count or int(bool(wanted.gpu_type))


def _gpu_types(definition: Any) -> tuple[str, ...]:
    """None when any will do."""
    kinds = definition.experimental_options.get(_FALLBACKS) or definition.resources.gpu_config.gpu_type
    found = tuple([kind.upper() for kind in kinds.split(",") if kind])
    return () if "ANY" in found else found


def read_settings(definition: Any) -> Settings:
    """From a Function message. Newer clients send autoscaler_settings, older ones the fields that preceded it."""
    scaler = definition.autoscaler_settings
    resources = definition.resources
    timeout = float(definition.timeout_secs or DEFAULT_TIMEOUT)
    return Settings(
        limits=Limits(
            minimum=scaler.min_containers or definition.warm_pool_size,
            maximum=scaler.max_containers or definition.concurrency_limit or DEFAULT_MAXIMUM,
            slots=_slots(definition),
            buffer=scaler.buffer_containers,
        ),
        need=Need(
            cpu_millis=resources.milli_cpu or DEFAULT_CPU_MILLIS,
            memory_bytes=resources.memory_mb * 2**20 or DEFAULT_MEMORY_BYTES,
            gpus=_gpu_count(resources.gpu_config),
            gpu_types=_gpu_types(definition),
        ),
        scaledown_window=float(
            scaler.scaledown_window or definition.task_idle_timeout_secs or DEFAULT_SCALEDOWN_WINDOW
        ),
        timeout=timeout,
        startup_timeout=float(definition.startup_timeout_secs or timeout),
        memory_limit_bytes=resources.memory_mb_max * 2**20,
        cpu_limit_millis=resources.milli_cpu_max,
        beats=not definition.is_server,
    )


def _slots(definition: Any) -> int:
    """Inputs that a container should have at once. A server without a target has as many as it may."""
    if not definition.is_server:
        return definition.target_concurrent_inputs or definition.max_concurrent_inputs or definition.batch_max_size or 1
    scaler = definition.autoscaler_settings
    if scaler.HasField("target_concurrency_float"):
        return max(1, int(scaler.target_concurrency_float)) if scaler.target_concurrency_float else _NO_LIMIT
    return scaler.target_concurrency or definition.max_concurrent_inputs or _NO_LIMIT
