"""Readers of a stream that are slower than the server: they are told the whole story."""

import asyncio
import shutil
import time
from pathlib import Path

import pytest
from tests.contract.bus_conformance import plain

from penstock.bus import Stored
from penstock.bus.nats import NatsBus, connect, following, pulling
from penstock.bus.topology import ensure
from penstock.contracts.subjects import Subjects
from penstock.errors import BusUnavailable
from penstock.testing.servers import NatsServer
from penstock.units import MIB

pytestmark = pytest.mark.server
COUNT = 2_000
DATA = b"x" * 65_536
SLOW_S = 0.001
WAIT_S = 30.0
QUEUE_MAX = 500


@pytest.fixture(params=[pulling.REQUEST_BYTES_MAX, 1 << 30], ids=["bounded", "cut off"])
def request_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bound what is under way, or have the server hang up on a slow consumer."""
    monkeypatch.setattr(pulling, "REQUEST_BYTES_MAX", request.param)


@pytest.fixture
async def stream(
    bus: NatsBus, names: Subjects, request_bytes: None, monkeypatch: pytest.MonkeyPatch
) -> str:
    monkeypatch.setattr(following, "HEARTBEAT_S", 0.1)  # the server's least
    spec = plain(names, max_bytes=256 * MIB)
    await bus.ensure_stream(spec)
    futures = [await bus.append_soon(f"{names.workspace}.s.a", DATA) for _ in range(COUNT)]
    for future in futures:
        await future
    return spec.name


async def test_a_slow_replay_hands_over_everything(bus: NatsBus, stream: str) -> None:
    found: list[int] = []

    def take(stored: Stored) -> None:
        time.sleep(SLOW_S)  # holds up the loop, as decoding large messages does
        found.append(stored.sequence)

    assert await bus.replay(stream, [], take) == COUNT
    assert found == list(range(1, COUNT + 1))


async def test_a_slow_follower_is_caught_up_when_it_has_everything(
    bus: NatsBus, stream: str
) -> None:
    queue: asyncio.Queue[Stored | None] = asyncio.Queue(QUEUE_MAX)

    async def caught_up() -> None:
        await queue.put(None)

    reader = await bus.follow(stream, [], queue.put, on_caught_up=caught_up)
    found: list[int] = []
    async with asyncio.timeout(WAIT_S):
        while (stored := await queue.get()) is not None:
            time.sleep(SLOW_S)  # noqa: ASYNC251 - holds up the loop, as decoding large messages does
            found.append(stored.sequence)
    assert found == list(range(1, COUNT + 1))
    await reader.close()


async def test_a_server_that_lost_its_disk_gets_its_streams_again_and_readers_begin_anew(
    tmp_path: Path, names: Subjects
) -> None:
    server = NatsServer(tmp_path, max_file_bytes=1 << 40)
    server.start()
    service = await connect(server.url, name="service")
    await ensure(service, names, ("events",))
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def hear(stored: Stored) -> None:
        heard.put_nowait(stored.data)

    reader = await service.follow(names.stream("events"), [names.events()], hear)
    subject = names.trigger_event("t", "ticked")
    for number in range(3):
        await service.append(subject, b"%d" % number)
    assert [await asyncio.wait_for(heard.get(), WAIT_S) for _ in range(3)] == [b"0", b"1", b"2"]

    server.kill()
    shutil.rmtree(tmp_path / "store")
    server.start()
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                await service.append(subject, b"after")
                break
            except BusUnavailable:  # the service is just making its stream again
                await asyncio.sleep(0.05)
        assert await heard.get() == b"after"
    await reader.close()
    await service.close()
    server.stop()
