"""The workers, as those see them who have containers run."""

from __future__ import annotations

from typing import Protocol

from jiffy.core.actions import Action
from jiffy.core.placement import Need, Refusal


class Connections(Protocol):
    """To the workers."""

    def send(self, worker_id: str, action: Action) -> None: ...
    def forget(self, worker_id: str, task_id: str) -> None: ...
    def fence(self, worker_id: str) -> None: ...


class Workforce(Protocol):
    """Room on them, and orders to them."""

    def place(self, need: Need) -> str | Refusal: ...
    def reserve(self, worker_id: str, task_id: str, need: Need) -> None: ...
    def free(self, worker_id: str, task_id: str) -> None: ...
    def send(self, worker_id: str, action: Action) -> None: ...
