from __future__ import annotations

from pathlib import Path

from jiffy.worker.lineage import succeed


def test_each_worker_knows_those_before_it(tmp_path: Path) -> None:
    path = tmp_path / "workers.json"
    assert succeed(path, "wo-1") == ()
    assert succeed(path, "wo-2") == ("wo-1",)
    assert succeed(path, "wo-3") == ("wo-2", "wo-1")


def test_of_very_many_the_last_ones_are_known(tmp_path: Path) -> None:
    path = tmp_path / "workers.json"
    for number in range(100):
        known = succeed(path, f"wo-{number}")
    assert known == tuple(f"wo-{number}" for number in range(98, 82, -1))


def test_a_file_that_makes_no_sense_tells_nothing(tmp_path: Path) -> None:
    path = tmp_path / "workers.json"
    for text in ("", "{", "7", "null"):
        path.write_text(text)
        assert succeed(path, "wo-1") == ()
