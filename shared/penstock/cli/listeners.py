"""Who listens to a supervisor: a terminal, or the `penstock up --detach` that waits for it."""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import click
import msgspec

from penstock.errors import PenstockError
from penstock.runtime.children import Log
from penstock.runtime.stack import Stack
from penstock.runtime.supervisor import Listener
from penstock.sdk.wording import clean

LEVELS = ("warning", "error", "critical")
"""Levels of services' log lines that a terminal shows."""


def tell(who: str, what: str) -> None:
    """Say one thing to a person, on stderr, with the time."""
    first, *more = what.split("\n")
    click.echo(f"{time.strftime('%H:%M:%S')}  {who:<10}{clean(first)}", err=True)
    for line in more:
        click.echo(f"          {clean(line)}", err=True)


class Foreground(Listener):
    """Shows a person in a terminal what happens: states, warnings, and runs that begin and end."""

    def __init__(self, show: Callable[[Stack], None]) -> None:
        self.show = show
        self._watching: asyncio.Task[None] | None = None

    def said(self, who: str, what: str) -> None:
        """Print it."""
        tell(who, what)

    def waiting(self, names: tuple[str, ...]) -> None:
        """Print whom we wait for."""
        tell("", f"waiting for {', '.join(names)}")

    def ready(self, stack: Stack) -> None:
        """Print the summary, and follow the runs from now on."""
        self.show(stack)
        self._watching = asyncio.create_task(self._watch(stack))

    def line(self, name: str, line: str) -> None:
        """Print warnings and errors of the services."""
        told = _warning_of(line)
        if told:
            tell(name, told)

    async def _watch(self, stack: Stack) -> None:
        from penstock.bus import Received
        from penstock.bus.nats import connect
        from penstock.contracts.subjects import Subjects

        async def on_event(message: Received) -> None:
            _, _, pipeline, run, _, what = message.subject.split(".")
            tell("run", f"{run}  {pipeline}  {what}")

        # A convenience of the terminal: without it everything runs all the same.
        with contextlib.suppress(PenstockError):
            bus = await connect(stack.bus, name="penstock-up")
            try:
                await bus.subscribe(
                    f"{Subjects(stack.workspace).workspace}.event.*.*.run.*", on_event
                )
                await asyncio.Event().wait()
            finally:
                await bus.close()


class Reporter(Listener):
    """Tells the waiting `up --detach` until all is ready, and a log file always."""

    def __init__(self, file: Path, descriptor: int) -> None:
        self.file = file
        self.log: Log | None = None
        self.descriptor = descriptor

    def said(self, who: str, what: str) -> None:
        """Report it and write it down."""
        if self.log is None:
            self.log = Log(self.file)
        self.log.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {who or '-'} {what}")
        self._report({"said": [who, what]})

    def waiting(self, names: tuple[str, ...]) -> None:
        """Report whom we wait for."""
        self._report({"said": ["", f"waiting for {', '.join(names)}"]})

    def ready(self, stack: Stack) -> None:
        """Report the stack; from now on nobody waits."""
        self._report({"ready": msgspec.to_builtins(stack)})
        os.close(self.descriptor)
        self.descriptor = -1

    def refused(self, error: PenstockError) -> None:
        """Report why nothing was started."""
        self._report(
            {
                "error": type(error).__name__,
                "code": error.code,
                "where": error.where,
                "message": error.message,
                "hint": error.hint,
            }
        )

    def _report(self, report: dict[str, object]) -> None:
        if self.descriptor >= 0:
            with contextlib.suppress(BrokenPipeError):  # who waited has lost patience
                os.write(self.descriptor, json.dumps(report).encode() + b"\n")


def _warning_of(line: str) -> str:
    """Return what a JSON log line warns of, or an empty text."""
    if not line.startswith("{"):
        return ""
    try:
        entry = json.loads(line)
    except ValueError:
        return ""
    if not isinstance(entry, dict) or entry.get("level") not in LEVELS:
        return ""
    told = [str(entry.get("event", ""))]
    told += [str(entry[key]) for key in ("code", "message", "error", "hint") if entry.get(key)]
    return "; ".join(told)
