"""`penstock status`: what runs, where, and whether it is well.

Of a local stack it reads what the supervisor wrote; with `--bus` it asks the services themselves.
Exit code 0 ready, 1 degraded, starting or stopping, 3 stopped.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import click

from penstock.cli.output import note, output_option, print_data, print_rows
from penstock.errors import PenstockError

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.contracts.work import ExecutorPresence
    from penstock.runtime.stack import Stack

CONNECT_S = 2.0
PRESENT_S = 1.0
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
    import asyncio
    from pathlib import Path

    from penstock.runtime.settings import Common, load
    from penstock.sdk.target import settings_file

    if bus is None and directory is None and os.environ.get("PENSTOCK_BUS"):
        settings, _ = load("client", Common, {}, os.environ, settings_file(os.environ, Path.cwd()))
        bus, workspace = settings.bus, workspace or settings.workspace
    if bus is not None:
        return asyncio.run(_remote(bus, workspace or "penstock"))
    from penstock.cli.starting import directory_of
    from penstock.runtime import stack

    folder = directory_of(directory)
    found = stack.at(folder)
    found = found.seen() if found is not None else None
    status = status_of(found, folder)
    if found is not None and found.state in ("ready", "degraded"):
        status["executors"] = asyncio.run(_executors(found))
    return status


def status_of(found: Stack | None, folder: Path) -> Status:
    """Return a local stack's status, in the shape that scripts rely on."""
    from penstock.runtime.stack import without_password

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


async def _executors(found: Stack) -> list[dict[str, object]]:
    """Return who runs steps, also where somebody else started them; empty when the bus does not answer."""
    import asyncio

    from penstock.bus.nats import connect
    from penstock.contracts.subjects import Subjects
    from penstock.sdk.conversation import Conversation
    from penstock.sdk.executors import present

    with contextlib.suppress(PenstockError, TimeoutError):
        bus = await asyncio.wait_for(connect(found.bus, name="penstock-status"), CONNECT_S)
        try:
            talk = Conversation(bus, Subjects(found.workspace))
            return [_executor(e) for e in await present(talk, wait_s=PRESENT_S, quiet_s=0.1)]
        finally:
            await bus.close()
    return []


def _executor(executor: ExecutorPresence) -> dict[str, object]:
    return {
        "executor": executor.executor,
        "targets": list(executor.targets),
        "slots": executor.slots,
        "busy": executor.busy,
        "state": "draining" if executor.draining else "ready",
        "host": executor.host,
        "pid": executor.pid or None,
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
        "executors": [_executor(executor) for executor in answers.executors.values()],
    }


def _print(status: Status, output: str) -> None:
    from penstock.runtime.stack import without_password

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
        _print_executors(status.get("executors"))


def _print_executors(executors: object) -> None:
    if not isinstance(executors, list) or not executors:
        return
    click.echo()
    rows = [{**executor, "targets": ", ".join(executor["targets"])} for executor in executors]
    columns = {name: name for name in ("executor", "targets", "slots", "busy", "state", "host")}
    if all(row["state"] == "ready" for row in rows):
        del columns["state"]
    print_rows(rows, columns, "table")
