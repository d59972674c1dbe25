"""One stage of a Dockerfile carried out: each instruction changes the image's configuration, or its layers."""

from __future__ import annotations

import asyncio
import hashlib
import json
import posixpath
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Final

from jiffy.core.actions import CacheMount, LaunchContainer, TemporaryMount, User
from jiffy.core.events import ExitReason
from jiffy.errors import InvalidError, JiffyError, NotFoundError, UnsupportedError
from jiffy.image.copying import Placement, place_entries
from jiffy.image.dockerfile import DockerfileError, Heredoc, parse_dockerfile
from jiffy.image.index import Entry, Kind
from jiffy.image.instructions import (
    Argument,
    Command,
    Copy,
    HealthCheck,
    Meaning,
    OnBuild,
    Pairs,
    Words,
    read_instruction,
)
from jiffy.image.stages import PREDEFINED, Plan, Stage, declare
from jiffy.image.tree import Tree
from jiffy.image.users import find_group, find_user
from jiffy.image.words import expand, expand_document
from jiffy.objects.base import Digest
from jiffy.server.additions import Additions
from jiffy.server.definitions import CONTEXT_TIME_NS, Definition
from jiffy.server.derivations import Derivations
from jiffy.server.layers import Layers, without_repeats
from jiffy.server.offers import Offer, read_release
from jiffy.server.step_output import OutputLines, explain_failure
from jiffy.server.steps import Hear, Steps, check_outcome
from jiffy.store.images import ImageContent

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHELL: Final = ("/bin/sh", "-c")
_HEREDOCS: Final = "/run/jiffy/heredoc"
_SECRETS: Final = "/run/secrets"
_ALWAYS_MOUNTED: Final = ("/etc/resolv.conf", "/etc/hosts", "/etc/hostname", "/dev", "/proc", "/sys")

