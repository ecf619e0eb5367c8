"""Following a stream in memory."""

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from penstock.bus import OnElected, OnStored, Stored
from penstock.bus._endings import HANDLER_WAIT_S, ended
from penstock.bus.memory.stream import Stream, covered
from penstock.errors import Invalid

if TYPE_CHECKING:
    from penstock.bus.memory.adapter import MemoryBus

log = logging.getLogger("penstock.bus")

FAILED_PAUSE_S = 0.5


class MemoryReader:
    """Hands stored messages to `handler`, sequence by sequence."""

    def __init__(
        self,
        bus: "MemoryBus",
        stream: Stream,
        subjects: Sequence[str],
        handler: OnStored,
        *,
        after: int,
        last_per_subject: bool,
        new_only: bool,
        on_caught_up: OnElected | None,
    ) -> None:
        if stream.spec.retention == "workqueue":
            raise Invalid("workqueue stream requires explicit ack (10098)", where=stream.spec.name)
        self.bus = bus
        self.stream = stream
        self.subjects = tuple(subjects)
        self.handler = handler
        self.position = stream.last_sequence if new_only else after
        self.newest_only_to = stream.last_sequence if last_per_subject else 0
        self.target = stream.last_sequence
        self.on_caught_up = on_caught_up
        self.arrived = asyncio.Event()
        self.closed = False
        self.worker = bus.spawn(self._work())
        stream.on_stored.append(self._stored)

    async def close(self, wait_s: float = HANDLER_WAIT_S) -> None:
        """End it; the handler may take `wait_s` to finish the message in hand."""
        self.closed = True
        self.stop()
        self.bus.readers.discard(self)
        self.arrived.set()
        await ended(self.worker, wait_s)

    def stop(self) -> None:
        """Hear no more of the stream."""
        if self._stored in self.stream.on_stored:
            self.stream.on_stored.remove(self._stored)

    def look(self) -> None:
        """Look for news."""
        self.arrived.set()

    def _stored(self, stored: Stored) -> None:
        if covered(self.subjects, stored.subject):
            self.arrived.set()

    async def _work(self) -> None:
        while not self.closed:
            self.arrived.clear()
            if self.bus.server.up:
                await self._read()
            if self.on_caught_up is not None:
                tell, self.on_caught_up = self.on_caught_up, None
                await tell()
            await self.arrived.wait()

    async def _read(self) -> None:
        for stored in self.stream.after(self.position, self.subjects):
            if self.closed or not self.bus.server.up:
                return
            if self.on_caught_up is not None and stored.sequence > self.target:
                tell, self.on_caught_up = self.on_caught_up, None
                await tell()
            older = stored.sequence <= self.newest_only_to
            if not older or self.stream.last(stored.subject) is stored:
                await self._hand_over(stored)
            self.position = stored.sequence
        self.position = max(self.position, self.stream.last_sequence)

    async def _hand_over(self, stored: Stored) -> None:
        while True:
            try:
                await self.handler(stored)
                return
            except Exception:
                log.exception("a handler failed on %s; it gets it again", stored.subject)
                if self.closed:
                    return
                await self.bus.sleep(FAILED_PAUSE_S)
