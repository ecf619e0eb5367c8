"""The port `penstock.bus.Bus` on NATS: each method in a line or two, on the rooms beside."""

import asyncio
from asyncio import Future
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from nats.aio.msg import Msg

from penstock.bus import (
    Appended,
    ConsumerSpec,
    Expect,
    Headers,
    OnDelivery,
    OnElected,
    OnMessage,
    OnStored,
    Outgoing,
    Received,
    Standing,
    Stored,
    StreamSpec,
)
from penstock.bus._endings import ended
from penstock.bus._replies import answerable
from penstock.bus.micro import Service
from penstock.bus.nats import following, requests, streams
from penstock.bus.nats.batching import append_together
from penstock.bus.nats.connection import Connection, log
from penstock.bus.nats.consuming import NatsConsumption
from penstock.bus.nats.failures import not_allowed
from penstock.bus.nats.listening import Listener
from penstock.bus.nats.publisher import Publisher

SCHEDULE = "Nats-Schedule"
SCHEDULE_TARGET = "Nats-Schedule-Target"
TIMEOUT_S = 10.0
CLOSE_WAIT_S = 2.0
RECEIVED_MAX = 65_536
ITERATED_MAX = 1024


async def connect(
    url: str, *, name: str, user: str = "", password: str = "", timeout_s: float = TIMEOUT_S
) -> "NatsBus":
    """Return a connection to one of the servers in `url` (several: separated by commas).

    Credentials in the URL (nats://user:password@host) count when none are given. `timeout_s` is how
    long an append may take before its outcome is called unknown. Replies come to `_INBOX_<user>.>`,
    or `_INBOX.>` without a user, for whoever writes permissions.

    Raises:
        BusUnavailable: no server answers.
        NotAllowed: the server refuses the credentials.
        Invalid: E_CONFIG, the URL is none.
    """
    connection = Connection([u for u in url.split(",") if u.strip()] or [url], name, user, password)
    await connection.open()
    return NatsBus(connection, timeout_s)


class NatsSubscription:
    """A core subscription: messages wait here, so that no lost connection ends a handler."""

    def __init__(self, connection: Connection, handler: OnMessage) -> None:
        self.connection = connection
        self.handler = handler
        self.waiting: deque[Msg] = deque()
        self.arrived = asyncio.Event()
        self.dropped = 0
        self.closed = False
        self.listener: Listener | None = None
        self.worker = connection.spawn(self._work())

    async def receive(self, message: Msg) -> None:
        """Take a message in; the oldest falls out of a full queue, as core NATS would do."""
        if len(self.waiting) >= RECEIVED_MAX:
            self.waiting.popleft()
            self.dropped += 1
            if self.dropped == 1:
                log.warning("a slow handler loses messages on %s", message.subject)
        self.waiting.append(message)
        self.arrived.set()

    async def close(self) -> None:
        """End it; no handler is called afterwards."""
        self.closed = True
        if self.listener is not None:
            await self.listener.close()
        self.waiting.clear()
        self.arrived.set()
        await ended(self.worker)

    async def _work(self) -> None:
        while not self.closed:
            while self.waiting and not self.closed:
                message = self.waiting.popleft()
                try:
                    await self.handler(received(message))
                except Exception:
                    log.exception("a handler failed on %s", message.subject)
            if self.closed:
                return
            self.arrived.clear()
            await self.arrived.wait()


class NatsLine:
    """A connection as a micro service sees it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.spawn = connection.spawn

    async def listen(self, subject: str, receive: OnMessage, queue: str = "") -> Listener:
        """Call `receive` for each message, at once."""

        async def taken(message: Msg) -> None:
            await receive(received(message))

        return await self.connection.listen(subject, taken, queue)

    async def send(self, subject: str, data: bytes, headers: Headers | None = None) -> None:
        """Send and forget."""
        await self.connection.send(subject, data, headers)


def received(message: Msg) -> Received:
    """Return nats-py's message as ours, without a reply address that must not be answered."""
    reply = answerable(message.subject, message.reply)
    return Received(message.subject, message.data, message.headers or {}, reply)


