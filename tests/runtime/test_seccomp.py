"""The filter of system calls, described and compiled. That it bites is tested in tests/escape."""

from __future__ import annotations

import ctypes
import platform

import pytest

from jiffy.runtime import seccomp
from jiffy.runtime.seccomp import compile_filter, describe_filter

_INSTRUCTION = 8
_MOST_INSTRUCTIONS = 4096


@pytest.fixture(autouse=True)
def forget() -> None:
    compile_filter.cache_clear()


def test_the_compiled_filter_is_a_program_that_the_kernel_takes() -> None:
    program = compile_filter()
    assert program is not None
    assert len(program) % _INSTRUCTION == 0
    assert 0 < len(program) // _INSTRUCTION <= _MOST_INSTRUCTIONS


def test_it_is_compiled_once() -> None:
    assert compile_filter() is compile_filter()


def test_this_machines_own_architecture_comes_first() -> None:
    names = {"x86_64": "X86_64", "aarch64": "AARCH64"}
    assert describe_filter()["architectures"][0] == f"SCMP_ARCH_{names[platform.machine()]}"


def test_without_the_library_the_runtime_compiles_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", fail)
    assert seccomp.compile_filter() is None
