"""How late schedules fire: from the due moment to the planner's hands, and what that costs at least.

    python tests/bench/bench_trigger.py [--seconds 20] [--schedules 1 100]

All schedules of a row are due at the same moments, once a second: the hardest case. The floor is what any
implementation with one durable decision needs: woken by the event loop at that moment, one append
that is on the disk, one publish. Two trigger processes run; the planner and this program share
their cores.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from statistics import quantiles

from penstock.bus.nats import NatsBus, connect
from penstock.bus.topology import ensure
from penstock.contracts.codec import encoded
from penstock.contracts.schedules import Schedule, ScheduleCommand
from penstock.contracts.subjects import Subjects
from penstock.testing.fleet import Fleet
from penstock.testing.planner import RecordingPlanner
from penstock.testing.servers import NatsServer
from penstock_trigger.main import STREAMS
from penstock_trigger.rules import moment_of
from penstock_trigger.ticks import rfc3339


def row(what: str, late_s: list[float]) -> None:
    """Print one line of the table."""
    ms = sorted(1000 * late for late in late_s)
    cuts = quantiles(ms, n=100) if len(ms) > 1 else ms * 99
    print(f"{what:<34} {len(ms):>7} {cuts[49]:>9.2f} {cuts[98]:>9.2f} {ms[-1]:>9.2f}")


async def floor(bus: NatsBus, names: Subjects, seconds: int) -> list[float]:
    """Return the lateness of a wake-up, one durable append and one publish."""
    arrived: asyncio.Queue[float] = asyncio.Queue()

    async def take(message: object) -> None:
        arrived.put_nowait(time.time())

    subject = f"{names.workspace}.bench"
    subscription = await bus.subscribe(subject, take)
    late: list[float] = []
    for _ in range(seconds):
        due = float(int(time.time()) + 1)
        await asyncio.sleep(due - time.time())
        await bus.append(names.key("cursors", "floor"), b"x" * 200)
        await bus.publish(subject, b"x" * 200)
        late.append(await arrived.get() - due)
    await subscription.close()
    return late


async def fired(url: str, folder: Path, count: int, seconds: int) -> list[float]:
    """Return the lateness of every request of `count` schedules that are due together."""
    names = Subjects(f"w{count}")
    bus = await connect(url, name="bench")
    await ensure(bus, names, STREAMS)
    planner = RecordingPlanner(bus, names)
    await planner.start()
    with Fleet(folder, bus=url, store="", workspace=names.workspace) as fleet:
        for _ in range(2):
            await asyncio.to_thread(fleet.start, "trigger")
        start = int(time.time()) + 3 + count // 50
        for number in range(count):
            wish = Schedule(
                name=f"s{number}",
                pipeline="p",
                every=1,
                start=rfc3339(start),
                end=rfc3339(start + seconds - 1),
            )
            command = ScheduleCommand(schedule=wish)
            await bus.request(names.query("schedule.create"), encoded(command))
        async with asyncio.timeout(seconds + 120):
            while len(planner.runs) < count * seconds:  # noqa: ASYNC110 - nothing to wait for is cheaper
                await asyncio.sleep(0.2)
    late = []
    for at, request in planner.requests:
        key = request.idempotency_key.rpartition("/")[2]
        late.append(at - moment_of(key, "key"))
    copies = len(planner.requests) - len(planner.runs)
    if copies:
        print(f"({copies} copies)")
    await planner.stop()
    await bus.close()
    return late


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="How late schedules fire.")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--schedules", type=int, nargs="+", default=[1, 100])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        server = NatsServer(Path(place) / "nats", max_file_bytes=1024**4)
        server.start()
        try:
            print(f"{'late, ms':<34} {'firings':>7} {'p50':>9} {'p99':>9} {'max':>9}")
            bus = await connect(server.url, name="floor")
            await ensure(bus, Subjects("floor"), ("cursors",))
            row(
                "floor: wake, append, publish", await floor(bus, Subjects("floor"), options.seconds)
            )
            await bus.close()
            for count in options.schedules:
                folder = Path(place) / f"fleet{count}"
                late = await fired(server.url, folder, count, options.seconds)
                row(f"{count} schedule(s), 2 replicas", late)
        finally:
            server.stop()


if __name__ == "__main__":
    asyncio.run(main())
