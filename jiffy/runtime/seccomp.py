"""The system calls that containers may make: an allow-list, as the runtimes read it, and compiled.

crun compiles the list for each container anew, which takes longer than all else that it does. It also takes the compiled
filter as an annotation, so a worker compiles it once, by the library that the runtimes use.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
from functools import cache
from importlib import resources
from typing import Any, Final

from jiffy.errors import JiffyError

_THREAD_FLAGS: Final = 0x7E020000
"""The CLONE_NEW* bits: clone() may make threads and processes, not namespaces."""

_NOT_PERMITTED: Final = 1
_NOT_THERE: Final = 38
_VIRTUAL_MACHINE_SOCKETS: Final = 40
_PERSONALITIES: Final = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
_ARCHITECTURES: Final = {"x86_64": ("X86_64", "X86"), "aarch64": ("AARCH64", "ARM")}
_ALLOW: Final = 0x7FFF0000
_ERROR: Final = 0x00050000
_OPERATIONS: Final = {"SCMP_CMP_NE": 1, "SCMP_CMP_EQ": 4, "SCMP_CMP_MASKED_EQ": 7}
_OPTIMISE: Final = 8
_BINARY_TREE: Final = 2
_EXISTS: Final = -17


class _Comparison(ctypes.Structure):
    """struct scmp_arg_cmp"""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operation", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


@cache
def describe_filter() -> dict[str, Any]:
    """The `seccomp` of an OCI configuration."""
    allowed = json.loads(resources.files(__package__).joinpath("seccomp.json").read_text())["allowed"]
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": _NOT_PERMITTED,
        "architectures": [f"SCMP_ARCH_{name}" for name in _ARCHITECTURES.get(platform.machine(), ())],
        "syscalls": [
            {"names": allowed, "action": "SCMP_ACT_ALLOW"},
            _allow_if("clone", "SCMP_CMP_MASKED_EQ", _THREAD_FLAGS),
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _NOT_THERE},
            _allow_if("socket", "SCMP_CMP_NE", _VIRTUAL_MACHINE_SOCKETS),
            *(_allow_if("personality", "SCMP_CMP_EQ", persona) for persona in _PERSONALITIES),
        ],
    }


def _allow_if(name: str, operation: str, value: int) -> dict[str, Any]:
    """A call that is allowed if its first argument compares so."""
    comparison = {"index": 0, "value": value, "valueTwo": 0, "op": operation}
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [comparison]}


@cache
def compile_filter() -> bytes | None:
    """The filter as a program for the kernel; None where the library is not installed as one."""
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return None
    library.seccomp_init.restype = ctypes.c_void_p
    description = describe_filter()
    context = ctypes.c_void_p(library.seccomp_init(_ERROR | description["defaultErrnoRet"]))
    try:
        for name in description["architectures"]:
            token = library.seccomp_arch_resolve_name(name.removeprefix("SCMP_ARCH_").lower().encode())
            _check(library.seccomp_arch_add(context, token), name)
        library.seccomp_attr_set(context, _OPTIMISE, _BINARY_TREE)
        for rule in description["syscalls"]:
            for name in rule["names"]:
                _add_rule(library, context, name, rule)
        return _export(library, context)
    finally:
        library.seccomp_release(context)


def _add_rule(library: ctypes.CDLL, context: ctypes.c_void_p, name: str, rule: dict[str, Any]) -> None:
    number = library.seccomp_syscall_resolve_name(name.encode())
    if number == -1:
        return
    action = _ALLOW if rule["action"] == "SCMP_ACT_ALLOW" else _ERROR | rule["errnoRet"]
    comparisons = [
        _Comparison(each["index"], _OPERATIONS[each["op"]], each["value"], each["valueTwo"])
        for each in rule.get("args", ())
    ]
    array = (_Comparison * len(comparisons))(*comparisons)
    _check(library.seccomp_rule_add_array(context, action, number, len(comparisons), array), name)


def _export(library: ctypes.CDLL, context: ctypes.c_void_p) -> bytes:
    descriptor = os.memfd_create("jiffy-seccomp")
    try:
        _check(library.seccomp_export_bpf(context, descriptor), "the filter")
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    finally:
        os.close(descriptor)


def _check(result: int, what: str) -> None:
    """An architecture that is the native one is there already."""
    if result < 0 and result != _EXISTS:
        raise JiffyError(f"cannot compile the filter of system calls at {what}", why=os.strerror(-result))
