"""What a container may do, as its runtime is told."""

from __future__ import annotations

import json
import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jiffy.runtime.bundle import BindMount, ContainerSpec, describe, describe_exec, write_bundle

SPEC = ContainerSpec(
    identifier="ta-1",
    root=Path("/root-of-it"),
    argv=("python", "-m", "x"),
    environment={"A": "b=c"},
    working_directory="/root",
    hostname="box",
    mounts=(BindMount(Path("/source"), "/target"),),
    network_namespace="/proc/1/ns/net",
    cgroup="jiffy-x/ta-1",
)


@pytest.fixture
def description() -> dict[str, Any]:
    return describe(replace(SPEC, memory_bytes=2**28, cpu_millis=1500))


def test_the_process_is_what_was_ordered(description: dict[str, Any]) -> None:
    process = description["process"]
    assert process["args"] == ["python", "-m", "x"]
    assert process["env"] == ["A=b=c"]
    assert process["cwd"] == "/root"


def test_no_capability_that_reaches_the_host_is_given(description: dict[str, Any]) -> None:
    dangerous = {"SYS_ADMIN", "SYS_MODULE", "SYS_PTRACE", "SYS_RAWIO", "NET_ADMIN", "NET_RAW", "MKNOD", "BPF", "SYSLOG"}
    for given in description["process"]["capabilities"].values():
        assert not {name.removeprefix("CAP_") for name in given} & dangerous


def test_privileges_cannot_grow(description: dict[str, Any]) -> None:
    assert description["process"]["noNewPrivileges"] is True


def test_system_calls_that_reach_the_host_are_not_allowed(description: dict[str, Any]) -> None:
    seccomp = description["linux"]["seccomp"]
    allowed = {name for rule in seccomp["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]}
    assert seccomp["defaultAction"] == "SCMP_ACT_ERRNO"
    assert not allowed & {
        *("mount", "umount2", "pivot_root", "setns", "unshare", "bpf", "kexec_load", "init_module", "finit_module"),
        *(
            "open_by_handle_at",
            "ptrace_setregs",
            "perf_event_open",
            "keyctl",
            "add_key",
            "userfaultfd",
            "io_uring_setup",
        ),
        *("fsopen", "fsmount", "move_mount", "open_tree", "reboot", "swapon", "settimeofday"),
    }


def test_every_namespace_is_the_containers_own(description: dict[str, Any]) -> None:
    kinds = {namespace["type"] for namespace in description["linux"]["namespaces"]}
    assert kinds == {"pid", "ipc", "uts", "mount", "cgroup", "network"}


def test_limits_are_set_when_they_were_asked_for(description: dict[str, Any]) -> None:
    limits = description["linux"]["resources"]
    assert limits["memory"]["limit"] == 2**28
    assert limits["cpu"]["quota"] / limits["cpu"]["period"] == 1.5
    assert limits["pids"]["limit"] == 4096
    assert "quota" not in describe(SPEC)["linux"]["resources"].get("cpu", {})


def test_files_of_the_host_are_read_only(description: dict[str, Any]) -> None:
    (mount,) = [mount for mount in description["mounts"] if mount["destination"] == "/target"]
    assert "ro" in mount["options"]


def test_open_files_stay_within_what_this_process_may_give(description: dict[str, Any]) -> None:
    (limit,) = description["process"]["rlimits"]
    assert limit["hard"] <= resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def test_the_bundle_is_written_as_json(tmp_path: Path) -> None:
    write_bundle(SPEC, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["hostname"] == "box"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write_bundle(replace(SPEC, uid=7, environment={"A": "b=c", "PATH": "/bin"}), tmp_path)
    return tmp_path


def test_a_command_may_do_what_the_containers_process_may(bundle: Path) -> None:
    own = json.loads((bundle / "config.json").read_text())["process"]
    command = describe_exec(bundle, ["true"], {}, "", None)
    assert command == {**own, "args": ["true"]}
    assert command["user"]["uid"] == 7 and command["noNewPrivileges"] is True


def test_a_command_is_what_was_ordered(bundle: Path) -> None:
    command = describe_exec(bundle, ["ls", "-l"], {"A": "mine=1", "B": ""}, "/srv", None)
    assert command["args"] == ["ls", "-l"]
    assert command["env"] == ["A=mine=1", "PATH=/bin", "B="]
    assert command["cwd"] == "/srv"
    assert command["terminal"] is False


def test_a_command_at_a_terminal_has_one_of_its_size(bundle: Path) -> None:
    command = describe_exec(bundle, ["sh"], {}, "", (24, 80))
    assert command["terminal"] is True
    assert command["consoleSize"] == {"height": 24, "width": 80}
