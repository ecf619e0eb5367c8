"""Reading a stream in order, without a gap: consumers without acks that die with their reader.

When such a consumer is lost (restart, silence, a hole in its numbering), another one begins after
the last message handled.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from penstock.bus import OnElected, OnStored, Stored
from penstock.bus._endings import HANDLER_WAIT_S, ended
from penstock.bus.nats.connection import Connection, log
from penstock.bus.nats.consuming import Place, stored_headers
from penstock.bus.nats.pulling import Pull
from penstock.bus.nats.requests import Refusal, api, api_or_refused
from penstock.bus.nats.streams import NANOSECONDS, filters, stream_state
from penstock.errors import PenstockError

BATCH = 2048
EXPIRES_S = 30.0
HEARTBEAT_S = 2.0
INACTIVE_S = 30
YIELD_EVERY = 256
FAILED_PAUSE_S = 0.5


class Reader:
    """Hands stored messages to `handler`, sequence by sequence."""

    def __init__(
        self,
        connection: Connection,
        stream: str,
        subjects: Sequence[str],
        handler: Callable[[Stored], Awaitable[None] | None],
        *,
        after: int,
        policy: str = "all",
        until: int | None = None,
        on_caught_up: OnElected | None = None,
    ) -> None:
        self.connection = connection
        self.stream = stream
        self.subjects = tuple(subjects)
        self.handler = handler
        self.position = after
        self.policy = policy
        self.until = until
        self.on_caught_up = on_caught_up
        self.caught_up = asyncio.Event()
        self.target = 0
        self.begun = after > 0
        self.created = ""
        """When the stream was made, in the server's words."""
        self.expected = 1
        self.missed = 0
        """What was `expected` when it was first seen to be sent and not here; 0: nothing."""
        self.failure: BaseException | None = None
        self.pull: Pull | None = None
        self._worker: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to read."""
        name = await self._create()
        self.pull = Pull(
            self.connection,
            self.stream,
            name,
            batch=BATCH,
            expires_s=EXPIRES_S,
            heartbeat_s=HEARTBEAT_S,
            acknowledged=False,
            restore=self._restore,
        )
        await self.pull.start()
        self._worker = self.connection.spawn(self._work(self.pull))

    async def close(self, wait_s: float = HANDLER_WAIT_S) -> None:
        """Stop reading; the handler may take `wait_s` to finish the message in hand."""
        if self.pull is not None:
            await self.pull.close()
            self.pull.arrived.set()
        await ended(self._worker, wait_s)
        if self.pull is not None and self.connection.connected.is_set():
            verb = f"CONSUMER.DELETE.{self.stream}.{self.pull.consumer}"
            try:
                await api(self.connection, verb, timeout_s=1)
            except (PenstockError, Refusal):
                log.debug("a reader's consumer is left to end by itself")
        self.caught_up.set()

    async def _create(self) -> str:
        """Make a consumer that begins after `position`; return its name."""
        info = await api_or_refused(
            self.connection, f"STREAM.INFO.{self.stream}", None, self.stream
        )
        last_sequence = int(info["state"]["last_seq"])
        self._compare(str(info["created"]), last_sequence)
        name = f"read-{secrets.token_hex(6)}"
        config: dict[str, Any] = {
            "name": name,
            "ack_policy": "none",
            "replay_policy": "instant",
            "max_deliver": 1,
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": INACTIVE_S * NANOSECONDS,
            **filters(self.subjects),
        }
        if self.begun:
            config["deliver_policy"] = "by_start_sequence"
            config["opt_start_seq"] = self.position + 1
        else:
            config["deliver_policy"] = self.policy
        body = {"stream_name": self.stream, "config": config}
        verb = f"CONSUMER.CREATE.{self.stream}.{name}"
        made = await api_or_refused(self.connection, verb, body, self.stream)
        self.expected, self.missed = 1, 0
        if not self.target:
            self.target = last_sequence
        if self.policy == "new" and not self.begun:
            # From here on nothing may be missed, whatever happens to this consumer.
            self.position = int(made["delivered"]["stream_seq"]) or last_sequence
            self.begun = True
        if not made.get("num_pending", 0):
            await self._caught_up()
        return name

    def _compare(self, created: str, last_sequence: int) -> None:
        """Go on where the stream now ends, or at its beginning if it is another one of that name."""
        if self.created and created != self.created:
            log.warning("%s was made anew; it is read from its beginning", self.stream)
            self.position = self.target = 0
            self.policy = "all" if self.policy == "new" else self.policy
            self.begun = False
        elif self.created and last_sequence < self.position:
            log.warning("%s has lost what was after %d", self.stream, last_sequence)
            self.position = last_sequence
        self.created = created

    async def _restore(self) -> str:
        if self.pull is not None:
            self.pull.buffered.clear()  # the next consumer brings these again
        return await self._create()

    async def _caught_up(self) -> None:
        if not self.caught_up.is_set():
            self.caught_up.set()
            if self.on_caught_up is not None:
                await self.on_caught_up()

    async def _work(self, pull: Pull) -> None:
        handled = beats = 0
        while not pull.closed:
            while pull.buffered and not pull.closed:
                message = pull.buffered.popleft()
                place = Place(message.reply)
                if place.consumer_sequence != self.expected:
                    if place.consumer_sequence > self.expected:
                        pull.lost()
                    continue
                self.expected += 1
                if place.sequence <= self.position:
                    continue
                if self.until is None or place.sequence <= self.until:
                    stored = Stored(
                        message.subject,
                        message.data,
                        place.sequence,
                        place.at,
                        stored_headers(message),
                    )
                    await self._hand_over(stored)
                self.position = place.sequence
                self.begun = True
                if place.pending == 0 or place.sequence >= self.target:
                    await self._caught_up()
                await pull.taken()
                handled += 1
                if handled % YIELD_EVERY == 0:
                    await asyncio.sleep(0)
            if pull.beats != beats and not self.caught_up.is_set():
                beats = pull.beats
                await self._look(pull)  # what was to come last has been deleted meanwhile
            if pull.closed:
                return
            pull.arrived.clear()
            await pull.arrived.wait()

    async def _hand_over(self, stored: Stored) -> None:
        while True:
            try:
                waiting = self.handler(stored)
                if waiting is not None:
                    await waiting
                return
            except Exception as error:
                if self.until is not None:
                    self.failure = error
                    self.caught_up.set()
                    await asyncio.Event().wait()  # the one who asked ends us
                log.exception("a handler failed on %s; it gets it again", stored.subject)
                if self.pull is None or self.pull.closed:
                    return
                await asyncio.sleep(FAILED_PAUSE_S)

    async def _look(self, pull: Pull) -> None:
        """Find out whether we have everything; what was sent and did not come is asked for again."""
        try:
            info = await api(self.connection, f"CONSUMER.INFO.{self.stream}.{pull.consumer}")
        except (PenstockError, Refusal):
            return
        if info.get("num_pending", 0) or pull.buffered:
            return
        if int(info["delivered"]["consumer_seq"]) < self.expected:
            await self._caught_up()
        elif self.missed == self.expected:  # it was on its way at the last look already
            pull.lost()
        else:
            self.missed = self.expected


async def follow(
    connection: Connection,
    stream: str,
    subjects: Sequence[str],
    handler: OnStored,
    *,
    after: int,
    last_per_subject: bool,
    new_only: bool,
    on_caught_up: OnElected | None,
) -> Reader:
    """Return a running reader that never ends by itself."""
    policy = "new" if new_only else "last_per_subject" if last_per_subject else "all"
    reader = Reader(
        connection, stream, subjects, handler, after=after, policy=policy, on_caught_up=on_caught_up
    )
    await reader.start()
    return reader


async def replay(
    connection: Connection,
    stream: str,
    subjects: Sequence[str],
    handler: Callable[[Stored], None],
    *,
    after: int,
) -> int:
    """Hand over everything stored so far; return the stream's last sequence at the beginning."""
    state = await stream_state(connection, stream)
    last_sequence = int(state["last_seq"])
    if last_sequence <= after or not state["messages"]:
        return last_sequence
    reader = Reader(connection, stream, subjects, handler, after=after, until=last_sequence)
    reader.target = last_sequence
    try:
        await reader.start()
        await reader.caught_up.wait()
    finally:
        await reader.close(0)
    if reader.failure is not None:
        raise reader.failure
    return last_sequence
