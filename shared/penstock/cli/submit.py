"""`penstock submit`: run a pipeline file or a registered pipeline."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from penstock.cli.output import note, output_option, print_data
from penstock.cli.target import Where, target_options, with_client

if TYPE_CHECKING:
    from penstock.contracts.requests import Reuse, RunAnswer
    from penstock.sdk.async_client import AsyncClient
    from penstock.sdk.progress import StepProgress

REUSES = ("use", "refresh", "off")


def request_options(function: click.decorators.FC) -> click.decorators.FC:
    """Give a command what `plan` and `submit` share: -p, --reuse, --compute, --set and --strict."""
    for option in reversed(
        (
            click.option(
                "-p", "--param", "params", multiple=True, metavar="NAME=VALUE",
                help="Set an input of the pipeline; repeat for more.",
            ),
            click.option(
                "--reuse", type=click.Choice(REUSES), default="use",
                help="use: take what is there · refresh: run anew · off: run anew, offer nothing.",
            ),
            click.option("--compute", default="", help="Compute target for steps that name none."),
            click.option(
                "--set", "values", multiple=True, metavar="A.B.C=VALUE",
                help="Put a value into the file before it is read; repeat for more.",
            ),
            click.option("--strict", is_flag=True, help="Refuse keys of the file that are not known."),
        )
    ):  # fmt: skip
        function = option(function)
    return function


def submit_options(function: click.decorators.FC) -> click.decorators.FC:
    """Give a command the options of `submit`."""
    for option in reversed(
        (
            click.option("--watch", is_flag=True, help="Follow the run; exit 1 if it fails."),
            click.option("--wait", is_flag=True, help="Wait for the end in silence; exit 1 if it fails."),
            click.option("--timeout", type=float, help="Seconds to wait at most (with --wait)."),
            click.option("--experiment", default="", help="Name that groups runs."),
            click.option("--name", default="", help="Display name of this run."),
            click.option("--priority", type=click.IntRange(-100, 100), default=0, help="Higher goes first."),
            click.option("--deadline", type=float, default=0, help="Seconds from accepted to ended; then it fails."),
            click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE", help="Tag the run; repeat."),
            click.option("--key", default="", help="Idempotency key: the same key is the same run."),
        )
    ):  # fmt: skip
        function = option(function)
    return function


@click.command(short_help="Run a pipeline file or a registered pipeline.")
@click.argument("pipeline", metavar="FILE|NAME[@VERSION]")
@request_options
@submit_options
@output_option
@target_options
def command(where: Where, pipeline: str, **options: object) -> int:
    """Run a pipeline file, or a registered pipeline by name.

    \b
    penstock submit pipeline.yml --watch
    penstock submit digits@3 -p learning_rate=0.05 -o json
    """  # noqa: D301 - click reads this backspace
    return submit(where, pipeline, **options)  # type: ignore[arg-type]


def submit(
    where: Where,
    pipeline: str,
    *,
    params: tuple[str, ...],
    reuse: Reuse,
    compute: str,
    values: tuple[str, ...],
    strict: bool,
    watch: bool,
    wait: bool,
    timeout: float | None,
    experiment: str,
    name: str,
    priority: int,
    deadline: float,
    tags: tuple[str, ...],
    key: str,
    output: str,
) -> int:
    """Submit, print the run, and follow or wait if asked to; return the exit code."""
    from penstock.sdk.parameters import pairs_of
    from penstock.sdk.submissions import definition_of

    given = pairs_of(params)
    # A mistake in the file is told before anything starts.
    what = definition_of(pipeline, strict=strict, values=values) or pipeline

    async def body(client: AsyncClient) -> int:
        answer = await client.submit(
            what,
            parameters=await client.typed_parameters(what, given),
            experiment=experiment,
            tags=pairs_of(tags),
            reuse=reuse,
            name=name,
            priority=priority,
            deadline=deadline,
            compute=compute,
            idempotency_key=key,
        )
        for text in answer.notes:
            note(f"note: {text}")
        return await followed(client, answer, output, watch=watch, wait=wait, timeout_s=timeout)

    return with_client(where, body)


async def followed(
    client: AsyncClient,
    answer: RunAnswer,
    output: str,
    *,
    watch: bool,
    wait: bool,
    timeout_s: float | None = None,
) -> int:
    """Print a new run and, if asked to, follow it to its end; return the exit code."""
    from penstock.cli import watching

    state, code = answer.state, 0
    if watch:
        if not sys.stderr.isatty():
            note(f"run {answer.run}")
        progress = await watching.watched(client, answer.run, sys.stderr)
        if progress is None:
            return watching.say_detached(answer.run)
        watching.say_ending(progress, sys.stderr)
        state, code = progress.state, watching.exit_code_of(progress)
    elif wait:
        view = await client.wait(answer.run, timeout_s, on_waiting=note_waiting)
        state, code = view.state, 0 if view.state == "succeeded" else 1
    drawn = watch and sys.stderr.isatty() and sys.stdout.isatty()
    if output != "table" or not drawn:  # the picture has said it already
        print_run(answer.run, state, output)
    if output == "table" and not (watch or wait) and sys.stdout.isatty():
        note(f"follow it:  penstock run watch {answer.run}")
    return code


def note_waiting(step: StepProgress) -> None:
    """Say on stderr why a step waits: without an executor for it, it would wait in silence for ever."""
    if step.waits_for:
        note(f"{step.name} waits: {step.waits_for}")


def print_run(run: str, state: str, output: str) -> None:
    """Print a run and its state; `name` prints the id alone."""
    if output in ("json", "yaml"):
        print_data({"run": run, "state": state}, output)
    elif output == "name":
        click.echo(run)
    elif output == "tsv":
        click.echo(f"{run}\t{state}")
    else:
        click.echo(f"run {run} {state}")
