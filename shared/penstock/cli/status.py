"""`penstock status`: what runs, where, and whether it is well.

Of a local stack it reads what the supervisor wrote; with `--bus` it asks the services themselves.
Exit code 0 ready, 1 degraded, starting or stopping, 3 stopped.
"""

import asyncio
import os
from pathlib import Path

import click

from penstock.cli.output import note, output_option, print_data, print_rows
from penstock.runtime import stack
from penstock.runtime.stack import Stack, without_password
from penstock.sdk.target import settings_file

EXIT_CODES = {"ready": 0, "stopped": 3}
HINTS = {
    "stopped": "penstock up --detach starts it",
    "degraded": "penstock doctor says more",
}

Status = dict[str, object]


@click.command()
@click.option("--dir", "directory", metavar="DIR", envvar="PENSTOCK_DIR", help="A local stack.")
@click.option("--bus", metavar="URL", help="Ask the services on this NATS instead.")
@click.option("--workspace", metavar="W", help="Workspace (with --bus; default: penstock).")
@output_option
def command(*, directory: str | None, bus: str | None, workspace: str | None, output: str) -> int:
    """Tell what runs, where, and whether it is well."""
    status = _status(directory, bus, workspace)
    if output in ("json", "yaml"):
        print_data(status, output)
    else:
        _print(status, output)
    state = str(status["state"])
    return EXIT_CODES.get(state, 1)


def _status(directory: str | None, bus: str | None, workspace: str | None) -> Status:
    from penstock.runtime.settings import Common, load

    if bus is None and directory is None and os.environ.get("PENSTOCK_BUS"):
        settings, _ = load("client", Common, {}, os.environ, settings_file(os.environ, Path.cwd()))
        bus, workspace = settings.bus, workspace or settings.workspace
    if bus is not None:
        return asyncio.run(_remote(bus, workspace or "penstock"))
    from penstock.cli.up import directory_of

    folder = directory_of(directory)
    found = stack.at(folder)
    return status_of(found.seen() if found is not None else None, folder)


def status_of(found: Stack | None, folder: Path) -> Status:
    """Return a local stack's status, in the shape that scripts rely on."""
    services = found.services if found is not None else ()
    return {
        "state": found.state if found is not None else "stopped",
        "workspace": found.workspace if found is not None else "penstock",
        "bus": found.bus if found is not None else "",
        "store": without_password(found.store) if found is not None else "",
        "gateway": None,
        "services": [
            {
                "name": service.name,
                "pid": service.pid or None,
                "state": service.state,
                **({"restarts": service.restarts} if service.restarts else {}),
                **({"reason": service.reason} if service.reason else {}),
            }
            for service in services
        ],
        "dir": str(folder),
    }


async def _remote(url: str, workspace: str) -> Status:
    from penstock.bus.nats import connect
    from penstock.cli.answering import NEEDED, answering
    from penstock.contracts.subjects import Subjects

    bus = await connect(url, name="penstock-status")
    try:
        answers = await answering(bus, Subjects(workspace))
    finally:
        await bus.close()
    missing = [name for name in NEEDED if name not in answers.names()]
    state = "stopped" if len(missing) == len(NEEDED) else "degraded" if missing else "ready"
    found = [
        {"name": name, "pid": pid or None, "state": "ready", "instance": instance}
        for (name, instance), pid in sorted(answers.found.items())
    ]
    return {
        "state": state,
        "workspace": workspace,
        "bus": url,
        "store": "",
        "gateway": None,
        "services": found + [{"name": n, "pid": None, "state": "stopped"} for n in missing],
    }


def _print(status: Status, output: str) -> None:
    services = status["services"]
    assert isinstance(services, list)  # noqa: S101 - it is made above
    columns = {"name": "service", "state": "state", "pid": "pid", "restarts": "restarts"}
    if output == "table":
        state = str(status["state"])
        click.echo(f"penstock is {state}")
        for name in ("bus", "store", "dir"):
            if status.get(name):
                click.echo(f"  {name:<10}{without_password(str(status[name]))}")
        if state in HINTS:
            note(f"  {HINTS[state]}")
        if not services:
            return
        if not any(service.get("restarts") for service in services):
            del columns["restarts"]
    print_rows(services, columns, output)
    if output == "table":
        for service in services:
            if service.get("reason"):
                note(f"{service['name']}: {service['reason']}")
