"""Printing what steps wrote: from the log stream while it is there, from the archive afterwards."""

import asyncio
import sys
from collections import deque
from collections.abc import Callable

import click

from penstock.cli.output import note
from penstock.contracts.events import RUN_ENDS
from penstock.contracts.queries import RUN_STATES_FINAL, RunView
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
    printer = _Printer(with_names=not step and len(names) > 1, attempt=attempt, stream=stream)
    last: deque[Line] = deque(maxlen=tail)
    take: Callable[[Line], None] = printer.print if tail is None or follow else last.append
    ended = view.state in RUN_STATES_FINAL
    if follow and not ended:
        await _print_live(client, view.run, step or "*", take)
    else:
        count = 0
        lines = Lines()
        async for chunk in client.logs(view.run, step or "*", live=False):
            count += 1
            for line in lines.taken(chunk):
                take(line)
        for line in lines.left():
            take(line)
        if not count:
            await _print_archives(client, view, step, take)
    for line in last:
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


async def _print_archives(
    client: AsyncClient, view: RunView, step: str, take: Callable[[Line], None]
) -> None:
    """Print what the artifact store keeps, for runs whose log stream has been forgotten."""
    for item in view.steps:
        if item.logs is None or (step and item.step != step):
            continue
        manifest = await client.trees.manifest(item.logs.digest)
        for entry in manifest.entries:
            name = entry.path.rpartition("/")[2]
            stream = next((kind for kind in ("stdout", "stderr") if name.startswith(kind)), "")
            if not stream:
                continue
            data = await client.trees.read(item.logs.digest, entry.path)
            for text in data.decode("utf-8", "backslashreplace").splitlines():
                take(Line(item.step, item.attempts, stream, text, 0))


class _Printer:
    """Prints lines; raw when they go into a file, without escapes on a terminal."""

    def __init__(self, *, with_names: bool, attempt: int, stream: str) -> None:
        self.with_names = with_names
        self.attempt = attempt
        self.stream = stream
        self.printed = 0
        self.width = 0
        self.terminal = sys.stdout.isatty()

    def print(self, line: Line) -> None:
        if line.stream == "metrics" or (self.stream and line.stream != self.stream):
            return
        if self.attempt and line.attempt != self.attempt:
            return
        self.printed += 1
        text = _shown(line.text) if self.terminal else line.text
        if self.with_names:
            self.width = max(self.width, len(line.step))
            text = f"{line.step:<{self.width}} | {text}"
        click.echo(text, color=True)


def _shown(text: str) -> str:
    """Return a line with its colours but without what could move the cursor or retitle the window."""
    from penstock.sdk.wording import without_control

    return without_control(text)
