"""Tables and plots are made of figures that were kept, and put where the page has marks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.figures import Figure, Report
from bench.report import write_report

PAGE = """# Page

<!-- figures start -->
old
<!-- end -->
Words stay.

<!-- figures growth -->
never measured again
<!-- end -->
"""

FIGURES = [
    Figure("a bar", "ms", [1.0, 2.0, 3.0], "limit", [4.0, 4.0, 4.0], reach=1.5),
    *(Figure(f"{x} things", "us", [x, x + 1], "few", [1.0, 1.0], series="line", x=x, axis="things") for x in (1, 10)),
]


@pytest.fixture
def page(tmp_path: Path) -> Path:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "start.json").write_text(json.dumps(Report(FIGURES).describe()))
    (tmp_path / "page.md").write_text(PAGE)
    return tmp_path / "page.md"


def test_a_section_gets_its_table_and_its_plot(page: Path) -> None:
    assert list(write_report(page.parent / "figures", page)) == ["start"]
    text = page.read_text()
    assert "| a bar | 2.00 ms (1.00-3.00) | limit | 4.00 ms (4.00-4.00) | 0.50 | 1.5 |" in text
    assert "![start](figures/start.svg)" in text
    assert (page.parent / "figures" / "start.svg").read_text().startswith("<?xml")
    assert "old" not in text


def test_all_else_stays(page: Path) -> None:
    list(write_report(page.parent / "figures", page))
    text = page.read_text()
    assert "Words stay." in text
    assert "never measured again" in text


def test_the_same_figures_give_the_same_report(page: Path) -> None:
    def write() -> tuple[str, str]:
        list(write_report(page.parent / "figures", page))
        return page.read_text(), (page.parent / "figures" / "start.svg").read_text()

    assert write() == write()


def test_figures_are_read_as_they_were_written() -> None:
    assert [Figure.read(json.loads(json.dumps(figure.describe()))) for figure in FIGURES] == FIGURES
