"""What a killed broker may forget, and what it may not."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from penstock.bus import Delivery
from penstock.bus.nats import NatsBus, connect
from penstock.bus.topology import ensure, work_consumer
from penstock.contracts.subjects import Subjects
from penstock.testing.servers import NATS_BINARY, NatsServer, binary

pytestmark = pytest.mark.server

NAMES = Subjects("broker")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    if binary(NATS_BINARY) is None:
        pytest.skip(f"{NATS_BINARY} is missing")
    server = NatsServer(tmp_path / "nats")
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def own_bus(server: NatsServer) -> AsyncIterator[NatsBus]:
    connection = await connect(server.url, name="broker")
    yield connection
    await connection.close()


async def test_work_offered_after_a_kill_of_the_broker_is_delivered(
    server: NatsServer, own_bus: NatsBus
) -> None:
    """With `persist_mode: async` the stream began again at 1 while its consumer stood at 20: deaf."""
    await ensure(own_bus, NAMES, ("work",))
    seen: set[str] = set()
    news = asyncio.Condition()

    async def take(delivery: Delivery) -> None:
        async with news:
            seen.add(delivery.message.subject)
            news.notify_all()

    async def offered(first: int, count: int) -> set[str]:
        subjects = [NAMES.work("default", f"r{n}", "s", 1) for n in range(first, first + count)]
        for subject in subjects:
            await own_bus.append(subject, b"work")
        return set(subjects)

    async def all_came(wanted: set[str]) -> None:
        async with asyncio.timeout(10), news:
            await news.wait_for(lambda: wanted <= seen)

    consumption = await own_bus.consume(work_consumer(NAMES, "default"), take)
    wanted: set[str] = set()
    for round_ in range(3):
        wanted |= await offered(round_ * 20, 20)
        await all_came(wanted)
        assert await asyncio.to_thread(server.kill) == -9
        await asyncio.to_thread(server.start)
    wanted |= await offered(60, 5)
    await all_came(wanted)
    await consumption.close()
