"""The command router of the API: commands that people run in containers, beside what these run.

Clients are told where it is and given a token for one container; it is a gRPC service of its own on the same listener.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from modal_proto import api_pb2, task_command_router_pb2

from jiffy.core.actions import ExecInContainer, Terminal
from jiffy.errors import InvalidError, NotFoundError, UnauthenticatedError, UnsupportedError
from jiffy.execs import Kind
from jiffy.server.caller import Caller
from jiffy.server.execs import Exec, Execs
from jiffy.server.scheduler import Scheduler
from jiffy.server.tokens import Tokens
from jiffy.store.stores import Stores

_NO_STDERR: Final = (
    task_command_router_pb2.TASK_EXEC_STDERR_CONFIG_DEVNULL,
    task_command_router_pb2.TASK_EXEC_STDERR_CONFIG_STDOUT,
)


class CommandRouter:
    """Its callers, but for those that ask where it is, are identified by RouterIdentity."""

    def __init__(self, stores: Stores, scheduler: Scheduler, tokens: Tokens, execs: Execs) -> None:
        self._stores = stores
        self._scheduler = scheduler
        self._tokens = tokens
        self._execs = execs

    async def task_get_command_router_access(
        self, request: api_pb2.TaskGetCommandRouterAccessRequest, caller: Caller
    ) -> api_pb2.TaskGetCommandRouterAccessResponse:
        await self._worker_of(request.task_id)
        return api_pb2.TaskGetCommandRouterAccessResponse(
            url=f"http://{caller.authority}", jwt=self._tokens.grant(request.task_id)
        )

    async def task_exec_start(
        self, request: task_command_router_pb2.TaskExecStartRequest, caller: Caller
    ) -> task_command_router_pb2.TaskExecStartResponse:
        _check(request.task_id, caller)
        if request.container_id or request.secret_sources:
            raise UnsupportedError("commands in further containers of a sandbox, or with sources of secrets")
        if not request.command_args:
            raise InvalidError("a command has at least one word")
        worker_id = await self._worker_of(request.task_id)
        await self._execs.start(worker_id, request.exec_id, await self._order(request), _unwanted(request))
        return task_command_router_pb2.TaskExecStartResponse()

    async def task_exec_stdio_read(
        self, request: task_command_router_pb2.TaskExecStdioReadRequest, caller: Caller
    ) -> AsyncIterator[task_command_router_pb2.TaskExecStdioReadResponse]:
        found = await self._find(request.task_id, request.exec_id, caller)
        is_error = request.file_descriptor == task_command_router_pb2.TASK_EXEC_STDIO_FILE_DESCRIPTOR_STDERR
        with found.attended():
            async for data in (found.stderr if is_error else found.stdout).read(request.offset):
                yield task_command_router_pb2.TaskExecStdioReadResponse(data=data)

    async def task_exec_stdin_write(
        self, request: task_command_router_pb2.TaskExecStdinWriteRequest, caller: Caller
    ) -> task_command_router_pb2.TaskExecStdinWriteResponse:
        found = await self._find(request.task_id, request.exec_id, caller)
        with found.attended():
            await found.write(request.offset, request.data, is_end=request.eof)
        return task_command_router_pb2.TaskExecStdinWriteResponse()

    async def task_exec_wait(
        self, request: task_command_router_pb2.TaskExecWaitRequest, caller: Caller
    ) -> task_command_router_pb2.TaskExecWaitResponse:
        """The client gives up after a minute and asks again."""
        found = await self._find(request.task_id, request.exec_id, caller)
        with found.attended():
            return task_command_router_pb2.TaskExecWaitResponse(code=await found.wait())

    async def task_exec_poll(
        self, request: task_command_router_pb2.TaskExecPollRequest, caller: Caller
    ) -> task_command_router_pb2.TaskExecPollResponse:
        found = await self._find(request.task_id, request.exec_id, caller)
        with found.attended():
            code = found.peek()
        if code is None:
            return task_command_router_pb2.TaskExecPollResponse()
        return task_command_router_pb2.TaskExecPollResponse(code=code)

    async def _find(self, task_id: str, exec_id: str, caller: Caller) -> Exec:
        _check(task_id, caller)
        return await self._execs.find(task_id, exec_id)

    async def _worker_of(self, task_id: str) -> str:
        if (container := self._scheduler.peek_container(task_id)) is not None:
            return container.worker_id
        await self._stores.tasks.get(task_id)
        raise NotFoundError(f"container {task_id} has ended")

    async def _order(self, request: task_command_router_pb2.TaskExecStartRequest) -> ExecInContainer:
        secrets = [await self._stores.secrets.get(secret_id) for secret_id in request.secret_ids]
        variables = {name: value for secret in secrets for name, value in secret.variables.items()}
        terminal = request.pty_info if request.HasField("pty_info") and request.pty_info.enabled else None
        return ExecInContainer(
            task_id=request.task_id,
            channel_id="",
            argv=tuple(request.command_args),
            environment={**variables, **(_terminal_variables(terminal) if terminal else {}), **request.env},
            working_directory=request.workdir,
            terminal=Terminal(terminal.winsz_rows, terminal.winsz_cols) if terminal else None,
            timeout_seconds=request.timeout_secs,
            joined=request.stderr_config == task_command_router_pb2.TASK_EXEC_STDERR_CONFIG_STDOUT,
        )


def _terminal_variables(terminal: api_pb2.PTYInfo) -> dict[str, str]:
    told = {
        "TERM": terminal.env_term,
        "COLORTERM": terminal.env_colorterm,
        "TERM_PROGRAM": terminal.env_term_program,
    }
    return {name: value for name, value in told.items() if value}


def _unwanted(request: task_command_router_pb2.TaskExecStartRequest) -> list[Kind]:
    """Outputs that nobody reads, or that nothing comes from: stderr is one at a terminal, or when it is joined to stdout."""
    unwanted = []
    if request.stdout_config == task_command_router_pb2.TASK_EXEC_STDOUT_CONFIG_DEVNULL:
        unwanted.append(Kind.STDOUT)
    if request.stderr_config in _NO_STDERR or request.pty_info.enabled:
        unwanted.append(Kind.STDERR)
    return unwanted


def _check(task_id: str, caller: Caller) -> None:
    if task_id != caller.task_id:
        raise UnauthenticatedError(f"the token is not for container {task_id}")
