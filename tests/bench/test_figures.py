"""Figures stand beside a peer, with all samples."""

from __future__ import annotations

from bench.figures import Figure, Report, Split

FIGURE = Figure("start", "ms", [3.0, 1.0, 2.0], "peer", [4.0, 4.0, 100.0], reach=1.5)


def test_a_figure_is_a_ratio_of_medians() -> None:
    assert (FIGURE.value, FIGURE.peer_value, FIGURE.ratio) == (2.0, 4.0, 0.5)


def test_a_report_names_its_machine_and_keeps_every_sample() -> None:
    described = Report([FIGURE], [Split("cold", "ms", {"mount": [1.0, 3.0]})]).describe()
    assert set(described["machine"]) == {"kernel", "python", "processor", "cores", "memory_bytes"}
    (figure,) = described["figures"]
    assert figure["samples"] == [3.0, 1.0, 2.0]
    assert {"name", "value", "unit", "peer", "peer_value", "ratio", "samples", "peer_samples"} <= set(figure)
    assert described["splits"] == [{"name": "cold", "unit": "ms", "phases": {"mount": 2.0}}]


def test_a_table_shows_them(capsys: object) -> None:
    Report([FIGURE], [Split("cold", "ms", {"mount": [1.0]})]).print()
    printed = capsys.readouterr().out  # type: ignore[attr-defined]
    assert "2.00 ms" in printed and "0.50" in printed and "mount" in printed
