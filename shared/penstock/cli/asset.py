"""`penstock component|environment|data|model`: what is registered under a name, by kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from penstock.cli.output import note, output_option, print_data, print_rows, shown
from penstock.cli.target import Where, target_options, with_client
from penstock.sdk.wording import moment

if TYPE_CHECKING:
    from penstock.contracts.registry import AssetCommand, AssetKind, AssetView
    from penstock.sdk.async_client import AsyncClient

COLUMNS = {
    "name": "name",
    "version": "version",
    "type": "type",
    "created": "created",
    "who": "who",
    "commit": "commit",
    "description": "description",
}
ALWAYS = ("kind", "name", "version", "created_at")
PLURALS = {"data": "data"}


def group(kind: AssetKind) -> click.Group:
    """Return the commands of one kind."""
    plural = PLURALS.get(kind, f"{kind}s")

    @click.group(short_help=f"Look after registered {plural}.")
    def command() -> None:
        pass

    command.help = f"Registered {plural}: versioned, never changed, named NAME@VERSION."

    @command.command("create", short_help=f"Register a version of a {kind}.")
    @click.option("-f", "--file", "file", required=True, metavar="FILE", help="Azure ML's YAML.")
    @click.option("--name", default="", help="Another name than the file's.")
    @click.option("--version", default="", help="Another version than the file's.")
    @output_option
    @target_options
    def create(*, where: Where, file: str, name: str, version: str, output: str) -> None:
        import msgspec

        from penstock.sdk.assets import read_asset

        found = read_asset(kind, file)
        changes = {k: v for k, v in (("name", name), ("version", version)) if v}
        wish = msgspec.structs.replace(found.command, **changes)

        async def body(client: AsyncClient) -> AssetView:
            return await client.register_asset(wish, found.definition)

        view = with_client(where, body)
        for text in found.definition.notes:
            note(f"note: {text}")
        if not view.created:
            note(f"{view.kind} {view.name}@{view.version} has this content already")
        _print(view, output)

    @command.command("list", short_help=f"List {plural}.")
    @click.option("--name", default="", help="All versions of this one.")
    @click.option("--archived", is_flag=True, help="Archived ones, too.")
    @output_option
    @target_options
    def list_(*, where: Where, name: str, archived: bool, output: str) -> None:
        from penstock.contracts.registry import AssetCommand

        wish = AssetCommand(kind=kind, name=name, archived=archived)

        async def body(client: AsyncClient) -> tuple[AssetView, ...]:
            return await client.assets("list", wish)

        _print_all(with_client(where, body), output)

    @command.command("show", short_help=f"Show a {kind}.")
    @click.argument("name", metavar="NAME[@VERSION]")
    @output_option
    @target_options
    def show(*, where: Where, name: str, output: str) -> None:
        wish = _named(kind, name)

        async def body(client: AsyncClient) -> AssetView:
            return await client.asset(wish)

        _print(with_client(where, body), output)

    for verb, text in (
        ("archive", "Hide a version (or all of a name) from lists and from @latest."),
        ("restore", "Undo archive."),
    ):
        _marking(command, kind, verb, text)
    create.help = f"Register a version of a {kind}; local files that it names are stored."
    list_.help = "List the newest version of each name, or all versions of one."
    show.help = "Show a version and its content."
    return command


def _marking(command: click.Group, kind: AssetKind, verb: str, text: str) -> None:
    @command.command(verb, short_help=text, help=text)
    @click.argument("name", metavar="NAME[@VERSION]")
    @output_option
    @target_options
    def mark(*, where: Where, name: str, output: str) -> None:
        wish = _named(kind, name)

        async def body(client: AsyncClient) -> tuple[AssetView, ...]:
            return await client.assets(verb, wish)

        _print_all(with_client(where, body), output)


def _named(kind: AssetKind, text: str) -> AssetCommand:
    from penstock.contracts.registry import AssetCommand

    name, separator, version = text.partition("@")
    if not separator:
        name, _, version = text.partition(":")
    return AssetCommand(kind=kind, name=name, version=version)


def _row(view: AssetView) -> dict[str, object]:
    content = view.data.type if view.data is not None else ""
    commit = view.git.commit[:8] + ("+" if view.git.dirty else "")
    return {
        "name": view.name,
        "version": view.version + (" (archived)" if view.archived_at else ""),
        "type": content or view.kind,
        "created": moment(view.created_at),
        "who": view.who,
        "commit": commit,
        "description": view.description,
    }


def _print(view: AssetView, output: str) -> None:
    if output in ("json", "yaml"):
        print_data(shown(view, ALWAYS), output)
    elif output in ("name", "tsv"):
        click.echo(f"{view.name}@{view.version}")
    else:
        print_rows([_row(view)], COLUMNS, output)


def _print_all(views: tuple[AssetView, ...], output: str) -> None:
    print_rows(
        [_row(view) for view in views],
        COLUMNS,
        output,
        data=[shown(view, ALWAYS) for view in views],
        empty="nothing is registered yet; register one with `create --file F`",
    )
