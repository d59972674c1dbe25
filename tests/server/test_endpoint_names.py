"""Names of web endpoints."""

from __future__ import annotations

import pytest
from modal_proto import api_pb2

from jiffy.errors import InvalidError
from jiffy.server.endpoint_names import make_label, name_endpoints
from jiffy.store.apps import App

DEPLOYED = api_pb2.APP_STATE_DEPLOYED


def app(name: str = "My Shop", state: int = DEPLOYED, environment: str = "main") -> App:
    return App("ap-1", name, state, 0.0, 0.0, None, {}, {}, environment=environment)


def config(**fields: object) -> api_pb2.WebhookConfig:
    return api_pb2.WebhookConfig(type=api_pb2.WEBHOOK_TYPE_FUNCTION, **fields)  # type: ignore[arg-type]


def test_a_label_is_of_the_app_and_the_function() -> None:
    assert make_label("", "list_items", app()) == "my-shop-list-items"
    assert make_label("Shop", "list_items", app()) == "shop"
    assert make_label("", "f", app(environment="staging")) == "staging-my-shop-f"


def test_what_is_not_deployed_has_a_label_of_its_own() -> None:
    assert make_label("", "f", app(state=api_pb2.APP_STATE_EPHEMERAL)) == "my-shop-f-dev"


def test_a_long_label_is_cut_and_stays_one_of_its_own() -> None:
    first, second = (make_label("", "x" * 90 + end, app()) for end in "ab")
    assert len(first) == len(second) == 63
    assert first != second


def test_a_name_of_no_letters_is_refused() -> None:
    with pytest.raises(InvalidError, match="no name for a web endpoint"):
        make_label("???", "f", app())


def test_methods_of_a_class_and_domains_have_endpoints_each() -> None:
    definition = api_pb2.Function(function_name="Shop.*")
    method = definition.method_definitions["stock"]
    method.function_name = "Shop.stock"
    method.webhook_config.CopyFrom(config(requires_proxy_auth=True))
    method.webhook_config.custom_domains.add(name="Stock.example.com")
    found = name_endpoints(definition, "fu-1", app())
    assert [(each.host, each.method, each.is_guarded) for each in found] == [
        ("my-shop-shop-stock", "stock", True),
        ("stock.example.com", "stock", True),
    ]
    assert definition.method_definitions["stock"].web_url == "my-shop-shop-stock"