FindImage = Callable[[str], Awaitable[ImageContent]]
"""An image by its reference."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """What all stages of all builds use."""

    layers: Layers
    derivations: Derivations
    steps: Steps
    additions: Additions
    offer: Offer


@dataclass(slots=True)
class StageRun:
    """`done` are the contents of earlier stages by their numbers; `report` takes lines for the person who waits."""

    workshop: Workshop
    definition: Definition
    plan: Plan
    stage: Stage
    done: Mapping[int, ImageContent]
    find_image: FindImage
    report: Hear
    content: ImageContent
    arguments: dict[str, str] = field(default_factory=dict)
    has_command: bool = False
    step: int = 0

    async def run(self) -> ImageContent:
        """Carry out all instructions. DockerfileError says in which line it went wrong."""
        triggers, self.content = self.content.on_build, replace(self.content, on_build=())
        for text in triggers:
            for instruction in parse_dockerfile(text):
                if (meaning := read_instruction(instruction)) is not None:
                    await self._carry_out(meaning)
        for meaning in self.stage.steps:
            await self._carry_out(meaning)
        return self.content

    async def _carry_out(self, meaning: Meaning) -> None:
        self.step += 1
        self.report(f"=> Step {self.step}: {meaning.at.source}")
        try:
            await self._apply(meaning)
        except DockerfileError:
            raise
        except JiffyError as error:
            raise _located(meaning, error) from error

    async def _apply(self, meaning: Meaning) -> None:
        match meaning:
            case Argument():
                declare(meaning, self.arguments, self.definition.build_arguments, self.plan.arguments)
            case Pairs():
                self._set_pairs(meaning)
            case Words():
                await self._set_words(meaning)
            case HealthCheck():
                self.content = replace(self.content, health_check={"Test": list(meaning.test), **meaning.options})
            case OnBuild():
                self.content = replace(self.content, on_build=(*self.content.on_build, meaning.text))
            case Copy():
                await self._copy(meaning)
            case Command():
                await self._command(meaning)

    # Configuration

    def _set_pairs(self, pairs: Pairs) -> None:
        new = {self._expand(pairs, name): self._expand(pairs, value) for name, value in pairs.pairs}
        if pairs.at.keyword == "ENV":
            self.content = replace(self.content, environment={**self.content.environment, **new})
        else:
            self.content = replace(self.content, labels={**self.content.labels, **new})

    async def _set_words(self, words: Words) -> None:
        values = [self._expand(words, word) for word in words.words]
        match words.at.keyword:
            case "WORKDIR":
                await self._set_working_directory(values[0])
            case "USER":
                self.content = replace(self.content, user=values[0])
            case "STOPSIGNAL":
                self.content = replace(self.content, stop_signal=values[0])
            case "EXPOSE":
                ports = tuple(port if "/" in port else f"{port}/tcp" for value in values for port in value.split())
                self.content = replace(self.content, exposed_ports=_added(self.content.exposed_ports, ports))
            case "VOLUME":
                self.content = replace(self.content, volumes=_added(self.content.volumes, tuple(values)))

    async def _set_working_directory(self, path: str) -> None:
        path = self._absolute(path)
        self.content = replace(self.content, working_directory=path)
        folder = Entry(path.encode("utf-8", "surrogateescape"), Kind.DIRECTORY, 0o755)
        tree = await asyncio.to_thread(self._tree)
        if tree.find(folder.path) is None:
            await self._add_entries([folder])

    def _set_command(self, command: Command) -> None:
        words = command.words if command.words is not None else (*self._shell, command.line)
        match command.at.keyword:
            case "CMD":
                self.has_command = True
                self.content = replace(self.content, command=words)
            case "ENTRYPOINT":
                kept = self.content.command if self.has_command else ()
                self.content = replace(self.content, entrypoint=words, command=kept)
            case "SHELL":
                self.content = replace(self.content, shell=words)

    # COPY and ADD

    async def _copy(self, copy: Copy) -> None:
        tree = await asyncio.to_thread(self._tree)
        source, patterns = await self._sources(copy)
        target = self._expand(copy, copy.target)
        slash = "/" if target.endswith(("/", "/.")) or target == "." else ""
        placement = Placement(
            target=self._absolute(target).rstrip("/") + slash or "/",
            owner=self._owner(tree, self._expand(copy, copy.owner), has_stage=bool(copy.stage)),
            mode=self._expand(copy, copy.mode),
            parents=copy.parents,
            excluded=tuple([self._expand(copy, each) for each in copy.excluded]),
        )
        entries = await asyncio.to_thread(place_entries, source, patterns, tree, placement)
        await self._add_entries(entries if copy.stage else _dated(entries))

    async def _sources(self, copy: Copy) -> tuple[Tree, list[str]]:
        """A tree, and where in it the sources are: those that are no files of it are put there first."""
        documents = [each for each in copy.sources if isinstance(each, Heredoc)]
        names = [self._expand(copy, each) for each in copy.sources if isinstance(each, str)]
        if copy.stage:
            return await asyncio.to_thread(self._tree_of, (await self._image_named(copy.stage)).layers), names
        base = () if not self.definition.context else (self.definition.context,)
        extra = [*self.definition.context_files, *[self._document(copy, each) for each in documents]]
        names += [f"/{document.name}" for document in documents]
        if copy.at.keyword == "ADD":
            add = self.workshop.additions.add
            context = await asyncio.to_thread(self._context, base, extra)
            added = [await add(name, context, copy, self.report) for name in names]
            names = [name for each in added for name in each.names]
            extra = [*extra, *[entry for each in added for entry in each.entries]]
        return await asyncio.to_thread(self._context, base, extra), names

    def _context(self, base: tuple[Digest, ...], extra: Sequence[Entry]) -> Tree:
        layers = base or (self.workshop.layers.put([Entry(b"/", Kind.DIRECTORY, 0o755)]),)
        return self._tree_of(self.workshop.layers.add_entries(layers, extra) if extra else layers)

    def _document(self, copy: Copy, document: Heredoc) -> Entry:
        text = document.text
        if document.expands:
            text = expand_document(text, self._variables, copy.at.escape)
        data = text.encode("utf-8", "surrogateescape")
        path = b"/" + document.name.encode()
        return Entry(path, Kind.FILE, 0o644, size=len(data), digest=self.workshop.layers.store(data))

    def _owner(self, tree: Tree, text: str, *, has_stage: bool) -> tuple[int, int] | None:
        if not text:
            return None if has_stage else (0, 0)
        name, _, group = text.partition(":")
        user = find_user(name, self._read(tree, "/etc/passwd"), self._read(tree, "/etc/group"))
        gid = find_group(group, self._read(tree, "/etc/group")) if group else user.uid if name.isdigit() else user.gid
        return user.uid, gid

    # RUN

    async def _command(self, command: Command) -> None:
        if command.at.keyword != "RUN":
            self._set_command(command)
            return
        tree = await asyncio.to_thread(self._tree)
        order = await self._order(command, tree)
        layers = self.content.layers
        name = f"step/{self._key(command, order)}"
        made = await self.workshop.derivations.make(name, lambda: self._run_step(command, order, tree), of=layers)
        self.content = replace(self.content, layers=tuple(made["layers"].split()))

    async def _run_step(self, command: Command, order: LaunchContainer, tree: Tree) -> dict[str, str]:
        lines = OutputLines(self.report, self.definition.secrets.values())
        bound = await self._bound_layer(command)
        layers = without_repeats((*self.content.layers, *bound.layers))
        launch = replace(
            order,
            layers=tuple([await self.workshop.derivations.erofs_image(layer) for layer in layers]),
            chunk_maps=tuple([await self.workshop.derivations.chunk_map(layer) for layer in layers]),
            environment={**self.workshop.offer.variables, **order.environment, **self.definition.secrets},
            files={**await asyncio.to_thread(self._offered_files, tree), **order.files},
        )
        outcome = await self.workshop.steps.run(launch, lines.hear, self.report)
        lines.end()
        check_outcome(outcome)
        if outcome.reason is not ExitReason.FINISHED or outcome.exit_code:
            raise explain_failure(command, outcome, lines)
        after = await asyncio.to_thread(self._add_change, launch, outcome.change, bound)
        return {"index": after[-1], "layers": " ".join(after)}

    def _add_change(self, order: LaunchContainer, change: Digest, bound: _Bound) -> tuple[Digest, ...]:
        folders = [*[cache.target for cache in order.caches], *[mount.target for mount in order.temporary]]
        mounts = [*_ALWAYS_MOUNTED, *order.files, *bound.targets, *folders]
        ignored = [_bytes(path) for path in mounts]
        dropped = [_bytes(path) for path in bound.targets]
        return self.workshop.layers.add_change(self.content.layers, change, ignored, dropped, bound.layers)

    async def _order(self, command: Command, tree: Tree) -> LaunchContainer:
        """All of the order that is part of what the step means: not its layers, nor what this host offers."""
        user = find_user(self.content.user, self._read(tree, "/etc/passwd"), self._read(tree, "/etc/group"))
        argv, files = self._argv(command)
        environment = {"PATH": DEFAULT_PATH, "HOME": user.home, **self._proxies, **self.arguments}
        secrets, variables = self._secret_mounts(command)
        return LaunchContainer(
            task_id="",
            layers=(),
            argv=argv,
            environment={**environment, **self.content.environment, **variables},
            working_directory=self.content.working_directory or "/",
            files={**files, **secrets},
            user=User(user.uid, user.gid, user.groups),
            caches=tuple(self._cache_mounts(command)),
            temporary=tuple(
                [
                    TemporaryMount(self._mount_target(command, mount), _size(command, mount.get("size", "0")))
                    for mount in command.mounts
                    if mount["type"] == "tmpfs"
                ]
            ),
            network=command.network == "default",
            capture=True,
        )

    def _argv(self, command: Command) -> tuple[tuple[str, ...], dict[str, bytes]]:
        documents = command.at.heredocs
        if command.words is not None:
            return command.words, {}
        if len(documents) == 1 and command.line.strip() == documents[0].marker:
            return self._script(documents[0])
        text = command.line
        for document in documents:
            text += f"\n{document.text}{document.name}"
        return (*self._shell, text + "\n" if documents else text), {}

    def _script(self, document: Heredoc) -> tuple[tuple[str, ...], dict[str, bytes]]:
        """A here-document by itself is a script: of the shell, or of what its first line names."""
        if not document.text.startswith("#!"):
            return (*self._shell, document.text), {}
        path = f"{_HEREDOCS}/{document.name}"
        words = document.text.partition("\n")[0][2:].split(maxsplit=1)
        return (*words, path), {path: document.text.encode("utf-8", "surrogateescape")}

    def _secret_mounts(self, command: Command) -> tuple[dict[str, bytes], dict[str, str]]:
        files: dict[str, bytes] = {}
        variables: dict[str, str] = {}
        for mount in command.mounts:
            if mount["type"] == "ssh" and mount.get("required") == "true":
                raise UnsupportedError("--mount=type=ssh", why="a server has nobody's keys to lend")
            if mount["type"] != "secret":
                continue
            name = mount.get("id") or posixpath.basename(mount.get("target", ""))
            value = self.definition.secrets.get(name)
            if value is None:
                if mount.get("required") == "true":
                    raise NotFoundError(f"no secret has the key {name}", hint="secrets=[...] of the image gives some")
                continue
            if mount.get("env"):
                variables[mount["env"]] = value
            if mount.get("target") or not mount.get("env"):
                target = self._mount_target(command, mount) if mount.get("target") else f"{_SECRETS}/{name}"
                files[target] = value.encode()
        return files, variables

    def _cache_mounts(self, command: Command) -> list[CacheMount]:
        caches = []
        for mount in command.mounts:
            if mount["type"] != "cache":
                continue
            target = self._mount_target(command, mount)
            caches.append(
                CacheMount(
                    target=target,
                    name=self._expand(command, mount.get("id", "")) or target,
                    mode=_number(command, mount.get("mode", "0755"), 8),
                    owner=User(_number(command, mount.get("uid", "0")), _number(command, mount.get("gid", "0"))),
                    exclusive=mount.get("sharing", "shared") != "shared",
                    read_only="readonly" in mount,
                )
            )
        return caches

    async def _bound_layer(self, command: Command) -> _Bound:
        """The trees of --mount=type=bind as layers over the root. What is written there is dropped afterwards."""
        layers: list[Digest] = []
        targets = []
        for mount in command.mounts:
            if mount["type"] != "bind":
                continue
            target = self._mount_target(command, mount)
            source = await self._bind_source(mount.get("from", ""))
            placement = Placement(target)
            patterns = [mount.get("source", "/")]
            below = (*self.content.layers, *layers)
            entries = await asyncio.to_thread(place_entries, source, patterns, self._tree_of(below), placement)
            layers.append(await asyncio.to_thread(self.workshop.layers.graft, below, entries))
            targets.append(target)
        return _Bound(tuple(layers), tuple(targets))

    async def _bind_source(self, name: str) -> Tree:
        if name:
            return await asyncio.to_thread(self._tree_of, (await self._image_named(name)).layers)
        base = (self.definition.context,) if self.definition.context else ()
        return await asyncio.to_thread(self._context, base, self.definition.context_files)

    def _key(self, command: Command, order: LaunchContainer) -> str:
        """What a step depends on: the same key, the same result."""
        meant = {
            "layers": self.content.layers,
            "argv": order.argv,
            "environment": sorted(order.environment.items()),
            "working_directory": order.working_directory,
            "files": sorted((path, hashlib.sha256(data).hexdigest()) for path, data in order.files.items()),
            "user": (order.user.uid, order.user.gid, order.user.groups),
            "mounts": [sorted(mount.items()) for mount in command.mounts],
            "network": order.network,
            "secrets": self.definition.secrets_mark,
            "context": self.definition.context if any(mount["type"] == "bind" for mount in command.mounts) else "",
            "salt": self.definition.salt,
        }
        return hashlib.sha256(json.dumps(meant, sort_keys=True).encode()).hexdigest()

    # What instructions share

    @property
    def _variables(self) -> dict[str, str]:
        """What $NAME stands for: ENV wins over ARG."""
        return {**self._proxies, **self.arguments, **self.content.environment}

    @property
    def _proxies(self) -> dict[str, str]:
        return {name: value for name, value in self.definition.build_arguments.items() if name in PREDEFINED}

    @property
    def _shell(self) -> tuple[str, ...]:
        return self.content.shell or DEFAULT_SHELL

    def _expand(self, meaning: Meaning, text: str) -> str:
        return expand(text, self._variables, meaning.at.escape)

    def _absolute(self, path: str) -> str:
        joined = PurePosixPath("/", self.content.working_directory or "/", path)
        return posixpath.normpath(str(joined)).replace("//", "/")

    def _mount_target(self, command: Command, mount: Mapping[str, str]) -> str:
        target = self._absolute(self._expand(command, mount["target"]))
        if target == "/":
            raise InvalidError("a mount cannot be at /")
        return target

    def _offered_files(self, tree: Tree) -> dict[str, bytes]:
        return self.workshop.offer.files_for(tree, read_release(self._read(tree, "/etc/os-release")))

    def _tree(self) -> Tree:
        return self._tree_of(self.content.layers)

    def _tree_of(self, layers: Sequence[Digest]) -> Tree:
        return self.workshop.layers.tree(layers)

    def _read(self, tree: Tree, path: str) -> str:
        return self.workshop.layers.read(tree, path)

    async def _add_entries(self, entries: Sequence[Entry]) -> None:
        layers = await asyncio.to_thread(self.workshop.layers.add_entries, self.content.layers, entries)
        self.content = replace(self.content, layers=layers)

    async def _image_named(self, name: str) -> ImageContent:
        """Of an earlier stage, or another image."""
        name = expand(name, {**self.plan.arguments, **self._variables})
        if (stage := self.plan.find(name, self.stage)) is not None:
            return self.done[stage.number]
        if name.isdigit() or name == self.stage.head.name:
            raise InvalidError(f"there is no earlier stage {name}")
        return await self.find_image(name)


@dataclass(frozen=True, slots=True)
class _Bound:
    layers: tuple[Digest, ...]
    targets: tuple[str, ...]


def _located(meaning: Meaning, error: JiffyError) -> JiffyError:
    """The same kind of error, with the line."""
    return type(error)(f"line {meaning.at.line}: {error.what}", why=error.why, hint=error.hint)


def _dated(entries: Iterable[Entry]) -> list[Entry]:
    """The client does not tell when files of a context were changed."""
    return [entry if entry.mtime_ns else replace(entry, mtime_ns=CONTEXT_TIME_NS) for entry in entries]


def _added(known: tuple[str, ...], new: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*known, *new)))


def _bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _number(command: Command, text: str, base: int = 10) -> int:
    try:
        number = int(text, base)
    except ValueError:
        raise command.at.error(f"{text!r} is no number") from None
    if not 0 <= number < 2**32:
        raise command.at.error(f"{text!r} is out of range")
    return number


def _size(command: Command, text: str) -> int:
    units = {"k": 2**10, "m": 2**20, "g": 2**30}
    digits = text.lower().rstrip("b")
    unit = units.get(digits[-1:], 1)
    number = digits.rstrip("kmg")
    if not number.isdigit():
        raise command.at.error(f"{text} is no size", hint="such as 512m")
    return int(number) * unit
