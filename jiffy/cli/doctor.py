"""`jiffy doctor`"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from jiffy.cli.running import data_option
from jiffy.runtime.kernel import Finding, Verdict, examine

_COLOURS = {Verdict.OK: "green", Verdict.SLOWER: "yellow", Verdict.MISSING: "red"}


@click.command()
@data_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(data: Path, as_json: bool) -> None:
    """Check what this machine can do for jiffy; exit code 1 when something that it needs is missing."""
    findings = examine(data)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    else:
        _print(findings)
    if any(finding.verdict is Verdict.MISSING for finding in findings):
        sys.exit(1)


def _print(findings: list[Finding]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("", "", "found", "what to do"):
        table.add_column(column)
    for finding in findings:
        colour = _COLOURS[finding.verdict]
        table.add_row(f"[{colour}]{finding.verdict}[/{colour}]", finding.name, finding.found, finding.advice)
    Console().print(table)
