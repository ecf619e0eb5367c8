"""Read settings, open adapters, serve; nothing else."""

import os
from collections.abc import Mapping
from pathlib import Path

from penstock.bus.topology import ensure
from penstock.environments.tables import tables
from penstock.errors import Invalid
from penstock.runtime.service import Context, run
from penstock.runtime.settings import load, refuse_unknown_variables
from penstock.trees.client import TreeClient
from penstock_planner.decide.environments import Environments
from penstock_planner.settings import Settings
from penstock_planner.shell.assets import Assets
from penstock_planner.shell.callers import Callers
from penstock_planner.shell.computes import Computes
from penstock_planner.shell.datastores import Datastores
from penstock_planner.shell.intake import Intake
from penstock_planner.shell.pipelines import Pipelines
from penstock_planner.shell.queries import Queries
from penstock_planner.shell.runs import Runs

NEEDED = (
    "requests",
    "inbox",
    "runs",
    "events",
    "dead",
    "pipelines",
    "specs",
    "keys",
    "reuse",
    "latest",
    "datastores",
    "assets",
    "computes",
)
CONCURRENCY_MAX = 1_000
ARTIFACT_PATIENCE_S = 2.0
DRAIN_S = 2.0


def main(flags: Mapping[str, str]) -> int:
    """Serve until told to stop; return the exit code."""
    file = os.environ.get("PENSTOCK_CONFIG", "")
    settings, _ = load("planner", Settings, flags, os.environ, Path(file) if file else None)
    refuse_unknown_variables(os.environ, {"planner": Settings})
    if not 1 <= settings.concurrency <= CONCURRENCY_MAX:
        raise Invalid(
            f"{settings.concurrency}; allowed: 1 to {CONCURRENCY_MAX}",
            code="E_CONFIG",
            where="concurrency",
        )
    return run("planner", settings, serve)


async def serve(context: Context[Settings]) -> None:
    """Plan until told to stop, then let callers that wait have their answers."""
    bus, names, log = context.bus, context.names, context.log
    await ensure(bus, names, NEEDED)
    trees = TreeClient(bus, names, patience_s=ARTIFACT_PATIENCE_S)
    environments = Environments(tables(context.settings.environment_tables))
    pipelines = Pipelines(bus, names, trees, environments=environments, crash=context.crash)
    callers = Callers(bus, names, log)
    datastores = Datastores(bus, names)
    assets = Assets(bus, names)
    computes = Computes(bus, names, context.settings.unknown_compute)
    await computes.start()
    runs = Runs(
        bus,
        names,
        pipelines,
        trees,
        datastores=datastores,
        assets=assets,
        computes=computes,
        crash=context.crash,
    )
    intake = Intake(
        bus,
        names,
        runs,
        callers,
        log=log,
        concurrency=context.settings.concurrency,
        crash=context.crash,
    )
    queries = await Queries(
        bus,
        names,
        pipelines,
        trees,
        context.clock,
        datastores=datastores,
        assets=assets,
        computes=computes,
    ).start()
    await callers.start()
    await intake.start()
    context.ready()
    try:
        await context.stopping.wait()
    finally:
        await callers.stop_listening()
        await queries.close()
        await callers.drain(DRAIN_S)
        await intake.close()
        await callers.close()
        await trees.close()
