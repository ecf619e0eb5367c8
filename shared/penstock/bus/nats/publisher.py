"""Pipelined appends to streams: many in flight, and every future resolves.

An append without an answer is unknown. With a message id it may be sent again, since the stream
drops the copy; without one it fails as BusUnavailable. After a reconnect everything that waits is
sent again in its old order, so a stream never holds a later message without an earlier one.
"""

import asyncio
from asyncio import Future
from collections import deque

import msgspec
from nats.aio.msg import Msg

from penstock.bus import MESSAGE_ID, Appended, Expect, Headers
from penstock.bus.nats.connection import Connection
from penstock.bus.nats.failures import (
    CHECKED_WRITE_IN_PROCESS,
    STREAM_NOT_FOUND,
    TOO_MANY_REQUESTS,
    no_stream,
    not_allowed,
    refusal,
    unknown,
)
from penstock.errors import Conflict, PenstockError

EXPECT = "Nats-Expected-Last-Subject-Sequence"
EXPECT_SUBJECT = "Nats-Expected-Last-Subject-Sequence-Subject"
STATUS = "Status"
NO_RESPONDERS = "503"

WAITING_MAX = 8192
"""Below the 10,000 messages that a stream takes in before it answers 429."""
WAITING_BYTES_MAX = 64 * 1024 * 1024
RESEND_S = 2.0
TICK_S = 0.25
_UNDECIDED = frozenset({CHECKED_WRITE_IN_PROCESS, TOO_MANY_REQUESTS})
_UNDECIDED_SENDS_MAX = 20


class ApiError(msgspec.Struct):
    """An error of JetStream."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class _Ack(msgspec.Struct):
    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    error: ApiError | None = None


_ack = msgspec.json.Decoder(_Ack)


class Entry:
    """A message on its way."""

    __slots__ = (
        "data",
        "deadline",
        "future",
        "headers",
        "publisher",
        "repeatable",
        "sends",
        "sent_at",
        "size",
        "subject",
        "token",
    )

    def __init__(self, publisher: "Publisher", subject: str, data: bytes) -> None:
        self.publisher = publisher
        self.subject = subject
        self.data = data
        self.headers: dict[str, str] | None = None
        self.token = ""
        self.size = 0
        self.repeatable = False
        self.future: Future[Appended] = publisher.loop.create_future()
        self.deadline = 0.0
        self.sent_at = 0.0
        self.sends = 0

    def answer(self, message: Msg) -> None:
        """Take the stream's answer."""
        if not message.data:
            status = message.headers.get(STATUS) if message.headers else None
            if status == NO_RESPONDERS:
                self.fail(no_stream(self.subject))
            return  # the empty first answer of a batch, or of somebody who is no stream
        try:
            ack = _ack.decode(message.data)
        except msgspec.MsgspecError:
            return  # a plain responder listens there as well; the stream's answer still comes
        if ack.error is None:
            self.resolve(Appended(ack.seq, ack.duplicate))
            return
        if ack.error.err_code == STREAM_NOT_FOUND:
            self.fail(no_stream(self.subject))
            return
        if (
            ack.error.err_code in _UNDECIDED
            and self.sends < _UNDECIDED_SENDS_MAX
            and self.publisher.loop.time() < self.deadline
        ):
            # Nothing was decided: a replicated stream has another checked write on the subject
            # under way, or too many messages wait at the stream.
            self.publisher.later(0.005 * self.sends, self)
            return
        error = refusal(ack.error.err_code, ack.error.description, self.subject)
        if isinstance(error, Conflict) and self.sends > 1 and self.headers and ack.stream:
            self.publisher.doubt(self, ack.stream, error)
            return
        self.fail(error)

    def lost(self) -> None:
        """Wait on if the message may be sent again; otherwise its outcome stays unknown."""
        if self.sends and not self.repeatable:
            self.fail(unknown(self.subject, "the connection was lost before the answer"))

    def resolve(self, appended: Appended) -> None:
        """Hand over the result."""
        self.publisher.leave(self)
        if not self.future.done():
            self.future.set_result(appended)

    def fail(self, error: PenstockError) -> None:
        """Hand over the error."""
        self.publisher.leave(self)
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()  # whoever does not look is not scolded at exit


