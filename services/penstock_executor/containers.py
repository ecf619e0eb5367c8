"""Steps in containers: made, kept for the next step where that is safe, and never left behind.

    executor ── engine ── container: init ── attend.py ── keeper, a subreaper ── command ── …
        └────────── a Unix socket, mounted ───┘

Inside runs our launcher (launcher.py), so a command in a container is started, ended, signalled, and its
output read in the very way of one without: over a socket that carries the ends of pipes. When the
executor goes, however it goes, that socket ends, and the container with it. In an image without Python 3.10 a
shell script does what is needed (inside/plain.sh), for one command per container.

A container is kept for the next step of the same run that needs an equal one (docs/adr/0010): its
processes are gone, /tmp and /dev/shm are emptied, and its folders are those of the next attempt. After
anything but a clean end it is removed.
"""

import asyncio
import contextlib
import os
import select
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from structlog.typing import FilteringBoundLogger

import penstock
from penstock.errors import Invalid, PenstockError, Transient
from penstock_executor import berths
from penstock_executor.berths import Berth
from penstock_executor.decide.containers import HOME, LABEL, Box, Mount, spec_of
from penstock_executor.engine import CODE, Engine
from penstock_executor.memory import Gauge
from penstock_executor.place import remove
from penstock_executor.process import Command, Desk, Running

PACKAGE = Path(__file__).parent
NO_PYTHON = 97
"""What inside/start.sh ends with where it cannot start the launcher."""
START_S = 60.0
INSIDE = f"{HOME}/penstock_executor/inside"
LINE_BYTES_MAX = 4096
SIGNALS = 128  # above it, a shell's exit code tells a signal
MOUNTS = (
    Mount(str(PACKAGE), f"{HOME}/penstock_executor"),
    Mount(str(Path(penstock.__file__).parent), f"{HOME}/penstock"),
)
"""Ours, for `penstock.current_run()` in a step, and for what attends to it."""


@dataclass
class Kept:
    """A container that runs and waits for a command."""

    id: str
    box: Box
    requests: socket.socket
    desk: Desk
    shell: str
    gauge: Gauge


@dataclass
class Slip:
    """A berth and what is moored there."""

    berth: Berth
    kept: Kept | None = None
    plain: str = ""
    """A container that runs one command and ends."""
    gauge: Gauge = field(default_factory=Gauge)


