"""`penstock pipeline`: register pipelines for others to run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from penstock.cli.output import clean, note, output_option, print_data, print_rows, shown
from penstock.cli.target import Where, target_options, with_client
from penstock.sdk.wording import moment

if TYPE_CHECKING:
    from penstock.contracts.queries import PipelineView
    from penstock.sdk.async_client import AsyncClient

COLUMNS = {
    "name": "name",
    "version": "version",
    "created": "created",
    "who": "who",
    "description": "description",
}
ALWAYS = ("name", "version", "spec", "created")


@click.group(short_help="Register pipelines for others to run.")
def command() -> None:
    """Register pipelines, so that anyone may run them by name: `penstock submit digits`."""


@command.command("create", short_help="Register a pipeline file.")
@click.option("-f", "--file", "file", required=True, metavar="FILE", help="A pipeline file.")
@click.option("--name", default="", help="Another name than the file's.")
@output_option
@target_options
def create(*, where: Where, file: str, name: str, output: str) -> None:
    """Register a pipeline file. Versions never change; equal content is the same version."""
    from penstock.sdk.pipeline_files import read_pipeline

    definition = read_pipeline(file)

    async def body(client: AsyncClient) -> PipelineView:
        return await client.register(definition, name)

    view = with_client(where, body)
    for text in definition.notes:
        note(f"note: {text}")
    if output in ("json", "yaml"):
        print_data(shown(view, ALWAYS), output)
    elif output in ("name", "tsv"):
        click.echo(f"{view.name}@{view.version}")
    else:
        new = "registered" if view.created else "was registered already, unchanged"
        click.echo(f"{view.name}@{view.version} {new}")


@command.command("list", short_help="List registered pipelines.")
@click.option("--name", default="", help="All versions of this one.")
@output_option
@target_options
def list_(*, where: Where, name: str, output: str) -> None:
    """List registered pipelines, the latest version of each."""

    async def body(client: AsyncClient) -> tuple[PipelineView, ...]:
        return await client.pipelines(name)

    found = with_client(where, body)
    print_rows(
        [_row(view) for view in found],
        COLUMNS,
        output,
        data=[shown(view, ALWAYS) for view in found],
        empty="no pipelines yet; register one with `penstock pipeline create --file F`",
    )


@command.command("show", short_help="Show a registered pipeline.")
@click.argument("name", metavar="NAME[@VERSION]")
@output_option
@target_options
def show(*, where: Where, name: str, output: str) -> None:
    """Show a registered pipeline: its versions, inputs and steps."""

    async def body(client: AsyncClient) -> PipelineView:
        return await client.pipeline(name)

    view = with_client(where, body)
    if output in ("json", "yaml"):
        print_data(shown(view, ALWAYS), output)
        return
    if output in ("name", "tsv"):
        click.echo(f"{view.name}@{view.version}")
        return
    click.echo(f"{view.name}@{view.version}  {clean(view.description)}".rstrip())
    click.echo(f"created {moment(view.created_at)} by {clean(view.who)}")
    if view.definition is None:
        note("the definition is too large to show")
        return
    click.echo()
    rows = [
        {
            "step": name,
            "command": " ".join(step.command.split()),
            "inputs": ", ".join(step.inputs),
            "outputs": ", ".join(step.outputs),
        }
        for name, step in view.definition.steps.items()
    ]
    headings = {"step": "step", "inputs": "inputs", "outputs": "outputs", "command": "command"}
    print_rows(rows, headings, "table")
    if view.definition.inputs:
        click.echo()
        inputs = [
            {"input": key, "value": shown(value) if value is not None else ""}
            for key, value in view.definition.inputs.items()
        ]
        print_rows(inputs, {"input": "input", "value": "value"}, "table")


def _row(view: PipelineView) -> dict[str, object]:
    return {
        "name": view.name,
        "version": view.version,
        "created": moment(view.created_at),
        "who": view.who,
        "description": view.description,
    }
