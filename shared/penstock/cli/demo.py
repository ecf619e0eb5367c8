"""`penstock demo`: a folder with a real pipeline, run before your eyes, and yours to change.

It copies what the folder lacks and never overwrites: a second `penstock demo` runs what you made of it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from penstock.cli.output import note
from penstock.cli.target import Where, target_options
from penstock.errors import BusUnavailable, Invalid

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable

    from penstock.contracts.queries import RunView
    from penstock.sdk.target import Target

PIPELINE = "pipeline.yml"
NAME_WIDTH = 18


@click.command()
@click.argument("folder", metavar="[DIR]", default="digits")
@target_options
def command(*, folder: str, where: Where) -> int:
    """Make DIR (./digits) with a real pipeline, run it, show the result.

    It learns to read handwritten digits in four steps. Run it again: nothing has to run. Change a
    line of a script and run it again: only what that line reaches runs.
    """
    import asyncio

    place = Path(folder).absolute()
    _refuse_without_sklearn()
    made = copied(place)
    steps = "a pipeline of four steps: prepare, train, evaluate, register"
    note(f"Made {place} with {steps}." if made else f"Using {place}; your changes are kept.")
    return asyncio.run(_run(found_or_started(where, place), place))


def copied(place: Path) -> bool:
    """Copy what `place` lacks of the demo's files; return whether it is new.

    Raises:
        Invalid: E_DEMO, it holds something else; E_DIR, it cannot be written.
    """
    from importlib.resources import files

    from penstock.runtime import stack

    source = files("penstock.demo") / "digits"
    new = not (place / PIPELINE).exists()
    if new and place.is_dir() and any(child.name != stack.FOLDER for child in place.iterdir()):
        raise Invalid(
            f"not empty, and no demo: there is no {PIPELINE}",
            code="E_DEMO",
            where=str(place),
            hint="name another folder: penstock demo DIR",
        )
    try:
        for parts, file in _files(source):
            target = place.joinpath(*parts)
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
    except OSError as error:
        raise Invalid(
            f"cannot be written: {error.strerror}",
            code="E_DIR",
            where=str(place),
            hint="name a folder of your own: penstock demo DIR",
        ) from error
    return new


def found_or_started(where: Where, place: Path) -> Target:
    """Return the stack that was named, or runs at `place` or above it; start one there if none does.

    Raises:
        BusUnavailable: E_CONNECT. PenstockError: why it cannot be started.
    """
    from penstock.cli.starting import start_detached
    from penstock.runtime import stack
    from penstock.sdk.target import target_of

    def found() -> Target:
        return target_of(
            folder=where.folder,
            bus=where.bus,
            workspace=where.workspace,
            environ=os.environ,
            start=place,
        )

    try:
        return found()
    except BusUnavailable:
        known = stack.find(place)
        folder = Path(where.folder).absolute() if where.folder else place / stack.FOLDER
        if known is not None and not where.folder:
            folder = Path(known.dir)
        code = start_detached(folder, {"workspace": where.workspace} if where.workspace else {})
        if code:
            sys.exit(code)  # it has said why
        return found()


async def _run(target: Target, place: Path) -> int:
    from penstock.cli.watching import exit_code_of, say_detached, say_ending, watched
    from penstock.sdk.async_client import AsyncClient
    from penstock.sdk.pipeline_files import read_pipeline

    async with AsyncClient(target=target) as client:
        definition = read_pipeline(place / PIPELINE)
        view = await client.register(definition)
        note(f"Registered {view.name}@{view.version}; anybody on the bus may run it by that name.")
        answer = await client.submit(definition)
        if not sys.stderr.isatty():
            note(f"run {answer.run}")
        progress = await watched(client, answer.run, sys.stderr)
        if progress is None:
            return say_detached(answer.run)
        say_ending(progress, sys.stderr)
        if progress.state == "succeeded":
            _show(await client.run(answer.run), place, target)
        return exit_code_of(progress)


def _show(run: RunView, place: Path, target: Target) -> None:
    """Print what came of it, where it is, and what to try next."""
    import shutil

    from penstock.sdk.wording import duration, number, size

    reused = sum(step.state == "reused" for step in run.steps)
    click.echo(
        f"\nrun {run.run} succeeded in {duration(run.seconds)}; {reused} of {len(run.steps)} steps reused"
    )
    for name, value in sorted(run.metrics.items()):
        if isinstance(value, int | float):
            click.echo(f"  {name:<{NAME_WIDTH}}{number(value)}")
    for name, tree in run.outputs.items():
        click.echo(f"  {'output ' + name:<{NAME_WIDTH}}{tree.files} files, {size(tree.size_bytes)}")
    program = Path(sys.executable).parent
    on_path = shutil.which("penstock") == str(program / "penstock")
    click.echo("\nNow you:")
    lines = [
        *([] if on_path else [(f'export PATH="{program}:$PATH"', "")]),
        (f"cd {place}", ""),
        *([] if target.folder else [(f"export PENSTOCK_BUS={target.bus!r}", "")]),
        ("penstock submit pipeline.yml --watch", "everything is reused: nothing has changed"),
        ("edit evaluate/evaluate.py", "and submit again: only what it reaches runs"),
        (f"penstock why {run.run} evaluate", "why it ran, or did not"),
        (f"penstock run download {run.run}", "the model, its card, the report"),
        *([("penstock down", "stop the stack; what it knows stays")] if target.folder else []),
    ]
    for line, remark in lines:
        click.echo(f"  {line:<42}{remark}".rstrip())


def _files(
    folder: Traversable, parts: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Traversable]]:
    for child in folder.iterdir():
        if child.name == "__pycache__":
            continue
        if child.is_dir():
            yield from _files(child, (*parts, child.name))
        else:
            yield (*parts, child.name), child


def _refuse_without_sklearn() -> None:
    from importlib.util import find_spec

    if find_spec("sklearn") is None:
        raise Invalid(
            "the demo trains with scikit-learn, which is not installed here",
            code="E_EXTRA",
            where="demo",
            hint="pip install 'penstock[demo]'",
        )
