"""Builds images from their definitions: stages side by side, each as soon as those that it needs are done."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import asdict, replace

from jiffy.core.actions import LaunchContainer
from jiffy.errors import InvalidError
from jiffy.image.debian_slim import shorten
from jiffy.image.interpreter import QUESTION, Interpreter, find_interpreter, guess_interpreter, read_answer
from jiffy.image.reference import parse_reference
from jiffy.image.stages import Plan, Stage, plan_stages
from jiffy.objects.local import LocalObjects
from jiffy.server.bases import Bases
from jiffy.server.definitions import Definition
from jiffy.server.stage_run import DEFAULT_PATH, StageRun, Workshop
from jiffy.server.steps import Hear, check_outcome
from jiffy.store.images import ImageContent


class Builder:
    def __init__(self, workshop: Workshop, bases: Bases, objects: LocalObjects) -> None:
        self._workshop = workshop
        self._bases = bases
        self._objects = objects

    async def build(self, definition: Definition, report: Hear) -> ImageContent:
        """Carry out a definition. A JiffyError says what went wrong, and in which line."""
        lines = shorten(definition.lines)
        plan = plan_stages("\n".join(lines), definition.build_arguments)
        job = _Job(self._workshop, self._bases, definition, plan, report)
        content = await job.run()
        return await self.inspect(content, report)

    async def inspect(self, content: ImageContent, report: Hear) -> ImageContent:
        """Ask the image's Python what it is. One whose layers are those of a base is known already."""
        if content.python and len(content.layers) == 1:
            return content
        search = content.environment.get("PATH", DEFAULT_PATH)
        tree = await asyncio.to_thread(self._workshop.layers.tree, content.layers)
        program = await asyncio.to_thread(find_interpreter, tree, search)
        file = tree.find(program.encode("utf-8", "surrogateescape")) if program else None
        if file is None:
            return _with_interpreter(content, Interpreter())
        if not self._objects.has(file.digest):
            return _with_interpreter(content, guess_interpreter(tree, program))

        async def ask() -> dict[str, str]:
            answer = await self._ask(content, program, report)
            return {"index": self._objects.put(json.dumps(asdict(answer)).encode())}

        key = hashlib.sha256(json.dumps([content.layers, program, search]).encode()).hexdigest()
        made = await self._workshop.derivations.make(f"inspection/{key}", ask, of=content.layers)
        known = json.loads(await asyncio.to_thread(self._objects.read, made["index"]))
        return _with_interpreter(content, Interpreter(**known))

    async def _ask(self, content: ImageContent, program: str, report: Hear) -> Interpreter:
        derivations = self._workshop.derivations
        said: list[str] = []
        order = LaunchContainer(
            task_id="",
            layers=tuple([await derivations.erofs_image(layer) for layer in content.layers]),
            chunk_maps=tuple([await derivations.chunk_map(layer) for layer in content.layers]),
            argv=(program, "-c", QUESTION),
            environment={"PATH": DEFAULT_PATH, **content.environment, "PYTHONDONTWRITEBYTECODE": "1"},
            network=False,
        )
        check_outcome(await self._workshop.steps.run(order, said.append, report))
        return read_answer("".join(said))


class _Job:
    """One build: its stages by number."""

    def __init__(self, workshop: Workshop, bases: Bases, definition: Definition, plan: Plan, report: Hear) -> None:
        self._workshop = workshop
        self._bases = bases
        self._definition = definition
        self._plan = plan
        self._report = report
        self._done: dict[int, ImageContent] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def run(self) -> ImageContent:
        try:
            await self._start(self._plan.target)
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        return self._done[self._plan.target.number]

    def _start(self, stage: Stage) -> asyncio.Task[None]:
        if stage.number not in self._tasks:
            self._tasks[stage.number] = asyncio.ensure_future(self._run(stage))
        return self._tasks[stage.number]

    async def _run(self, stage: Stage) -> None:
        needed = [self._start(self._plan.stages[number]) for number in self._plan.needs(stage)]
        await asyncio.gather(*needed)
        run = StageRun(
            workshop=self._workshop,
            definition=self._definition,
            plan=self._plan,
            stage=stage,
            done=self._done,
            find_image=self._find_image,
            report=self._report_of(stage),
            content=await self._base_of(stage),
        )
        self._done[stage.number] = await run.run()

    async def _base_of(self, stage: Stage) -> ImageContent:
        earlier = self._plan.find(stage.reference, stage)
        content = self._done[earlier.number] if earlier is not None else await self._find_image(stage.reference)
        platform = stage.head.platform
        if platform and not platform.startswith(("linux/amd64", "$")):
            raise InvalidError(
                f"line {stage.head.at.line}: no image for {platform}", why="this server runs linux/amd64"
            )
        return content

    async def _find_image(self, reference: str) -> ImageContent:
        if (content := self._definition.bases.get(reference)) is not None:
            return content
        credentials = self._definition.credentials if self._is_of_the_secret(reference) else None
        return await self._bases.find(reference, credentials, self._report)

    def _is_of_the_secret(self, reference: str) -> bool:
        """A registry's password is for the registry of the first FROM, and no other learns it."""
        return parse_reference(reference).host == parse_reference(self._plan.stages[0].reference).host

    def _report_of(self, stage: Stage) -> Hear:
        if len(self._plan.stages) == 1:
            return self._report
        return lambda line: self._report(f"[{stage.name}] {line}")


def _with_interpreter(content: ImageContent, found: Interpreter) -> ImageContent:
    return replace(
        content,
        python=found.series,
        python_version_info=f"Python {found.version}" if found.version else "",
        python_program=found.program,
        python_packages=dict(found.packages),
        libc=found.libc,
    )
