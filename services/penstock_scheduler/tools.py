"""What every room of the scheduler's shell is handed."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from structlog.typing import FilteringBoundLogger

from penstock.bus import Bus, Delivery, dead
from penstock.clock import Clock
from penstock.contracts.subjects import Subjects
from penstock.errors import BusUnavailable, PenstockError
from penstock.runtime.crash import Crash, never

DELIVERIES_MAX = 5
AGAIN_S = 1.0
PAUSE_S = 0.05
PAUSE_S_MAX = 2.0

T = TypeVar("T")


@dataclass(frozen=True)
class Tools:
    """Adapters in hand."""

    bus: Bus
    names: Subjects
    log: FilteringBoundLogger
    clock: Clock
    instance: str
    window: int
    deadline_s: float
    fail: Callable[[BaseException], None]
    """Ends the process with an error that no replica of this version can get over."""
    crash: Crash = never

    async def patiently(self, question: Callable[[], Awaitable[T]]) -> T:
        """Return what the bus answers, however long it is away."""
        pause_s = PAUSE_S
        while True:
            try:
                return await question()
            except BusUnavailable as error:
                self.log.warning("waiting for the bus", error=str(error))
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, PAUSE_S_MAX)

    async def set_aside(self, delivery: Delivery, error: PenstockError) -> None:
        """Keep a message nobody can take in as a dead letter, at its fifth delivery."""
        stored = delivery.message
        if delivery.deliveries < DELIVERIES_MAX:
            await delivery.nak(AGAIN_S)
            return
        inbox = stored.subject.startswith(f"{self.names.workspace}.inbox.")
        stream = "inbox" if inbox else "timers"
        await self.patiently(
            lambda: dead.keep(
                self.bus, self.names, stream, stored, error, deliveries=delivery.deliveries
            )
        )
        self.log.error("set aside", subject=stored.subject, reason=error.message)
        await delivery.term(error.message)
