"""The supervisor of a local stack: one process that keeps the bus and the services running.

Everything starts at once (services wait for the bus by themselves) and stops in order: trigger,
planner, scheduler, executor, artifact, and the bus last, so that what is under way is reported and
stored. A service that ends is started again with back-off; one that never becomes ready stops the
whole start, with its last words. If the supervisor is killed, the kernel kills its children.
"""

import asyncio
import fcntl
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from penstock.errors import Conflict, Invalid, Transient
from penstock.runtime import mlflow_server, nats_server, stack
from penstock.runtime.children import Child, Command, Log, end_leftovers
from penstock.runtime.launch import services as installed_services
from penstock.runtime.stack import Stack, StackState, birth_of
from penstock.units import MIB

BUS = "nats"
STOP_ORDER = (
    *("trigger", "gateway", "planner", "scheduler", "executor"),
    *(mlflow_server.NAME, "artifact", BUS),
)
STARTS_MAX = 4
"""Ends in a row before being ready, after which a starting stack gives up."""
READY_MAX_S = 60.0
FREE_BYTES_MIN = 256 * MIB
"""With less free disk a stack does not start, and a bus that ran full is not restarted."""
GRACE_S = {"executor": 40.0, BUS: 20.0}
GRACE_DEFAULT_S = 10.0


@dataclass(frozen=True)
class Wanted:
    """What to run, decided before anything is started."""

    folder: Path
    workspace: str
    bus: str
    """URL of an outside bus; empty: one of our own."""
    store: str
    """URL of the object store; only the artifact service learns it."""
    slots: int = 0
    targets: str = ""
    mlflow: bool = False
    """Whether to run an MLflow tracking server."""
    settings_file: Path | None = None
    environ: Mapping[str, str] = field(default_factory=dict)


class Listener:
    """Somebody who is told what happens; each method is called from the loop and must be quick."""

    def said(self, who: str, what: str) -> None:
        """A person may want to know this of a service, or of the stack when `who` is empty."""

    def waiting(self, names: tuple[str, ...]) -> None:
        """A second has gone by and these are not ready yet."""

    def ready(self, stack: Stack) -> None:
        """All are ready, for the first time."""

    def line(self, name: str, line: str) -> None:
        """A service wrote a line to its log."""


