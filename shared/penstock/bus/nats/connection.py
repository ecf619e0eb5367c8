"""One connection: found again whenever it is lost, with a mailbox for replies.

nats-py reconnects by itself, but ends for good on some server errors, calls itself connected
before its subscriptions are back, and knows no jitter. So a lost client is thrown away here and a
new one takes over its subscriptions; only then may anybody send again.

    connected ──socket closed, or no pong for two PING_S─▶ lost ──client, subscriptions──▶ connected
"""

import asyncio
import contextlib
import logging
import random
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Protocol
from urllib.parse import unquote

from nats import errors as library
from nats.aio.client import Client
from nats.aio.msg import Msg

from penstock.bus import Headers
from penstock.bus._endings import cancelled
from penstock.bus.nats.dialing import CONNECT_WAIT_S, RECONNECT_WAIT_S, dialed, discard, parsed
from penstock.bus.nats.failures import denied, not_allowed, too_large, unknown
from penstock.bus.nats.listening import Listener
from penstock.errors import BusUnavailable, Invalid, NotAllowed, PenstockError

log = logging.getLogger("penstock.bus")

RECONNECT_WAIT_S_MAX = 0.5
PING_S = 2.0
BACKLOG_MAX = 16_384
DENIED_MAX = 1024
BACKLOG_BYTES_MAX = 8 * 1024 * 1024
_HEADER_OVERHEAD = 12  # "NATS/1.0\r\n" and the empty line
_PAIR_OVERHEAD = 4  # ": " and "\r\n"


class Waiting(Protocol):
    """Someone who sent a message and waits at the mailbox for its reply."""

    subject: str

    def answer(self, message: Msg) -> None:
        """Take the reply."""
        ...

    def fail(self, error: PenstockError) -> None:
        """Learn that none will come."""
        ...

    def lost(self) -> None:
        """Learn that the connection was lost, and the reply with it."""
        ...


