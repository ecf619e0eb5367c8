"""What a connection in memory holds: deliveries on loan, running pull loops, subscriptions."""

import asyncio
import dataclasses
import logging
from collections import deque
from typing import TYPE_CHECKING

from penstock.bus import ConsumerSpec, OnDelivery, OnElected, OnMessage, Received, Stored
from penstock.bus._endings import ended
from penstock.bus._replies import answerable
from penstock.bus.memory.consumer import Consumer
from penstock.bus.memory.server import Interest

if TYPE_CHECKING:
    from penstock.bus.memory.adapter import MemoryBus

log = logging.getLogger("penstock.bus")

FAILED_PAUSE_S = 1.0
ELECTION_PAUSE_S = 0.5


class MemoryDelivery:
    """A message on loan."""

    def __init__(self, bus: "MemoryBus", consumer: Consumer, stored: Stored, count: int) -> None:
        self._bus = bus
        self._consumer = consumer
        self._stored = stored
        self._count = count

    @property
    def message(self) -> Stored:
        """What was stored."""
        return self._stored

    @property
    def deliveries(self) -> int:
        """How often it has been delivered, this time included."""
        return self._count

    async def ack(self) -> None:
        """It is dealt with."""
        if self._bus.heard():
            self._consumer.settle(self._stored.sequence)

    async def nak(self, delay_s: float = 0) -> None:
        """Deliver it again after `delay_s`."""
        if self._bus.heard():
            self._consumer.nak(self._stored.sequence, delay_s)

    async def in_progress(self) -> None:
        """Still at work."""
        if self._bus.heard():
            self._consumer.extend(self._stored.sequence)

    async def term(self, reason: str) -> None:
        """Never deliver it again."""
        await self.ack()


class MemoryConsumption:
    """A running pull loop."""

    def __init__(
        self,
        bus: "MemoryBus",
        spec: ConsumerSpec,
        handler: OnDelivery,
        batch: int,
        on_elected: OnElected | None,
    ) -> None:
        self.bus = bus
        self.spec = spec
        self.handler = handler
        self.batch = batch
        self.credit: int | None = None if batch else 0
        self.on_elected = on_elected
        self.waiting: deque[tuple[Stored, int, int]] = deque()
        self.arrived = asyncio.Event()
        self.pin = 0
        self.closed = False
        self.consumer = bus.server.ensure_consumer(spec)
        self.worker = bus.spawn(self._work())
        self.consumer.join(self)

    def room(self) -> bool:
        """Say whether another message is wanted."""
        if self.closed:
            return False
        return self.credit > 0 if self.credit is not None else len(self.waiting) < self.batch

    def deliver(self, stored: Stored, deliveries: int, pin: int) -> None:
        """Take a message on loan."""
        if self.credit is not None:
            self.credit -= 1
        self.waiting.append((stored, deliveries, pin))
        self.arrived.set()

    def allow(self, slots: int) -> None:
        """Set how many more deliveries may be on loan from now on."""
        self.credit = max(slots, 0)
        if self.bus.server.up:
            self.consumer.dispatch()

    async def close(self) -> None:
        """Stop pulling; what nobody looked at goes back at once."""
        self.closed = True
        self.bus.consumptions.discard(self)
        self.consumer.leave(self)
        self.arrived.set()
        await ended(self.worker)
        for stored, _, _ in self.waiting:
            self.consumer.nak(stored.sequence, 0)
        self.waiting.clear()

    def rejoin(self) -> None:
        """Pull again, after the server came back."""
        self.consumer.join(self)

    async def _work(self) -> None:
        while not self.closed:
            while self.waiting and not self.closed:
                stored, count, pin = self.waiting.popleft()
                if pin and pin != self.pin:
                    await self._elected(pin)
                delivery = MemoryDelivery(self.bus, self.consumer, stored, count)
                try:
                    await self.handler(delivery)
                except Exception:
                    log.exception("a handler failed on %s", stored.subject)
                    await delivery.nak(FAILED_PAUSE_S)
                if self.bus.server.up:
                    self.consumer.dispatch()
            if self.closed:
                return
            self.arrived.clear()
            await self.arrived.wait()

    async def _elected(self, pin: int) -> None:
        self.pin = pin
        while self.on_elected is not None:
            try:
                await self.on_elected()
                return
            except Exception:
                log.exception("taking over %s failed; trying again", self.spec.name)
                if self.closed:
                    return
                await self.bus.sleep(ELECTION_PAUSE_S)


class MemorySubscription:
    """A core subscription."""

    def __init__(self, bus: "MemoryBus", subject: str, queue: str, handler: OnMessage) -> None:
        self.bus = bus
        self.handler = handler
        self.waiting: deque[Received] = deque()
        self.arrived = asyncio.Event()
        self.closed = False
        self.interest = Interest(bus, subject, queue, self._take)
        bus.server.interests.append(self.interest)
        self.worker = bus.spawn(self._work())

    async def close(self) -> None:
        """End it; no handler is called afterwards."""
        if self.interest in self.bus.server.interests:
            self.bus.server.interests.remove(self.interest)
        self.closed = True
        self.waiting.clear()
        self.arrived.set()
        await ended(self.worker)

    def _take(self, message: Received) -> None:
        reply = answerable(message.subject, message.reply)
        self.waiting.append(dataclasses.replace(message, reply=reply))
        self.arrived.set()

    async def _work(self) -> None:
        while not self.closed:
            while self.waiting and not self.closed:
                message = self.waiting.popleft()
                try:
                    await self.handler(message)
                except Exception:
                    log.exception("a handler failed on %s", message.subject)
            if self.closed:
                return
            self.arrived.clear()
            await self.arrived.wait()
