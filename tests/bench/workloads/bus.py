"""Our bus beside nats-py without us, on a server that fsyncs before it acknowledges."""

import asyncio
from collections.abc import Awaitable, Callable

import nats
from tests.bench.bench import Bench
from tests.bench.registry import Row, Samples, workload
from tests.bench.stacks import bare_bus

from penstock.bus import ConsumerSpec, Delivery, Received, Stored, StreamSpec
from penstock.bus.nats import NatsBus, connect
from penstock.units import GIB

NUMBER = 20_000
DATA = b"x" * 280
CORE = "nats-py's own publish and callback"
APPENDS = "nats-py's own publish, 64 in flight"


@workload(
    "bus",
    "",
    Row("bus-core", "msg/s", CORE),
    Row("bus-append", "msg/s", APPENDS),
    Row("bus-append-ids", "msg/s", APPENDS),
    Row("bus-consume", "msg/s", CORE),
    Row("bus-consume-pinned", "msg/s", CORE),
    Row("bus-replay", "msg/s", CORE),
)
def bus(bench: Bench) -> dict[str, Samples]:
    """Rates of what the services do all day."""
    with bare_bus(bench.folder()) as server:
        rates = asyncio.run(measured(server.url))
    core, append = rates.pop("core"), rates.pop("append")
    floors = {"bus-append": append, "bus-append-ids": append}
    return {name: Samples([rate], [floors.get(name, core)]) for name, rate in rates.items()}


async def measured(url: str) -> dict[str, float]:
    """Return messages a second, floors among them."""
    ours = await connect(url, name="bench", timeout_s=60)
    for name in ("plain", "ours"):
        await ours.ensure_stream(
            StreamSpec(name=name, subjects=(f"{name}.>",), max_bytes=GIB, persist_async=True)
        )
    rates = {
        "core": await rate(lambda: raw_core(url)),
        "append": await rate(lambda: raw_appends(url)),
        "bus-core": await rate(lambda: our_core(url)),
        "bus-append": await rate(lambda: our_appends(ours, "ours.a", ids=False)),
        "bus-append-ids": await rate(lambda: our_appends(ours, "ours.b", ids=True)),
        "bus-consume": await rate(lambda: consumed(ours, "plain", pinned=False)),
        "bus-consume-pinned": await rate(lambda: consumed(ours, "pinned", pinned=True)),
        "bus-replay": await rate(lambda: replayed(ours)),
    }
    await ours.close()
    return rates


async def rate(work: Callable[[], Awaitable[object]]) -> float:
    """Return messages a second of work that moves NUMBER of them."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await work()
    return NUMBER / (loop.time() - began)


class Counted:
    """Says when NUMBER messages have come."""

    def __init__(self) -> None:
        self.count = 0
        self.done = asyncio.Event()

    async def take(self, _: object) -> None:
        """Count one."""
        self.count += 1
        if self.count == NUMBER:
            self.done.set()


async def raw_core(url: str) -> None:
    """Send and hear with nats-py."""
    one, two, counted = await nats.connect(url), await nats.connect(url), Counted()
    await two.subscribe("raw.core", cb=counted.take, pending_msgs_limit=10**6)
    await two.flush()
    for _ in range(NUMBER):
        await one.publish("raw.core", DATA)
    await counted.done.wait()
    await one.close()
    await two.close()


async def raw_appends(url: str) -> None:
    """Append with nats-py."""
    client = await nats.connect(url)
    stream = client.jetstream()
    gate = asyncio.Semaphore(64)

    async def one() -> None:
        async with gate:
            await stream.publish("plain.a", DATA)

    await asyncio.gather(*(one() for _ in range(NUMBER)))
    await client.close()


async def our_core(url: str) -> None:
    """Send and hear with our bus."""
    one, two = await connect(url, name="a"), await connect(url, name="b")
    counted = Counted()

    async def hear(message: Received) -> None:
        await counted.take(message)

    await two.subscribe("our.core", hear)
    for _ in range(NUMBER):
        await one.publish("our.core", DATA)
    await counted.done.wait()
    await one.close()
    await two.close()


async def our_appends(bus: NatsBus, subject: str, *, ids: bool) -> None:
    """Append with our bus."""
    futures = [
        await bus.append_soon(subject, DATA, message_id=f"{subject}{n}" if ids else "")
        for n in range(NUMBER)
    ]
    await asyncio.gather(*futures)


async def consumed(bus: NatsBus, name: str, *, pinned: bool) -> None:
    """Take in and acknowledge."""
    counted = Counted()

    async def take(delivery: Delivery) -> None:
        await delivery.ack()
        await counted.take(delivery)

    spec = ConsumerSpec("ours", name, ("ours.a",), pinned=pinned)
    consumption = await bus.consume(spec, take, batch=1000)
    await counted.done.wait()
    await consumption.close()


async def replayed(bus: NatsBus) -> None:
    """Read from the beginning."""
    seen: list[int] = []

    def note(stored: Stored) -> None:
        seen.append(stored.sequence)

    await bus.replay("ours", ["ours.a"], note)
    assert len(seen) == NUMBER, f"{len(seen)} of {NUMBER} came back"
