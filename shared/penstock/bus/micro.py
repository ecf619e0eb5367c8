"""Micro services for every adapter: endpoints with queue groups, found and counted with $SRV (ADR-32).

nats-py's own handles one request after the other; here up to IN_FLIGHT_MAX run side by side.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from penstock.bus import Headers, OnMessage, Received, Subscription
from penstock.bus._replies import answerable
from penstock.errors import PenstockError

log = logging.getLogger("penstock.bus")

IN_FLIGHT_MAX = 64
_TYPE = "io.nats.micro.v1."


class Line(Protocol):
    """What a service needs of a connection."""

    async def listen(self, subject: str, receive: OnMessage, queue: str = "") -> Subscription:
        """Call `receive` for each message, at once."""
        ...

    async def send(self, subject: str, data: bytes, headers: Headers | None = None) -> None:
        """Send and forget."""
        ...

    def spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run something that ends with the connection."""
        ...


class Endpoint:
    """One subject and its counters."""

    def __init__(self, name: str, subject: str, queue: str, handler: OnMessage) -> None:
        self.name = name
        self.subject = subject
        self.queue = queue
        self.handler = handler
        self.requests = 0
        self.errors = 0
        self.last_error = ""
        self.time_ns = 0


class Service:
    """A running micro service."""

    def __init__(
        self,
        line: Line,
        name: str,
        endpoints: Mapping[str, OnMessage],
        *,
        queue: str,
        version: str,
        metadata: Mapping[str, str],
    ) -> None:
        self.line = line
        self.name = name
        self.id = secrets.token_hex(11)
        self.version = version
        self.metadata = dict(metadata)
        self.started = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        self.endpoints = [
            Endpoint(_endpoint_name(subject), subject, queue or "q", handler)
            for subject, handler in endpoints.items()
        ]
        self.roots = {subject.partition(".")[0] for subject in endpoints}
        self._free = asyncio.Semaphore(IN_FLIGHT_MAX)
        self._tasks: set[asyncio.Task[None]] = set()
        self._listeners: list[Subscription] = []

    async def start(self) -> None:
        """Subscribe everything; active when this returns."""
        try:
            for endpoint in self.endpoints:
                receive = self._receiver(endpoint)
                self._listeners.append(
                    await self.line.listen(endpoint.subject, receive, endpoint.queue)
                )
            for verb, answer in (
                ("PING", self._ping),
                ("INFO", self._info),
                ("STATS", self._stats),
            ):
                for suffix in ("", f".{self.name}", f".{self.name}.{self.id}"):
                    receive = self._discovery(answer)
                    self._listeners.append(await self.line.listen(f"$SRV.{verb}{suffix}", receive))
        except PenstockError:
            await self.close()
            raise

    async def close(self) -> None:
        """Take no more requests; those begun are finished."""
        for listener in self._listeners:
            await listener.close()
        self._listeners.clear()
        tasks = {task for task in self._tasks if task is not asyncio.current_task()}
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=5)
            for task in late:
                task.cancel()

    def _receiver(self, endpoint: Endpoint) -> OnMessage:
        async def receive(message: Received) -> None:
            await self._free.acquire()
            task = self.line.spawn(self._handle(endpoint, message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return receive

    async def _handle(self, endpoint: Endpoint, message: Received) -> None:
        began = time.perf_counter_ns()
        endpoint.requests += 1
        try:
            await endpoint.handler(message)
        except Exception as error:
            endpoint.errors += 1
            endpoint.last_error = str(error)
            await self._answer_error(message, error)
        finally:
            endpoint.time_ns += time.perf_counter_ns() - began
            self._free.release()

    async def _answer_error(self, message: Received, error: Exception) -> None:
        if isinstance(error, PenstockError):
            known = error
        else:
            log.error("endpoint %s failed", message.subject, exc_info=error)
            known = PenstockError(f"{type(error).__name__}: {error}", where=message.subject)
        if not message.reply:
            return
        body = {
            "error": {
                "code": known.code,
                "message": known.message,
                "where": known.where,
                "hint": known.hint,
            }
        }
        headers = {
            "Nats-Service-Error": " ".join(known.message.split())[:500],
            "Nats-Service-Error-Code": known.code,
        }
        await self.line.send(message.reply, msgspec.json.encode(body), headers)

    def _discovery(self, answer: Callable[[], dict[str, Any]]) -> OnMessage:
        async def receive(message: Received) -> None:
            reply = answerable(message.subject, message.reply, *self.roots)
            if reply:
                await self.line.send(reply, msgspec.json.encode(answer()))

        return receive

    def _identity(self, kind: str) -> dict[str, Any]:
        return {
            "type": _TYPE + kind,
            "name": self.name,
            "id": self.id,
            "version": self.version,
            "metadata": self.metadata,
        }

    def _ping(self) -> dict[str, Any]:
        return self._identity("ping_response")

    def _info(self) -> dict[str, Any]:
        endpoints = [
            {"name": e.name, "subject": e.subject, "queue_group": e.queue, "metadata": {}}
            for e in self.endpoints
        ]
        return {**self._identity("info_response"), "description": "", "endpoints": endpoints}

    def _stats(self) -> dict[str, Any]:
        endpoints = [
            {
                "name": e.name,
                "subject": e.subject,
                "queue_group": e.queue,
                "num_requests": e.requests,
                "num_errors": e.errors,
                "last_error": e.last_error,
                "processing_time": e.time_ns,
                "average_processing_time": e.time_ns // max(e.requests, 1),
            }
            for e in self.endpoints
        ]
        return {
            **self._identity("stats_response"),
            "started": self.started,
            "endpoints": endpoints,
        }


def _endpoint_name(subject: str) -> str:
    """Return an endpoint's name (letters, digits, '-' and '_') for its subject."""
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in subject).strip("-") or "all"