class Connection:
    """See the module."""

    def __init__(self, urls: Iterable[str], name: str, user: str, password: str) -> None:
        self.urls = [parsed(url) for url in urls]
        self.name = name
        first = self.urls[0]
        self.user = user or unquote(first.username or "")
        self.password = password or unquote(first.password or "")
        prefix = f"_INBOX_{self.user}" if self.user else "_INBOX"
        self.inbox = f"{prefix}.{secrets.token_hex(10)}"
        self.client = Client()
        self.connected = asyncio.Event()
        self.closing = False
        self.listeners: set[Listener] = set()
        self.mailbox: dict[str, Waiting] = {}
        self.on_found: list[Callable[[], Awaitable[None]]] = []
        self.denied: dict[tuple[str, str], NotAllowed] = {}
        self.address = ""
        self.reconnects = 0
        self._token = 0
        self._backlog: deque[tuple[str, bytes, Headers | None, str]] = deque()
        self._backlog_bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()

    # -- life -----------------------------------------------------------------------------------
    async def open(self) -> None:
        """Connect, trying each server once.

        Raises:
            NotAllowed: the server refuses our credentials.
            BusUnavailable: no server answers.
        """
        self.client = await self._new_client()
        await self._attach(self.client, [Listener(self, f"{self.inbox}.*", "", self._on_mail)])
        self.connected.set()
        self.spawn(self._heartbeat())

    async def close(self) -> None:
        """Send what waits, then leave."""
        self.closing = True
        if self.connected.is_set():
            with contextlib.suppress(library.Error, OSError, asyncio.TimeoutError):
                await self.client.flush(2)
        self.connected.clear()
        for waiting in self._taken_mail():
            waiting.fail(unknown(waiting.subject, "the connection was closed"))
        await cancelled(list(self._tasks))
        for listener in list(self.listeners):
            await listener.detach()
        await discard(self.client)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something that ends with this connection."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a task of the bus ended", exc_info=task.exception())

    async def found(self, timeout_s: float) -> None:
        """Return when connected.

        Raises:
            BusUnavailable: not within `timeout_s`.
        """
        if self.connected.is_set():
            return
        try:
            await asyncio.wait_for(self.connected.wait(), timeout_s)
        except TimeoutError as error:
            raise BusUnavailable("not connected", where=self.address) from error

    # -- sending --------------------------------------------------------------------------------
    async def send(
        self, subject: str, data: bytes, headers: Headers | None = None, reply: str = ""
    ) -> None:
        """Put a message on the wire, or into the backlog while there is none.

        Raises:
            Invalid: E_TOO_LARGE, or the subject or a header is malformed.
            BusUnavailable: the backlog is full.
        """
        if not self.connected.is_set():
            self._keep(subject, data, headers, reply)
            return
        try:
            await self.client.publish(subject, data, reply, dict(headers) if headers else None)
        except (library.BadSubjectError, library.BadHeaderError) as error:
            raise Invalid(f"malformed subject or header: {error}", where=subject) from error
        except library.MaxPayloadError as error:
            raise too_large(subject, len(data), self.client.max_payload) from error
        except (library.Error, OSError):
            self._keep(subject, data, headers, reply)

    def check_size(self, subject: str, data: bytes, headers: Headers | None) -> int:
        """Return the size of a message on the wire.

        Raises:
            Invalid: E_TOO_LARGE. The server would end the connection.
        """
        size = len(data)
        if headers:
            size += _HEADER_OVERHEAD
            for name, value in headers.items():
                size += len(name) + len(value) + _PAIR_OVERHEAD
        if size > self.client.max_payload:
            raise too_large(subject, size, self.client.max_payload)
        return size

    async def flush(self, timeout_s: float = 5) -> None:
        """Return when the server has taken in everything sent before.

        Raises:
            BusUnavailable: it did not, in time.
            NotAllowed: a publish since the last flush was denied.
        """
        await self.ping(timeout_s)
        for key, refused in list(self.denied.items()):
            if key[0] == "publish":
                del self.denied[key]
                raise refused

    async def ping(self, timeout_s: float = 5) -> None:
        """Return when the server has answered; complaints about earlier messages came before.

        Raises:
            BusUnavailable: it did not, in time.
        """
        if not self.connected.is_set():
            raise BusUnavailable("not connected", where=self.address)
        try:
            await _round_trip(self.client, timeout_s)
        except (library.Error, OSError) as error:
            raise BusUnavailable("no answer to a ping", where=self.address) from error

    def _keep(self, subject: str, data: bytes, headers: Headers | None, reply: str) -> None:
        if self.closing:
            raise BusUnavailable("the connection is closed", where=subject)
        self._backlog_bytes += len(data)
        self._backlog.append((subject, data, headers, reply))
        if len(self._backlog) > BACKLOG_MAX or self._backlog_bytes > BACKLOG_BYTES_MAX:
            self._backlog.pop()
            self._backlog_bytes -= len(data)
            raise BusUnavailable("disconnected, and the backlog is full", where=subject)

    # -- replies --------------------------------------------------------------------------------
    def token(self) -> str:
        """Return a new address in the mailbox."""
        self._token += 1
        return str(self._token)

    def reply_to(self, token: str) -> str:
        """Return the subject that leads to a token."""
        return f"{self.inbox}.{token}"

    async def _on_mail(self, message: Msg) -> None:
        waiting = self.mailbox.get(message.subject[len(self.inbox) + 1 :])
        if waiting is not None:
            waiting.answer(message)

    def _taken_mail(self) -> list[Waiting]:
        taken = list(self.mailbox.values())
        self.mailbox.clear()
        return taken

    # -- subscriptions --------------------------------------------------------------------------
    async def listen(
        self, subject: str, receive: Callable[[Msg], Awaitable[None]], queue: str = ""
    ) -> Listener:
        """Subscribe. Active when this returns.

        Raises:
            NotAllowed: the subject is denied to us.
            BusUnavailable: not connected.
        """
        await self.found(CONNECT_WAIT_S)
        listener = Listener(self, subject, queue, receive)
        try:
            await self._attach(self.client, [listener])
        except PenstockError:
            self.listeners.discard(listener)
            raise
        refused = self.denied.pop(("subscription", subject.lower()), None)
        if refused is not None:
            await listener.close()
            raise not_allowed(subject, "subscribe to")
        return listener

    async def _attach(self, client: Client, listeners: Iterable[Listener]) -> None:
        try:
            for listener in listeners:
                self.listeners.add(listener)
                await listener.attach(client)
            await _round_trip(client, CONNECT_WAIT_S)
        except library.BadSubjectError as error:
            raise Invalid(f"malformed subject: {error}") from error
        except (library.Error, OSError) as error:
            raise BusUnavailable(f"cannot subscribe: {error}", where=self.address) from error

    # -- finding servers ------------------------------------------------------------------------
    async def _new_client(self) -> Client:
        """Return a client of the first server that answers. Errors as `dialed`."""
        client, self.address = await dialed(
            self.urls,
            name=self.name,
            user=self.user,
            password=self.password,
            on_error=self._on_error,
            on_lost=self._lost_callback,
        )
        return client

    def _lost_callback(self, client: Client) -> Callable[[], Awaitable[None]]:
        async def lost() -> None:
            self._lost(client)
            if client.is_reconnecting:
                raise asyncio.CancelledError  # ends nats-py's own search; ours has begun

        return lost

    def _lost(self, client: Client) -> None:
        """Begin to look for a server, once for each lost client."""
        if client is not self.client or self.closing or not self.connected.is_set():
            return
        self.connected.clear()
        log.info("the bus is lost", extra={"bus": self.address})
        for waiting in list(self.mailbox.values()):
            waiting.lost()
        self.spawn(self._reconnect(client))

    async def _reconnect(self, old: Client) -> None:
        for listener in list(self.listeners):
            await listener.detach()
        discarding = self.spawn(discard(old))
        wait_s = RECONNECT_WAIT_S
        while True:
            try:
                client = await self._new_client()
                await self._attach(client, list(self.listeners))
                break
            except PenstockError as error:
                log.debug("still looking for the bus: %s", error)
                await asyncio.sleep(wait_s * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
                wait_s = min(wait_s * 1.5, RECONNECT_WAIT_S_MAX)
        await discarding
        self.client = client
        self.denied.clear()
        self.reconnects += 1
        self.connected.set()
        while self._backlog and self.connected.is_set():
            subject, data, headers, reply = self._backlog.popleft()
            self._backlog_bytes -= len(data)
            await self.send(subject, data, headers, reply)
        log.info("the bus is back", extra={"bus": self.address})
        for tell in list(self.on_found):
            try:
                await tell()
            except Exception:
                log.exception("a reconnect handler failed")

    async def _heartbeat(self) -> None:
        """Notice a server that is silent, and a client that ended without saying so."""
        while True:
            await asyncio.sleep(PING_S)
            if not self.connected.is_set():
                continue
            client = self.client
            try:
                await client.flush(int(2 * PING_S))
            except (library.Error, OSError):
                self._lost(client)

    async def _on_error(self, error: Exception) -> None:
        found = denied(str(error))
        if found is None:
            log.debug("nats: %s", error)
            return
        kind, subject = found
        if kind == "publish":
            hit = False
            for token, waiting in list(self.mailbox.items()):
                if waiting.subject.lower() == subject:
                    hit = True
                    self.mailbox.pop(token, None)
                    waiting.fail(not_allowed(waiting.subject, "publish to"))
            if hit:
                return
        if len(self.denied) > DENIED_MAX:
            self.denied.clear()
        verb = "publish to" if kind == "publish" else "subscribe to"
        self.denied[kind, subject] = not_allowed(subject, verb)
        log.warning("denied: may not %s %s", verb, subject)


async def _round_trip(client: Client, timeout_s: float) -> None:
    """Return when the server has read everything written so far, and what it says to that is here.

    Twice, since the library writes a PING at once but gathers what goes before it: the first PING
    may overtake a SUB, and the subscription was then not active yet; the second one cannot.
    """
    for _ in range(2):
        await client.flush(timeout_s)  # type: ignore[arg-type]
