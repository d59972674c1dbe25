"""What the store should do with calls, in a few lines over dictionaries."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from jiffy.core.attempts import Attempt, accepts, next_retry


@dataclass(frozen=True)
class ModelInput:
    """`output` is set when it is finished."""

    call_id: str
    number: int
    holder: str | None = None
    key: str | None = None
    retry_count: int = 0
    losses: int = 0
    output: bytes | None = None

    @property
    def attempt(self) -> Attempt:
        return Attempt(self.holder, self.retry_count, self.output is not None)


@dataclass
class Model:
    """Inputs of one function by (call, number), in the order in which they came."""

    inputs: dict[tuple[str, int], ModelInput] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)

    def add(self, call_id: str, numbers: range) -> None:
        for number in numbers:
            self.inputs.setdefault((call_id, number), ModelInput(call_id, number))

    def claim(self, task_id: str, limit: int, key: str) -> list[tuple[str, int]]:
        if task_id in self.ended:
            return []
        again = [
            place
            for place, entry in self.inputs.items()
            if entry.holder == task_id and entry.key == key and entry.output is None
        ]
        if again:
            return again
        waiting = [place for place, entry in self.inputs.items() if entry.holder is None and entry.output is None]
        for place in waiting[:limit]:
            self.inputs[place] = replace(self.inputs[place], holder=task_id, key=key)
        return waiting[:limit]

    def finish(self, holder: str | None, place: tuple[str, int], retry_count: int, body: bytes) -> bool:
        entry = self.inputs[place]
        if not accepts(entry.attempt, holder, retry_count):
            return False
        self.inputs[place] = replace(entry, output=body)
        return True

    def settle(self, task_id: str, failing: int) -> int:
        """Inputs with this number fail; gives how many others wait again."""
        self.ended.add(task_id)
        released = 0
        for place, entry in self.inputs.items():
            if entry.holder != task_id or entry.output is not None:
                continue
            if entry.number == failing:
                self.inputs[place] = replace(entry, output=b"failed")
            else:
                self.inputs[place] = replace(entry, holder=None, losses=entry.losses + 1)
                released += 1
        return released

    def retry(self, place: tuple[str, int], wanted: int | None) -> bool:
        entry = self.inputs[place]
        number = next_retry(entry.attempt, wanted)
        if number is None:
            return False
        self.inputs[place] = replace(entry, holder=None, output=None, retry_count=number)
        return True

    def outputs(self, call_id: str) -> dict[int, bytes]:
        return {
            entry.number: entry.output
            for entry in self.inputs.values()
            if entry.call_id == call_id and entry.output is not None
        }

    def demand(self) -> tuple[int, int]:
        """Inputs that wait, and that are held."""
        open_inputs = [entry for entry in self.inputs.values() if entry.output is None]
        held = sum(entry.holder is not None for entry in open_inputs)
        return len(open_inputs) - held, held
