"""The server in memory: subjects, streams and timers of all connections.

Everything here happens at once; only what connections do with it takes turns of the event loop.
"""

import asyncio
import heapq
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from penstock.bus import (
    TOGETHER_MAX,
    Appended,
    ConsumerSpec,
    Headers,
    Received,
    StreamSpec,
)
from penstock.bus.memory.consumer import Consumer
from penstock.bus.memory.stream import SCHEDULE, Stream, matches, overlaps
from penstock.clock import Clock, SystemClock
from penstock.errors import BusUnavailable, Invalid, PenstockError
from penstock.units import MIB, Seconds

if TYPE_CHECKING:
    from penstock.bus.memory.adapter import MemoryBus

SCHEDULE_TARGET = "Nats-Schedule-Target"
SETTLE_TURNS = 200


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        self.time = start

    def now(self) -> Seconds:
        """Return the moment it was moved to."""
        return Seconds(self.time)

    def monotonic(self) -> Seconds:
        """Return the same, as only differences mean something."""
        return Seconds(self.time)


class Interest:
    """A core subscription."""

    def __init__(
        self, bus: "MemoryBus", subject: str, queue: str, take: Callable[[Received], None]
    ) -> None:
        self.bus = bus
        self.subject = subject
        self.queue = queue
        self.take = take


