"""Pull requests of one consumer, kept alive (ADR-13, ADR-37, ADR-42).

A restarted server forgets pull requests without a word, so silence is watched: when neither a
message nor a heartbeat came for three heartbeats, or the connection was lost, everything asked for
is void. It is asked again from a new inbox, so that what an old request may still bring cannot
arrive twice.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from nats.aio.msg import Msg

from penstock.bus._endings import cancelled
from penstock.bus.nats.connection import Connection, log
from penstock.bus.nats.failures import not_allowed
from penstock.bus.nats.listening import Listener
from penstock.bus.nats.streams import NANOSECONDS, PRIORITY_GROUP
from penstock.errors import BusUnavailable, PenstockError
from penstock.units import MIB

PIN_ID = "Nats-Pin-Id"
PENDING_MESSAGES = "Nats-Pending-Messages"
MISSED_HEARTBEATS_MAX = 3
LOST_PAUSE_S = 0.2
RENEWAL_EXPIRES_S = 0.1
REQUEST_BYTES_MAX = 8 * MIB
"""What one pull request may bring. More than 64 MiB under way, and the server calls us a slow
consumer and hangs up; whatever one message may hold must be less."""
LOST_PAUSE_S_MAX = 5.0


class Pull:
    """What one consumer brings, in `buffered`; whoever takes from there calls `taken` afterwards."""

    def __init__(
        self,
        connection: Connection,
        stream: str,
        consumer: str,
        *,
        batch: int,
        expires_s: float,
        heartbeat_s: float,
        grouped: bool = False,
        acknowledged: bool = True,
        restore: Callable[[], Awaitable[str]] | None = None,
    ) -> None:
        self.connection = connection
        self.stream = stream
        self.consumer = consumer
        self.batch = batch
        self.credit: int | None = None if batch else 0
        self.expires_s = expires_s
        self.heartbeat_s = heartbeat_s
        self.grouped = grouped
        self.acknowledged = acknowledged
        self.restore = restore
        self.pin = ""
        self.buffered: deque[Msg] = deque()
        self.arrived = asyncio.Event()
        self.outstanding = 0
        self.received = 0
        self.beats = 0
        self.closed = False
        self._listener: Listener | None = None
        self._inbox = ""
        self._inboxes = 0
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()
        self._attention = asyncio.Event()
        self._gone = False
        self._void = False
        self._keeper: asyncio.Task[None] | None = None

    # -- life -----------------------------------------------------------------------------------
    async def start(self) -> None:
        """Begin to pull.

        Raises:
            NotAllowed: pulling is denied to us.
            BusUnavailable: not connected.
        """
        await self._renew()
        verb = self._verb()
        with contextlib.suppress(BusUnavailable):  # lost meanwhile: the keeper goes on
            await self.connection.ping()
        refused = self.connection.denied.get(("publish", verb.lower()))
        if refused is not None:
            await self.close()
            raise not_allowed(verb, "publish to")
        self.connection.on_found.append(self._found)
        self._keeper = self.connection.spawn(self._keep())

    async def close(self) -> None:
        """Stop pulling."""
        self.closed = True
        if self._found in self.connection.on_found:
            self.connection.on_found.remove(self._found)
        if self._keeper is not None:
            await cancelled([self._keeper])
        if self._listener is not None:
            await self._listener.close()
            self._listener = None

    # -- flow -----------------------------------------------------------------------------------
    def allow(self, slots: int) -> None:
        """Let `slots` more messages come, and then no more until the next call."""
        # What waits here unseen is on loan already.
        self.credit = max(slots - len(self.buffered), 0)
        if self.outstanding > self.credit:
            self._void = True  # a pull request is taken back by nobody listening to its inbox
        self._attention.set()

    async def taken(self) -> None:
        """Ask for more when half of what may wait here is used up."""
        if self.credit is None and self.outstanding + len(self.buffered) <= self.batch // 2:
            await self._ask()

    def void(self) -> None:
        """Give up everything asked for, and ask anew from a new inbox."""
        self._void = True
        self._attention.set()

    def lost(self) -> None:
        """Have the consumer made again; what it brought is not to be trusted."""
        self._gone = True
        self._attention.set()

    def _wanted(self) -> int:
        if self.credit is not None:
            return self.credit - self.outstanding
        return self.batch - self.outstanding - len(self.buffered)

    def _verb(self) -> str:
        return f"$JS.API.CONSUMER.MSG.NEXT.{self.stream}.{self.consumer}"

    async def renew_pin(self) -> None:
        """Ask for one message more, for a moment, only to say that the pinned member is alive."""
        if self.pin and not self.closed and self.connection.connected.is_set():
            await self._request(1, RENEWAL_EXPIRES_S, 0)

    async def _ask(self) -> None:
        wanted = self._wanted()
        if wanted > 0 and not self.closed and self.connection.connected.is_set():
            await self._request(wanted, self.expires_s, self.heartbeat_s)

    async def _request(self, batch: int, expires_s: float, heartbeat_s: float) -> None:
        body: dict[str, Any] = {
            "batch": batch,
            "expires": int(expires_s * NANOSECONDS),
            "max_bytes": REQUEST_BYTES_MAX,
        }
        if heartbeat_s:
            body["idle_heartbeat"] = int(heartbeat_s * NANOSECONDS)
        if self.grouped:
            body["group"] = PRIORITY_GROUP
            if self.pin:
                body["id"] = self.pin
        self.outstanding += batch
        await self.connection.send(self._verb(), msgspec.json.encode(body), None, self._inbox)

    async def _renew(self) -> None:
        if self._listener is not None:
            await self._listener.close(drain=self.acknowledged)
            self._listener = None
        self._inboxes += 1
        self._inbox = f"{self.connection.inbox}.pull.{id(self):x}.{self._inboxes}"
        self.outstanding = 0
        self._void = False
        self._listener = await self.connection.listen(self._inbox, self._receive)
        self._heard_at = self._loop.time()
        await self._ask()

    # -- what comes -----------------------------------------------------------------------------
    async def _receive(self, message: Msg) -> None:
        self._heard_at = self._loop.time()
        if message.subject == self._inbox:
            self._on_status(message.headers or {})
            return
        self.received += 1
        if self.outstanding > 0:
            self.outstanding -= 1
        if self.credit is not None:
            if self.credit <= 0:  # was under way when slots were taken back
                await self.connection.send(message.reply, b"-NAK")
                return
            self.credit -= 1
        self.buffered.append(message)
        self.arrived.set()

    def _on_status(self, headers: dict[str, str]) -> None:
        status = headers.get("Status", "")
        text = headers.get("Description", "").lower()
        if status == "100":
            self.beats += 1
            self.arrived.set()
            return
        if status == "503" or (status == "409" and ("deleted" in text or "leadership" in text)):
            self._gone = True
        elif status == "423":
            self.pin = ""
        left = headers.get(PENDING_MESSAGES)
        if left is None and status in ("404", "408", "409", "423"):
            self._void = True  # not said how much of what was asked for is void: all of it
        else:
            self.outstanding = max(0, self.outstanding - int(left or 0))
        self._attention.set()

    async def _found(self) -> None:
        if self.acknowledged:
            self.void()
        else:
            self.lost()  # what was under way when we were cut off will not come a second time

    async def _keep(self) -> None:
        """Ask again whenever something ended, and start anew after silence."""
        pause_s = LOST_PAUSE_S
        while not self.closed:
            silence_s = MISSED_HEARTBEATS_MAX * self.heartbeat_s
            left_s = self._heard_at + silence_s - self._loop.time()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._attention.wait(), max(left_s, 0.05))
            self._attention.clear()
            if not self.connection.connected.is_set():
                await self.connection.connected.wait()
                continue
            silent = self._loop.time() - self._heard_at >= silence_s
            if silent and self.outstanding == 0 and not self._gone and not self._void:
                self._heard_at = self._loop.time()  # nothing was asked for, so nothing is missed
                continue
            try:
                if self._gone or silent:
                    await self._restored()
                if self._gone or silent or self._void:
                    self._gone = False
                    await self._renew()
                elif self.credit is not None or self.outstanding <= self.batch // 2:
                    await self._ask()
            except PenstockError as error:
                log.warning("cannot pull %s/%s: %s", self.stream, self.consumer, error)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, LOST_PAUSE_S_MAX)
                self._void = True
                self._attention.set()
            else:
                pause_s = LOST_PAUSE_S

    async def _restored(self) -> None:
        """Make the consumer again, in case that is why nobody answers."""
        if self.restore is not None:
            self.consumer = await self.restore()
