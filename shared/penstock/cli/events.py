"""`penstock events`: follow what happens, as it happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from penstock.cli.output import output_option, print_data
from penstock.cli.target import Where, target_options, with_client
from penstock.errors import Invalid

if TYPE_CHECKING:
    from penstock.sdk.async_client import AsyncClient
    from penstock.sdk.events import Seen


@click.command(short_help="Follow what happens, as it happens.")
@click.option("--run", default="", help="Only this run; ends with it.")
@click.option(
    "--type", "kinds", multiple=True, metavar="T", help="step.failed, step.*, run …; repeat."
)
@click.option(
    "--since", default="", metavar="SEQ|all", help="Begin after this sequence, or with all."
)
@click.option("--no-follow", is_flag=True, help="Print what is stored and stop.")
@output_option
@target_options
def command(
    *, where: Where, run: str, kinds: tuple[str, ...], since: str, no_follow: bool, output: str
) -> None:
    """Follow what happens, as it happens: one line each, oldest first.

    \b
    penstock events --type step.failed
    penstock events --run RUN -o json | jq .data
    """  # noqa: D301 - click reads this backspace
    start = _start(since, whole=bool(run) or no_follow)

    async def body(client: AsyncClient) -> None:
        full = await client.full_id(run, check=True) if run else ""
        async for seen in client.events(full, since=start, live=not no_follow):
            if not kinds or any(seen.is_kind(kind) for kind in kinds):
                _print(seen, output)

    with_client(where, body)


def _start(since: str, *, whole: bool) -> int | None:
    if since in ("", "all"):
        return 0 if since == "all" or whole else None
    if not since.isdigit():
        raise Invalid(
            f"{since!r} is no sequence", code="E_PARAM", where="--since", hint="a number, or all"
        )
    return int(since)


def _print(seen: Seen, output: str) -> None:
    if output == "json":
        import json

        click.echo(json.dumps(seen.cloudevent(), ensure_ascii=False))
    elif output == "yaml":
        click.echo("---")
        print_data(seen.cloudevent(), output)
    elif output == "name":
        click.echo(seen.kind)
    elif output == "tsv":
        name = str(seen.data.get("step", ""))
        run = str(seen.data.get("run", ""))
        click.echo("\t".join((str(seen.sequence), f"{seen.at:.3f}", seen.kind, run, name)))
    else:
        from penstock.sdk.wording import event_line

        click.echo(event_line(seen))