class Publisher:
    """All appends of one connection."""

    def __init__(self, connection: Connection, timeout_s: float) -> None:
        self.connection = connection
        self.timeout_s = timeout_s
        self.loop = asyncio.get_running_loop()
        self.waiting: dict[str, Entry] = {}
        self.waiting_bytes = 0
        self._queue: deque[Future[None]] = deque()
        connection.on_found.append(self._resend_all)
        connection.spawn(self._watch())

    async def append(
        self,
        subject: str,
        data: bytes,
        headers: Headers | None = None,
        *,
        message_id: str = "",
        expect: Expect | None = None,
        timeout_s: float = 0,
        repeatable: bool = False,
    ) -> Future[Appended]:
        """Send a message and return the future of its answer, which always comes."""
        full: dict[str, str] | None = None
        if headers or message_id or expect is not None:
            full = dict(headers) if headers else {}
            if message_id:
                full[MESSAGE_ID] = message_id
            if expect is not None:
                full[EXPECT] = str(expect.sequence)
                if expect.subject:
                    full[EXPECT_SUBJECT] = expect.subject
        entry = Entry(self, subject, data)
        entry.headers = full
        entry.repeatable = repeatable or bool(full and full.get(MESSAGE_ID))
        entry.size = self.connection.check_size(subject, data, full)
        refused = self.connection.denied.get(("publish", subject.lower()))
        if refused is not None:
            entry.fail(not_allowed(subject, "publish to"))
            return entry.future
        if self._queue or self._full():
            await self._room()
        if self.connection.closing:
            entry.fail(unknown(subject, "the connection is closed"))
            return entry.future
        entry.token = self.connection.token()
        entry.deadline = self.loop.time() + (timeout_s or self.timeout_s)
        self.waiting[entry.token] = entry
        self.waiting_bytes += entry.size
        self.connection.mailbox[entry.token] = entry
        if self.connection.connected.is_set():
            await self._send(entry)
        return entry.future

    def leave(self, entry: Entry) -> None:
        """Forget an entry that has its answer."""
        self.connection.mailbox.pop(entry.token, None)
        if self.waiting.pop(entry.token, None) is not None:
            self.waiting_bytes -= entry.size
        self._next_turn()

    def later(self, delay_s: float, entry: Entry) -> None:
        """Send an entry again after a moment."""

        def again() -> None:
            if entry.token in self.waiting:
                self.connection.spawn(self._send(entry))

        self.loop.call_later(delay_s, again)

    def doubt(self, entry: Entry, stream: str, error: PenstockError) -> None:
        """Find out whether a refused repetition is refused because the first copy was stored."""
        self.connection.mailbox.pop(entry.token, None)
        self.connection.spawn(self._settle(entry, stream, error))

    async def settled(self, timeout_s: float) -> None:
        """Return when nothing waits any more, or after `timeout_s`."""
        futures = [entry.future for entry in self.waiting.values()]
        if futures:
            await asyncio.wait(futures, timeout=timeout_s)

    async def _send(self, entry: Entry) -> None:
        entry.sends += 1
        entry.sent_at = self.loop.time()
        try:
            await self.connection.send(
                entry.subject, entry.data, entry.headers, f"{self.connection.inbox}.{entry.token}"
            )
        except PenstockError as error:
            entry.fail(error)

    async def _settle(self, entry: Entry, stream: str, error: PenstockError) -> None:
        from penstock.bus.nats.streams import last

        try:
            stored = await last(self.connection, stream, entry.subject)
        except PenstockError:
            stored = None
        wanted = (entry.headers or {}).get(MESSAGE_ID)
        if stored is not None and wanted and stored.headers.get(MESSAGE_ID) == wanted:
            entry.resolve(Appended(stored.sequence, duplicate=True))
        else:
            entry.fail(error)

    def _full(self) -> bool:
        return len(self.waiting) >= WAITING_MAX or self.waiting_bytes >= WAITING_BYTES_MAX

    def _next_turn(self) -> None:
        while self._queue and not self._full():
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return  # one entry enters, and its leaving lets the next one in

    async def _room(self) -> None:
        """Wait for one's turn; first come, first served."""
        turn: Future[None] = self.loop.create_future()
        self._queue.append(turn)
        await turn

    async def _resend_all(self) -> None:
        for entry in list(self.waiting.values()):
            if entry.token in self.waiting:
                await self._send(entry)

    def release(self) -> None:
        """Let everybody who waits for a turn see that the connection is closed."""
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)

    async def _watch(self) -> None:
        """Send again what got no answer; give up what got none in time."""
        while True:
            await asyncio.sleep(TICK_S)
            self._next_turn()  # in case the one before was cancelled on its way in
            now = self.loop.time()
            connected = self.connection.connected.is_set()
            for entry in list(self.waiting.values()):
                if now >= entry.deadline:
                    text = "no answer" if connected else "not connected"
                    entry.fail(unknown(entry.subject, f"{text} within the time allowed"))
                elif connected and entry.repeatable and now - entry.sent_at > RESEND_S:
                    await self._send(entry)
