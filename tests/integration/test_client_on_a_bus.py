"""The client on a bus of its own: what it keeps while servers go and come."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock import Client
from penstock.bus.nats import connect
from penstock.bus.topology import ensure
from penstock.contracts.codec import encoded
from penstock.contracts.events import RunEvent, StepEvent
from penstock.contracts.subjects import Subjects
from penstock.errors import BusUnavailable
from penstock.sdk.async_client import AsyncClient
from penstock.testing.servers import NatsServer, free_port

pytestmark = pytest.mark.server

NAMES = Subjects("alone")
RUN = "000000000000000"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    found = NatsServer(tmp_path)
    found.start()
    yield found
    found.stop()


async def publish(server: NatsServer, *sequences: int, end: bool = False) -> None:
    """Publish step events with these numbers, and the run's end."""
    bus = await connect(server.url, name="publisher")
    try:
        await ensure(bus, NAMES, ("events",))
        for seq in sequences:
            event = StepEvent(
                seq=seq, run=RUN, pipeline="p", step="s", what="queued", at=float(seq)
            )
            subject = NAMES.step_event("p", RUN, "s", "queued")
            await bus.append(subject, encoded(event), message_id=f"{RUN}.{seq}")
        if end:
            last = RunEvent(seq=99, run=RUN, pipeline="p", what="succeeded", at=99.0)
            await bus.append(NAMES.run_event("p", RUN, "succeeded"), encoded(last))
    finally:
        await bus.close()


async def test_following_goes_on_without_a_gap_when_the_server_is_killed(
    server: NatsServer,
) -> None:
    await publish(server, 1, 2, 3)
    seen = []
    async with AsyncClient(bus=server.url, workspace="alone") as client:
        async for event in client.events(RUN):
            seen.append(event.data["seq"])
            if seen == [1, 2, 3]:
                server.kill()
                server.restart()
                await publish(server, 4, 5, 6, end=True)
    assert seen == [1, 2, 3, 4, 5, 6, 99]


async def test_following_can_be_continued_after_a_sequence(server: NatsServer) -> None:
    await publish(server, 1, 2, 3, end=True)
    async with AsyncClient(bus=server.url, workspace="alone") as client:
        first = [event async for event in client.events(RUN)]
        rest = [event async for event in client.events(RUN, since=first[1].sequence)]
        stored = [event async for event in client.events(live=False)]
    assert [event.data["seq"] for event in rest] == [3, 99]
    assert [event.sequence for event in stored] == [event.sequence for event in first]


def test_leaving_an_iteration_early_leaves_nothing_behind(server: NatsServer) -> None:
    import asyncio

    asyncio.run(publish(server, 1, 2, 3))
    before = threading.active_count()
    with Client(bus=server.url, workspace="alone") as client:
        for event in client.events(RUN):
            assert event.data["seq"] == 1
            break
    assert threading.active_count() == before


async def test_without_services_the_error_says_which_one_is_missing(server: NatsServer) -> None:
    async with AsyncClient(bus=server.url, workspace="alone") as client:
        with pytest.raises(BusUnavailable, match="no scheduler is running on this bus") as caught:
            await client.runs()
    assert caught.value.code == "E_NO_SERVICE"


async def test_without_a_server_the_error_says_what_to_type() -> None:
    url = f"nats://127.0.0.1:{free_port()}"
    with pytest.raises(BusUnavailable) as caught:
        await AsyncClient(bus=url, workspace="alone").open()
    assert caught.value.code == "E_CONNECT"
    assert "penstock doctor" in caught.value.hint
