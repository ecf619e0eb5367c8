"""`penstock plan`: what would run, what would be reused, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from penstock.cli.output import note, output_option, print_rows, shown
from penstock.cli.submit import request_options
from penstock.cli.target import Where, target_options, with_client

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.contracts.requests import Reuse
    from penstock.sdk.async_client import AsyncClient


@click.command(short_help="Say what would run, what would be reused, and why.")
@click.argument("pipeline", metavar="FILE|NAME[@VERSION]")
@request_options
@output_option
@target_options
def command(
    *,
    where: Where,
    pipeline: str,
    params: tuple[str, ...],
    reuse: Reuse,
    compute: str,
    values: tuple[str, ...],
    strict: bool,
    output: str,
) -> None:
    """Say what would run and what would be reused, and why. Nothing is run.

    \b
    penstock plan pipeline.yml -p learning_rate=0.05
    """  # noqa: D301 - click reads this backspace
    from penstock.sdk.parameters import pairs_of
    from penstock.sdk.submissions import definition_of

    given = pairs_of(params)
    what = definition_of(pipeline, strict=strict, values=values) or pipeline

    async def body(client: AsyncClient) -> None:
        forecast = await client.plan(
            what,
            parameters=await client.typed_parameters(what, given),
            reuse=reuse,
            compute=compute,
        )
        for text in forecast.notes:
            note(f"note: {text}")
        rows = [
            {"step": step.step, "decision": step.decision, "reason": step.reason}
            for step in forecast.steps
        ]
        print_rows(
            rows,
            {"step": "step", "decision": "decision", "reason": "reason"},
            output,
            data={**shown(forecast), "steps": shown(forecast.steps, ("reason",))},
            empty="the pipeline has no steps",
        )
        if output == "table" and rows:
            note(summary([step.decision for step in forecast.steps]))

    with_client(where, body)


def summary(decisions: Sequence[str]) -> str:
    """Return how many steps would run, be reused, or depend on what others will make."""
    words = {"run": "would run", "reuse": "reused", "unknown": "cannot be told yet"}
    counts = ((decisions.count(decision), text) for decision, text in words.items())
    steps = f"{len(decisions)} step{'' if len(decisions) == 1 else 's'}: "
    return steps + ", ".join(f"{n} {text}" for n, text in counts if n)