@dataclass
class Supervisor:
    """Runs one stack, and tells the listener."""

    wanted: Wanted
    listener: Listener
    children: dict[str, Child] = field(default_factory=dict)
    bus: str = ""
    started_at: float = 0
    was_ready: bool = False
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _recovery: "asyncio.Task[None] | None" = None

    async def run(self) -> int:
        """Run the stack until told to stop; return the exit code.

        Raises:
            Conflict: E_RUNNING, somebody else supervises this directory.
            Invalid: E_DIR or E_NATS_SERVER. Transient: E_DISK or E_PORT.
        """
        self.started_at = time.time()
        lock = locked(self.wanted.folder)
        loop = asyncio.get_running_loop()
        try:
            self._clean_up()
            commands = self._commands()
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.add_signal_handler(number, self._on_signal)
            return await self._supervise(commands)
        finally:
            if self._recovery is not None:
                self._recovery.cancel()
            os.close(lock)

    async def _supervise(self, commands: list[Command]) -> int:
        keepers: dict[str, asyncio.Task[None]] = {}
        for command in commands:
            log = Log(self.wanted.folder / "logs" / f"{command.name}.log")
            child = Child(command, log, self._on_change, self._on_line)
            self.children[command.name] = child
        for name, child in self.children.items():
            keepers[name] = asyncio.create_task(child.keep())
        failed = await self._not_ready()
        if failed:
            self.listener.said("", failed)
        else:
            await self.stopping.wait()
        await self._stop(keepers)
        return 1 if failed else 0

    async def _not_ready(self) -> str:
        """Return an empty text once all children are ready, or why they will not be."""
        ready = asyncio.create_task(self._all_ready())
        stopped = asyncio.create_task(self.stopping.wait())
        clock = asyncio.get_running_loop().time
        deadline, next_word = clock() + READY_MAX_S, clock() + 1
        try:
            while not ready.done() and not stopped.done():
                await asyncio.wait(
                    {ready, stopped}, timeout=0.1, return_when=asyncio.FIRST_COMPLETED
                )
                missing = [child for child in self.children.values() if not child.ready.is_set()]
                for child in missing:
                    if clock() > deadline or child.ends_before_ready >= STARTS_MAX:
                        return self._obituary(child, late=clock() > deadline)
                if missing and clock() > next_word:
                    next_word = clock() + 1
                    self.listener.waiting(tuple(child.command.name for child in missing))
        finally:
            ready.cancel()
            stopped.cancel()
        if not self.stopping.is_set():
            self.was_ready = True
            self._write()
            self.listener.ready(self.described())
        return ""

    async def _all_ready(self) -> None:
        for child in self.children.values():
            await child.ready.wait()

    async def _stop(self, keepers: dict[str, "asyncio.Task[None]"]) -> None:
        self.stopping.set()
        order = [name for name in STOP_ORDER if name in keepers]
        order[:0] = [name for name in keepers if name not in STOP_ORDER]
        for name in order:
            self.children[name].stop()
            await keepers[name]
        self._write()

    def described(self) -> Stack:
        """Return the stack as it is now."""
        return Stack(
            workspace=self.wanted.workspace,
            bus=self.bus,
            store=self.wanted.store,
            supervisor_pid=os.getpid(),
            supervisor_born=birth_of(os.getpid()),
            started_at=self.started_at,
            state=self._state(),
            services=tuple(child.described() for child in self.children.values()),
            slots=self.wanted.slots,
            targets=self.wanted.targets,
            embedded_bus=not self.wanted.bus,
            dir=str(self.wanted.folder),
        )

    def _state(self) -> StackState:
        states = {child.state for child in self.children.values()}
        if self.stopping.is_set():
            return "stopped" if states <= {"stopped"} else "stopping"
        troubled = any(child.trouble for child in self.children.values())
        if states == {"ready"} and not troubled:
            return "ready"
        return "degraded" if self.was_ready else "starting"

    def _write(self) -> None:
        try:
            stack.write(self.wanted.folder, self.described())
        except OSError as error:
            self.listener.said("", f"cannot write {stack.STATE_FILE}: {error.strerror}")

    def _on_signal(self) -> None:
        if self.stopping.is_set():
            self.listener.said("", "told twice: ending everything now")
            for child in self.children.values():
                child.stop()
                child.signal(signal.SIGKILL)
        self.stopping.set()

    def _on_change(self, child: Child) -> None:
        self._write()
        if child.state == "ready" and (self.was_ready or child.restarts):
            self.listener.said(child.command.name, "ready again")
        elif child.state == "restarting" and child.ends_before_ready <= 1:
            self.listener.said(child.command.name, f"{child.ended_with}; starting it again")
        elif child.state == "stopping":
            self.listener.said(child.command.name, "stopping")

    def _on_line(self, child: Child, line: str) -> None:
        self.listener.line(child.command.name, line)
        full = child.command.name == BUS and nats_server.DISK_FULL.search(line)
        if full and (self._recovery is None or self._recovery.done()):
            self._recovery = asyncio.create_task(self._recover(child))

    async def _recover(self, bus: Child) -> None:
        """Restart a bus whose disk ran full, when there is space again (nats-server #5382)."""
        bus.trouble = f"the disk is full; waiting for {FREE_BYTES_MIN // MIB} MiB of free space"
        self._write()
        self.listener.said(BUS, f"{bus.trouble} at {self.wanted.folder}")
        while shutil.disk_usage(self.wanted.folder).free < FREE_BYTES_MIN:  # noqa: ASYNC110
            await asyncio.sleep(1)  # no event tells of free space
        bus.trouble = ""
        self.listener.said(BUS, "there is space again; restarting it")
        bus.signal(signal.SIGTERM)

    def _obituary(self, child: Child, *, late: bool) -> str:
        name = child.command.name
        what = (
            f"is not ready after {READY_MAX_S:.0f} s"
            if late
            else f"does not start: {child.ended_with}"
        )
        lines = [line for line in child.log.tail if line.strip()][-8:]
        return "\n".join(
            [f"{name} {what}. Its last words ({child.log.file}):", *(f"  {x}" for x in lines)]
        )

    def _clean_up(self) -> None:
        """Clear what a dead supervisor left behind."""
        previous = stack.at(self.wanted.folder)
        if previous is None or previous.state == "stopped":
            return
        ended = end_leftovers(previous.services)
        if ended:
            self.listener.said("", f"ended what a killed supervisor left: {', '.join(ended)}")

    def _commands(self) -> list[Command]:
        folder, wanted = self.wanted.folder, self.wanted
        commands = []
        self.bus = wanted.bus
        common = {
            k: v for k, v in wanted.environ.items() if k not in ("PENSTOCK_STORE", "PENSTOCK_BUS")
        }
        if not wanted.bus:
            who, file = nats_server.prepare(folder / "bus", wanted.workspace)
            self.bus = who.url
            commands.append(
                Command(
                    name=BUS,
                    words=(str(nats_server.program()), "--config", str(file)),
                    environment={**nats_server.environment(), **common},
                    folder=folder,
                    grace_s=GRACE_S[BUS],
                    ready_line=nats_server.READY,
                )
            )
        if wanted.mlflow:
            port = mlflow_server.prepared(folder / "mlflow")
            commands.append(
                Command(
                    name=mlflow_server.NAME,
                    words=mlflow_server.words(folder / "mlflow", port),
                    environment=mlflow_server.environment(common),
                    folder=folder / "mlflow",
                    ready_line=mlflow_server.READY,
                )
            )
            common["PENSTOCK_EXECUTOR_TRACKING"] = mlflow_server.url(port)
        # Secrets travel in the environment: a command line can be read by everybody on the machine.
        common |= {
            "PENSTOCK_BUS": self.bus,
            "PENSTOCK_WORKSPACE": wanted.workspace,
            "PENSTOCK_DIR": str(folder),
        }
        if wanted.settings_file is not None:
            common["PENSTOCK_CONFIG"] = str(wanted.settings_file)
        for name, point in sorted(installed_services().items()):
            environment = dict(common)
            if name == "artifact":
                environment["PENSTOCK_STORE"] = wanted.store
            if name == "executor":
                environment.setdefault("PENSTOCK_EXECUTOR_DATA_DIR", str(folder / "executor"))
                environment.setdefault("PENSTOCK_EXECUTOR_DATASTORES", str(folder / "datastores"))
                if wanted.slots:
                    environment["PENSTOCK_EXECUTOR_SLOTS"] = str(wanted.slots)
                if wanted.targets:
                    environment["PENSTOCK_EXECUTOR_TARGETS"] = wanted.targets
            launch = (
                sys.executable,
                "-P",
                "-m",
                "penstock.runtime.launch",
                f"{name}={point.value}",
            )
            commands.append(
                Command(
                    name=name,
                    words=launch,
                    environment=environment,
                    folder=folder,
                    grace_s=GRACE_S.get(name, GRACE_DEFAULT_S),
                )
            )
        return commands


def locked(folder: Path) -> int:
    """Make the stack's directory and take its lock, which lasts as long as this process.

    Raises:
        Conflict: E_RUNNING. Invalid: E_DIR, cannot be written. Transient: E_DISK, almost full.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "logs").mkdir(mode=0o700, exist_ok=True)
        lock = os.open(folder / stack.LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise Invalid(
            f"cannot be written: {error.strerror}",
            code="E_DIR",
            where=str(folder),
            hint="give --dir with a directory of your own",
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise Conflict(
            "a penstock is already running or starting here", code="E_RUNNING", where=str(folder)
        ) from error
    if free < FREE_BYTES_MIN:
        os.close(lock)
        raise Transient(
            f"{free // MIB} MiB free on the disk, at least {FREE_BYTES_MIN // MIB} MiB needed",
            code="E_DISK",
            where=str(folder),
            hint="make room, or give --dir on another disk",
        )
    return lock
