"""The bus in memory keeps every promise of the port."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable

import pytest
from tests.contract.bus_conformance import DENIED_PUBLISH, DENIED_SUBSCRIBE, WAIT_S
from tests.contract.bus_consume_cases import ConsumeCases, PinnedCases
from tests.contract.bus_core_cases import CoreCases
from tests.contract.bus_fault_cases import FaultCases
from tests.contract.bus_stream_cases import StreamCases

from penstock.bus import Bus
from penstock.bus.memory import ManualClock, MemoryBus, MemoryServer
from penstock.contracts.subjects import Subjects

STEP_S = 0.05


class MemoryRig:
    """A server whose clock only moves when a test waits."""

    def __init__(self, names: Subjects) -> None:
        self.names = names
        self.clock = ManualClock()
        self.server = MemoryServer(self.clock)
        self.buses: list[MemoryBus] = []
        self.moving = False

    async def connect(self, name: str = "test") -> MemoryBus:
        bus = await self.server.connect(name)
        self.buses.append(bus)
        return bus

    async def limited(self) -> MemoryBus:
        bus = await self.server.connect(
            "limited", deny_publish=DENIED_PUBLISH, deny_subscribe=DENIED_SUBSCRIBE
        )
        self.buses.append(bus)
        return bus

    async def kill(self) -> None:
        self.server.stop()

    async def start(self) -> None:
        await self.server.start()

    async def crash(self, bus: Bus) -> None:
        assert isinstance(bus, MemoryBus)
        self.server.crash(bus)

    def now(self) -> float:
        return self.clock.now()

    async def wait(self, awaitable: Awaitable[object], within_s: float = WAIT_S) -> None:
        waiting = asyncio.ensure_future(awaitable)
        until = self.now() + within_s
        await self._advance(0)
        while not waiting.done() and self.now() < until:
            await self._advance(STEP_S)
        assert waiting.done(), f"not within {within_s:g} s"
        await waiting

    async def pass_time(self, seconds: float) -> None:
        if self.moving:  # called by a handler: the test moves the clock
            await self.buses[0].sleep(seconds)
        else:
            await self._advance(seconds)

    async def _advance(self, seconds: float) -> None:
        self.moving = True
        await self.server.advance(seconds)
        self.moving = False


@pytest.fixture
async def rig(names: Subjects) -> AsyncIterator[MemoryRig]:
    logging.getLogger("penstock.bus").setLevel(logging.CRITICAL)
    rig = MemoryRig(names)
    yield rig
    if not rig.server.up:
        await rig.server.start()
    for bus in rig.buses:
        await bus.close()


class TestCore(CoreCases):
    """Core NATS in memory."""


class TestStreams(StreamCases):
    """Streams in memory."""


class TestConsuming(ConsumeCases):
    """Consumers in memory."""


class TestPinned(PinnedCases):
    """Pinned consumers in memory."""


class TestFaults(FaultCases):
    """A server in memory that comes and goes."""
