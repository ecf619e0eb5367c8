"""`penstock down`: stop what `up` started, in order, and wait until it has ended."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import click

from penstock.cli.up import DIRECTORY_HELP
from penstock.errors import Transient

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.runtime.stack import Stack

WAIT_S = 60.0
NOW_S = 0.3
"""Between two signals, which would otherwise count as one."""


@click.command()
@click.option("--dir", "directory", metavar="DIR", envvar="PENSTOCK_DIR", help=DIRECTORY_HELP)
@click.option("--now", is_flag=True, help="Do not wait for running steps; they run again later.")
@click.option(
    "--timeout",
    "timeout_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=WAIT_S,
    show_default=True,
    help="After this long, end it as --now does.",
)
def command(*, directory: str | None, now: bool, timeout_s: float) -> int:
    """Stop what `up` started. Data stays: the next `up` goes on where this one stopped."""
    import signal

    from penstock.cli.starting import directory_of
    from penstock.runtime import stack
    from penstock.runtime.children import end_leftovers

    folder = directory_of(directory)
    running = stack.at(folder)
    if running is None or not running.alive():
        left = end_leftovers(running.services) if running is not None else []
        click.echo(f"nothing is running in {folder}", err=True)
        if left:
            click.echo(f"ended what was left of it: {', '.join(left)}", err=True)
        return 0
    click.echo(f"Stopping penstock in {folder} …", err=True)
    began = time.monotonic()
    os.kill(running.supervisor_pid, signal.SIGTERM)
    if not _ended(running, folder, NOW_S if now else timeout_s):
        # The second signal has the supervisor kill everything; it ends itself a moment later.
        if running.alive():
            os.kill(running.supervisor_pid, signal.SIGTERM)
        if not _ended(running, folder, 10):
            raise Transient(
                f"process {running.supervisor_pid} does not end",
                code="E_STOP",
                where=str(folder),
                hint=f"kill -9 {running.supervisor_pid} ends it and all its services",
            )
    click.echo(f"stopped ({time.monotonic() - began:.1f} s); data stays in {folder}")
    return 0


def _ended(running: Stack, folder: Path, timeout_s: float) -> bool:
    """Wait for the supervisor's end, saying every second what it still waits for."""
    from penstock.runtime import stack

    now = time.monotonic()
    deadline, next_word = now + timeout_s, now + 1
    while running.alive():
        now = time.monotonic()
        if now >= deadline:
            return False
        if now >= next_word:
            next_word = now + 1
            latest = stack.at(folder) or running
            left = [s.name for s in latest.services if s.state == "stopping"]
            click.echo(f"  waiting for {', '.join(left) or 'the supervisor'}", err=True)
        time.sleep(0.02)
    return True
