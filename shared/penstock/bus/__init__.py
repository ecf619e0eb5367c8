"""The port of the message bus: what a service may ask of NATS, in our own words.

Adapters: `penstock.bus.nats` (the real one, on nats-py) and `penstock.bus.memory` (a fake for tests,
held to the same conformance suite, tests/contract/bus_conformance.py). No library error leaves an
adapter: what fails raises BusUnavailable, Conflict, NotAllowed, NotFound or Invalid.

Promises every adapter keeps:

* `append` returns when the message is durable, or raises; it never hangs. A timed-out append is
  unknown, so it is retried inside with the same `message_id` when there is one; without one it
  raises BusUnavailable.
* `append_soon` puts messages on the wire in the order of the calls and returns futures that always
  resolve.
* A `Consumption` redelivers what was not settled within `ack_wait_s`, survives restarts of the
  server, and for pinned consumers says when this member was elected and when it was deposed.
* `follow` and `replay` deliver in stream order without a gap.
* A denied permission fails the call that caused it (NotAllowed, naming the subject); it is never a
  timeout.
"""

from asyncio import Future
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

Headers = Mapping[str, str]

MESSAGE_ID = "Nats-Msg-Id"
TOGETHER_MAX = 1_000
"""Messages that `append_together` takes at once."""
TOGETHER_MIN = 64
"""From about this many on, storing together costs less than one by one (measured: docs/adr/0007)."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message of core NATS. `reply` is where an answer goes, or empty.

    An address in the bus's own API or in the workspace itself never arrives here, see E_REPLY.
    """

    subject: str
    data: bytes
    headers: Headers = field(default_factory=dict)
    reply: str = ""


@dataclass(frozen=True, slots=True)
class Stored:
    """A message of a stream. `sequence` counts in its stream; `at` is the server's time, seconds."""

    subject: str
    data: bytes
    sequence: int
    at: float
    headers: Headers = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Appended:
    """Where a message was stored. `duplicate`: its message id was already there; nothing was added."""

    sequence: int
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Expect:
    """A condition of an append: the last message on `subject` has this sequence; 0: there is none.

    `subject` defaults to the one appended to; a wildcard is allowed. Unmet: Conflict.
    """

    sequence: int
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to be stored."""

    subject: str
    data: bytes
    headers: Headers | None = None
    message_id: str = ""
    expect: Expect | None = None


class Delivery(Protocol):
    """A message of a stream, on loan to one consumer until it is settled."""

    @property
    def message(self) -> Stored:
        """What was stored."""
        ...

    @property
    def deliveries(self) -> int:
        """How often it has been delivered, this time included."""
        ...

    async def ack(self) -> None:
        """It is dealt with. Fire and forget: a lost ack means a redelivery, which must be harmless."""
        ...

    async def nak(self, delay_s: float = 0) -> None:
        """Deliver it again after `delay_s`."""
        ...

    async def in_progress(self) -> None:
        """Still at work: the redelivery clock starts anew."""
        ...

    async def term(self, reason: str) -> None:
        """Never deliver it again."""
        ...


class Subscription(Protocol):
    """Something to end."""

    async def close(self) -> None:
        """End it; no handler is called afterwards."""
        ...


class Consumption(Protocol):
    """A running pull loop."""

    async def close(self) -> None:
        """Stop pulling; deliveries on loan stay on loan until settled or overdue.

        The handler finishes what it has in hand (5 s at most), what it has not looked at goes back,
        and a pinned member gives its place to the next.
        """
        ...

    def allow(self, slots: int) -> None:
        """Set how many more deliveries may be on loan from now on (executors: free slots)."""
        ...


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a consumer stands, as the server sees it. All 0 for one that does not exist."""

    floor: int = 0
    """Up to this sequence of the stream it owes nobody anything: a message below is never delivered."""
    pending: int = 0
    """Messages that were never delivered."""
    on_loan: int = 0
    """Messages that were delivered and neither settled nor overdue."""


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """A stream. Every stream has `max_bytes`; a full one refuses (`discard` new) or forgets (old)."""

    name: str
    subjects: tuple[str, ...]
    max_bytes: int
    retention: Literal["limits", "workqueue"] = "limits"
    discard: Literal["old", "new"] = "old"
    max_age_s: float = 0
    max_msgs_per_subject: int = 0
    discard_new_per_subject: bool = False
    max_msg_size: int = 0
    duplicate_window_s: float = 120
    no_ack: bool = False
    allow_direct: bool = True
    allow_together: bool = False
    allow_schedules: bool = False
    allow_ttl: bool = False
    persist_async: bool = False
    compression: bool = False
    description: str = ""


@dataclass(frozen=True, slots=True)
class ConsumerSpec:
    """A durable consumer. `pinned`: one member at a time gets the messages (priority group "s")."""

    stream: str
    name: str
    filter_subjects: tuple[str, ...]
    ack_wait_s: float = 30
    max_deliver: int = -1
    max_ack_pending: int = 20_000
    pinned: bool = False
    pinned_ttl_s: float = 2
    start: Literal["all", "new"] = "all"
    inactive_s: float = 0
    """Forgotten after this long without a member; 0: never."""


OnMessage = Callable[[Received], Awaitable[None]]
OnDelivery = Callable[[Delivery], Awaitable[None]]
OnStored = Callable[[Stored], Awaitable[None]]
OnElected = Callable[[], Awaitable[None]]


