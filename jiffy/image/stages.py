"""The stages of a Dockerfile: what each stands on, and which of them the last one needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from jiffy.errors import InvalidError
from jiffy.image.dockerfile import DockerfileError, parse_dockerfile
from jiffy.image.instructions import Argument, Command, Copy, From, Meaning, read_instruction
from jiffy.image.words import expand

PREDEFINED: Final = frozenset(
    name
    for each in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (each, each.lower())
)
"""Build arguments that need no ARG."""


@dataclass(slots=True)
class Stage:
    """`reference` is its base with variables expanded: an image, `scratch`, or the name of another stage."""

    number: int
    head: From
    reference: str
    steps: list[Meaning] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.head.name or str(self.number)


@dataclass(frozen=True, slots=True)
class Plan:
    """The stages of a file, and the arguments before the first of them."""

    stages: tuple[Stage, ...]
    arguments: Mapping[str, str]

    @property
    def target(self) -> Stage:
        return self.stages[-1]

    def find(self, name: str, before: Stage) -> Stage | None:
        """The stage that a name or number means to one that comes later; None when it names an image."""
        for stage in reversed(self.stages[: before.number]):
            if name.lower() == stage.head.name or name == str(stage.number):
                return stage
        return None

    def needs(self, stage: Stage) -> set[int]:
        """The numbers of the stages that one stands on or copies from."""
        found = [self.find(name, stage) for name in _names_used(stage)]
        return {each.number for each in found if each is not None}


def plan_stages(text: str, build_arguments: Mapping[str, str]) -> Plan:
    """Read a Dockerfile. DockerfileError with the line of what is wrong."""
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for instruction in parse_dockerfile(text):
        meaning = read_instruction(instruction)
        try:
            if isinstance(meaning, From):
                reference = expand(meaning.reference, arguments, instruction.escape)
                if not reference:
                    raise instruction.error(f"`{instruction.source}` names no image", why="its variables are not set")
                stages.append(Stage(len(stages), meaning, reference))
            elif stages:
                if meaning is not None:
                    stages[-1].steps.append(meaning)
            elif isinstance(meaning, Argument):
                declare(meaning, arguments, build_arguments, {})
            elif meaning is not None:
                raise instruction.error(f"{instruction.keyword} before the first FROM", hint="only ARG may come there")
        except DockerfileError:
            raise
        except InvalidError as error:
            raise instruction.error(error.what, why=error.why, hint=error.hint) from error
    if not stages:
        raise DockerfileError("the file has no FROM", 0, hint="FROM scratch begins with nothing")
    return Plan(tuple(stages), arguments)


def declare(
    argument: Argument,
    known: dict[str, str],
    given: Mapping[str, str],
    outer: Mapping[str, str],
) -> None:
    """Carry out ARG: what was given, else its default, else the value from before the first FROM."""
    for name, default in argument.pairs:
        if name in given:
            known[name] = given[name]
        elif default is not None:
            known[name] = expand(default, known, argument.at.escape)
        elif name in outer:
            known[name] = outer[name]


def _names_used(stage: Stage) -> Iterator[str]:
    yield stage.reference
    for step in stage.steps:
        if isinstance(step, Copy) and step.stage:
            yield step.stage
        if isinstance(step, Command):
            yield from (mount["from"] for mount in step.mounts if "from" in mount)
