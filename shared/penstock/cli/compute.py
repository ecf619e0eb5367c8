"""`penstock compute`: compute targets, and executors for them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.output import clean, note, output_option, print_data, print_rows, shown
from penstock.cli.target import Where, target_options, with_client

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from penstock.contracts.computes import ComputeView
    from penstock.contracts.work import ExecutorPresence
    from penstock.sdk.async_client import AsyncClient

COLUMNS = {
    "name": "name",
    "kind": "kind",
    "executors": "executors",
    "busy": "busy",
    "offers": "offers",
    "labels": "labels",
    "description": "description",
}


@click.group(short_help="Make compute targets, and start executors for them.")
def command() -> None:
    """Compute targets: names that steps give (`compute: gpu`), and what executors of them are."""


@command.command("create", short_help="Make a compute target.")
@click.argument("name", required=False, default="")
@click.option(
    "-f", "--file", "file", default="", metavar="FILE", help="A YAML file, as Azure ML's."
)
@click.option("--kind", type=click.Choice(["process", "docker"]), help="How its steps run.")
@click.option("--image", default="", help="docker: image of steps that name none.")
@click.option("--network", type=click.Choice(["none", "bridge"]), help="docker: what steps reach.")
@click.option("--slots", type=int, default=0, help="Steps at a time per executor (0: per core).")
@click.option("--cores", type=float, default=0, help="Cores that an executor offers.")
@click.option("--memory", default="", help="Memory that an executor offers: 8g.")
@click.option("--label", "labels", multiple=True, help="What steps may ask for: ssd, zone=eu.")
@click.option("--description", default="", help="A line about it.")
@output_option
@target_options
def create(*, where: Where, name: str, file: str, output: str, **given: object) -> None:
    """Make a compute target, or change one. Steps may name it before an executor is there.

    \b
    penstock compute create boxes --kind docker --image python:3.12-slim
    penstock compute attach boxes
    """  # noqa: D301 - click reads this backspace
    import msgspec

    from penstock.contracts.computes import Compute, ComputeCommand
    from penstock.sdk.compute_files import Named, read_compute
    from penstock.sdk.submissions import who

    found = read_compute(file) if file else Named("", Compute())
    for text in found.notes:
        note(f"note: {text}")
    if not (name or found.name):
        raise click.UsageError("give NAME or --file FILE")
    changes = {key: value for key, value in given.items() if value}
    compute = msgspec.structs.replace(found.compute, **changes)
    asked = ComputeCommand(name=name or found.name, compute=compute, who=who())

    async def body(client: AsyncClient) -> ComputeView:
        return await client.compute("create", asked)

    _print(with_client(where, body), output)


@command.command("list", short_help="List compute targets and what they offer.")
@output_option
@target_options
def list_(*, where: Where, output: str) -> None:
    """List compute targets: the registered ones and those that executors serve."""

    async def body(
        client: AsyncClient,
    ) -> tuple[tuple[ComputeView, ...], tuple[ExecutorPresence, ...]]:
        return await client.computes(), await client.executors()

    views, executors = with_client(where, body)
    rows = _rows(views, executors)
    print_rows(rows, COLUMNS, output, data=rows)


@command.command("show", short_help="Show a compute target.")
@click.argument("name")
@output_option
@target_options
def show(*, where: Where, name: str, output: str) -> None:
    """Show what executors of a compute target are to be."""
    _print(with_client(where, _asked("show", name)), output)


@command.command("delete", short_help="Forget a compute target; its executors go on.")
@click.argument("name")
@target_options
def delete(*, where: Where, name: str) -> None:
    """Forget a registered compute target. Executors that serve it go on."""
    click.echo(f"{with_client(where, _asked('delete', name)).name} forgotten")


@command.command("attach", short_help="Start an executor of a target here, in the foreground.")
@click.argument("name")
@target_options
def attach(*, where: Where, name: str) -> int:
    """Start an executor of a compute target on this machine, with the target's settings.

    On another machine say which bus: `penstock compute attach gpu --bus nats://…`. It ends with Ctrl-C.
    """
    from penstock.cli.serve import joined
    from penstock.runtime.launch import serve

    view = with_client(where, _asked("show", name))
    flags = {"targets": view.name}
    for key in ("kind", "slots", "image", "network", "cores", "memory"):
        if value := getattr(view.compute, key):
            flags[key] = str(value)
    if view.compute.labels:
        flags["labels"] = ",".join(view.compute.labels)
    given = {"dir": where.folder, "bus": where.bus, "workspace": where.workspace}
    flags |= {key: str(value) for key, value in given.items() if value}
    flags = joined(flags, "executor")
    if where.bus:
        flags.setdefault("data-dir", os.path.join(os.getcwd(), f".penstock-{view.name}"))  # noqa: PTH109, PTH118
    return serve("executor", flags)


def _asked(verb: str, name: str) -> Callable[[AsyncClient], Coroutine[Any, Any, ComputeView]]:
    from penstock.contracts.computes import ComputeCommand

    async def body(client: AsyncClient) -> ComputeView:
        return await client.compute(verb, ComputeCommand(name=name))

    return body


def _rows(
    views: tuple[ComputeView, ...], executors: tuple[ExecutorPresence, ...]
) -> list[dict[str, object]]:
    from penstock.contracts.resources import in_words

    known = {view.name: view for view in views}
    serving = [executor for executor in executors if not executor.draining]
    names = {name for executor in serving for name in executor.targets} | set(known)
    rows: list[dict[str, object]] = []
    for name in sorted(names):
        its = [executor for executor in serving if name in executor.targets]
        view = known.get(name)
        offers = [
            f"{e.offer.cores:g} cores, {in_words(e.offer.memory_bytes)}"
            + (f", {e.offer.gpus} GPUs" if e.offer.gpus else "")
            for e in its
        ]
        kinds = sorted({e.offer.kind for e in its}) or ([view.compute.kind] if view else [])
        labels = sorted({label for e in its for label in e.offer.labels})
        rows.append(
            {
                "name": name,
                "kind": ", ".join(kinds),
                "executors": len(its),
                "busy": f"{sum(e.busy for e in its)}/{sum(e.slots for e in its)}",
                "offers": "; ".join(dict.fromkeys(offers)),
                "labels": ", ".join(labels),
                "description": view.compute.description if view else "",
            }
        )
    return rows


def _print(view: ComputeView, output: str) -> None:
    if output in ("json", "yaml"):
        print_data(shown(view, ("name", "compute")), output)
    elif output in ("name", "tsv"):
        click.echo(view.name)
    else:
        compute = view.compute
        parts = [compute.kind, compute.image, clean(compute.description)]
        click.echo(f"{view.name}  " + "  ".join(part for part in parts if part))
