"""`penstock datastore`: named places of files outside of the artifact store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from penstock.cli.output import clean, note, output_option, print_data, print_rows, shown
from penstock.cli.target import Where, target_options, with_client

if TYPE_CHECKING:
    from penstock.contracts.queries import DatastoreView, RunView
    from penstock.sdk.async_client import AsyncClient


COLUMNS = {"name": "name", "url": "url", "type": "type", "description": "description"}
OWN = "(the workspace's own folder)"


@click.group(short_help="Look after places of files outside of the store.")
def command() -> None:
    """Named places of files outside of the store, and files onto them and off them."""


@command.command("create", short_help="Register a datastore.")
@click.argument("name", required=False, default="")
@click.option(
    "-f", "--file", "file", default="", metavar="FILE", help="A YAML file, as Azure ML's."
)
@click.option("--url", default="", help="Where it lies: s3://bucket/prefix, file:///folder …")
@click.option("--folder", default="", type=click.Path(), help="A folder that executors see.")
@click.option("--alias", "aliases", multiple=True, help="URLs that begin so mean it, too.")
@click.option("--description", default="", help="A line about it.")
@output_option
@target_options
def create(
    *,
    where: Where,
    name: str,
    file: str,
    url: str,
    folder: str,
    aliases: tuple[str, ...],
    description: str,
    output: str,
) -> None:
    """Register a datastore, in place of one of that name. Credentials stay with the executors.

    \b
    penstock datastore create lake --url s3://bucket/lake
    penstock datastore create samples --folder ./samples --alias https://account.blob.core.windows.net/data/
    penstock datastore create --file blob.yml --folder ./blob
    """  # noqa: D301 - click reads this backspace
    from pathlib import Path

    import msgspec

    from penstock.contracts.data import Datastore
    from penstock.contracts.queries import DatastoreCommand
    from penstock.sdk.datastore_files import Named, folder_url, read_datastore
    from penstock.sdk.submissions import who

    found = read_datastore(file) if file else Named("", Datastore())
    for text in found.notes:
        note(f"note: {text}")
    if url and folder:
        raise click.UsageError("--url and --folder; give one")
    if not (name or found.name):
        raise click.UsageError("give NAME or --file FILE")
    url = folder_url(Path(folder)) if folder else url
    datastore = msgspec.structs.replace(
        found.datastore,
        url=url or found.datastore.url,
        aliases=(*found.datastore.aliases, *aliases),
        description=description or found.datastore.description,
    )
    command_ = DatastoreCommand(name=name or found.name, datastore=datastore, who=who())

    async def body(client: AsyncClient) -> DatastoreView:
        return await client.datastore("create", command_)

    _print(with_client(where, body), output)


@command.command("list", short_help="List datastores.")
@output_option
@target_options
def list_(*, where: Where, output: str) -> None:
    """List datastores: those of every workspace and the registered ones."""

    async def body(client: AsyncClient) -> tuple[DatastoreView, ...]:
        return await client.datastores()

    found = with_client(where, body)
    print_rows(
        [_row(view) for view in found], COLUMNS, output, data=[shown(view) for view in found]
    )


@command.command("show", short_help="Show a datastore.")
@click.argument("name")
@output_option
@target_options
def show(*, where: Where, name: str, output: str) -> None:
    """Show where a datastore lies and which URLs mean it."""
    from penstock.contracts.queries import DatastoreCommand

    async def body(client: AsyncClient) -> DatastoreView:
        return await client.datastore("show", DatastoreCommand(name=name))

    _print(with_client(where, body), output)


@command.command("delete", short_help="Forget a datastore; its files stay.")
@click.argument("name")
@target_options
def delete(*, where: Where, name: str) -> None:
    """Forget a registered datastore. Its files stay where they are."""
    from penstock.contracts.queries import DatastoreCommand

    async def body(client: AsyncClient) -> DatastoreView:
        return await client.datastore("delete", DatastoreCommand(name=name))

    click.echo(f"{with_client(where, body).name} forgotten")


@command.command("upload", short_help="Write a local file or folder to a datastore.")
@click.argument("name", metavar="NAME")
@click.argument("source", metavar="SOURCE", type=click.Path())
@click.argument("path", metavar="[PATH]", default="")
@click.option(
    "--compute", default="", help="Target of the executor that writes (default: default)."
)
@target_options
def upload(*, where: Where, name: str, source: str, path: str, compute: str) -> None:
    """Write a local file or folder to PATH of a datastore, and say where it lies.

    A folder's contents come to lie below PATH. A file lies at PATH; if that ends with "/", in it.
    """
    from pathlib import Path

    from penstock.sdk import datastores

    async def body(client: AsyncClient) -> RunView:
        return await datastores.upload(client, name, Path(source), path, compute=compute)

    with_client(where, body)
    definition = datastores.upload_definition(name, Path(source), path)
    output = definition.spec.steps[datastores.STEP].outputs[datastores.DATA]
    click.echo(output if isinstance(output, str | None) else output.path)


@command.command("download", short_help="Fetch what lies on a datastore.")
@click.argument("name", metavar="NAME")
@click.argument("path", metavar="PATH")
@click.argument("into", metavar="[DIR]", default=".", type=click.Path(file_okay=False))
@click.option("--compute", default="", help="Target of the executor that reads (default: default).")
@target_options
def download(*, where: Where, name: str, path: str, into: str, compute: str) -> None:
    """Fetch the file, the folder's contents or what matches the pattern at PATH into DIR."""
    from pathlib import Path

    from penstock.sdk import datastores

    async def body(client: AsyncClient) -> RunView:
        return await datastores.download(client, name, path, Path(into), compute=compute)

    with_client(where, body)
    click.echo(into)


def _row(view: DatastoreView) -> dict[str, object]:
    return {
        "name": view.name,
        "url": view.datastore.url or OWN,
        "type": view.datastore.type,
        "description": view.datastore.description,
    }


def _print(view: DatastoreView, output: str) -> None:
    if output in ("json", "yaml"):
        print_data(shown(view), output)
    elif output in ("name", "tsv"):
        click.echo(view.name)
    else:
        click.echo(f"{view.name}  {clean(view.datastore.url) or OWN}")
        for alias in view.datastore.aliases:
            click.echo(f"  also {clean(alias)}")
