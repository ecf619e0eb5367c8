"""`penstock spin`: run one step again, as its file is now, with the inputs of the last run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from penstock.cli.output import note, output_option
from penstock.cli.target import Where, target_options, with_client

if TYPE_CHECKING:
    from penstock.contracts.queries import RunView
    from penstock.sdk.async_client import AsyncClient
    from penstock.sdk.definition import Definition


@click.command(short_help="Run one step again, with the inputs of the last run.")
@click.argument("step")
@click.argument("file", required=False, default="")
@click.option("--run", "earlier", default="", help="Take the inputs of this run (the last one).")
@click.option("-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="Set an input.")
@output_option
@target_options
def command(
    *, where: Where, step: str, file: str, earlier: str, params: tuple[str, ...], output: str
) -> int:
    """Run one step of a pipeline file as it is now, with the inputs that the last run has made.

    \b
    penstock spin train                       the pipeline file of this folder that has it
    penstock spin train digits.py -p C=0.5
    penstock spin train pipeline.yml --run 6q9c8w0k
    """  # noqa: D301 - click reads this backspace
    from pathlib import Path

    from penstock.cli.run_logs import print_logs
    from penstock.cli.submit import followed
    from penstock.errors import NotFound
    from penstock.sdk.parameters import pairs_of
    from penstock.sdk.spinning import file_with, needs_earlier, spun
    from penstock.sdk.submissions import definition_of

    path = file or str(file_with(step, Path.cwd()))
    definition = definition_of(path)
    if definition is None:
        raise NotFound(f"{path} is no file", where="FILE", hint="give a YAML or Python file")
    given = pairs_of(params)

    async def body(client: AsyncClient) -> int:
        assert definition is not None  # noqa: S101 - asked above
        before: RunView | None = None
        if earlier or needs_earlier(definition, step):
            before = await _before(client, definition, step, earlier)
            note(f"{step} with the inputs of run {before.run}")
        what = spun(definition, step, before)
        answer = await client.submit(
            what, parameters=await client.typed_parameters(what, given), reuse="off"
        )
        code = await followed(client, answer, output, watch=True, wait=False)
        if output == "table":
            await print_logs(client, answer.run, step, follow=True, attempt=0, stream="", tail=None)
        return code

    return with_client(where, body)


async def _before(client: AsyncClient, definition: Definition, step: str, run: str) -> RunView:
    """Return the run whose outputs the step reads: the one named, else the newest that has them."""
    from penstock.errors import NotFound
    from penstock.sdk.spinning import RUNS_MAX, has_made

    if run:
        return await client.run(run)
    name = definition.spec.name
    for summary in await client.runs(pipeline=name, limit=RUNS_MAX):
        view = await client.run(summary.run)
        if has_made(definition, step, view):
            return view
    raise NotFound(
        f"no run of pipeline {name!r} has made the inputs of step {step!r}",
        where=step,
        hint="run the pipeline once: penstock submit FILE",
    )
