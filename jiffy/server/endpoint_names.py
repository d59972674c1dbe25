"""Names of web endpoints: a label of the host's name for each, which follows from the app and the function."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from modal_proto import api_pb2

from jiffy.errors import InvalidError
from jiffy.server.environments import DEFAULT_ENVIRONMENT
from jiffy.store.apps import App
from jiffy.store.endpoints import Endpoint

_LONGEST_LABEL: Final = 63
_PASSING: Final = (api_pb2.APP_STATE_EPHEMERAL, api_pb2.APP_STATE_DETACHED)


def name_endpoints(definition: api_pb2.Function, function_id: str, app: App) -> list[Endpoint]:
    """All that a function answers, with its labels noted in the definition."""
    found = []
    if definition.webhook_config.type:
        name = definition.function_name
        definition.web_url = make_label(definition.webhook_config.requested_suffix, name, app)
        found += _endpoints(definition.web_url, definition.webhook_config, function_id, app.app_id, "")
        _note_domains(definition, definition.webhook_config)
    if definition.is_server:
        label = make_label("", definition.function_name, app)
        definition.flash_service_urls[:] = [label]
        found.append(Endpoint(label, function_id, app.app_id, "", not definition.http_config.unauthenticated))
    for name, method in definition.method_definitions.items():
        if method.webhook_config.type:
            method.web_url = make_label(method.webhook_config.requested_suffix, method.function_name or name, app)
            found += _endpoints(method.web_url, method.webhook_config, function_id, app.app_id, name)
            _note_domains(method, method.webhook_config)
    return found


def make_label(requested: str, name: str, app: App) -> str:
    """`app-function`, or what the program asks for; with -dev while the app is not deployed."""
    suffix = "-dev" if app.state in _PASSING else ""
    environment = "" if app.environment == DEFAULT_ENVIRONMENT else f"{app.environment}-"
    label = _slug(requested or f"{environment}{app.description}-{name}")
    if not label:
        raise InvalidError(f"no name for a web endpoint follows from {name!r}", hint='label="..." gives it one')
    if len(label) + len(suffix) > _LONGEST_LABEL:
        mark = hashlib.sha256(label.encode()).hexdigest()[:6]
        label = f"{label[: _LONGEST_LABEL - len(suffix) - 7]}-{mark}"
    return label + suffix


def _endpoints(label: str, config: api_pb2.WebhookConfig, function_id: str, app_id: str, method: str) -> list[Endpoint]:
    hosts = [label, *(domain.name.lower() for domain in config.custom_domains)]
    return [Endpoint(host, function_id, app_id, method, config.requires_proxy_auth) for host in hosts]


def _note_domains(target: api_pb2.Function | api_pb2.MethodDefinition, config: api_pb2.WebhookConfig) -> None:
    target.ClearField("custom_domain_info")
    for domain in config.custom_domains:
        target.custom_domain_info.add(url=f"http://{domain.name}")


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
