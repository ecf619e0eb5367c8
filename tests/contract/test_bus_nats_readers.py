"""Readers of a stream that are slower than the server: they are told the whole story."""

import asyncio
import time

import pytest
from tests.contract.bus_conformance import plain

from penstock.bus import Stored
from penstock.bus.nats import NatsBus, following, pulling
from penstock.contracts.subjects import Subjects
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
