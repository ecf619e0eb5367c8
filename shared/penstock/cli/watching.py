"""Watching a run: plain lines for a pipe, a live view for a terminal. Both follow the same events."""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Callable
from typing import IO

import click

from penstock.cli.output import clean
from penstock.sdk.async_client import AsyncClient
from penstock.sdk.executors import explain_waiting
from penstock.sdk.log_lines import Lines
from penstock.sdk.printing import Printer
from penstock.sdk.progress import Progress, StepProgress
from penstock.sdk.wording import event_line, failed_how, name_width, waiting_line

FRAME_S = 0.1
"""At most ten pictures a second."""
TICK_S = 1.0
"""Durations move on once a second when nothing else happens."""
TAIL_LINES = 12
DETACHED = 130


async def watched(client: AsyncClient, run: str, stream: IO[str]) -> Progress | None:
    """Follow a run to its end, showing it on `stream`; None when Ctrl-C came first (the run goes on)."""
    progress = Progress(run)
    detached = asyncio.Event()
    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError, ValueError):  # not in the main thread, or Windows
        loop.add_signal_handler(signal.SIGINT, _interrupt(detached))
    show = _live if stream.isatty() else _plain
    task = asyncio.ensure_future(show(client, progress, stream))
    waiting = asyncio.ensure_future(detached.wait())
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            return None
        await task
        return progress
    finally:
        for one in (task, waiting):
            one.cancel()
        await asyncio.gather(task, waiting, return_exceptions=True)
        with contextlib.suppress(NotImplementedError, ValueError):
            loop.remove_signal_handler(signal.SIGINT)


def exit_code_of(progress: Progress) -> int:
    """Return the exit code that says how a run ended."""
    return 0 if progress.state == "succeeded" else 1


def say_detached(run: str) -> int:
    """Say how to come back to a run, and return the exit code of an interruption."""
    click.echo(f"\ndetached; run {run} goes on", err=True)
    click.echo(f"  come back:  penstock run watch {run}", err=True)
    click.echo(f"  stop it:    penstock run cancel {run}", err=True)
    return DETACHED


def say_ending(progress: Progress, stream: IO[str]) -> None:
    """Say what failed, where its words are and what to do; nothing when all went well."""
    failed = [step for step in progress.steps.values() if step.state == "failed"]
    for step in failed[:3]:
        failure = step.failure
        print(f"\n{step.name} failed: {clean(_failure(step))}", file=stream)
        tail = str(failure.get("log_tail", "")).rstrip().splitlines()[-TAIL_LINES:]
        for line in tail:
            print(f"  | {clean(line)}", file=stream)
        if failure.get("hint"):
            print(f"  {clean(str(failure['hint']))}", file=stream)
        print(f"  all it wrote:  penstock run logs {progress.run} --step {step.name}", file=stream)
    if failed[3:]:
        print(f"\n{len(failed) - 3} more steps failed", file=stream)
    if failed:
        print(f"  try again:     penstock run rerun {progress.run} --from failed", file=stream)
    elif progress.state in ("failed", "refused"):
        error = progress.error
        words = error.get("message") or progress.reason or "no reason given"
        print(f"\nrun {progress.state}: {clean(str(words))}", file=stream)
        if error.get("hint"):
            print(f"  {clean(str(error['hint']))}", file=stream)


def _interrupt(detached: asyncio.Event) -> Callable[[], None]:
    def on_signal() -> None:
        if detached.is_set():
            sys.stderr.write("\n")
            raise SystemExit(DETACHED)
        detached.set()

    return on_signal


# -- plain ----------------------------------------------------------------------------------------


async def _plain(client: AsyncClient, progress: Progress, stream: IO[str]) -> None:
    told: set[tuple[str, str]] = set()
    printer = Printer(stream)

    def tell(step: StepProgress) -> None:
        # Of many steps that wait for the same, one line says it.
        if step.waits_for and (step.target, step.waits_for) not in told:
            told.add((step.target, step.waits_for))
            printer.say(waiting_line(step, name_width(progress)))

    explaining = asyncio.ensure_future(explain_waiting(await client.open(), progress, tell))
    try:
        async for seen in client.events(progress.run):
            progress.take(seen)
            printer.say(event_line(seen, progress))
    finally:
        explaining.cancel()
        await asyncio.gather(explaining, return_exceptions=True)
    printer.flush()


def _failure(step: StepProgress) -> str:
    return failed_how(step.failure) or step.reason


# -- live -----------------------------------------------------------------------------------------


async def _live(client: AsyncClient, progress: Progress, stream: IO[str]) -> None:
    from penstock.cli.live_view import Picture

    changed = asyncio.Event()
    with Picture(stream) as picture:
        followers = [
            asyncio.ensure_future(_take_events(client, progress, changed)),
            asyncio.ensure_future(_take_logs(client, progress, changed)),
            asyncio.ensure_future(_explain(client, progress, changed)),
        ]
        try:
            while not progress.ended:
                if followers[0].done():
                    followers[0].result()
                picture.draw(progress, time.time())
                changed.clear()
                await asyncio.sleep(FRAME_S)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), TICK_S)
            picture.draw(progress, time.time())
        finally:
            for follower in followers:
                follower.cancel()
            await asyncio.gather(*followers, return_exceptions=True)


async def _take_events(client: AsyncClient, progress: Progress, changed: asyncio.Event) -> None:
    async for seen in client.events(progress.run):
        progress.take(seen)
        changed.set()


async def _explain(client: AsyncClient, progress: Progress, changed: asyncio.Event) -> None:
    await explain_waiting(await client.open(), progress, lambda _: changed.set())


async def _take_logs(client: AsyncClient, progress: Progress, changed: asyncio.Event) -> None:
    lines = Lines()
    async for chunk in client.logs(progress.run, latest=True):
        if chunk.stream == "metrics":
            continue
        whole = lines.taken(chunk)
        text = lines.unfinished(chunk) or (whole[-1].text if whole else "")
        if text:
            progress.hear(chunk.step, clean(text))
            changed.set()
