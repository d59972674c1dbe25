"""`jiffy timeline`"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from jiffy.cli.running import data_option
from jiffy.datadir import DataDirectory
from jiffy.errors import NotFoundError
from jiffy.server.options import store_option
from jiffy.store.stores import open_stores
from jiffy.store.tasks import Task


@click.command()
@data_option
@store_option
@click.option("--task", "task_id", default="", help="The container; the last one that gave a result if not set.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def timeline(data: Path, store: str, task_id: str, as_json: bool) -> None:
    """Show where the time of a start went, from the order to launch to the first result."""
    task = asyncio.run(_read_task(DataDirectory(data), store, task_id))
    phases = split_phases(task)
    if as_json:
        click.echo(json.dumps({"task_id": task.task_id, "phases": phases, "total": sum(phases.values())}))
    else:
        _print(task, phases)


async def _read_task(data: DataDirectory, store: str, task_id: str) -> Task:
    if not store and not data.database.exists():
        raise NotFoundError(f"{data.root} holds no state", hint="run a program first")
    stores = open_stores(store or data.database)
    try:
        task = await stores.tasks.get(task_id) if task_id else await stores.tasks.latest()
    finally:
        stores.close()
    if task is None:
        raise NotFoundError("no container has given a result yet", hint="run a program first")
    return task


def split_phases(task: Task) -> dict[str, float]:
    """Seconds per phase, in order: the worker's own phases, then import of the client, of the program, the call."""
    assert task.started_at is not None
    phases = {"order": max(0.0, task.started_at - task.created_at - sum(task.phases.values()))}
    phases.update(task.phases)
    moments = [
        ("client import", task.hello_at),
        ("program import", task.ready_at),
        ("call", task.first_output_at),
    ]
    previous = task.started_at
    for name, moment in moments:
        if moment is not None:
            phases[name] = max(0.0, moment - previous)
            previous = moment
    return phases


def _print(task: Task, phases: dict[str, float]) -> None:
    table = Table(title=f"start of {task.task_id}", title_justify="left")
    table.add_column("phase")
    table.add_column("ms", justify="right")
    table.add_column("")
    longest = max(phases.values())
    for name, seconds in phases.items():
        table.add_row(name, f"{seconds * 1000:.1f}", "█" * round(30 * seconds / longest))
    table.add_row("total", f"{sum(phases.values()) * 1000:.1f}", "")
    Console().print(table)
