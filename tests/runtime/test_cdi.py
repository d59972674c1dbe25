"""What specifications of devices add to a container's configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jiffy.errors import InvalidError, NotFoundError, UnavailableError
from jiffy.runtime.cdi import VARIABLE, add_devices, find_devices

YAML = """
cdiVersion: "0.5.0"
kind: vendor.com/gpu
containerEdits:
  env: [COMMON=1]
  hooks:
    - hookName: createContainer
      path: /usr/bin/hook
      args: [hook, create]
devices:
  - name: "0"
    containerEdits:
      deviceNodes:
        - path: /dev/null
  - name: "1"
    containerEdits:
      deviceNodes:
        - path: /dev/gpu1
          type: c
          major: 195
          minor: 1
          permissions: rw
      mounts:
        - hostPath: /opt/driver.so
          containerPath: /usr/lib/driver.so
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, f"{tmp_path}/nowhere:{tmp_path}")
    return tmp_path


def configured(*names: str) -> dict[str, Any]:
    configuration: dict[str, Any] = {
        "process": {"env": [], "user": {"additionalGids": []}},
        "mounts": [],
        "linux": {"resources": {"devices": []}},
    }
    found = find_devices(names)
    add_devices(configuration, [edits for name in names for edits in found[name]])
    return configuration


def test_devices_come_with_what_is_common_to_all_of_them_once(folder: Path) -> None:
    (folder / "vendor.yaml").write_text(YAML)
    configuration = configured("vendor.com/gpu=0", "vendor.com/gpu=1")
    assert configuration["process"]["env"] == ["COMMON=1"]
    hook = {"path": "/usr/bin/hook", "args": ["hook", "create"]}
    assert configuration["hooks"] == {"createContainer": [hook]}
    null, gpu = configuration["linux"]["devices"]
    assert null == {"path": "/dev/null", "type": "c", "major": 1, "minor": 3}
    assert gpu == {"path": "/dev/gpu1", "type": "c", "major": 195, "minor": 1}
    allowed = configuration["linux"]["resources"]["devices"]
    assert [(each["major"], each["minor"], each["access"]) for each in allowed] == [(1, 3, "rwm"), (195, 1, "rw")]
    assert configuration["mounts"][0]["options"][0] == "rbind"


def test_a_device_that_no_specification_has_is_told_with_those_that_there_are(folder: Path) -> None:
    (folder / "vendor.yaml").write_text(YAML)
    with pytest.raises(NotFoundError, match=r"no device vendor.com/gpu=7: .*vendor.com/gpu=0, vendor.com/gpu=1"):
        find_devices(["vendor.com/gpu=7"])


@pytest.mark.parametrize("text", ["{", "[]", '{"devices": []}'])
def test_a_broken_specification_is_named(folder: Path, text: str) -> None:
    (folder / "broken.json").write_text(text)
    with pytest.raises(InvalidError, match=r"broken.json is no specification of devices"):
        find_devices(["vendor.com/gpu=0"])


def test_a_device_that_is_not_there_and_a_hook_that_nobody_knows_are_told(folder: Path) -> None:
    specification: dict[str, Any] = {"kind": "a.b/c", "devices": [{"name": "0", "containerEdits": {}}]}
    edits = specification["devices"][0]["containerEdits"]
    edits["deviceNodes"] = [{"path": "/dev/not-there"}]
    (folder / "a.json").write_text(json.dumps(specification))
    with pytest.raises(UnavailableError, match="the device /dev/not-there is not there"):
        configured("a.b/c=0")
    edits.clear()
    edits["hooks"] = [{"hookName": "sometimes", "path": "/bin/true"}]
    (folder / "a.json").write_text(json.dumps(specification))
    with pytest.raises(InvalidError, match="a hook 'sometimes'"):
        configured("a.b/c=0")
