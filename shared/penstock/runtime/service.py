"""One way to start and stop a service.

    connect (patiently, saying so) → body(context) → context.ready() → … → SIGTERM: context.stopping
    is set → the body drains and returns → the connection is closed → exit 0

A second signal ends at once. A body that raises ends the process with its error in the log and exit
code 1: crash, restart, replay. `penstock up` learns of readiness by a byte on PENSTOCK_READY_FD.
"""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from structlog.typing import FilteringBoundLogger

from penstock.bus import Bus
from penstock.bus.nats import connect
from penstock.clock import Clock, SystemClock
from penstock.contracts.subjects import Subjects
from penstock.errors import PenstockError, Transient
from penstock.runtime.crash import Crash, crash_at, never
from penstock.runtime.logs import adopt, logger
from penstock.runtime.settings import Common
from penstock.runtime.stack import READY_FD

S = TypeVar("S", bound=Common)


@dataclass
class Context(Generic[S]):
    """What a service's body is handed: everything it may touch, and nothing global."""

    service: str
    instance: str
    settings: S
    bus: Bus
    names: Subjects
    log: FilteringBoundLogger
    clock: Clock = field(default_factory=SystemClock)
    crash: Crash = never
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _failure: "asyncio.Future[None] | None" = None

    def ready(self) -> None:
        """Say that the service serves: a log line, and a byte for whoever supervises us."""
        self.log.info("ready", bus=self.bus.address, workspace=self.names.workspace)
        number = os.environ.get(READY_FD, "")
        if number:
            with contextlib.suppress(OSError, ValueError):
                os.write(int(number), b"1")
                os.close(int(number))

    def fail(self, error: BaseException) -> None:
        """End the process with this error, from a task that nobody awaits."""
        if self._failure is not None and not self._failure.done():
            self._failure.set_exception(error)


def instance_name(service: str, given: str = "") -> str:
    """Return the name of this copy: as given, or service-host-pid in one subject token."""
    if given:
        return given
    host = "".join(c if c.isalnum() or c == "-" else "-" for c in socket.gethostname())[:30]
    return f"{service}-{host}-{os.getpid()}"


def run(service: str, settings: S, body: Callable[[Context[S]], Awaitable[None]]) -> int:
    """Run a service until it is told to stop; return the exit code."""
    instance = instance_name(service, settings.instance)
    log = logger(service, instance, settings.log_level)
    adopt(log)
    try:
        crash = crash_at(settings.crash_at, service)
        asyncio.run(_main(service, instance, settings, body, log, crash=crash))
    except PenstockError as error:
        log.error(
            "stopped", code=error.code, where=error.where, message=error.message, hint=error.hint
        )
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


async def _main(
    service: str,
    instance: str,
    settings: S,
    body: Callable[[Context[S]], Awaitable[None]],
    log: FilteringBoundLogger,
    *,
    crash: Crash,
) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()

    def on_signal() -> None:
        if stopping.is_set():
            os._exit(130)
        log.info("stopping")
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    bus = await _connected(settings, instance, log, stopping)
    if bus is None:
        return
    context = Context(
        service=service,
        instance=instance,
        settings=settings,
        bus=bus,
        names=Subjects(settings.workspace),
        log=log,
        crash=crash,
        stopping=stopping,
    )
    failure: asyncio.Future[None] = loop.create_future()
    context._failure = failure  # noqa: SLF001 - the one who makes it fills it
    task = asyncio.ensure_future(body(context))
    try:
        await asyncio.wait({task, failure}, return_when=asyncio.FIRST_COMPLETED)
        if failure.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
            failure.result()
        await task
    finally:
        if not failure.done():
            failure.cancel()
        await bus.close()


async def _connected(
    settings: Common, instance: str, log: FilteringBoundLogger, stopping: asyncio.Event
) -> Bus | None:
    """Return the connection, however long the bus takes to come up; None when told to stop first."""
    waits = 0
    while not stopping.is_set():
        try:
            return await connect(settings.bus, name=instance)
        except Transient as error:
            if waits % 50 == 0:
                log.warning("waiting for the bus", bus=settings.bus, error=error.message)
            waits += 1
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(stopping.wait(), 0.1)
    return None
