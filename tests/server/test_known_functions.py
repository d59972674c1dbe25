"""Definitions with what options and the autoscaler's settings change of them."""

from __future__ import annotations

from modal_proto import api_pb2

from jiffy.server.known_functions import apply_options, scale
from jiffy.server.settings import read_settings


def definition() -> api_pb2.Function:
    return api_pb2.Function(
        timeout_secs=60,
        secret_ids=["st-1"],
        autoscaler_settings=api_pb2.AutoscalerSettings(min_containers=1, max_containers=5, scaledown_window=30),
        warm_pool_size=1,
        concurrency_limit=5,
    )


def test_options_change_what_they_name_and_nothing_else() -> None:
    changed = definition()
    options = api_pb2.FunctionOptions(timeout_secs=5, concurrency_limit=9, secret_ids=["st-2"])
    options.resources.milli_cpu = 2000
    apply_options(changed, options)
    settings = read_settings(changed)
    assert (settings.timeout, settings.limits.maximum, settings.limits.minimum) == (5, 9, 1)
    assert settings.need.cpu_millis == 2000
    assert list(changed.secret_ids) == ["st-1", "st-2"]


def test_secrets_are_replaced_when_that_is_wanted() -> None:
    changed = definition()
    apply_options(changed, api_pb2.FunctionOptions(replace_secret_ids=True, secret_ids=["st-2"]))
    assert list(changed.secret_ids) == ["st-2"]


def test_nothing_is_a_setting_of_the_autoscaler_too() -> None:
    changed = definition()
    scale(changed, {"min_containers": 0, "max_containers": 0})
    settings = read_settings(changed)
    assert settings.limits.minimum == 0
    assert settings.limits.maximum == 100, "no limit of its own"
