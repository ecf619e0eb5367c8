"""Running one command line twice: as a plain process and forked from a warm interpreter."""

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from penstock.errors import PenstockError
from penstock_executor.decide.environment import usual_variables
from penstock_executor.decide.forkable import Program, program_of
from penstock_executor.forking import ForkServers, Limits
from penstock_executor.preparing import IN_STEP
from penstock_executor.process import Command, Launcher, Running, shell

WAIT_S = 60.0
PYTHON_FOLDER = str(Path(sys.executable).parent)


@dataclass(frozen=True)
class Ended:
    """What could be seen of a command."""

    status: int
    stdout: bytes
    stderr: bytes


class BothWays:
    """A launcher and fork servers, as an executor has them."""

    def __init__(self, data: Path, preload: Sequence[str] = ()) -> None:
        self.data = data
        self.launcher = Launcher(lambda: None)
        self.limits = Limits(1 << 30, 600.0, tuple(preload), servers_max=64)
        self.forks: ForkServers

    async def open(self, *, namespace: bool) -> str:
        """Start; return why there are no namespaces, if they were wanted."""
        problem = await self.launcher.probe() if namespace else ""
        log = structlog.get_logger()
        self.forks = ForkServers(log, self.data, self.limits, namespace=self.launcher.namespace)
        return problem

    def close(self) -> None:
        """End both."""
        self.forks.close()
        self.launcher.close()

    def command(self, text: str, folder: Path, **variables: str) -> Command:
        """Return a command as preparing.py makes it."""
        environment = {
            **usual_variables(PYTHON_FOLDER, os.environ),
            "PWD": str(folder),
            "TMPDIR": str(folder),
            "PYTHONPATH": f"{IN_STEP.folder}/site",
            "PENSTOCK_PACKAGE": IN_STEP.package,
            **variables,
        }
        return Command([shell(), "-c", text], str(folder), environment, program=program_of(text))

    async def forked(self, command: Command, modules: Sequence[str] = ()) -> Running:
        """Fork it; the servers it needs are waited for."""
        assert command.program is not None, command.arguments
        async with asyncio.timeout(WAIT_S):
            while True:
                running = self.forks.start(command, command.program, modules)
                if running is not None:
                    return running
                await asyncio.sleep(0.01)

    async def preloaded(self, command: Command, modules: Sequence[str]) -> None:
        """Return when the server of this command has imported all that can be imported."""
        assert command.program is not None
        async with asyncio.timeout(WAIT_S):
            while True:
                self.forks.expect(command.program, command.environment)
                found = [p.large for p in self.forks._pairs.values() if p.large is not None]
                if any(set(modules) <= server.loaded for server in found):
                    return
                await asyncio.sleep(0.02)

    async def plain(self, command: Command) -> Running:
        """Start it plainly."""
        return self.launcher.start(command)


async def ended(running: Running) -> Ended:
    """Return how a command ended; everything it wrote is read meanwhile."""
    loop = asyncio.get_running_loop()
    reading = [loop.run_in_executor(None, _all_of, fd) for fd in (running.stdout, running.stderr)]
    try:
        status = await asyncio.wait_for(asyncio.shield(running.ended), WAIT_S)
    except PenstockError:
        for one in reading:
            await one
        raise
    stdout, stderr = [await one for one in reading]
    return Ended(status, stdout, stderr)


def _all_of(fd: int) -> bytes:
    os.set_blocking(fd, True)
    with os.fdopen(fd, "rb") as file:
        return file.read()


USUAL = Program("python", (), "script", "", ())
