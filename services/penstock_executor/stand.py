"""Where the command of an attempt runs: the one seam between an attempt and what a kind of target is.

`process` has one stand for everything, `docker` one for each attempt (docker.py). One suite runs over both
(tests/integration/test_stands.py).
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from penstock.contracts.work import WorkItem
from penstock_executor.decide.environment import Basis
from penstock_executor.decide.layout import Place
from penstock_executor.decide.outcome import Memory
from penstock_executor.place import Attempts, kill_marked
from penstock_executor.preparing import IN_STEP, Fetched, fetched
from penstock_executor.process import Command, out_of_memory_kills
from penstock_executor.workshop import Patience, Workshop

Note = Callable[[str], None]


class Handle(Protocol):
    """A command that was asked for."""

    stdout: int
    """Where to read from; the reader closes it."""
    stderr: int
    forked: bool

    @property
    def ended(self) -> "asyncio.Future[int]":
        """The wait status, when nothing of the command is left. Raises NotStarted or Transient (E_LOST)."""

    def stop(self, grace_s: float) -> None:
        """Ask everything to end; kill what is left after `grace_s`. The first call counts."""

    def kill(self) -> None:
        """Kill everything now."""


class Stand(Protocol):
    """Where one attempt's command runs."""

    attempts: Attempts
    shielded: bool
    """Whether the command cannot write to its inputs, however it tries."""
    talk: Path | None
    """Where sockets for the step are to lie; None: in the attempt's own folder."""

    slow: bool
    """Whether `prepare` may take a while, so that inputs are better fetched beside it."""

    async def prepare(self, place: Place, patience: Patience, note: Note) -> None:
        """Have everything there that the command needs: environment, image, container.

        Raises:
            Failed, PenstockError: E_ENVIRONMENT and others.
        """

    def basis(self, place: Place) -> Basis:
        """Return what variables and command are made from; after `prepare`."""

    async def start(self, command: Command, place: Place) -> Handle:
        """Start the command. Returns at once, or soon."""

    def begin(self) -> None:
        """Count what the kernel kills from now on."""

    def memory(self) -> Memory:
        """Return what the kernel has killed since, and the bounds of memory if there are any."""

    async def ended(self, place: Place) -> None:
        """Make what the step has written ours; nothing of it runs any more."""

    async def leave(self, name: str, place: Place, *, clean: bool, lost: bool) -> None:
        """Remove the attempt's folder `name`. `clean`: it succeeded. `lost`: who attended to it was killed."""


class OnMachine:
    """A command beside the executor, in namespaces where the machine has them, forked where it can be."""

    talk: Path | None = None

    def __init__(self, shop: Workshop, item: WorkItem, gpus: tuple[str, ...]) -> None:
        self.attempts = shop.attempts
        self.shielded = shop.launcher.namespace
        self.slow = False
        self._shop = shop
        self._item = item
        self._gpus = gpus
        self._kills = 0

    async def prepare(self, place: Place, patience: Patience, note: Note) -> None:
        """Nothing to do here: the environment is there before (surroundings.py)."""
        del place, patience
        if self._item.resources.docker_args:
            note("resources.docker_args mean nothing on a process target")

    def basis(self, place: Place) -> Basis:
        """Return what variables and command are made from; GPUs that were set aside are all it sees.

        Otherwise steps side by side would all use the first. One that asks for none sees what the executor
        sees, so that pipelines which say nothing find the GPU of the machine.
        """
        del place
        seen = {"CUDA_VISIBLE_DEVICES": ",".join(self._gpus)} if self._gpus else {}
        environ = {**os.environ, **seen}
        return Basis(environ, self._shop.python_folder, self._shop.shell, in_step=IN_STEP)

    async def start(self, command: Command, place: Place) -> Handle:
        """Start the command."""
        del place
        return await self._shop.start(command, self._item.code)

    def begin(self) -> None:
        """Count what the kernel kills on this machine from now on."""
        self._kills = out_of_memory_kills()

    def memory(self) -> Memory:
        """Return what the kernel has killed since."""
        return Memory(kills=out_of_memory_kills() - self._kills)

    async def ended(self, place: Place) -> None:
        """Nothing to do: steps run as the executor's user."""

    async def leave(self, name: str, place: Place, *, clean: bool, lost: bool) -> None:
        """Remove the attempt's folder, and what is left where there are no namespaces."""
        del clean
        if lost and not self.shielded:
            await asyncio.to_thread(kill_marked, [place.root])
        await asyncio.to_thread(self.attempts.release, name)


async def stand_for(shop: Workshop, item: WorkItem, gpus: tuple[str, ...] = ()) -> Stand:
    """Return where an attempt's command is to run; in containers, when there is room for one more."""
    if shop.docker is not None:
        return await shop.docker.stand(item, gpus)
    return OnMachine(shop, item, gpus)


async def brought_in(
    shop: Workshop, stand: Stand, item: WorkItem, place: Place, *, patience: Patience, note: Note
) -> Fetched:
    """Return what was fetched, when the stand is ready, too."""
    if not stand.slow:
        await stand.prepare(place, patience, note)
        return await fetched(shop, item, place, patience)
    ready = asyncio.ensure_future(stand.prepare(place, patience, note))
    try:
        data = await fetched(shop, item, place, patience)
        await ready
    finally:
        ready.cancel()
        await asyncio.wait({ready})
    return data


async def made(stand: Stand, name: str, item: WorkItem, patience: Patience) -> Place:
    """Return the folder of an attempt, when there is disk space for one."""

    async def once() -> Place:
        return stand.attempts.make(name, item.outputs)

    return await patience.wait(once, "folder of the attempt", disk=True)
