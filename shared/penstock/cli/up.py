"""`penstock up`: start the bus, the store and every service on this machine, and keep them running.

In the foreground it shows what happens until Ctrl-C; `--detach` returns as soon as all is ready. A
second `up` on the same directory changes nothing, says where the running one is, and exits 0.
"""

import click

SLOTS_MAX = 1024
DIRECTORY_HELP = (
    "Directory of the stack (default: the nearest .penstock upwards, else ./.penstock)."
)


@click.command()
@click.option("--detach", "-d", is_flag=True, help="Return when everything is ready.")
@click.option("--dir", "directory", metavar="DIR", envvar="PENSTOCK_DIR", help=DIRECTORY_HELP)
@click.option("--bus", metavar="URL", help="Use this NATS instead of starting one.")
@click.option("--store", metavar="URL", help="Use this object store instead of DIR/store.")
@click.option("--workspace", metavar="W", help="Workspace (penstock).")
@click.option(
    "--slots", metavar="N", type=click.IntRange(1, SLOTS_MAX), help="Steps at a time (cores)."
)
@click.option(
    "--targets", metavar="T,…", help="Compute targets that its executor serves (default)."
)
@click.option("--mlflow", is_flag=True, help="Start an MLflow tracking server; steps log to it.")
@click.option("--report-fd", type=int, hidden=True)
def command(
    *,
    detach: bool,
    directory: str | None,
    bus: str | None,
    store: str | None,
    workspace: str | None,
    slots: int | None,
    targets: str | None,
    mlflow: bool,
    report_fd: int | None,
) -> int:
    """Start the bus, the store and every service on this machine.

    Without --detach it shows what happens until Ctrl-C stops it. With it, `penstock down` does.
    """
    from penstock.cli.starting import directory_of, started

    given = {"bus": bus, "store": store, "workspace": workspace, "targets": targets}
    flags = {name: value for name, value in given.items() if value is not None}
    if mlflow:
        flags["mlflow"] = "true"
    return started(directory_of(directory), flags, slots, detach=detach, report_fd=report_fd)
