"""`penstock run` (alias `job`): list, show, watch, logs, cancel, rerun, wait, download, diff, create."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from penstock.cli.output import note, output_option, print_data, print_rows
from penstock.cli.submit import (
    followed,
    note_waiting,
    print_run,
    request_options,
    submit,
    submit_options,
)
from penstock.cli.target import Where, target_options, with_client

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.contracts.chain import Check
    from penstock.contracts.queries import RunView
    from penstock.sdk.async_client import AsyncClient


@click.group(short_help="List, show, watch, cancel, rerun … runs.")
def command() -> None:
    """Look at runs and steer them. A run is named by its id or a unique beginning of it."""


@command.command("list", short_help="List runs, newest first.")
@click.option("--pipeline", default="", help="Only runs of this pipeline.")
@click.option("--experiment", default="", help="Only runs of this experiment.")
@click.option(
    "--state",
    default="",
    type=click.Choice(["", "queued", "running", "succeeded", "failed", "cancelled"]),
    help="Only runs in this state.",
)
@click.option("--limit", type=click.IntRange(1, 1000), default=20, help="At most this many (20).")
@output_option
@target_options
def list_(
    *, where: Where, pipeline: str, experiment: str, state: str, limit: int, output: str
) -> None:
    """List runs, newest first."""
    from penstock.cli.run_tables import RUN_COLUMNS, run_row, summary_data

    async def body(client: AsyncClient) -> None:
        runs = await client.runs(pipeline=pipeline, experiment=experiment, state=state, limit=limit)
        print_rows(
            [run_row(run) for run in runs],
            RUN_COLUMNS,
            output,
            data=[summary_data(run) for run in runs],
            empty="no runs yet; start one with `penstock submit FILE`",
        )

    with_client(where, body)


@command.command("show", short_help="Show a run and its steps.")
@click.argument("run")
@output_option
@target_options
def show(*, where: Where, run: str, output: str) -> None:
    """Show a run: its steps, metrics, outputs, and what went wrong."""
    from penstock.cli.run_tables import (
        STEP_COLUMNS,
        print_view,
        step_row,
        view_data,
        with_reasons,
    )

    async def body(client: AsyncClient) -> RunView:
        view = await client.run(run)
        return await with_reasons(client, view) if output == "table" else view

    view = with_client(where, body)
    if output in ("json", "yaml"):
        print_data(view_data(view), output)
    elif output == "table":
        print_view(view)
    else:
        print_rows([step_row(step) for step in view.steps], STEP_COLUMNS, output)


@command.command("watch", short_help="Follow a run to its end; exit 1 if it fails.")
@click.argument("run")
@target_options
def watch(*, where: Where, run: str) -> int:
    """Follow a run to its end. Ctrl-C detaches; the run goes on."""
    from penstock.cli import watching

    async def body(client: AsyncClient) -> int:
        full = await client.full_id(run, check=True)
        progress = await watching.watched(client, full, sys.stdout)
        if progress is None:
            return watching.say_detached(full)
        watching.say_ending(progress, sys.stderr)
        return watching.exit_code_of(progress)

    return with_client(where, body)


@command.command("logs", short_help="Print what a run's steps wrote.")
@click.argument("run")
@click.option("--step", default="", help="Only this step.")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@click.option("--attempt", type=int, default=0, help="Only this attempt.")
@click.option("--stream", type=click.Choice(["stdout", "stderr"]), help="Only this stream.")
@click.option("--tail", type=click.IntRange(1), default=None, help="Only the last lines.")
@target_options
def logs(
    *,
    where: Where,
    run: str,
    step: str,
    follow: bool,
    attempt: int,
    stream: str | None,
    tail: int | None,
) -> None:
    """Print what a run's steps wrote, as they wrote it."""
    from penstock.cli.run_logs import print_logs

    async def body(client: AsyncClient) -> None:
        await print_logs(
            client, run, step, follow=follow, attempt=attempt, stream=stream or "", tail=tail
        )

    with_client(where, body)


@command.command("cancel", short_help="Stop a run.")
@click.argument("run")
@click.option("--reason", default="", help="For the record.")
@output_option
@target_options
def cancel(*, where: Where, run: str, reason: str, output: str) -> None:
    """Stop a run: its running steps are ended, the others do not start."""
    from penstock.contracts.events import RUN_ENDS

    async def body(client: AsyncClient) -> tuple[str, str]:
        full = await client.full_id(
            run
        )  # whether it exists says the planner: no scheduler is needed
        answer = await client.cancel(full, reason)
        state = answer.state if answer.state in RUN_ENDS else "cancelling"
        return answer.run or full, state

    name, state = with_client(where, body)
    print_run(name, state, output)


