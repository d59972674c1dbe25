"""Parsers of what strangers write: no crash, no hang, bounded memory, only documented errors. Longer runs are by hand:
`python -m tests.fuzz TARGET --seconds 3600 --scratch FOLDER`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS, attempt

ROOT = Path(__file__).parents[2]
CORPUS = Path(__file__).parent / "corpus"
SECONDS = 30 // len(TARGETS)


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_holds_nothing_that_is_found(target: str) -> None:
    files = sorted((CORPUS / target).iterdir())
    assert files
    for file in files:
        attempt(target, file.read_bytes())


@pytest.mark.fuzz
@pytest.mark.parametrize("target", TARGETS)
def test_a_few_seconds_of_fuzzing_find_nothing(target: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz", target, "--seconds", str(SECONDS), "--scratch", str(tmp_path)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stderr[-3000:]
