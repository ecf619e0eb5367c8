"""`penstock dead-letters`: messages that nobody could take in, and what to do with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from penstock.cli.output import clean, note, output_option, print_data, print_rows, shown
from penstock.cli.target import Where, target_options, with_client
from penstock.errors import Invalid, Refused
from penstock.sdk.wording import moment, size

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from penstock.contracts.dead_letters import DeadLetter, DeadLetterView
    from penstock.sdk.async_client import AsyncClient
    from penstock.sdk.dead_letters import Deed

COLUMNS = {
    "id": "id",
    "at": "set aside",
    "stream": "from",
    "subject": "subject",
    "size": "size",
    "code": "code",
    "reason": "reason",
}
ALWAYS = ("id", "stream", "subject", "code", "reason", "at", "deliveries", "size_bytes", "letter")
STREAMS = ("requests", "inbox", "timers", "work")
LINES_MAX = 200


@click.group("dead-letters", short_help="Look after messages nobody could take in.")
def command() -> None:
    """Messages that no service could take in lie here for 30 days, with the reason."""


_stream = click.option("--stream", type=click.Choice(STREAMS), default=None, help="Only from here.")


@command.command("list", short_help="List dead letters, newest first.")
@_stream
@click.option("--limit", type=click.IntRange(1), default=50, help="At most this many.")
@output_option
@target_options
def list_(*, where: Where, stream: str | None, limit: int, output: str) -> None:
    """List dead letters, newest first: what each was, where it came from, and why it lies here."""
    from penstock.sdk.dead_letters import listed

    async def body(client: AsyncClient) -> list[DeadLetter]:
        return await listed(await client.open(), stream=stream or "", limit=limit)

    letters = with_client(where, body)
    print_rows(
        [_row(letter) for letter in letters],
        COLUMNS,
        output,
        data=[shown(letter, ALWAYS) for letter in letters],
        empty="no dead letters",
    )


@command.command("show", short_help="Show a dead letter with its body.")
@click.argument("number", metavar="ID", type=int)
@output_option
@target_options
def show(*, where: Where, number: int, output: str) -> None:
    """Show a dead letter: why it lies here, its headers, and its body, made harmless for a terminal."""
    view = with_client(where, _deed("show", number))
    letter = view.letter
    if output in ("json", "yaml"):
        print_data(shown(view, ALWAYS), output)
        return
    if output in ("name", "tsv"):
        words = (str(letter.id), letter.subject, letter.code, letter.reason)
        click.echo("\t".join(words) if output == "tsv" else words[0])
        return
    for name, value in {
        "id": str(letter.id),
        "from": f"{letter.subject}  (stream {letter.stream})",
        "why": f"{letter.code}: {letter.reason}".removeprefix(": "),
        "set aside": f"{moment(letter.at)}, at delivery {letter.deliveries}",
        "size": size(letter.size_bytes) + (", only its beginning was kept" if letter.truncated else ""),
        "replay": f"no: {letter.obstacle}" if letter.obstacle else f"penstock dead-letters replay {letter.id}",
        **{f"  {name}": value for name, value in view.headers.items()},
    }.items():  # fmt: skip
        click.echo(f"{clean(name) + ':':<12}{clean(value)}")
    click.echo()
    lines = view.body.split("\n")
    for line in lines[:LINES_MAX]:
        click.echo(f"  | {harmless(line)}")
    if len(lines) > LINES_MAX:
        note(f"{len(lines) - LINES_MAX:,} more lines; -o json prints them")


@command.command("replay", short_help="Put dead letters back where they came from.")
@click.argument("numbers", metavar="[ID]…", nargs=-1, type=int)
@click.option("--all", "every", is_flag=True, help="All that can be replayed, oldest first.")
@_stream
@output_option
@target_options
def replay(
    *, where: Where, numbers: tuple[int, ...], every: bool, stream: str | None, output: str
) -> int:
    """Put dead letters back where they came from, once each; then they are off this list.

    Do so when the reason is gone: a newer version knows the message, the store is back. One that
    still cannot be taken in comes back as a new letter.
    """
    return _each(where, "replay", numbers, every=every, stream=stream, output=output)


@command.command("delete", short_help="Drop dead letters.")
@click.argument("numbers", metavar="[ID]…", nargs=-1, type=int)
@click.option("--all", "every", is_flag=True, help="All of them.")
@_stream
@output_option
@target_options
def delete(
    *, where: Where, numbers: tuple[int, ...], every: bool, stream: str | None, output: str
) -> int:
    """Drop dead letters for good."""
    return _each(where, "delete", numbers, every=every, stream=stream, output=output)


def _each(
    where: Where,
    deed: Deed,
    numbers: tuple[int, ...],
    *,
    every: bool,
    stream: str | None,
    output: str,
) -> int:
    """Do something with each named letter, or with all; one that is refused stops none of the others."""
    from penstock.sdk.dead_letters import done, listed

    if bool(numbers) == (every or stream is not None):
        raise Invalid(
            "which letters?", code="E_PARAM", where=deed, hint="give ids, or --all, or --stream S"
        )
    rows: list[dict[str, object]] = []

    async def body(client: AsyncClient) -> None:
        talk = await client.open()
        wanted = list(numbers)
        if not wanted:
            letters = await listed(talk, stream=stream or "")
            able = [letter for letter in letters if deed == "delete" or not letter.obstacle]
            wanted = [letter.id for letter in reversed(able)]
            if len(able) < len(letters):
                note(f"{len(letters) - len(able)} cannot be replayed, and stay")
        for number in wanted:
            row = {"id": number, "done": True, "subject": "", "answer": ""}
            try:
                view = await done(talk, deed, number)
                row |= {"subject": view.letter.subject, "answer": view.answer}
            except Refused as error:
                row |= {"done": False, "answer": str(error)}
            rows.append(row)

    with_client(where, body)
    columns = {"id": "id", "done": "done", "subject": "subject", "answer": "answer"}
    print_rows(rows, columns, output, data=rows, empty="no dead letters")
    return 0 if all(row["done"] for row in rows) else 2


def _deed(deed: Deed, number: int) -> Callable[[AsyncClient], Awaitable[DeadLetterView]]:
    async def body(client: AsyncClient) -> DeadLetterView:
        from penstock.sdk.dead_letters import done

        return await done(await client.open(), deed, number)

    return body


def _row(letter: DeadLetter) -> dict[str, object]:
    return {
        "id": letter.id,
        "at": moment(letter.at),
        "stream": letter.stream,
        "subject": letter.subject,
        "size": size(letter.size_bytes),
        "code": letter.code,
        "reason": letter.reason,
    }


def harmless(line: str) -> str:
    """Return a line that cannot move the cursor, change colours or hide what stands around it."""
    return "".join(
        c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in line
    )
