"""`jiffy sim`"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from jiffy.cli.source_tree import import_from_source


@click.command()
@click.option("--seeds", type=click.IntRange(min=1), default=500, show_default=True, help="Worlds to run.")
@click.option("--first", default=0, show_default=True, help="The number of the first.")
@click.option("--seed", type=int, help="Run one only, and tell all that happens in it.")
@click.option("--jobs", type=click.IntRange(min=1), default=os.cpu_count() or 1, show_default="cores")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def sim(seeds: int, first: int, seed: int | None, jobs: int, as_json: bool) -> None:
    """Run jiffy's server in simulated worlds in which everything goes wrong, and check that it keeps its promises.

    Time is simulated: a world of minutes takes a tenth of a second. A number gives the same world each time. Needs jiffy's
    source.
    """
    campaign = import_from_source("tests.sim.campaign", "the simulation")
    if seed is not None:
        findings = [found for found in campaign.tell(seed, click.echo) if found]
    else:
        findings = _run_all(campaign, first, seeds, jobs, shown=not as_json)
    if as_json:
        found = [{"seed": finding.seed, "what": finding.what} for finding in findings]
        click.echo(json.dumps({"seeds": 1 if seed is not None else seeds, "findings": found}, indent=1))
    for finding in findings if not as_json else ():
        click.echo(f"seed {finding.seed}: {finding.what}\n  jiffy sim --seed {finding.seed}  tells what happened")
    sys.exit(1 if findings else 0)


def _run_all(campaign: Any, first: int, seeds: int, jobs: int, *, shown: bool) -> list[Any]:
    columns = (TextColumn("worlds"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    findings = []
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as progress:
        task = progress.add_task("", total=seeds)
        for found in campaign.find(first, seeds, jobs):
            progress.advance(task)
            if found is not None:
                findings.append(found)
    return findings
