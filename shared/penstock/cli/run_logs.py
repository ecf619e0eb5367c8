"""Printing what steps wrote: from the log stream while it is there, from the archive afterwards."""

import asyncio
import sys
from collections.abc import Callable

import click

from penstock.cli.output import note
from penstock.contracts.events import RUN_ENDS
from penstock.contracts.queries import RUN_STATES_FINAL
from penstock.sdk.async_client import AsyncClient
from penstock.sdk.log_lines import Line, Lines
from penstock.sdk.submissions import not_found

QUIET_S = 0.5
"""After the run's last event, how long nothing may come before the logs are taken as complete."""


async def print_logs(
    client: AsyncClient,
    run: str,
    step: str,
    *,
    follow: bool,
    attempt: int,
    stream: str,
    tail: int | None,
) -> None:
    """Print the lines of a run's steps; with `follow` until the run ends.

    Raises:
        NotFound: E_NOT_FOUND, no such run or step.
    """
    view = await client.run(run)
    names = [item.step for item in view.steps]
    if step and step not in names:
        raise not_found("step", step, view.run, names)
    width = 0 if step or len(names) < 2 else max(map(len, names))  # noqa: PLR2004 - one needs no name
    printer = _Printer(width=width, attempt=attempt, stream=stream)
    ended = view.state in RUN_STATES_FINAL
    if follow and not ended:
        await _print_live(client, view.run, step or "*", printer.print)
    else:
        lines = [line for line in await client.lines(view.run, step) if printer.wants(line)]
        for line in lines[-tail:] if tail else lines:
            printer.print(line)
    if not printer.printed:
        note("nothing was written" if ended else "nothing was written yet")


async def _print_live(
    client: AsyncClient, run: str, step: str, take: Callable[[Line], None]
) -> None:
    lines = Lines()
    heard = asyncio.Event()

    async def listen() -> None:
        async for chunk in client.logs(run, step):
            heard.set()
            for line in lines.taken(chunk):
                take(line)

    async def until_the_end() -> None:
        async for seen in client.events(run):
            if seen.noun == "step" and seen.what in ("succeeded", "failed", "cancelled"):
                heard.set()
            if seen.noun == "run" and seen.what in RUN_ENDS:
                return

    listening = asyncio.ensure_future(listen())
    try:
        await until_the_end()
        while not listening.done():
            heard.clear()
            try:
                await asyncio.wait_for(heard.wait(), QUIET_S)
            except TimeoutError:
                break
        for line in lines.left():
            take(line)
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


class _Printer:
    """Prints lines; raw when they go into a file, without escapes on a terminal."""

    def __init__(self, *, width: int, attempt: int, stream: str) -> None:
        self.width = width
        """Of the column of steps' names; 0: no such column."""
        self.attempt = attempt
        self.stream = stream
        self.printed = 0
        self.terminal = sys.stdout.isatty()

    def wants(self, line: Line) -> bool:
        """Say whether a line is asked for."""
        if line.stream == "metrics" or self.stream not in ("", line.stream):
            return False
        return self.attempt in (0, line.attempt)

    def print(self, line: Line) -> None:
        """Print a line if it is asked for."""
        if not self.wants(line):
            return
        self.printed += 1
        text = _shown(line.text) if self.terminal else line.text
        if self.width:
            name = line.step if line.attempt < 2 else f"{line.step}#{line.attempt}"  # noqa: PLR2004
            text = f"{name:<{self.width}} | {text}"
        click.echo(text, color=True)


def _shown(text: str) -> str:
    """Return a line with its colours but without what could move the cursor or retitle the window."""
    from penstock.sdk.wording import without_control

    return without_control(text)
