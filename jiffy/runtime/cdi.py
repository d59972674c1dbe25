"""Devices by the Container Device Interface: what a vendor's specification adds to a container's configuration.

Specifications are files in /etc/cdi and /var/run/cdi, or where JIFFY_CDI_FOLDERS says, as nvidia-ctk and its like write
them. A device is named `vendor.com/class=name`. Format: https://github.com/cncf-tags/container-device-interface.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from jiffy.errors import InvalidError, NotFoundError, UnavailableError

VARIABLE: Final = "JIFFY_CDI_FOLDERS"
_FOLDERS: Final = "/etc/cdi:/var/run/cdi"
_TYPES: Final = {"c": stat.S_ISCHR, "u": stat.S_ISCHR, "b": stat.S_ISBLK}
_HOOKS: Final = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")

Edits = Mapping[str, Any]


def find_devices(names: Sequence[str]) -> dict[str, list[Edits]]:
    """What each device adds. NotFoundError for one that no specification has."""
    known: dict[str, list[Edits]] = {}
    for specification in _read_all():
        common = specification.get("containerEdits") or {}
        for device in specification.get("devices") or []:
            known[f"{specification.get('kind')}={device.get('name')}"] = [common, device.get("containerEdits") or {}]
    for name in names:
        if name not in known:
            raise NotFoundError(
                f"no device {name}",
                why=f"the specifications in {_folders()} have {', '.join(sorted(known)) or 'none'}",
                hint="nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml writes them for NVIDIA's",
            )
    return {name: known[name] for name in names}


def add_devices(configuration: dict[str, Any], devices: Sequence[Edits]) -> None:
    """Change a runtime configuration as edits say, each once."""
    linux, process = configuration["linux"], configuration["process"]
    added: list[Edits] = []
    for edits in devices:
        if edits in added:
            continue
        added.append(edits)
        process["env"] += edits.get("env") or []
        process["user"]["additionalGids"] += edits.get("additionalGids") or []
        for node in edits.get("deviceNodes") or []:
            device = _describe_node(node)
            linux.setdefault("devices", []).append(device)
            linux["resources"]["devices"].append(_allow(device, node.get("permissions") or "rwm"))
        configuration["mounts"] += [_describe_mount(mount) for mount in edits.get("mounts") or []]
        for hook in edits.get("hooks") or []:
            _add_hook(configuration, hook)


def _describe_node(node: Mapping[str, Any]) -> dict[str, Any]:
    """A node without numbers has those of the host's."""
    path = node["path"]
    described = {"path": path, "type": node.get("type"), "major": node.get("major"), "minor": node.get("minor")}
    if described["type"] is None or described["major"] is None:
        described |= _numbers(Path(node.get("hostPath") or path))
    for name in ("fileMode", "uid", "gid"):
        if node.get(name) is not None:
            described[name] = node[name]
    return described


def _numbers(path: Path) -> dict[str, Any]:
    try:
        status = path.stat()
    except OSError as error:
        raise UnavailableError(f"the device {path} is not there", why=str(error.strerror)) from error
    kind = next((name for name, is_kind in _TYPES.items() if is_kind(status.st_mode)), None)
    if kind is None:
        raise InvalidError(f"{path} is no device")
    return {"type": kind, "major": os.major(status.st_rdev), "minor": os.minor(status.st_rdev)}


def _allow(device: Mapping[str, Any], access: str) -> dict[str, Any]:
    numbers = {name: device[name] for name in ("major", "minor")}
    return {"allow": True, "type": device["type"], **numbers, "access": access}


def _describe_mount(mount: Mapping[str, Any]) -> dict[str, Any]:
    options = list(mount.get("options") or ["ro", "nosuid", "nodev"])
    if not {"bind", "rbind"} & set(options):
        options.insert(0, "rbind")
    return {
        "destination": mount["containerPath"],
        "source": mount["hostPath"],
        "type": mount.get("type") or "bind",
        "options": options,
    }


def _add_hook(configuration: dict[str, Any], hook: Mapping[str, Any]) -> None:
    name = hook.get("hookName")
    if name not in _HOOKS:
        raise InvalidError(f"a device asks for a hook {name!r}", why=f"there are {', '.join(_HOOKS)}")
    described = {key: hook[key] for key in ("path", "args", "env", "timeout") if hook.get(key) is not None}
    configuration.setdefault("hooks", {}).setdefault(name, []).append(described)


def _folders() -> str:
    return os.environ.get(VARIABLE, _FOLDERS)


def _read_all() -> Iterator[dict[str, Any]]:
    """In the order of their folders: a device that is there twice is as the last one says."""
    for folder in _folders().split(":"):
        for path in sorted(Path(folder).glob("*")):
            if path.suffix in (".json", ".yaml", ".yml"):
                yield _read(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text()
        found = json.loads(text) if path.suffix == ".json" else _read_yaml(text)
    except (OSError, ValueError) as error:
        raise InvalidError(f"{path} is no specification of devices", why=str(error)) from error
    if not isinstance(found, dict) or "kind" not in found:
        raise InvalidError(f"{path} is no specification of devices", why="it names no kind")
    return found


def _read_yaml(text: str) -> Any:
    try:
        import yaml
    except ModuleNotFoundError:
        raise UnavailableError(
            "specifications of devices in YAML cannot be read", hint="pip install 'jiffy[gpu]', or write them as JSON"
        ) from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
