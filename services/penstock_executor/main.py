"""Start an executor: read settings, open adapters, serve."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from penstock.environments.tables import tables
from penstock.errors import Transient
from penstock.runtime.service import Context, run
from penstock.runtime.settings import FILE_NAME, load, refuse_unknown_variables
from penstock.trees.client import TreeClient
from penstock_executor.containers import Containers
from penstock_executor.decide.containers import Rules
from penstock_executor.decide.environment import usual_variables
from penstock_executor.decide.forkable import Program
from penstock_executor.docker import Docker
from penstock_executor.engine import Engine
from penstock_executor.environments import Environments
from penstock_executor.forking import ForkServers, Limits
from penstock_executor.images import Images
from penstock_executor.place import Attempts, plain, python_folder
from penstock_executor.process import Launcher, shell
from penstock_executor.settings import (
    Settings,
    data_folder,
    datastores_of,
    offer_of,
    preloaded_names,
    slots_of,
    step_user,
)
from penstock_executor.shell import Executor
from penstock_executor.tracking import Tracking
from penstock_executor.workshop import Workshop

SERVICE = "executor"
STORE_PATIENCE_S = 15.0
"""How long one call waits for the store; attempt.py calls again and tells the step's log."""
CACHE = "cache"
OPEN_CACHE = "cache-open"
"""Steps without a namespace can write to their inputs: they get a cache that shares nothing with the store."""


def main(flags: Mapping[str, str]) -> int:
    """Run an executor until it is told to stop; return the exit code."""
    refuse_unknown_variables(os.environ, {SERVICE: Settings})
    file = Path(os.environ.get("PENSTOCK_CONFIG") or FILE_NAME)
    settings, _ = load(SERVICE, Settings, flags, os.environ, file)
    return run(SERVICE, settings, work)


async def work(context: Context[Settings]) -> None:
    """Be an executor until told to stop."""
    settings, log = context.settings, context.log
    preloaded = preloaded_names(settings)
    data = data_folder(settings)
    data.mkdir(parents=True, exist_ok=True)
    data = await asyncio.to_thread(plain, data)
    attempts = Attempts(data)
    killed, removed = await asyncio.to_thread(attempts.sweep)
    if killed or removed:
        log.info("swept after a dead executor", processes=killed, attempts=removed)

    def on_death() -> None:
        context.fail(Transient("the launcher of steps has died", code="E_LOST", where="launcher"))

    launcher = Launcher(on_death)
    try:
        if settings.namespace == "auto":
            problem = await launcher.probe()
            if problem:
                log.warning("no PID namespaces here, so killing is best effort", problem=problem)
        shielded = launcher.namespace or settings.kind == "docker"
        trees = TreeClient(
            context.bus,
            context.names,
            cache=data / (CACHE if shielded else OPEN_CACHE),
            shielded=shielded,
            cache_bytes_max=settings.cache_bytes_max,
            patience_s=STORE_PATIENCE_S,
        )
        folder = python_folder(data)
        forks = None
        if settings.fork_server == "auto" and settings.kind == "process":
            limits = Limits(settings.preload_bytes_max, settings.fork_server_idle_s, preloaded)
            forks = ForkServers(log, data, limits, namespace=launcher.namespace)
            forks.expect(
                Program("python", (), "script", "", ()), usual_variables(folder, os.environ)
            )
        environments = Environments(
            data,
            tables(settings.environment_tables),
            log,
            bytes_max=settings.environments_bytes_max,
            linked=launcher.namespace,  # there a step cannot write to them
            crash=context.crash,
        )
        docker = await containing(context, trees, data) if settings.kind == "docker" else None
        workshop = Workshop(
            executor=context.instance,
            bus=context.bus,
            names=context.names,
            trees=trees,
            launcher=launcher,
            attempts=attempts,
            clock=context.clock,
            log=log,
            shell=shell(),
            python_folder=folder,
            environments=environments,
            tracking=Tracking(settings.tracking if docker is None else ""),
            forks=forks,
            crash=context.crash,
            datastores=datastores_of(settings),
            docker=docker,
        )
        try:
            await Executor(context, workshop).serve()
        finally:
            environments.close()
            if forks is not None:
                forks.close()
            if docker is not None:
                await docker.containers.close()
            await trees.close()
    finally:
        launcher.close()


async def containing(context: Context[Settings], trees: TreeClient, data: Path) -> Docker:
    """Return what runs steps in containers, after removing what a dead executor left.

    Raises:
        Transient: E_ENGINE, the engine is away: the supervisor tries again.
    """
    settings, log = context.settings, context.log
    user = step_user(settings)
    number, _, group = user.partition(":")
    owner = (int(number), int(group)) if os.geteuid() == 0 and number != "0" else None
    engine, offer = Engine(settings.engine), offer_of(settings)
    containers = Containers(
        engine,
        log,
        data,
        slots_of(settings),
        owner=owner,
        workspace=settings.workspace,
    )
    swept = await containers.sweep()
    if swept:
        log.info("swept after a dead executor", containers=swept)
    rules = Rules(
        user, offer.memory_bytes, offer.cores, settings.network, read_only=settings.read_only
    )
    return Docker(
        containers,
        Images(engine, trees, log, os.environ, containers.labels),
        rules,
        image=settings.image,
        keep=settings.keep_containers,
    )
