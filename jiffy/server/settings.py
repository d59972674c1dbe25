"""What a function's definition asks of the platform, in the platform's words."""

from __future__ import annotations

from typing import Any, Final

from jiffy.core.autoscaler import Limits
from jiffy.core.placement import Need
from jiffy.core.pools import Settings

DEFAULT_TIMEOUT: Final = 300.0
DEFAULT_SCALEDOWN_WINDOW: Final = 60.0
DEFAULT_MAXIMUM: Final = 100
DEFAULT_CPU_MILLIS: Final = 125
DEFAULT_MEMORY_BYTES: Final = 128 * 2**20


def read_settings(definition: Any) -> Settings:
    """From a Function message. Newer clients send autoscaler_settings, older ones the fields that preceded it."""
    scaler = definition.autoscaler_settings
    resources = definition.resources
    timeout = float(definition.timeout_secs or DEFAULT_TIMEOUT)
    return Settings(
        limits=Limits(
            minimum=scaler.min_containers or definition.warm_pool_size,
            maximum=scaler.max_containers or definition.concurrency_limit or DEFAULT_MAXIMUM,
            slots=definition.target_concurrent_inputs
            or definition.max_concurrent_inputs
            or definition.batch_max_size
            or 1,
            buffer=scaler.buffer_containers,
        ),
        need=Need(
            cpu_millis=resources.milli_cpu or DEFAULT_CPU_MILLIS,
            memory_bytes=resources.memory_mb * 2**20 or DEFAULT_MEMORY_BYTES,
        ),
        scaledown_window=float(
            scaler.scaledown_window or definition.task_idle_timeout_secs or DEFAULT_SCALEDOWN_WINDOW
        ),
        timeout=timeout,
        startup_timeout=float(definition.startup_timeout_secs or timeout),
        memory_limit_bytes=resources.memory_mb_max * 2**20,
        cpu_limit_millis=resources.milli_cpu_max,
    )
