"""`penstock doctor`: check this machine and the stack; every red line says what to do.

Exit code 0 when nothing is red, else 1. A check that cannot be made from here says so and is not red.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from penstock.cli.output import coloured, output_option, print_rows
from penstock.cli.up import DIRECTORY_HELP

if TYPE_CHECKING:
    from penstock.cli.checks import Check

MARKS = {
    "ok": "[green]ok[/]  ",
    "warning": "[yellow]note[/]",
    "failed": "[red]RED[/] ",
    "unknown": "[dim]?[/]   ",
}


@click.command()
@click.option("--dir", "directory", metavar="DIR", envvar="PENSTOCK_DIR", help=DIRECTORY_HELP)
@click.option("--bus", metavar="URL", help="Check the stack on this NATS instead.")
@click.option("--store", metavar="URL", help="Check this object store too (with --bus).")
@click.option("--workspace", metavar="W", help="Workspace (with --bus; default: penstock).")
@output_option
def command(
    *,
    directory: str | None,
    bus: str | None,
    store: str | None,
    workspace: str | None,
    output: str,
) -> int:
    """Check this machine and the stack, and say what to fix."""
    import asyncio

    checks = asyncio.run(_checks(directory, bus, store, workspace))
    if output == "table":
        _print(checks)
    else:
        rows = [{"check": c.name, "state": c.state, "found": c.found, "fix": c.fix} for c in checks]
        headings = {name: name for name in ("check", "state", "found", "fix")}
        print_rows(rows, headings, output)
    return 1 if any(check.state == "failed" for check in checks) else 0


async def _checks(
    directory: str | None, bus: str | None, store: str | None, workspace: str | None
) -> list[Check]:
    from pathlib import Path

    from penstock.cli.checks import Check, about_bus, about_machine, about_store
    from penstock.cli.starting import directory_of
    from penstock.runtime import stack
    from penstock.runtime.settings import Common, load
    from penstock.sdk.target import settings_file

    if bus is None and directory is None and os.environ.get("PENSTOCK_BUS"):
        file = settings_file(os.environ, Path.cwd())
        settings, _ = load("client", Common, {}, os.environ, file)
        bus, store = settings.bus, store or settings.store
        workspace = workspace or settings.workspace
    if bus is not None:
        checks = about_machine(None)
        checks += await about_bus(bus, workspace or "penstock", None)
        return checks + (await about_store(store) if store else [])
    folder = directory_of(directory)
    checks = about_machine(folder)
    found = stack.at(folder)
    if found is None or not found.alive():
        hint = "penstock up --detach starts one; then ask again"
        return [*checks, Check("stack", "warning", f"nothing is running in {folder}", hint)]
    states = ", ".join(f"{s.name} {s.state}" for s in found.services if s.state != "ready")
    fix = f"the logs in {folder / 'logs'} say why" if states else ""
    checks.append(
        Check("stack", "failed" if states else "ok", f"{found.state}, {states or folder}", fix)
    )
    local = folder if found.embedded_bus else None
    checks += await about_bus(found.bus, found.workspace, local)
    return checks + await about_store(found.store)


def _print(checks: list[Check]) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True, no_color=not coloured(sys.stdout))
    for check in checks:
        console.print(f"{MARKS[check.state]}  {check.name:<20}", end="")
        console.print(check.found, markup=False)
        if check.fix and check.state != "ok":
            console.print(f"      {'':<20}→ {check.fix}", markup=False)
    red = sum(check.state == "failed" for check in checks)
    console.print("all is well" if not red else f"{red} to fix")