class Bus(Protocol):
    """One connection to the bus."""

    @property
    def address(self) -> str:
        """The URL in use, without credentials."""
        ...

    async def close(self) -> None:
        """Drain and leave: what was published has left this process when this returns."""
        ...

    # -- core -----------------------------------------------------------------------------------
    async def publish(
        self, subject: str, data: bytes, headers: Headers | None = None, reply: str = ""
    ) -> None:
        """Send and forget; nothing is stored unless a stream listens."""
        ...

    async def flush(self) -> None:
        """Return when the server has taken in everything sent before."""
        ...

    async def request(
        self, subject: str, data: bytes, headers: Headers | None = None, *, timeout_s: float = 5
    ) -> Received:
        """Send and return the first answer.

        Raises:
            NotFound: E_NO_RESPONDER, at once, when nobody listens on `subject`.
            BusUnavailable: E_TIMEOUT after `timeout_s`, or E_BUS when disconnected.
            NotAllowed: the subject is denied to us.
        """
        ...

    async def subscribe(self, subject: str, handler: OnMessage, *, queue: str = "") -> Subscription:
        """Call `handler` for each message, one after the other. Active when this returns."""
        ...

    async def serve(
        self,
        service: str,
        endpoints: Mapping[str, OnMessage],
        *,
        queue: str = "",
        version: str = "0.1.0",
        metadata: Mapping[str, str] | None = None,
    ) -> Subscription:
        """Answer requests as a NATS micro service (discoverable with $SRV.PING). Endpoint = subject.

        Handlers answer with `publish(message.reply, …)`; they run concurrently, an exception is
        answered as an ErrorBody. Active when this returns.
        """
        ...

    # -- streams --------------------------------------------------------------------------------
    async def ensure_stream(self, spec: StreamSpec) -> None:
        """Create the stream, or widen an existing one to `spec`. Idempotent, safe to race."""
        ...

    async def ensure_consumer(self, spec: ConsumerSpec) -> None:
        """Create or update the consumer. Idempotent, safe to race."""
        ...

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
        """Store a message and return where.

        Raises:
            Conflict: E_CONFLICT, `expect` is not met (NATS 10071, 10164).
            Conflict: E_QUEUED, the subject already holds its one message (10077, discard new per subject).
            BusUnavailable: E_BUS (no answer), E_FULL (stream or server full: 10047, 10077, 10023),
                E_NO_STREAM (nothing stores this subject).
            Invalid: E_TOO_LARGE (10054 or above the server's max_payload).
        """
        ...

    async def append_soon(
        self,
        subject: str,
        data: bytes,
        headers: Headers | None = None,
        *,
        message_id: str = "",
        expect: Expect | None = None,
    ) -> "Future[Appended]":
        """Send now, learn later: the future resolves like `append`, within the connection's timeout."""
        ...

    async def append_together(
        self, messages: Sequence[Outgoing], *, timeout_s: float = 10
    ) -> list[Appended]:
        """Store messages of one stream in order, all of them or none, with one fsync for all.

        At most TOGETHER_MAX; the stream must `allow_together`. Fewer than TOGETHER_MIN are cheaper one
        by one.

        Raises:
            Conflict: E_CONFLICT, one expectation is not met or one message id is stored already.
            BusUnavailable: as `append`. It is unknown whether all are stored or none.
            Invalid: E_TOO_LARGE, one message is; E_LIMIT, they are too many.
        """
        ...

    async def consume(
        self,
        spec: ConsumerSpec,
        handler: OnDelivery,
        *,
        batch: int = 256,
        on_elected: OnElected | None = None,
    ) -> Consumption:
        """Pull and call `handler` for each delivery, one after the other, until closed.

        Pinned: `on_elected` is awaited before the first delivery under a new pin, again and again
        until it succeeds. Nobody is elected before there is a message. `batch` 0: nothing comes until
        `Consumption.allow`. A handler that raises gets the message again after a second.
        """
        ...

    async def last(self, stream: str, subject: str) -> Stored | None:
        """Return the last message on `subject` (wildcards allowed), or None."""
        ...

    async def last_many(self, stream: str, subjects: Sequence[str]) -> list[Stored | None]:
        """Return `last` for many subjects in one go, pipelined, in the order asked."""
        ...

    async def standing(self, stream: str, consumer: str) -> Standing:
        """Return where a durable consumer stands."""
        ...

    async def stored_at(self, stream: str, sequence: int) -> Stored | None:
        """Return the message with this sequence, or None if it is gone; work queues answer too."""
        ...

    async def replay(
        self,
        stream: str,
        subjects: Sequence[str],
        handler: Callable[[Stored], None],
        *,
        after: int = 0,
    ) -> int:
        """Call `handler` for every message on `subjects` stored so far, sequence > `after`, in order.

        Returns the stream's last sequence when the replay began (0: empty stream).
        """
        ...

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
    ) -> Subscription:
        """Call `handler` for every message with sequence > `after`, in order, and then live.

        `last_per_subject` begins with only the newest of each subject (tables); `on_caught_up` is
        awaited once, when everything stored at the beginning has been handled.
        """
        ...

    def stored(
        self, stream: str, subjects: Sequence[str], *, after: int = 0
    ) -> AsyncIterator[Stored]:
        """Iterate as `follow` does, for loops that end by themselves."""
        ...

    async def purge(self, stream: str, subject: str, *, up_to: int = 0) -> int:
        """Delete messages on `subject` (wildcards allowed), below sequence `up_to` if given; count."""
        ...

    # -- timers ---------------------------------------------------------------------------------
    async def schedule(
        self, subject: str, target: str, data: bytes, at: float
    ) -> "Future[Appended]":
        """Store a message that is stored again on `target` (same stream) at `at` (seconds since 1970).

        One timer per subject: scheduling again moves it; `purge` cancels it; the past fires at once.
        """
        ...

    # -- events of the connection ----------------------------------------------------------------
    def on_reconnect(self, handler: OnElected) -> None:
        """Await `handler` after every reconnect."""
        ...
