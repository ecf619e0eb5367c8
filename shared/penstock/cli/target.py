"""How a command finds its stack: --dir, --bus and --workspace, and an offer to start one."""

import functools
import os
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from penstock.errors import BusUnavailable

if TYPE_CHECKING:
    from penstock.sdk.async_client import AsyncClient
    from penstock.sdk.target import Target

T = TypeVar("T")
Function = TypeVar("Function", bound=Callable[..., Any])


class Where(NamedTuple):
    """What the command line said about the stack; `target` finds it."""

    folder: str | None = None
    bus: str | None = None
    workspace: str | None = None


def target_options(function: Function) -> Function:
    """Give a command --dir, --bus and --workspace; it is handed `where: Where`."""

    # A name that no command's own argument has: click lets the second of two overwrite the first.
    @click.option(
        "--dir", "stack_folder", metavar="DIR", help="Folder of a local stack (./.penstock)."
    )
    @click.option("--bus", metavar="URL", help="NATS of a remote stack, nats://host:4222.")
    @click.option("--workspace", metavar="W", help="Workspace (penstock).")
    @functools.wraps(function)
    def wrapped(
        *args: Any, stack_folder: str | None, bus: str | None, workspace: str | None, **options: Any
    ) -> Any:
        return function(*args, where=Where(stack_folder, bus, workspace), **options)

    return wrapped  # type: ignore[return-value]


def target(where: Where) -> "Target":
    """Return the stack; on a terminal, offer to start one when there is none.

    Raises:
        BusUnavailable: E_CONNECT, with the sentence that says what to type.
    """
    try:
        return _found(where)
    except BusUnavailable:
        if not _wants_one(where):
            raise
    import subprocess

    command = [sys.executable, "-m", "penstock.cli.main", "up", "--detach"]
    if where.folder:
        command += ["--dir", where.folder]
    if where.workspace:
        command += ["--workspace", where.workspace]
    started = subprocess.run(command, stdout=sys.stderr, check=False)
    if started.returncode:
        sys.exit(started.returncode)  # `up` has said why
    return _found(where)


def with_client(where: Where, body: "Callable[[AsyncClient], Awaitable[T]]") -> T:
    """Connect to the stack, await `body` with the client, leave; return what `body` returned."""
    import asyncio

    found = target(where)

    async def whole() -> T:
        from penstock.sdk.async_client import AsyncClient

        async with AsyncClient(target=found) as client:
            return await body(client)

    return asyncio.run(whole())


def _found(where: Where) -> "Target":
    from pathlib import Path

    from penstock.sdk.target import target_of

    return target_of(
        folder=where.folder,
        bus=where.bus,
        workspace=where.workspace,
        environ=os.environ,
        start=Path.cwd(),
    )


def _wants_one(where: Where) -> bool:
    if where.bus or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    question = "No penstock is running here. Start one now?"
    return click.confirm(question, default=True, err=True)
