"""A TCP proxy that misbehaves on demand: the network between a service and the broker or the store.

pass       as if it were not there
reset      connections end with RST, and so do new ones
blackhole  connections stay and nothing arrives, in neither direction; new ones are accepted
half-up    nothing arrives at the server; what it says arrives
half-down  nothing arrives at the client
delay      everything arrives DELAY_S late
slow       SLOW_BYTES_S bytes per second and direction
truncate   after TRUNCATE_BYTES more bytes of a direction: RST in the middle of a message
"""

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass, field
from typing import Literal, Self, get_args

Mode = Literal["pass", "reset", "blackhole", "half-up", "half-down", "delay", "slow", "truncate"]
MODES: tuple[Mode, ...] = get_args(Mode)
DELAY_S = 0.2
SLOW_BYTES_S = 32 * 1024
TRUNCATE_BYTES = 700
CHUNK_BYTES = 64 * 1024
NO_LINGER = struct.pack("ii", 1, 0)


@dataclass(eq=False)
class Link:
    """One connection through the proxy."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    moved: dict[str, int] = field(default_factory=lambda: {"up": 0, "down": 0})

    def reset(self) -> None:
        """End both sides at once, with RST."""
        for writer in filter(None, (self.client, self.server)):
            raw = writer.get_extra_info("socket")
            with contextlib.suppress(OSError, AttributeError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            writer.transport.abort()


class Proxy:
    """Stands before one server; a service is told the proxy's address instead of the server's."""

    def __init__(self, port_to: int) -> None:
        self.port_to = port_to
        self.port = 0
        self.mode: Mode = "pass"
        self.hits = 0
        """Connections and chunks that met the fault of now: 0 means that it harmed nobody."""
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._on_client, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *of_error: object) -> None:
        assert self._server is not None
        self._server.close()
        self.set("reset")
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def set(self, mode: Mode) -> None:
        """Behave like this from now on, to old connections and new ones."""
        self.mode, self.hits = mode, 0
        for link in self._links:
            link.moved = {"up": 0, "down": 0}
            if mode == "reset":
                self.hits += 1
                link.reset()
        self._changed.set()
        self._changed = asyncio.Event()

    async def _on_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(writer)
        if self.mode == "reset":
            self.hits += 1
            link.reset()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._links.add(link)
        try:
            await self._carry(link, reader)
        except (OSError, asyncio.CancelledError):
            pass  # one side has gone, or the proxy ends: the other side is let go below
        finally:
            link.reset()
            self._links.discard(link)
            self._tasks.discard(task)

    async def _carry(self, link: Link, reader: asyncio.StreamReader) -> None:
        await self._through(link, "up", 0)
        answers, link.server = await asyncio.open_connection("127.0.0.1", self.port_to)
        ways = [
            asyncio.ensure_future(self._pump(link, "up", reader, link.server)),
            asyncio.ensure_future(self._pump(link, "down", answers, link.client)),
        ]
        try:
            await asyncio.gather(*ways)
        finally:
            for way in ways:
                way.cancel()

    async def _pump(
        self, link: Link, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(CHUNK_BYTES):
            await self._through(link, way, len(data))
            if self.mode == "truncate" and link.moved[way] + len(data) > TRUNCATE_BYTES:
                self.hits += 1
                writer.write(data[: max(0, TRUNCATE_BYTES - link.moved[way])])
                await asyncio.sleep(0)
                raise ConnectionResetError
            link.moved[way] += len(data)
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    async def _through(self, link: Link, way: str, size: int) -> None:
        """Return when a chunk may go on."""
        while self.mode in ("blackhole", f"half-{way}"):
            self.hits += 1
            await self._changed.wait()
        if self.mode == "delay":
            self.hits += 1
            await asyncio.sleep(DELAY_S)
        elif self.mode == "slow":
            self.hits += 1
            await asyncio.sleep(size / SLOW_BYTES_S)