class NatsBus:
    """One connection to a NATS server."""

    def __init__(self, connection: Connection, timeout_s: float) -> None:
        self.connection = connection
        self.publisher = Publisher(connection, timeout_s)
        self._together = asyncio.Lock()
        self.consumptions: set[NatsConsumption] = set()

    @property
    def address(self) -> str:
        """The URL in use, without credentials."""
        return self.connection.address

    async def close(self) -> None:
        """Drain and leave: consumers give back what nobody looked at, pins pass on."""
        if self.connection.closing:
            return
        await asyncio.gather(*(consumption.close() for consumption in list(self.consumptions)))
        await self.publisher.settled(CLOSE_WAIT_S)
        await self.connection.close()
        self.publisher.release()

    # -- core -----------------------------------------------------------------------------------
    async def publish(
        self, subject: str, data: bytes, headers: Headers | None = None, reply: str = ""
    ) -> None:
        """Send and forget."""
        self.connection.check_size(subject, data, headers)
        refused = self.connection.denied.pop(("publish", subject.lower()), None)
        if refused is not None:
            raise not_allowed(subject, "publish to")
        await self.connection.send(subject, data, headers, reply)

    async def flush(self) -> None:
        """Return when the server has taken in everything sent before."""
        await self.connection.flush()

    async def request(
        self, subject: str, data: bytes, headers: Headers | None = None, *, timeout_s: float = 5
    ) -> Received:
        """Send and return the first answer."""
        answer = await requests.request(self.connection, subject, data, headers, timeout_s)
        return received(answer)

    async def subscribe(
        self, subject: str, handler: OnMessage, *, queue: str = ""
    ) -> NatsSubscription:
        """Call `handler` for each message, one after the other."""
        subscription = NatsSubscription(self.connection, handler)
        try:
            subscription.listener = await self.connection.listen(
                subject, subscription.receive, queue
            )
        except BaseException:
            await subscription.close()
            raise
        return subscription

    async def serve(
        self,
        service: str,
        endpoints: Mapping[str, OnMessage],
        *,
        queue: str = "",
        version: str = "0.1.0",
        metadata: Mapping[str, str] | None = None,
    ) -> Service:
        """Answer requests as a NATS micro service."""
        running = Service(
            NatsLine(self.connection),
            service,
            endpoints,
            queue=queue,
            version=version,
            metadata=metadata or {},
        )
        await running.start()
        return running

    # -- streams --------------------------------------------------------------------------------
    async def ensure_stream(self, spec: StreamSpec) -> None:
        """Create the stream, or widen an existing one to `spec`."""
        await streams.ensure_stream(self.connection, spec)

    async def ensure_consumer(self, spec: ConsumerSpec) -> None:
        """Create or update the consumer."""
        await streams.ensure_consumer(self.connection, spec)

    async def append(
        self,
        subject: str,
        data: bytes,
        headers: Headers | None = None,
        *,
        message_id: str = "",
        expect: Expect | None = None,
        timeout_s: float = 5,
    ) -> Appended:
        """Store a message and return where."""
        future = await self.publisher.append(
            subject, data, headers, message_id=message_id, expect=expect, timeout_s=timeout_s
        )
        return await future

    async def append_soon(
        self,
        subject: str,
        data: bytes,
        headers: Headers | None = None,
        *,
        message_id: str = "",
        expect: Expect | None = None,
    ) -> Future[Appended]:
        """Send now, learn later."""
        return await self.publisher.append(
            subject, data, headers, message_id=message_id, expect=expect
        )

    async def append_together(
        self, messages: Sequence[Outgoing], *, timeout_s: float = 10
    ) -> list[Appended]:
        """Store messages of one stream in order, all of them or none."""
        async with self._together:  # with those one by one, fewer than the server lets wait
            return await append_together(self.connection, messages, timeout_s)

    async def consume(
        self,
        spec: ConsumerSpec,
        handler: OnDelivery,
        *,
        batch: int = 256,
        on_elected: OnElected | None = None,
    ) -> NatsConsumption:
        """Pull and call `handler` for each delivery, one after the other, until closed."""
        consumption = NatsConsumption(self.connection, spec, handler, batch, on_elected)
        await consumption.start()
        self.consumptions.add(consumption)
        consumption.on_closed = self.consumptions.discard
        return consumption

    async def last(self, stream: str, subject: str) -> Stored | None:
        """Return the last message on `subject` (wildcards allowed), or None."""
        return await streams.last(self.connection, stream, subject)

    async def last_many(self, stream: str, subjects: Sequence[str]) -> list[Stored | None]:
        """Return `last` for many subjects in one go, in the order asked."""
        return await streams.last_many(self.connection, stream, subjects)

    async def standing(self, stream: str, consumer: str) -> Standing:
        """Return where a durable consumer stands."""
        return await streams.standing(self.connection, stream, consumer)

    async def stored_at(self, stream: str, sequence: int) -> Stored | None:
        """Return the message with this sequence, or None if it is gone."""
        return await streams.stored_at(self.connection, stream, sequence)

    async def replay(
        self,
        stream: str,
        subjects: Sequence[str],
        handler: Callable[[Stored], None],
        *,
        after: int = 0,
    ) -> int:
        """Call `handler` for every message on `subjects` stored so far."""
        return await following.replay(self.connection, stream, subjects, handler, after=after)

    async def follow(
        self,
        stream: str,
        subjects: Sequence[str],
        handler: OnStored,
        *,
        after: int = 0,
        last_per_subject: bool = False,
        new_only: bool = False,
        on_caught_up: OnElected | None = None,
    ) -> following.Reader:
        """Call `handler` for every message with sequence > `after`, in order, and then live."""
        return await following.follow(
            self.connection,
            stream,
            subjects,
            handler,
            after=after,
            last_per_subject=last_per_subject,
            new_only=new_only,
            on_caught_up=on_caught_up,
        )

    async def stored(
        self, stream: str, subjects: Sequence[str], *, after: int = 0
    ) -> AsyncIterator[Stored]:
        """Iterate as `follow` does."""
        queue: asyncio.Queue[Stored] = asyncio.Queue(ITERATED_MAX)
        reader = await self.follow(stream, subjects, queue.put, after=after)
        try:
            while True:
                yield await queue.get()
        finally:
            await reader.close(0)

    async def purge(self, stream: str, subject: str, *, up_to: int = 0) -> int:
        """Delete messages on `subject`, below sequence `up_to` if given; return how many."""
        return await streams.purge(self.connection, stream, subject, up_to)

    # -- timers ---------------------------------------------------------------------------------
    async def schedule(self, subject: str, target: str, data: bytes, at: float) -> Future[Appended]:
        """Store a message that is stored again on `target` at `at` (seconds since 1970)."""
        headers = {SCHEDULE: f"@at {streams.rfc3339(at)}", SCHEDULE_TARGET: target}
        return await self.publisher.append(subject, data, headers, repeatable=True)

    # -- events of the connection ----------------------------------------------------------------
    def on_reconnect(self, handler: OnElected) -> None:
        """Await `handler` after every reconnect."""
        turn = asyncio.Lock()

        async def tell() -> None:
            async with turn:
                await handler()

        async def begin() -> None:  # nobody else waits for a slow handler
            self.connection.spawn(tell())

        self.connection.on_found.append(begin)
