"""Deliveries of a durable consumer, handed out one after the other."""

import asyncio
import contextlib
from collections.abc import Callable

from nats.aio.msg import Msg

from penstock.bus import ConsumerSpec, OnDelivery, OnElected, Stored
from penstock.bus._endings import ended
from penstock.bus.nats.connection import Connection, log
from penstock.bus.nats.pulling import PIN_ID, Pull
from penstock.bus.nats.requests import api_or_refused
from penstock.bus.nats.streams import NANOSECONDS, PRIORITY_GROUP, ensure_consumer
from penstock.errors import NotAllowed, PenstockError

EXPIRES_S = 30.0
HEARTBEAT_S = 5.0
PINNED_EXPIRES_S = 5.0
PINNED_HEARTBEAT_S = 1.5
FAILED_PAUSE_S = 1.0
ELECTION_PAUSE_S = 0.5
PIN_RENEWALS_PER_TTL = 2.5


class Place:
    """Where a delivery stands, read from its reply subject.

    `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<ns>.<pending>`, and since
    2.14 also `$JS.ACK.<domain>.<account>.<stream>.…` (nats-server docs, ADR-15).
    """

    __slots__ = ("at", "consumer_sequence", "deliveries", "pending", "sequence")

    def __init__(self, reply: str) -> None:
        tokens = reply.split(".")
        first = 4 if len(tokens) < 11 else 6  # noqa: PLR2004 - the longer form has two tokens more
        self.deliveries = int(tokens[first])
        self.sequence = int(tokens[first + 1])
        self.consumer_sequence = int(tokens[first + 2])
        self.at = int(tokens[first + 3]) / NANOSECONDS
        self.pending = int(tokens[first + 4])


def stored_headers(message: Msg) -> dict[str, str]:
    """Return the headers as they were stored, without what belongs to this delivery."""
    headers = message.headers
    if not headers:
        return {}
    if PIN_ID in headers:
        headers = {name: value for name, value in headers.items() if name != PIN_ID}
    return headers


class NatsDelivery:
    """A message on loan."""

    __slots__ = ("_connection", "_message", "_place", "_reply")

    def __init__(self, connection: Connection, message: Msg) -> None:
        self._connection = connection
        self._reply = message.reply
        self._place = place = Place(message.reply)
        self._message = Stored(
            message.subject, message.data, place.sequence, place.at, stored_headers(message)
        )

    @property
    def message(self) -> Stored:
        """What was stored."""
        return self._message

    @property
    def deliveries(self) -> int:
        """How often it has been delivered, this time included."""
        return self._place.deliveries

    async def ack(self) -> None:
        """It is dealt with."""
        await self._say(b"+ACK")

    async def nak(self, delay_s: float = 0) -> None:
        """Deliver it again after `delay_s`."""
        delay = b' {"delay": %d}' % int(delay_s * NANOSECONDS) if delay_s > 0 else b""
        await self._say(b"-NAK" + delay)

    async def in_progress(self) -> None:
        """Still at work."""
        await self._say(b"+WPI")

    async def term(self, reason: str) -> None:
        """Never deliver it again."""
        await self._say(b"+TERM " + " ".join(reason.split()).encode()[:200])

    async def _say(self, what: bytes) -> None:
        with contextlib.suppress(PenstockError):  # a lost word means a redelivery
            await self._connection.send(self._reply, what)


class NatsConsumption:
    """A running pull loop with its handler."""

    def __init__(
        self,
        connection: Connection,
        spec: ConsumerSpec,
        handler: OnDelivery,
        batch: int,
        on_elected: OnElected | None,
    ) -> None:
        self.connection = connection
        self.spec = spec
        self.handler = handler
        self.on_elected = on_elected
        self.pull = Pull(
            connection,
            spec.stream,
            spec.name,
            batch=batch,
            expires_s=PINNED_EXPIRES_S if spec.pinned else EXPIRES_S,
            heartbeat_s=PINNED_HEARTBEAT_S if spec.pinned else HEARTBEAT_S,
            grouped=spec.pinned,
            restore=self._restore,
        )
        self.on_closed: Callable[[NatsConsumption], None] | None = None
        self._worker: asyncio.Task[None] | None = None
        self._renewer: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Ensure the consumer and begin. Whoever may only pull relies on others to have made it."""
        with contextlib.suppress(NotAllowed):
            await ensure_consumer(self.connection, self.spec)
        await self.pull.start()
        self._worker = self.connection.spawn(self._work())
        if self.spec.pinned:
            self._renewer = self.connection.spawn(self._renew_pin())

    def allow(self, slots: int) -> None:
        """Set how many more deliveries may be on loan from now on."""
        self.pull.allow(slots)

    async def close(self) -> None:
        """Stop pulling. A pinned member gives its place to the next at once."""
        if self.on_closed is not None:
            self.on_closed(self)
        pinned = self.pull.pin
        await self.pull.close()
        self.pull.arrived.set()
        if self._renewer is not None:
            self._renewer.cancel()
        await ended(self._worker)
        for message in self.pull.buffered:  # nobody looked at these
            await NatsDelivery(self.connection, message).nak()
        self.pull.buffered.clear()
        if pinned and self.connection.connected.is_set():
            with contextlib.suppress(PenstockError):  # its time runs out by itself as well
                verb = f"CONSUMER.UNPIN.{self.spec.stream}.{self.spec.name}"
                body = {"group": PRIORITY_GROUP}
                await api_or_refused(self.connection, verb, body, self.spec.name, timeout_s=1)

    async def _restore(self) -> str:
        with contextlib.suppress(NotAllowed):
            await ensure_consumer(self.connection, self.spec)
        return self.spec.name

    async def _renew_pin(self) -> None:
        """Pull often enough that the server does not think the pinned member dead.

        The server counts only new pull requests of the pinned member, not waiting ones (seen with
        2.15.1: an idle member whose pulls last longer than the time to live loses its pin).
        """
        while True:
            await asyncio.sleep(self.spec.pinned_ttl_s / PIN_RENEWALS_PER_TTL)
            await self.pull.renew_pin()

    async def _work(self) -> None:
        pull = self.pull
        while not pull.closed:
            while pull.buffered and not pull.closed:
                message = pull.buffered.popleft()
                if self.spec.pinned:
                    await self._elected(message)
                await self._handle(message)
                await pull.taken()
            if pull.closed:
                return
            pull.arrived.clear()
            await pull.arrived.wait()

    async def _handle(self, message: Msg) -> None:
        delivery = NatsDelivery(self.connection, message)
        try:
            await self.handler(delivery)
        except Exception:
            log.exception("a handler failed on %s; it gets the message again", message.subject)
            await delivery.nak(FAILED_PAUSE_S)

    async def _elected(self, message: Msg) -> None:
        pin = (message.headers or {}).get(PIN_ID, "")
        if not pin or pin == self.pull.pin:
            return
        while True:
            self.pull.pin = pin
            try:
                if self.on_elected is not None:
                    await self.on_elected()
                return
            except Exception:
                log.exception("taking over %s failed; trying again", self.spec.name)
                if self.pull.closed:
                    return
                await asyncio.sleep(ELECTION_PAUSE_S)