@command.command("rerun", short_help="Run an earlier run again.")
@click.argument("run")
@click.option(
    "--from",
    "from_",
    default="failed",
    metavar="failed|start|STEP,…",
    help="failed: keep what succeeded · start: everything, through reuse · STEP,…: these anew, and what follows through reuse.",
)
@click.option(
    "-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="Change an input."
)
@click.option("--watch", is_flag=True, help="Follow the new run; exit 1 if it fails.")
@click.option("--wait", is_flag=True, help="Wait for the end in silence; exit 1 if it fails.")
@output_option
@target_options
def rerun(
    *, where: Where, run: str, from_: str, params: tuple[str, ...], watch: bool, wait: bool, output: str
) -> int:  # fmt: skip
    """Run an earlier run again, as a new run."""
    from penstock.sdk.parameters import pairs_of, typed_like

    given = pairs_of(params)
    begin = from_ if from_ in ("failed", "start") else [s.strip() for s in from_.split(",")]

    async def body(client: AsyncClient) -> int:
        view = await client.run(run, steps=False)
        answer = await client.rerun(view.run, begin, typed_like(given, view.parameters))
        for text in answer.notes:
            note(f"note: {text}")
        return await followed(client, answer, output, watch=watch, wait=wait)

    return with_client(where, body)


@command.command("wait", short_help="Wait until a run has ended; exit 1 if it failed.")
@click.argument("run")
@click.option("--timeout", type=float, default=None, help="Seconds; then exit 124.")
@output_option
@target_options
def wait(*, where: Where, run: str, timeout: float | None, output: str) -> int:
    """Wait until a run has ended. Exit 0: it succeeded, 1: it did not, 124: it goes on."""

    async def body(client: AsyncClient) -> RunView:
        full = await client.full_id(run, check=True)
        return await client.wait(full, timeout, on_waiting=note_waiting)

    view = with_client(where, body)
    print_run(view.run, view.state, output)
    return 0 if view.state == "succeeded" else 1


@command.command("download", short_help="Fetch a run's outputs.")
@click.argument("run")
@click.argument("into", metavar="[DIR]", required=False, type=click.Path(file_okay=False))
@click.option("--step", default="", help="Only this step's outputs.")
@click.option("--output", "output_name", default="", help="Only this output.")
@click.option("--path", "path", default="", help="Only files of outputs whose path matches.")
@click.option(
    "--artifacts", is_flag=True, help="What steps left in ./outputs and ./logs, and wrote."
)
@target_options
def download(
    *,
    where: Where,
    run: str,
    into: str | None,
    step: str,
    output_name: str,
    path: str,
    artifacts: bool,
) -> None:
    """Fetch outputs into DIR (default: a folder named like the run).

    \b
    penstock run download RUN                                 RUN/<step>/<output>/…
    penstock run download RUN --step train --output model m   m/…
    penstock run download RUN --output model --path card.md   reads this file only
    penstock run download RUN --artifacts                     RUN/<step>/outputs/… stdout.txt …
    """  # noqa: D301 - click reads this backspace
    from pathlib import Path

    async def body(client: AsyncClient) -> list[Path]:
        full = await client.full_id(run, check=True)
        return await client.download(
            full,
            Path(into or full),
            step=step,
            output=output_name,
            path=path,
            artifacts=artifacts,
        )

    written = with_client(where, body)
    for each in written:
        click.echo(str(each))
    if not written:
        note("the run has no outputs")


@command.command("diff", short_help="Compare two runs.")
@click.argument("first", metavar="RUN1")
@click.argument("second", metavar="RUN2")
@output_option
@target_options
def diff(*, where: Where, first: str, second: str, output: str) -> None:
    """Compare two runs: parameters, source, fingerprints, results, metrics."""
    from penstock.cli.run_diff import differences

    async def body(client: AsyncClient) -> tuple[RunView, RunView]:
        return await client.run(first), await client.run(second)

    one, two = with_client(where, body)
    rows = differences(one, two)
    print_rows(
        rows,
        {"what": "what", "first": one.run, "second": two.run},
        output,
        data={"runs": [one.run, two.run], "differences": rows},
        empty="no differences",
    )


@command.command("verify", short_help="Check that a run's events are what was told.")
@click.argument("run")
@output_option
@target_options
def verify(*, where: Where, run: str, output: str) -> int:
    """Check a run's stored events: numbered without a gap, each linked to the one before it.

    Note the printed link somewhere else, and a history that was written anew shows too.
    Exit 0: whole, or its beginning has expired; 1: broken.
    """
    from penstock.cli.run_tables import print_check
    from penstock.sdk.verification import check_of

    async def body(client: AsyncClient) -> tuple[str, Check]:
        full = await client.full_id(run)
        return full, await check_of(client, full)

    full, check = with_client(where, body)
    print_check(full, check, output)
    return 1 if check.verdict == "broken" else 0


@command.command("create", short_help="The same as `penstock submit FILE`.")
@click.option("-f", "--file", "file", required=True, metavar="FILE", help="A pipeline file.")
@request_options
@submit_options
@output_option
@target_options
def create(where: Where, file: str, **options: object) -> int:
    """Run a pipeline file, as `az ml job create --file F` does."""
    return submit(where, file, **options)  # type: ignore[arg-type]
