"""What every adapter of the bus promises, as cases that each adapter's own test file runs.

A `Rig` is one server and the means to connect to it, to break it, and to let its time pass.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from penstock.bus import Bus, ConsumerSpec, StreamSpec
from penstock.contracts.subjects import Subjects

T = TypeVar("T")

WAIT_S = 10.0
DENIED_PUBLISH = ("*.secret.>", "$JS.API.STREAM.PURGE.>", "$JS.API.CONSUMER.MSG.NEXT.*.forbidden")
DENIED_SUBSCRIBE = ("*.secret.>",)


class Rig(Protocol):
    """One server."""

    names: Subjects

    async def connect(self, name: str = "test") -> Bus:
        """Return a connection that may do everything; closed after the test."""
        ...

    async def limited(self) -> Bus:
        """Return a connection that may not do what DENIED_PUBLISH and DENIED_SUBSCRIBE say."""
        ...

    async def kill(self) -> None:
        """End the server at once; what it has stored stays."""
        ...

    async def start(self) -> None:
        """Start the server again."""
        ...

    async def crash(self, bus: Bus) -> None:
        """End a connection as if its process had been killed."""
        ...

    def now(self) -> float:
        """Return the server's time, seconds since 1970."""
        ...

    async def wait(self, awaitable: Awaitable[object], within_s: float = WAIT_S) -> None:
        """Let time pass until `awaitable` is done; fail when it is not, within `within_s`."""
        ...

    async def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        ...


class Heard(Generic[T]):
    """A list that can be waited for."""

    def __init__(self) -> None:
        self.items: list[T] = []
        self._changed = asyncio.Event()

    def add(self, item: T) -> None:
        """Append an item."""
        self.items.append(item)
        self._changed.set()

    async def count(self, number: int) -> None:
        """Return when there are `number` items."""
        while len(self.items) < number:
            self._changed.clear()
            await self._changed.wait()

    async def until(self, true: Callable[[list[T]], bool]) -> None:
        """Return when `true` says so of the items."""
        while not true(self.items):
            self._changed.clear()
            await self._changed.wait()


def plain(names: Subjects, **changes: object) -> StreamSpec:
    """Return a small stream on `<workspace>.s.>`."""
    values: dict[str, object] = {
        "name": names.stream("s"),
        "subjects": (f"{names.workspace}.s.>",),
        "max_bytes": 16 * 1024 * 1024,
        "discard": "new",
    }
    return StreamSpec(**{**values, **changes})  # type: ignore[arg-type]


def queue(names: Subjects, **changes: object) -> StreamSpec:
    """Return a small work queue on `<workspace>.s.>`."""
    return plain(names, **{"retention": "workqueue", **changes})


def reader(names: Subjects, name: str = "c", **changes: object) -> ConsumerSpec:
    """Return a durable consumer of that stream."""
    values: dict[str, object] = {
        "stream": names.stream("s"),
        "name": name,
        "filter_subjects": (f"{names.workspace}.s.>",),
    }
    return ConsumerSpec(**{**values, **changes})  # type: ignore[arg-type]
