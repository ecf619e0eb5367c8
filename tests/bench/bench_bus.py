"""Rates of the bus on a real server, with floors: `python tests/bench/bench_bus.py`.

The floors are at most half of what two cores shared with other work gave; falling below one is exit code 1.
Raw figures (nats-py without us) stand beside ours, so that a slow machine is told from slow code.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import nats

from penstock.bus import ConsumerSpec, Delivery, Received, Stored, StreamSpec
from penstock.bus.nats import NatsBus, connect
from penstock.testing.servers import NatsServer
from penstock.units import GIB

NUMBER = 30_000
DATA = b"x" * 280


class Table:
    """What was measured."""

    def __init__(self) -> None:
        self.failed = False

    def add(self, what: str, number: int, seconds: float, floor: float = 0) -> None:
        """Print one rate."""
        rate = number / seconds
        low = rate < floor
        self.failed = self.failed or low
        note = f"floor {floor:>9,.0f}{'  TOO SLOW' if low else ''}" if floor else ""
        print(f"{what:<52} {rate:>10,.0f}/s  {note}")


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    """Return how long `work` takes, seconds."""
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


def stream(name: str, **changes: object) -> StreamSpec:
    """Return a large stream on `<name>.>`."""
    values = {"name": name, "subjects": (f"{name}.>",), "max_bytes": GIB, **changes}
    return StreamSpec(**values)  # type: ignore[arg-type]


async def core(table: Table, url: str) -> None:
    """Core NATS: one sender, one receiver."""
    done = asyncio.Event()
    count = 0

    async def native(_: object) -> None:
        nonlocal count
        count += 1
        if count == NUMBER:
            done.set()

    one, two = await nats.connect(url), await nats.connect(url)
    await two.subscribe("raw.core", cb=native, pending_msgs_limit=10**6)
    await two.flush()

    async def raw() -> None:
        for _ in range(NUMBER):
            await one.publish("raw.core", DATA)
        await done.wait()

    table.add("core callback, nats-py", NUMBER, await timed(raw))
    await one.close()
    await two.close()

    ours, theirs = await connect(url, name="a"), await connect(url, name="b")
    count = 0
    done.clear()

    async def hear(message: Received) -> None:
        await native(message)

    await theirs.subscribe("our.core", hear)

    async def run() -> None:
        for _ in range(NUMBER):
            await ours.publish("our.core", DATA)
        await done.wait()

    table.add("core callback, ours", NUMBER, await timed(run), 20_000)

    async def answer(message: Received) -> None:
        await theirs.publish(message.reply, b"")

    await theirs.serve("bench", {"bench.q": answer})

    async def ask() -> None:
        for _ in range(2000):
            await ours.request("bench.q", b"")

    table.add("request to a service, one at a time", 2000, await timed(ask), 500)
    await ours.close()
    await theirs.close()


async def raw_appends(url: str) -> float:
    """Return what nats-py's own publish with 64 in flight takes, seconds."""
    client = await nats.connect(url)
    jetstream = client.jetstream()
    gate = asyncio.Semaphore(64)

    async def one() -> None:
        async with gate:
            await jetstream.publish("async.raw", DATA)

    took = await timed(lambda: asyncio.gather(*(one() for _ in range(NUMBER))))
    await client.close()
    return took


async def appends(table: Table, bus: NatsBus, url: str) -> None:
    """Acknowledged appends."""
    await bus.ensure_stream(stream("async", persist_async=True))
    await bus.ensure_stream(stream("sync"))
    table.add("append, nats-py publish, 64 in flight, async store", NUMBER, await raw_appends(url))

    async def pipelined(subject: str, headers: bool) -> None:
        futures = [
            await bus.append_soon(subject, DATA, message_id=f"{subject}{n}" if headers else "")
            for n in range(NUMBER)
        ]
        await asyncio.gather(*futures)

    took = await timed(lambda: pipelined("async.a", False))
    table.add("append_soon, async store", NUMBER, took, 12_000)
    took = await timed(lambda: pipelined("async.b", True))
    table.add("append_soon with ids, async store", NUMBER, took, 9_000)
    took = await timed(lambda: pipelined("sync.a", True))
    table.add("append_soon with ids, fsync each", NUMBER, took, 1_000)

    async def sequential() -> None:
        for _ in range(1000):
            await bus.append("sync.b", DATA)

    table.add("append, one at a time, fsync each", 1000, await timed(sequential), 500)


async def reading(table: Table, bus: NatsBus) -> None:
    """Consuming, replaying, looking up."""
    done = asyncio.Event()
    count = 0

    async def take(delivery: Delivery) -> None:
        nonlocal count
        await delivery.ack()
        count += 1
        if count == NUMBER:
            done.set()

    for name, pinned in (("plain", False), ("pinned", True)):
        spec = ConsumerSpec("async", name, ("async.a",), pinned=pinned)
        count = 0
        done.clear()
        began = time.perf_counter()
        consumption = await bus.consume(spec, take, batch=1000)
        await done.wait()
        table.add(f"consume with ack, {name}", NUMBER, time.perf_counter() - began, 10_000)
        await consumption.close()

    seen: list[int] = []

    def note(stored: Stored) -> None:
        seen.append(stored.sequence)

    took = await timed(lambda: bus.replay("async", ["async.>"], note))
    table.add("replay", len(seen), took, 40_000)
    live = asyncio.Event()

    async def hear(stored: Stored) -> None:
        pass

    async def caught_up() -> None:
        live.set()

    async def follow() -> None:
        reader = await bus.follow("async", ["async.>"], hear, on_caught_up=caught_up)
        await live.wait()
        await reader.close()

    table.add("follow until caught up", len(seen), await timed(follow), 30_000)
    await bus.ensure_stream(stream("keys", max_msgs_per_subject=1, persist_async=True))
    keys = [f"keys.{n}" for n in range(5000)]
    await asyncio.gather(*[await bus.append_soon(key, DATA) for key in keys])
    took = await timed(lambda: bus.last_many("keys", keys))
    table.add("last_many", len(keys), took, 5_000)


async def main() -> int:
    """Measure everything; return the exit code."""
    table = Table()
    with tempfile.TemporaryDirectory() as directory:
        server = NatsServer(Path(directory) / "nats")
        server.start()
        try:
            await core(table, server.url)
            bus = await connect(server.url, name="bench", timeout_s=60)
            await appends(table, bus, server.url)
            await reading(table, bus)
            await bus.close()
        finally:
            server.stop()
    return int(table.failed)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
