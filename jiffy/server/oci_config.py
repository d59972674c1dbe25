"""An image's configuration as the OCI has it, and as jiffy keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jiffy.errors import InvalidError
from jiffy.store.images import ImageContent

_Words = tuple[str, ...]


def read_config(index: str, config: Mapping[str, Any]) -> ImageContent:
    """The content of an image that is one index, with what its configuration tells. InvalidError when it makes no sense."""
    settings = config.get("config") or {}
    if not isinstance(settings, dict):
        raise InvalidError("the image's configuration makes no sense")
    pairs = [word.partition("=") for word in _words(settings.get("Env"))]
    return ImageContent(
        layers=(index,),
        python="",
        python_version_info="",
        environment={name: value for name, _, value in pairs},
        working_directory=str(settings.get("WorkingDir") or ""),
        entrypoint=_words(settings.get("Entrypoint")),
        command=_words(settings.get("Cmd")),
        user=str(settings.get("User") or ""),
        shell=_words(settings.get("Shell")),
        labels={str(name): str(value) for name, value in _table(settings.get("Labels")).items()},
        exposed_ports=tuple(sorted(_table(settings.get("ExposedPorts")))),
        volumes=tuple(sorted(_table(settings.get("Volumes")))),
        stop_signal=str(settings.get("StopSignal") or ""),
        health_check=dict(_table(settings.get("Healthcheck"))),
        on_build=_words(settings.get("OnBuild")),
    )


def write_config(content: ImageContent) -> dict[str, Any]:
    """The `config` part of an image's configuration."""
    settings: dict[str, Any] = {
        "Env": [f"{name}={value}" for name, value in content.environment.items()],
        "WorkingDir": content.working_directory,
        "Entrypoint": list(content.entrypoint),
        "Cmd": list(content.command),
        "User": content.user,
        "Shell": list(content.shell),
        "Labels": content.labels,
        "ExposedPorts": {port: {} for port in content.exposed_ports},
        "Volumes": {path: {} for path in content.volumes},
        "StopSignal": content.stop_signal,
        "Healthcheck": content.health_check,
        "OnBuild": list(content.on_build),
    }
    return {name: value for name, value in settings.items() if value}


def _words(value: Any) -> _Words:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise InvalidError("the image's configuration makes no sense", why=f"{value!r} is no list of words"[:120])
    return tuple(value)


def _table(value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidError("the image's configuration makes no sense", why=f"{value!r} is no table"[:120])
    return value
