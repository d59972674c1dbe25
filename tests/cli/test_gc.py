"""`jiffy gc` tells what would be removed, and removes it."""

from __future__ import annotations

import json
import os
import time

import pytest

from jiffy.objects.local import LocalObjects
from tests.cli.test_commands import jiffy
from tests.cli.test_image import PROGRAM
from tests.conftest import ProgramFolder
from tests.servers import ServerUnderTest

pytestmark = pytest.mark.root


def test_garbage_is_told_then_removed_and_programs_still_run(server: ServerUnderTest, program: ProgramFolder) -> None:
    assert server.run(program(PROGRAM)).code == 0
    objects = LocalObjects(server.data.objects, server.data.incoming)
    digest = objects.put(b"nobody refers to this")
    os.utime(objects.path(digest), (time.time() - 30 * 86400,) * 2)
    arguments = ("gc", "--data", str(server.data.root), "--json")
    told = json.loads(jiffy(*arguments, "--dry-run").output)
    assert told["removed"] >= 1
    assert objects.has(digest)
    assert json.loads(jiffy(*arguments).output)["removed"] >= 1
    assert not objects.has(digest)
    assert json.loads(jiffy(*arguments, "--dry-run").output)["kept"] == told["kept"] > 0
    assert server.run(program(PROGRAM)).code == 0


def test_a_grace_that_would_hit_uploads_is_refused(server: ServerUnderTest) -> None:
    outcome = jiffy("gc", "--data", str(server.data.root), "--grace", "5")
    assert outcome.code == 1
    assert "what is being uploaded now would be removed" in outcome.words


def test_without_a_server_it_says_so(tmp_path: os.PathLike[str]) -> None:
    outcome = jiffy("gc", "--data", str(tmp_path))
    assert (outcome.code, "jiffy serve" in outcome.words) == (1, True)
