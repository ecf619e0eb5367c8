"""What all attempts of an executor share, and how one waits for what is away."""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from structlog.typing import FilteringBoundLogger

from penstock.bus import Bus
from penstock.clock import Clock
from penstock.contracts.artifacts import Manifest
from penstock.contracts.subjects import Subjects
from penstock.contracts.work import Failure
from penstock.errors import Transient
from penstock.runtime.crash import Crash, never
from penstock.trees.client import TreeClient
from penstock_executor.datastores import Datastores
from penstock_executor.environments import Environments
from penstock_executor.forking import ForkServers
from penstock_executor.place import Attempts, remove
from penstock_executor.process import Command, Launcher, Running
from penstock_executor.sources import Sources
from penstock_executor.tracking import Tracking

if TYPE_CHECKING:
    from penstock_executor.docker import Docker

PATIENCE_S = 600.0
"""How long the store may be away before an attempt fails with E_STORE."""
RETRY_S = 1.0
TELL_EVERY_S = 60.0

T = TypeVar("T")


@dataclass(frozen=True)
class Workshop:
    """What all attempts of an executor share."""

    executor: str
    bus: Bus
    names: Subjects
    trees: TreeClient
    launcher: Launcher
    attempts: Attempts
    clock: Clock
    log: FilteringBoundLogger
    shell: str
    python_folder: str
    crash: Crash = never
    environments: Environments | None = None
    """None: no step may have one."""
    tracking: Tracking = field(default_factory=Tracking)
    forks: ForkServers | None = None
    """None: every step is a plain process."""
    sources: Sources = field(default_factory=Sources)
    datastores: Datastores = field(default_factory=Datastores)
    docker: "Docker | None" = None
    """The kind of all targets of this executor: `docker` with it, otherwise `process`."""

    async def start(self, command: Command, code: str) -> Running:
        """Start a command: forked from a warm interpreter if that is possible, otherwise plainly.

        `code` is the digest of what lies in its folder.
        """
        running = await self._forked(command, code)
        return self.launcher.start(command) if running is None else running

    async def fetch(self, digest: str, into: Path, *, read_only: bool = False) -> Manifest:
        """Write a tree below `into`, instead of what an earlier try has left there, and return its manifest.

        A folder that was half written when the disk was full or the store went away is refused as "exists
        already" by the next try, which is final. Raises as `TreeClient.fetch`.
        """
        if os.path.lexists(into):  # noqa: ASYNC240 - quick
            await asyncio.to_thread(remove, into)
        return await self.trees.fetch(digest, into, read_only=read_only)

    async def _forked(self, command: Command, code: str) -> Running | None:
        program = command.program
        if self.forks is None or program is None:
            return None
        modules = self.sources.known(code, program)
        if modules is None:
            folder = Path(command.folder)
            modules = await asyncio.to_thread(self.sources.found, code, folder, program)
        return self.forks.start(command, program, modules)


class Failed(Exception):
    """Carries a failure to where the result is made."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Patience:
    """Tries again while the store, the artifact service or the disk is not there."""

    def __init__(self, clock: Clock, tell: Callable[[str, Transient], None]) -> None:
        self.limit_s = PATIENCE_S
        """May be cut short while somebody waits."""
        self.waits: dict[str, tuple[float, Transient]] = {}
        """What is waited for now: since when (seconds since 1970), and the last error."""
        self._clock = clock
        self._tell = tell

    @contextlib.contextmanager
    def telling(self, what: str, code: str) -> Iterator[Callable[[str], None]]:
        """Say that something is waited for which is no error; what it is, is told to what comes back."""

        def tell(message: str) -> None:
            self.waits[what] = (self._clock.now(), Transient(message, code=code))

        try:
            yield tell
        finally:
            self.waits.pop(what, None)

    async def wait(self, work: Callable[[], Awaitable[T]], what: str, *, disk: bool = False) -> T:
        """Return what `work` returns, trying again for up to `limit_s`, and telling so.

        `disk`: also while the disk is full. Before user code runs, waiting is better than to empty the
        queue into failures; afterwards the step itself may be what fills it.

        Raises:
            Transient: the last one, after that.
        """
        began = self._clock.monotonic()
        told = -TELL_EVERY_S
        since = self._clock.now()
        try:
            while True:
                try:
                    return await work()
                except Transient as error:
                    waited_s = self._clock.monotonic() - began
                    hopeless = error.code == "E_DISK" and not disk
                    if hopeless or waited_s + RETRY_S > self.limit_s:
                        raise
                    self.waits[what] = (since, error)
                    if waited_s - told >= TELL_EVERY_S:
                        told = waited_s
                        self._tell(what, error)
                    await asyncio.sleep(RETRY_S)
        finally:
            self.waits.pop(what, None)


async def together(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Return all results in order; the first failure ends the others and is raised."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
