"""The output of a build's step: whole lines for the person who waits, and the last of them for an error."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from jiffy.core.aftermath import Ended, describe
from jiffy.core.events import ExitReason
from jiffy.image.dockerfile import DockerfileError
from jiffy.image.instructions import Command
from jiffy.server.steps import Hear, Outcome

_LAST_LINES: Final = 12


class OutputLines:
    """Output of a step as whole lines, without secrets. Of a line that was written over, its last state counts."""

    def __init__(self, report: Hear, secrets: Iterable[str]) -> None:
        self._report = report
        self._secrets = sorted([value for value in secrets if value.strip()], key=len, reverse=True)
        self._open = ""
        self.last: deque[str] = deque(maxlen=_LAST_LINES)

    def hear(self, text: str) -> None:
        *whole, self._open = (self._open + text).split("\n")
        for line in whole:
            self._tell(line)

    def end(self) -> None:
        if self._open:
            self._tell(self._open)
            self._open = ""

    def _tell(self, line: str) -> None:
        line = line.rstrip("\r").rpartition("\r")[2]
        for secret in self._secrets:
            line = line.replace(secret, "***")
        self.last.append(line)
        self._report(line)


def explain_failure(command: Command, outcome: Outcome, lines: OutputLines) -> DockerfileError:
    if outcome.reason is ExitReason.FINISHED and outcome.exit_code <= 128:
        what = f"`{command.at.source}` exited with code {outcome.exit_code}"
    else:
        ended = Ended(outcome.reason, outcome.exit_code, outcome.detail, 0)
        what = f"`{command.at.source}` failed: {describe(ended, 'while it ran this step')}"
    said = [line for line in lines.last if line.strip()]
    tail = "".join(f"\n    {line}" for line in said)
    return command.at.error(f"{what}. It said last:{tail}" if said else what)
