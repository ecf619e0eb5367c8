"""Read settings, open the bus, serve."""

import os
from collections.abc import Mapping
from pathlib import Path

from penstock.bus.topology import ensure
from penstock.runtime.service import Context, run
from penstock.runtime.settings import FILE_NAME, load
from penstock_trigger.commands import Commands
from penstock_trigger.settings import Settings
from penstock_trigger.shell import SERVICE, Shell

STREAMS = ("schedules", "cursors", "events", "requests")


def main(flags: Mapping[str, str]) -> int:
    """Run the trigger until it is told to stop; return the exit code."""
    file = Path(os.environ.get("PENSTOCK_CONFIG") or FILE_NAME)
    settings, _ = load("trigger", Settings, flags, os.environ, file)
    return run("trigger", settings, serve)


async def serve(context: Context[Settings]) -> None:
    """Keep every schedule of the workspace until told to stop."""
    await ensure(context.bus, context.names, STREAMS)
    shell = Shell(
        bus=context.bus,
        names=context.names,
        clock=context.clock,
        log=context.log,
        me=context.instance,
        late_s=context.settings.late_s,
        takeover_s=context.settings.takeover_s,
        watch_s=context.settings.watch_s,
        crash=context.crash,
    )
    try:
        await shell.start()
        service = await context.bus.serve(
            SERVICE, Commands(shell).endpoints(), queue="trigger", metadata={"instance": shell.me}
        )
        context.ready()
        await shell.watch(context.stopping)
        await service.close()
    finally:
        await shell.stop()
