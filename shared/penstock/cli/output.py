"""What commands print: data on stdout as table, json, yaml, tsv or name; everything else on stderr.

Tables are fitted to the width of a terminal and whole in a pipe. Texts that users wrote
lose their control characters before a terminal sees them.
"""

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from penstock.sdk.wording import cell_width, clean, number

if TYPE_CHECKING:
    import msgspec

__all__ = [
    "FORMATS",
    "STYLES",
    "aligned",
    "clean",
    "coloured",
    "fitted",
    "note",
    "output_option",
    "print_data",
    "print_rows",
    "shown",
    "terminal_width",
]

FORMATS = ("table", "json", "yaml", "tsv", "name")
WIDTH_MIN = 20
COLUMN_MIN = 8

Function = TypeVar("Function", bound=Callable[..., Any])
Row = Mapping[str, object]


def output_option(function: Function) -> Function:
    """Give a command `-o`; it is handed `output: str`, one of FORMATS."""
    option = click.option(
        "-o",
        "--output-format",
        "output",
        type=click.Choice(FORMATS),
        default="table",
        help="How to print the result.",
    )
    return option(function)


def note(text: str) -> None:
    """Say something beside the data, on stderr, after what was printed before."""
    sys.stdout.flush()
    click.echo(clean(text), err=True)


# -- data -----------------------------------------------------------------------------------------


def shown(value: Any, always: Iterable[str] = ()) -> Any:
    """Return plain data of a message: the fields named in `always`, and those that are not default."""
    import msgspec

    kept = frozenset(always)
    if isinstance(value, msgspec.Struct):
        return {
            field.encode_name: shown(getattr(value, field.name), kept)
            for field in msgspec.structs.fields(value)
            if field.encode_name in kept
            or field.required
            or getattr(value, field.name) != _default_of(field)
        }
    if isinstance(value, Mapping):
        return {key: shown(item, kept) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shown(item, kept) for item in value]
    return value


def print_data(value: object, output: str) -> None:
    """Print plain data as json (indented on a terminal) or yaml."""
    if output == "yaml":
        import yaml

        text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)
        click.echo(text, nl=False)
        return
    import json

    indent = 2 if sys.stdout.isatty() else None
    click.echo(json.dumps(value, indent=indent, ensure_ascii=False, default=str))


def print_rows(
    rows: Sequence[Row],
    columns: Mapping[str, str],
    output: str,
    *,
    data: object = None,
    empty: str = "nothing to show",
) -> None:
    """Print rows as a list command does.

    `columns` maps a key of the rows to its heading; the first one is the name. `data` is what json
    and yaml print instead of the rows.
    """
    if output in ("json", "yaml"):
        print_data(list(rows) if data is None else data, output)
        return
    cells = [[_cell(row.get(key)) for key in columns] for row in rows]
    if output == "name":
        for row in cells:
            click.echo(row[0])
    elif output == "tsv":
        for row in cells:
            click.echo("\t".join(row))
    elif not rows:
        note(empty)
    elif sys.stdout.isatty():
        _print_fitted(cells, list(columns.values()))
    else:
        for line in aligned(cells, list(columns.values())):
            click.echo(line)


def aligned(cells: Sequence[Sequence[str]], headings: Sequence[str]) -> list[str]:
    """Return the lines of a plain table: headings in capitals (ids stay), two blanks between columns."""
    capitals = [heading if _has_digit(heading) else heading.upper() for heading in headings]
    table = [capitals, *cells]
    widths = [max(cell_width(row[i]) for row in table) for i in range(len(headings))]
    return [
        "  ".join(
            cell + " " * (width - cell_width(cell)) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in table
    ]


def _has_digit(text: str) -> bool:
    return any(character.isdigit() for character in text)


def terminal_width() -> int:
    """Return the width of the terminal, never below WIDTH_MIN."""
    import shutil

    return max(WIDTH_MIN, shutil.get_terminal_size().columns)


def coloured(stream: Any) -> bool:
    """Say whether this stream takes colours: a terminal, and NO_COLOR is not set."""
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR")


STYLES = {
    "succeeded": "green",
    "failed": "red",
    "refused": "red",
    "cancelled": "yellow",
    "reused": "cyan",
    "running": "blue",
    "retrying": "yellow",
    "skipped": "dim",
    "waiting": "dim",
    "queued": "dim",
    "ready": "dim",
}
"""How states look, here and in the live view."""


def _cell(value: object) -> str:
    if value is None:
        return ""
    return clean(value) if isinstance(value, str) else number(value)


def _print_fitted(cells: Sequence[Sequence[str]], headings: Sequence[str]) -> None:
    """Print a table no wider than the terminal, so that no line of it wraps."""
    colours = coloured(sys.stdout)
    kept = [i for i in range(len(headings)) if not i or any(row[i] for row in cells)]
    titles, *rows = fitted(
        [[line[i] for i in kept] for line in (headings, *cells)], terminal_width()
    )
    click.echo(click.style("  ".join(titles).rstrip(), bold=True) if colours else "  ".join(titles))
    for row in rows:
        words = [_styled(cell) for cell in row] if colours else row
        click.echo("  ".join(words).rstrip())


def fitted(table: Sequence[Sequence[str]], width: int) -> list[list[str]]:
    """Return the cells padded to columns; what is too wide at the right is shortened, then left out."""
    widths = [max(cell_width(row[i]) for row in table) for i in range(len(table[0]))]
    while len(widths) > 1 and sum(widths) + 2 * (len(widths) - 1) > width:
        left = width - sum(widths[:-1]) - 2 * (len(widths) - 1)
        if left >= COLUMN_MIN:
            widths[-1] = left
            break
        widths.pop()
    return [
        [_shortened(cell, wide) for cell, wide in zip(row, widths, strict=False)] for row in table
    ]


def _shortened(text: str, width: int) -> str:
    if cell_width(text) > width:
        while cell_width(text) > width - 1:
            text = text[:-1]
        text += "…"
    return text + " " * (width - cell_width(text))


def _styled(cell: str) -> str:
    style = STYLES.get(cell.strip(), "")
    if style == "dim":
        return click.style(cell, dim=True)
    return click.style(cell, fg=style) if style else cell


def _default_of(field: "msgspec.structs.FieldInfo") -> object:
    import msgspec

    if field.default is not msgspec.NODEFAULT:
        return field.default
    return field.default_factory() if callable(field.default_factory) else msgspec.NODEFAULT
