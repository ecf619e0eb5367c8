"""`penstock why`: the parts of a step's fingerprint, old and new, and the one that made the difference."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from penstock.cli.output import clean, output_option, print_data, print_rows, shown, terminal_width
from penstock.cli.target import Where, target_options, with_client

if TYPE_CHECKING:
    from penstock.contracts.queries import WhyAnswer
    from penstock.sdk.async_client import AsyncClient

ALWAYS = (
    "run",
    "step",
    "reused",
    "reason",
    "compared_with",
    "parts",
    "part",
    "changed",
    "old",
    "new",
)
VALUE_MAX = 48
VALUE_MIN = 10
DIGEST_SHOWN = 12
PART_WIDTH = 30


@click.command(short_help="Say why a step was reused or not.")
@click.argument("run")
@click.argument("step")
@output_option
@target_options
def command(where: Where, run: str, step: str, output: str) -> None:
    """Say why a step was reused or not, and which part of its fingerprint differed."""

    async def body(client: AsyncClient) -> WhyAnswer:
        return await client.why(run, step)

    answer = with_client(where, body)
    if output in ("json", "yaml"):
        print_data(shown(answer, ALWAYS), output)
        return
    if output == "table":
        verdict = f"reused from {answer.reused_from}" if answer.reused else "run"
        click.echo(f"{clean(answer.step)}: {clean(answer.reason) or verdict}")
        if answer.compared_with:
            click.echo(f"compared with run {answer.compared_with}")
        click.echo()
    parts = sorted(answer.parts, key=lambda part: not part.changed)
    rows = [
        {
            "part": part.part,
            "changed": "" if not answer.compared_with else "changed" if part.changed else "same",
            "old": _short(part.old) if output == "table" else part.old,
            "new": _short(part.new) if output == "table" else part.new,
        }
        for part in parts
    ]
    columns = {"part": "part", "changed": "", "old": "old", "new": "new"}
    print_rows(rows, columns, output, empty="no fingerprint was taken of this step")


def _short(text: str) -> str:
    from penstock.ids import is_digest

    if is_digest(text):
        return text[:DIGEST_SHOWN]
    room = VALUE_MAX
    if sys.stdout.isatty():
        room = min(VALUE_MAX, max(VALUE_MIN, (terminal_width() - PART_WIDTH) // 2))
    return text if len(text) <= room else text[: room - 1] + "…"