class MemoryServer:
    """See the package."""

    def __init__(self, clock: Clock | None = None, *, max_payload_bytes: int = MIB) -> None:
        self.clock: Clock = clock or SystemClock()
        self.automatic = clock is None
        self.max_payload_bytes = max_payload_bytes
        self.streams: dict[str, Stream] = {}
        self.consumers: dict[tuple[str, str], Consumer] = {}
        self.interests: list[Interest] = []
        self.connections: list[MemoryBus] = []
        self.up = True
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._turns: dict[tuple[str, str], int] = {}
        self._alarm: asyncio.TimerHandle | None = None

    async def connect(
        self,
        name: str,
        *,
        deny_publish: Sequence[str] = (),
        deny_subscribe: Sequence[str] = (),
        timeout_s: float = 10,
    ) -> "MemoryBus":
        """Return a new connection. Denied subjects fail as NotAllowed."""
        from penstock.bus.memory.adapter import MemoryBus

        if not self.up:
            raise BusUnavailable("the server is down", where=name)
        bus = MemoryBus(self, name, tuple(deny_publish), tuple(deny_subscribe), timeout_s)
        self.connections.append(bus)
        return bus

    # -- faults ---------------------------------------------------------------------------------
    def stop(self) -> None:
        """Go down: connections lose what was under way; streams stay."""
        self.up = False
        for bus in list(self.connections):
            bus.lose()
        for consumer in self.consumers.values():
            consumer.members.clear()
            consumer.unpin()

    async def start(self) -> None:
        """Come back; connections find their way by themselves."""
        self.up = True
        for bus in list(self.connections):
            await bus.find()

    async def restart(self) -> None:
        """Go down and come back."""
        self.stop()
        await self.start()

    def crash(self, bus: "MemoryBus") -> None:
        """End a connection as SIGKILL would: nothing is said, loans and pins run out."""
        self.connections.remove(bus)
        self.interests = [interest for interest in self.interests if interest.bus is not bus]
        bus.die()

    def unpin(self, stream: str, consumer: str) -> None:
        """Let another member be elected while the old one lives on as a zombie."""
        found = self.consumers[stream, consumer]
        holder = found.pinned
        found.unpin()
        if holder is not None and holder in found.members:
            found.members.remove(holder)
            found.members.append(holder)
        found.dispatch()

    # -- time -----------------------------------------------------------------------------------
    def now(self) -> float:
        """Return the server's time, seconds since 1970."""
        return float(self.clock.now())

    def later(self, at: float, do: Callable[[], None]) -> None:
        """Call `do` at a moment; what is due earlier, or was asked earlier, comes first."""
        self._order += 1
        heapq.heappush(self._timers, (at, self._order, do))
        if self.automatic and self._timers[0][1] == self._order:
            self._set_alarm()

    def wake(self) -> None:
        """Do everything that is due."""
        while self._timers and self._timers[0][0] <= self.now():
            _, _, do = heapq.heappop(self._timers)
            do()
        if self.automatic:
            self._set_alarm()

    def next_due(self) -> float | None:
        """Return the moment of the earliest timer, or None."""
        return self._timers[0][0] if self._timers else None

    async def advance(self, seconds: float) -> None:
        """Move a ManualClock, stopping at each timer on the way and letting everybody act."""
        clock = self.clock
        assert isinstance(clock, ManualClock), "only a ManualClock can be moved"  # noqa: S101
        until = clock.time + seconds
        await settle()
        while self._timers and self._timers[0][0] <= until:
            clock.time = max(clock.time, self._timers[0][0])
            self.wake()
            await settle()
        clock.time = until
        self.wake()
        await settle()

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._timers:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                return
            self._alarm = loop.call_later(max(self._timers[0][0] - self.now(), 0), self.wake)

    # -- core -----------------------------------------------------------------------------------
    def publish(self, message: Received) -> bool:
        """Hand a message to everybody interested, streams included; say whether anybody was."""
        heard = self.route(message)
        stream = self.stream_of(message.subject)
        if stream is not None:
            heard = True
            self._captured(stream, message)
        return heard

    def route(self, message: Received) -> bool:
        """Hand a message to core subscribers; say whether there were any."""
        heard = False
        groups: dict[str, list[Interest]] = {}
        for interest in list(self.interests):
            if matches(interest.subject, message.subject):
                heard = True
                if interest.queue:
                    groups.setdefault(interest.queue, []).append(interest)
                else:
                    interest.take(message)
        for queue, members in groups.items():
            key = (members[0].subject, queue)
            turn = self._turns[key] = self._turns.get(key, -1) + 1
            members[turn % len(members)].take(message)
        return heard

    def _captured(self, stream: Stream, message: Received) -> None:
        """Store what was published on a stream's subject; whoever left an address hears of it."""
        try:
            appended = self.append(message.subject, message.data, message.headers)
        except PenstockError as error:
            body: dict[str, object] = {"error": {"code": 400, "description": str(error)}}
        else:
            body = {"stream": stream.spec.name, "seq": appended.sequence}
            if appended.duplicate:
                body["duplicate"] = True
        if message.reply and not stream.spec.no_ack:
            self.publish(Received(message.reply, msgspec.json.encode(body)))

    # -- streams --------------------------------------------------------------------------------
    def stream(self, name: str) -> Stream:
        """Return a stream. Raises BusUnavailable, E_NO_STREAM."""
        found = self.streams.get(name)
        if found is None:
            raise BusUnavailable("no stream stores this", code="E_NO_STREAM", where=name)
        found.expire(self.now())
        return found

    def stream_of(self, subject: str) -> Stream | None:
        """Return the stream that stores `subject`, or None."""
        for stream in self.streams.values():
            if stream.covers(subject):
                return stream
        return None

    def check_together(self, messages: Sequence[tuple[str, bytes, Headers]]) -> None:
        """Raise what would keep messages from being stored together."""
        if not messages:
            return
        where = messages[0][0]
        if len(messages) > TOGETHER_MAX:
            raise Invalid(
                f"{len(messages):,} messages; allowed at once: {TOGETHER_MAX:,}",
                code="E_LIMIT",
                where=where,
            )
        stream = self.stream_of(where)
        if stream is None:
            raise BusUnavailable("no stream stores this", code="E_NO_STREAM", where=where)
        stream.check_together(messages, self.now())

    def append(self, subject: str, data: bytes, headers: Headers) -> Appended:
        """Store a message; a schedule sets its timer. Raises as Bus.append."""
        stream = self.stream_of(subject)
        if stream is None:
            raise BusUnavailable("no stream stores this", code="E_NO_STREAM", where=subject)
        due = None
        if SCHEDULE in headers:
            due = self._scheduled(stream, subject, headers)
        appended = stream.append(subject, data, headers, self.now())
        if due is not None and not appended.duplicate:
            self._arm(stream, appended.sequence, due, headers[SCHEDULE_TARGET])
        return appended

    def _scheduled(self, stream: Stream, subject: str, headers: Headers) -> float:
        if not stream.spec.allow_schedules:
            raise Invalid("message schedules is disabled (10188)", where=subject)
        if not stream.covers(headers.get(SCHEDULE_TARGET, "")):
            raise Invalid("message schedules target is invalid (10190)", where=subject)
        text = headers[SCHEDULE].removeprefix("@at ").removesuffix("Z")
        whole, _, rest = text.partition(".")
        at = datetime.fromisoformat(f"{whole}+00:00").timestamp()
        return at + (float(f"0.{rest}") if rest else 0.0)

    def _arm(self, stream: Stream, sequence: int, due: float, target: str) -> None:
        def fire() -> None:
            stored = stream.messages.get(sequence)
            if stored is None:
                return  # moved or cancelled
            stream.drop(sequence)
            headers = {
                name: value
                for name, value in stored.headers.items()
                if name not in (SCHEDULE, SCHEDULE_TARGET)
            }
            headers["Nats-Scheduler"] = stored.subject
            headers["Nats-Schedule-Next"] = "purge"
            self.append(target, stored.data, headers)

        self.later(due, fire)

    def ensure_stream(self, spec: StreamSpec) -> None:
        """Create or widen a stream."""
        present = self.streams.get(spec.name)
        if present is not None:
            present.widen(spec)
            return
        for other in self.streams.values():
            for one in spec.subjects:
                if any(overlaps(one, two) for two in other.spec.subjects):
                    raise Invalid(
                        "subjects overlap with an existing stream (10065)", where=spec.name
                    )
        self.streams[spec.name] = Stream(spec)

    def ensure_consumer(self, spec: ConsumerSpec) -> Consumer:
        """Create or update a consumer."""
        stream = self.stream(spec.stream)
        key = (spec.stream, spec.name)
        present = self.consumers.get(key)
        if present is not None:
            present.spec = spec
            return present
        if stream.spec.retention == "workqueue":
            for (name, _), other in self.consumers.items():
                if name == spec.stream and any(
                    overlaps(one, two)
                    for one in spec.filter_subjects
                    for two in other.spec.filter_subjects
                ):
                    raise Invalid(
                        "filtered consumer not unique on workqueue stream (10100)", where=spec.name
                    )
        consumer = self.consumers[key] = Consumer(spec, stream, self.later, self.now)
        return consumer


async def settle(turns: int = SETTLE_TURNS) -> None:
    """Give every task of this event loop many turns."""
    for _ in range(turns):
        await asyncio.sleep(0)