class Containers:
    """All containers of an executor. At most `slots` at a time, one per berth."""

    def __init__(
        self,
        engine: Engine,
        log: FilteringBoundLogger,
        data: Path,
        slots: int,
        *,
        mounts: tuple[Mount, ...] = MOUNTS,
        owner: tuple[int, int] | None = None,
        workspace: str = "",
    ) -> None:
        self.engine = engine
        self._log = log
        self._data = data
        self._mounts = mounts
        self._slips = [Slip(berths.made(data, owner)) for _ in range(slots)]
        self._free: list[Slip] = list(self._slips)
        self._freed = asyncio.Condition()
        self._without_python: set[str] = set()
        self._labels = {LABEL: workspace or "penstock", f"{LABEL}.data": str(data)}

    @property
    def labels(self) -> dict[str, str]:
        """What a container carries that lives as long as this executor at most, and in no berth.

        A berth is named nevertheless: by its lock a sweep tells containers of the living from others.
        """
        return {**self._labels, f"{LABEL}.berth": str(self._slips[0].berth.root)}

    async def sweep(self) -> int:
        """Remove what dead executors left; return how many containers."""
        dead = await asyncio.to_thread(berths.left, self._data)
        alive = {str(path) for path in await asyncio.to_thread(berths.alive, self._data)}
        count = 0
        for found in await self.engine.containers(f"{LABEL}.data={self._data}"):
            if found["Labels"].get(f"{LABEL}.berth", "") in alive:
                continue
            await self.engine.remove(found["Id"])
            count += 1
        for path in dead:
            await asyncio.to_thread(remove, path)
        return count

    async def close(self) -> None:
        """Remove all containers and berths."""
        for slip in self._slips:
            with contextlib.suppress(PenstockError):
                await self._dismiss(slip)
            await asyncio.to_thread(slip.berth.release)

    # -- one attempt -----------------------------------------------------------------------------
    async def taken(self, owner: str) -> Slip:
        """Wait for a free berth and take it, rather one whose container was kept for `owner`."""
        async with self._freed:
            await self._freed.wait_for(lambda: bool(self._free))
            slip = min(self._free, key=lambda s: _distance(s, owner))
            self._free.remove(slip)
        return slip

    async def ready(self, slip: Slip, box: Box) -> None:
        """Have a container there that is as `box` says, or know that it is to be a plain one.

        Raises:
            Invalid, NotFound, Transient: E_ENGINE.
        """
        kept = slip.kept
        if slip.plain or (kept is not None and (kept.box != box or not _open(kept.requests))):
            await self._dismiss(slip)
        if slip.kept is None and box.image not in self._without_python:
            slip.kept = await self._made(slip, box)

    async def start(self, slip: Slip, box: Box, command: Command) -> "Running | Plain":
        """Start a command in the berth's container."""
        if slip.kept is not None:
            slip.gauge = slip.kept.gauge
            slip.gauge.begin()
            within = Command(
                arguments=[slip.kept.shell, *command.arguments[1:]],
                folder=command.folder,
                environment=command.environment,
            )
            return slip.kept.desk.start(within, namespace=False)
        return await self._plain(slip, box, command)

    async def dismiss(self, slip: Slip) -> None:
        """Remove the berth's container. What cannot be removed now is when the berth is used again."""
        try:
            await self._dismiss(slip)
        except PenstockError as error:
            self._log.warning("a container could not be removed", error=error.message)

    async def left(self, slip: Slip) -> None:
        """Give a berth back, cleared; a container that is kept stays there."""
        if slip.plain:
            await self.dismiss(slip)
        async with self._freed:
            self._free.append(slip)
            self._freed.notify()

    # -- containers ------------------------------------------------------------------------------
    async def _made(self, slip: Slip, box: Box) -> Kept | None:
        path = slip.berth.talk / "launcher"
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.setblocking(False)
        try:
            listener.bind(str(path))
            path.chmod(0o666)
            listener.listen(1)
            words = ["/bin/sh", f"{INSIDE}/start.sh", INSIDE, str(path)]
            container = await self._run(slip, box, words, {})
            try:
                connection = await self._connected(listener, container)
                if connection is None:
                    await self.engine.remove(container)
                    self._without_python.add(box.image)
                    return None
                shell = await _line(connection)
                state = (await self.engine.inspect(container))["State"]
            except BaseException:
                await asyncio.shield(self.engine.remove(container))
                raise
            return Kept(
                container,
                box,
                connection,
                Desk(connection),
                shell,
                Gauge.of(int(state["Pid"]), box.memory_bytes),
            )
        finally:
            listener.close()
            path.unlink(missing_ok=True)  # nobody else is to connect

    async def _run(
        self, slip: Slip, box: Box, command: list[str], variables: Mapping[str, str]
    ) -> str:
        labels = {
            **self._labels,
            f"{LABEL}.berth": str(slip.berth.root),
            f"{LABEL}.owner": box.owner,
        }
        there = replace(box, mounts=(*slip.berth.mounts, *self._mounts, *box.mounts))
        wanted = spec_of(there, command, labels, variables)
        name = f"penstock-{slip.berth.root.name}-{os.urandom(3).hex()}"
        return await self.engine.begun(name, wanted)

    async def _connected(self, listener: socket.socket, container: str) -> socket.socket | None:
        """Return the launcher's connection; None when the image has no Python for it."""
        loop = asyncio.get_running_loop()
        accepting = asyncio.ensure_future(loop.sock_accept(listener))
        ending = asyncio.ensure_future(self.engine.wait(container))
        try:
            await asyncio.wait(
                {accepting, ending}, timeout=START_S, return_when=asyncio.FIRST_COMPLETED
            )
            if accepting.done():
                connection: socket.socket = accepting.result()[0]
                return connection
            if not ending.done():
                raise Transient(
                    f"a container did not begin within {START_S} s", code=CODE, where=container
                )
            code = ending.result()
            if code == NO_PYTHON:
                return None
            words = (await self.engine.written(container)).decode(errors="replace").strip()
            raise Invalid(
                f"the container ended at once with exit code {code}: {words[-1000:]}",
                code="E_ENVIRONMENT",
                where="image",
            )
        finally:
            for task in (accepting, ending):
                task.cancel()

    async def _plain(self, slip: Slip, box: Box, command: Command) -> "Plain":
        """Run one command in a container of its own, where there is no Python to attend to it."""
        pipes = Pipes(slip.berth.talk)
        try:
            talk = str(slip.berth.talk)
            words = ["/bin/sh", f"{INSIDE}/plain.sh", talk, command.folder, *command.arguments[2:]]
            slip.plain = await self._run(slip, box, words, command.environment)
            state = (await self.engine.inspect(slip.plain))["State"]
            slip.gauge = Gauge.of(int(state["Pid"]), box.memory_bytes)
            slip.gauge.begin()
        except BaseException:
            pipes.close()
            raise
        return Plain(self.engine, slip.plain, pipes, slip.gauge)

    async def _dismiss(self, slip: Slip) -> None:
        # What is removed is forgotten afterwards: where the engine is away, there is another time.
        if slip.kept is not None:
            slip.kept.requests.close()
            await self.engine.remove(slip.kept.id)
            slip.kept = None
        if slip.plain:
            await self.engine.remove(slip.plain)
            slip.plain = ""


