"""`penstock datastore`: named places of files outside of the artifact store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from penstock.cli.target import Where, target_options, with_client

if TYPE_CHECKING:
    from penstock.contracts.queries import RunView
    from penstock.sdk.async_client import AsyncClient


@click.group(short_help="Look after places of files outside of the store.")
def command() -> None:
    """Named places of files outside of the store, and files onto them and off them."""


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
