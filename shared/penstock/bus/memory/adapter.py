"""A connection to the server in memory: the port `penstock.bus.Bus`."""

import asyncio
import contextlib
import logging
from asyncio import Future
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from penstock.bus import (
    MESSAGE_ID,
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
from penstock.bus.memory.holding import MemoryConsumption, MemorySubscription
from penstock.bus.memory.reading import MemoryReader
from penstock.bus.memory.server import SCHEDULE_TARGET, Interest, MemoryServer
from penstock.bus.memory.stream import EXPECT, EXPECT_SUBJECT, SCHEDULE, matches
from penstock.bus.micro import Service
from penstock.errors import BusUnavailable, Invalid, NotAllowed, NotFound, PenstockError

log = logging.getLogger("penstock.bus")

ITERATED_MAX = 1024


class MemoryLine:
    """A connection as a micro service sees it."""

    def __init__(self, bus: "MemoryBus") -> None:
        self.bus = bus
        self.spawn = bus.spawn

    async def listen(self, subject: str, receive: OnMessage, queue: str = "") -> MemorySubscription:
        """Call `receive` for each message, at once."""
        return await self.bus.subscribe(subject, receive, queue=queue)

    async def send(self, subject: str, data: bytes, headers: Headers | None = None) -> None:
        """Send and forget."""
        await self.bus.publish(subject, data, headers)


class MemoryBus:
    """One connection."""

    def __init__(
        self,
        server: MemoryServer,
        name: str,
        deny_publish: tuple[str, ...],
        deny_subscribe: tuple[str, ...],
        timeout_s: float,
    ) -> None:
        self.server = server
        self.name = name
        self.deny_publish = deny_publish
        self.deny_subscribe = deny_subscribe
        self.timeout_s = timeout_s
        self.consumptions: set[MemoryConsumption] = set()
        self.readers: set[MemoryReader] = set()
        self.closed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._reconnect: list[OnElected] = []
        self._questions: set[Future[Received]] = set()
        self._backlog: deque[Received] = deque()
        self._late: deque[tuple[Future[Appended], str, bytes, dict[str, str]]] = deque()
        self._inboxes = 0

    @property
    def address(self) -> str:
        """Where this is connected to."""
        return "memory:"

    async def close(self) -> None:
        """Leave, saying so."""
        if self.closed:
            return
        for consumption in list(self.consumptions):
            await consumption.close()
        for reader in list(self.readers):
            await reader.close()
        if self in self.server.connections:
            self.server.connections.remove(self)
        self.server.interests = [i for i in self.server.interests if i.bus is not self]
        self._end()
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- what the server does to a connection ---------------------------------------------------
    def lose(self) -> None:
        """Lose the server: requests fail, appends wait."""
        for question in list(self._questions):
            if not question.done():
                question.set_exception(BusUnavailable("the connection was lost", where=self.name))

    async def find(self) -> None:
        """Find the server again."""
        while self._backlog:
            self.server.publish(self._backlog.popleft())
        while self._late:
            future, subject, data, headers = self._late.popleft()
            if not future.done():
                self._store(future, subject, data, headers)
        for consumption in list(self.consumptions):
            consumption.rejoin()
        for reader in list(self.readers):
            reader.look()
        for tell in list(self._reconnect):
            await tell()

    def die(self) -> None:
        """Be gone without a word."""
        for consumption in list(self.consumptions):
            consumption.closed = True
            consumption.consumer.vanish(consumption)
        for reader in list(self.readers):
            reader.stop()
        self._end()
        for task in self._tasks:
            task.cancel()

    def _end(self) -> None:
        self.closed = True
        gone = BusUnavailable("the connection is closed", where=self.name)
        for question in list(self._questions):
            if not question.done():
                question.set_exception(gone)
        for future, _, _, _ in self._late:
            if not future.done():
                future.set_exception(gone)
                future.exception()

    def heard(self) -> bool:
        """Say whether the server hears this connection."""
        return self.server.up and not self.closed

    def spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run something that ends with this connection."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def sleep(self, seconds: float) -> None:
        """Wait on the server's clock."""
        future: Future[None] = asyncio.get_running_loop().create_future()
        self.server.later(self.server.now() + seconds, lambda: _resolve(future))
        await future

    def _may_publish(self, subject: str) -> None:
        if any(matches(pattern, subject) for pattern in self.deny_publish):
            raise NotAllowed(f"may not publish to {subject!r}", where=subject)

    def _checked(self, subject: str, data: bytes, headers: Headers | None) -> None:
        if not subject or any(c in subject for c in " \t\r\n"):
            raise Invalid("malformed subject or header", where=subject)
        size = len(data)
        if headers:
            size += 12 + sum(len(name) + len(value) + 4 for name, value in headers.items())
        if size > self.server.max_payload_bytes:
            raise Invalid(
                f"{size:,} bytes with headers; allowed: {self.server.max_payload_bytes:,}",
                code="E_TOO_LARGE",
                where=subject,
                hint="store it as an artifact and send its digest",
            )

    # -- core -----------------------------------------------------------------------------------
    async def publish(
        self, subject: str, data: bytes, headers: Headers | None = None, reply: str = ""
    ) -> None:
        """Send and forget."""
        self._checked(subject, data, headers)
        self._may_publish(subject)
        message = Received(subject, data, dict(headers or {}), reply)
        if self.closed:
            raise BusUnavailable("the connection is closed", where=subject)
        if self.server.up:
            self.server.publish(message)
        else:
            self._backlog.append(message)

    async def flush(self) -> None:
        """Return when the server has taken in everything sent before."""
        if not self.heard():
            raise BusUnavailable("not connected", where=self.name)

    async def request(
        self, subject: str, data: bytes, headers: Headers | None = None, *, timeout_s: float = 5
    ) -> Received:
        """Send and return the first answer."""
        self._checked(subject, data, headers)
        self._may_publish(subject)
        if not self.heard():
            raise BusUnavailable("not connected", where=subject)
        self._inboxes += 1
        inbox = f"_INBOX.{self.name}.{id(self):x}.{self._inboxes}"
        future: Future[Received] = asyncio.get_running_loop().create_future()

        def take(message: Received) -> None:
            if not future.done():
                future.set_result(message)

        def late() -> None:
            if not future.done():
                future.set_exception(
                    BusUnavailable(
                        f"no answer within {timeout_s:g} s", code="E_TIMEOUT", where=subject
                    )
                )

        interest = Interest(self, inbox, "", take)
        self.server.interests.append(interest)
        self._questions.add(future)
        try:
            message = Received(subject, data, dict(headers or {}), inbox)
            if not self.server.publish(message):
                raise NotFound("nobody listens", code="E_NO_RESPONDER", where=subject)
            self.server.later(self.server.now() + timeout_s, late)
            return await future
        finally:
            self._questions.discard(future)
            with contextlib.suppress(ValueError):
                self.server.interests.remove(interest)

    async def subscribe(
        self, subject: str, handler: OnMessage, *, queue: str = ""
    ) -> MemorySubscription:
        """Call `handler` for each message, one after the other."""
        if any(matches(pattern, subject) for pattern in self.deny_subscribe):
            raise NotAllowed(f"may not subscribe to {subject!r}", where=subject)
        return MemorySubscription(self, subject, queue, handler)

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
            MemoryLine(self),
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
        self._connected(f"$JS.API.STREAM.CREATE.{spec.name}")
        self.server.ensure_stream(spec)

    async def ensure_consumer(self, spec: ConsumerSpec) -> None:
        """Create or update the consumer."""
        self._connected(f"$JS.API.CONSUMER.CREATE.{spec.stream}.{spec.name}")
        self.server.ensure_consumer(spec)

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
        return await self._append(subject, data, _full(headers, message_id, expect), timeout_s)

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
        return self._append(subject, data, _full(headers, message_id, expect), self.timeout_s)

    async def append_together(
        self, messages: Sequence[Outgoing], *, timeout_s: float = 10
    ) -> list[Appended]:
        """Store messages of one stream in order, all of them or none."""
        parts = [(m.subject, m.data, _full(m.headers, m.message_id, m.expect)) for m in messages]
        for part in parts:
            self._checked(*part)
            self._connected(part[0])
        self.server.check_together(parts)
        return [await self._append(*part, timeout_s) for part in parts]

    def _append(
        self, subject: str, data: bytes, full: dict[str, str], timeout_s: float
    ) -> Future[Appended]:
        self._checked(subject, data, full)
        future: Future[Appended] = asyncio.get_running_loop().create_future()
        try:
            self._may_publish(subject)
        except NotAllowed as error:
            _refuse(future, error)
            return future
        if self.closed:
            _refuse(future, BusUnavailable("the connection is closed", where=subject))
            return future
        if self.server.up:
            self._store(future, subject, data, full)
        else:
            self._late.append((future, subject, data, full))
        if not future.done():
            text = "no answer within the time allowed"
            self.server.later(
                self.server.now() + timeout_s,
                lambda: _refuse(future, BusUnavailable(text, where=subject)),
            )
        return future

    def _store(
        self, future: Future[Appended], subject: str, data: bytes, headers: dict[str, str]
    ) -> None:
        try:
            appended = self.server.append(subject, data, headers)
        except PenstockError as error:
            _refuse(future, error)
            return
        stream = self.server.stream_of(subject)
        # Subscribers hear what is appended, and see that somebody waits for an acknowledgement.
        self.server.route(Received(subject, data, headers, f"_INBOX.{self.name}.append"))
        if stream is None or not stream.spec.no_ack:  # without an ack nobody ever knows
            future.set_result(appended)

    async def consume(
        self,
        spec: ConsumerSpec,
        handler: OnDelivery,
        *,
        batch: int = 256,
        on_elected: OnElected | None = None,
    ) -> MemoryConsumption:
        """Pull and call `handler` for each delivery, one after the other, until closed."""
        self._connected(f"$JS.API.CONSUMER.MSG.NEXT.{spec.stream}.{spec.name}")
        consumption = MemoryConsumption(self, spec, handler, batch, on_elected)
        self.consumptions.add(consumption)
        return consumption

    async def last(self, stream: str, subject: str) -> Stored | None:
        """Return the last message on `subject` (wildcards allowed), or None."""
        self._connected(f"$JS.API.DIRECT.GET.{stream}")
        return self.server.stream(stream).last(subject)

    async def last_many(self, stream: str, subjects: Sequence[str]) -> list[Stored | None]:
        """Return `last` for many subjects in one go, in the order asked."""
        return [await self.last(stream, subject) for subject in subjects]

    async def standing(self, stream: str, consumer: str) -> Standing:
        """Return where a durable consumer stands."""
        self._connected(f"$JS.API.CONSUMER.INFO.{stream}.{consumer}")
        found = self.server.consumers.get((stream, consumer))
        return found.standing() if found is not None else Standing()

    async def stored_at(self, stream: str, sequence: int) -> Stored | None:
        """Return the message with this sequence, or None if it is gone."""
        self._connected(f"$JS.API.STREAM.MSG.GET.{stream}")
        return self.server.stream(stream).messages.get(sequence)

    async def replay(
        self,
        stream: str,
        subjects: Sequence[str],
        handler: Callable[[Stored], None],
        *,
        after: int = 0,
    ) -> int:
        """Call `handler` for every message on `subjects` stored so far."""
        self._connected(f"$JS.API.CONSUMER.CREATE.{stream}")
        found = self.server.stream(stream)
        last_sequence = found.last_sequence
        for stored in found.after(after, subjects):
            if stored.sequence > last_sequence:
                break
            handler(stored)
        return last_sequence

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
    ) -> MemoryReader:
        """Call `handler` for every message with sequence > `after`, in order, and then live."""
        self._connected(f"$JS.API.CONSUMER.CREATE.{stream}")
        reader = MemoryReader(
            self,
            self.server.stream(stream),
            subjects,
            handler,
            after=after,
            last_per_subject=last_per_subject,
            new_only=new_only,
            on_caught_up=on_caught_up,
        )
        self.readers.add(reader)
        return reader

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
        self._connected(f"$JS.API.STREAM.PURGE.{stream}")
        return self.server.stream(stream).purge(subject, up_to)

    # -- timers ---------------------------------------------------------------------------------
    async def schedule(self, subject: str, target: str, data: bytes, at: float) -> Future[Appended]:
        """Store a message that is stored again on `target` at `at` (seconds since 1970)."""
        moment = datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
        headers = {SCHEDULE: f"@at {moment}", SCHEDULE_TARGET: target}
        return self._append(subject, data, headers, self.timeout_s)

    # -- events of the connection ----------------------------------------------------------------
    def on_reconnect(self, handler: OnElected) -> None:
        """Await `handler` after every reconnect."""
        self._reconnect.append(handler)

    def _connected(self, subject: str) -> None:
        self._may_publish(subject)
        if not self.heard():
            raise BusUnavailable("not connected", where=subject)


def _full(headers: Headers | None, message_id: str, expect: Expect | None) -> dict[str, str]:
    full = dict(headers or {})
    if message_id:
        full[MESSAGE_ID] = message_id
    if expect is not None:
        full[EXPECT] = str(expect.sequence)
        if expect.subject:
            full[EXPECT_SUBJECT] = expect.subject
    return full


def _resolve(future: Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _refuse(future: Future[Appended], error: PenstockError) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # whoever does not look is not scolded at exit