class Pipes:
    """Named pipes to a container that is run by a shell: its output, and what ends when we end."""

    def __init__(self, folder: Path) -> None:
        self.ends: dict[str, int] = {}
        """What is held open: `alive` for the container's life, the others so that they do not end early."""
        for name in ("alive", "out", "err"):
            path = folder / name
            path.unlink(missing_ok=True)
            os.mkfifo(path, 0o666)
            path.chmod(0o666)
            self.ends[name] = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.stdout = os.open(folder / "out", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self.stderr = os.open(folder / "err", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def let_end(self) -> None:
        """Hold nothing any more; readers keep theirs."""
        for fd in self.ends.values():
            os.close(fd)
        self.ends.clear()

    def close(self) -> None:
        """Close everything, when nobody reads."""
        self.let_end()
        os.close(self.stdout)
        os.close(self.stderr)


class Plain:
    """One command in a container of its own; the same face as `process.Running`."""

    forked = False

    def __init__(self, engine: Engine, container: str, pipes: Pipes, gauge: Gauge) -> None:
        self.stdout, self.stderr = pipes.stdout, pipes.stderr
        self._engine = engine
        self._container = container
        self._pipes = pipes
        self._gauge = gauge
        self._orders: set[asyncio.Task[None]] = set()
        self.ended: asyncio.Future[int] = asyncio.ensure_future(self._status())

    def stop(self, grace_s: float) -> None:
        """Ask everything to end; kill what is left after `grace_s`."""
        self._order(lambda: self._engine.kill(self._container, "TERM"), 0)
        self._order(lambda: self._engine.kill(self._container), grace_s)

    def kill(self) -> None:
        """Kill everything now."""
        self._order(lambda: self._engine.kill(self._container), 0)

    def _order(self, order: Callable[[], Awaitable[None]], after_s: float) -> None:
        async def carried_out() -> None:
            await asyncio.sleep(after_s)
            with contextlib.suppress(PenstockError):
                await order()

        task = asyncio.ensure_future(carried_out())
        self._orders.add(task)
        task.add_done_callback(self._orders.discard)

    async def _status(self) -> int:
        try:
            code = await self._engine.wait(self._container)
            with contextlib.suppress(PenstockError):
                state = (await self._engine.inspect(self._container))["State"]
                self._gauge.told(out_of_memory=bool(state.get("OOMKilled")))
        finally:
            self._pipes.let_end()
            for task in self._orders:
                task.cancel()
        if code > SIGNALS and code - SIGNALS in set(signal.Signals):
            return code - SIGNALS
        return code << 8


async def _line(connection: socket.socket) -> str:
    """Return the first line that the launcher says: the shell of the image."""
    connection.setblocking(False)
    data = b""
    async with asyncio.timeout(START_S):
        while not data.endswith(b"\n") and len(data) < LINE_BYTES_MAX:
            more = await asyncio.get_running_loop().sock_recv(connection, LINE_BYTES_MAX)
            if not more:
                raise Transient("the container ended at once", code=CODE, where="launcher")
            data += more
    connection.setblocking(True)  # as the launcher's own is: requests are short
    return data.decode().strip()


def _open(connection: socket.socket) -> bool:
    """Say whether the launcher is still there; it says nothing, so whatever can be read is its end."""
    closed = connection.fileno() < 0  # by us, when it could not be removed
    return not closed and not select.select([connection], [], [], 0)[0]


def _distance(slip: Slip, owner: str) -> int:
    """Return how well a berth suits: its container is the owner's, there is none, or somebody else's."""
    if slip.kept is None:
        return 1
    return 0 if slip.kept.box.owner == owner else 2
