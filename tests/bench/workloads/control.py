"""The control plane with an executor that runs nothing: rates, what a step costs, takeovers."""

import asyncio
import json
from pathlib import Path

from tests.bench.bench import Bench, scaled, times
from tests.bench.null_runs import (
    NullRun,
    appends_of,
    fan_of,
    hops_of,
    planned,
    planned_chain,
    planned_fan,
    with_bus,
)
from tests.bench.pipelines import WorkLost
from tests.bench.registry import Row, Samples, at_least, at_most, workload
from tests.bench.stacks import control_plane

from penstock.bus import Stored
from penstock.bus.nats import NatsBus
from penstock.contracts.codec import encoded
from penstock.contracts.subjects import Subjects
from penstock.testing.fleet import Fleet
from penstock.units import KIB

APPENDS = "the same messages appended to the same kinds of streams, pipelined"
CHAIN = 50
HUGE = 100_000
SIZES = (100, 1_000, 10_000, HUGE)
PARTITION = 7


@workload("null-10000", "steps/s", floor=APPENDS, bound=at_least(3000, "ours"))
def null_10000(bench: Bench) -> Samples:
    """A fan-out of 10,000 steps, everything that must be durable fsynced."""
    with control_plane(bench.folder()) as fleet:
        fan_of(fleet, 1000)
        seconds = bench.paired(
            lambda: fan_of(fleet, 10_000),
            lambda: appends_of(fleet, 10_000),
            rounds=3,
            warm=False,
        )
    return times(10_000, seconds)


@workload("null-10000-reuse", "steps/s", floor=APPENDS)
def null_10000_reuse(bench: Bench) -> Samples:
    """The same with reuse: every step gets a fingerprint and is looked up."""
    with control_plane(bench.folder()) as fleet:
        fan_of(fleet, 1000, "use")
        seconds = bench.paired(
            lambda: fan_of(fleet, 10_000, "use"),
            lambda: appends_of(fleet, 10_000),
            rounds=2,
            warm=False,
        )
    return times(10_000, seconds)


@workload("hop", "ms", floor="three acknowledged appends, one after the other")
def hop(bench: Bench) -> Samples:
    """One hop of a chain: result in, commit, next work out."""
    with control_plane(bench.folder()) as fleet:

        def ours() -> float:
            return with_bus(
                fleet.bus, lambda bus, names: NullRun(bus, names, planned_chain(CHAIN)).seconds()
            )

        return scaled(bench.paired(ours, lambda: hops_of(fleet, CHAIN)), 1000 / CHAIN)


@workload(
    "null-100000",
    "",
    Row("null-100000", "steps/s", APPENDS),
    Row("flat", "µs/step", "what a step costs in a run of 1,000", at_most(1.2)),
    Row("memory-per-step", "KiB", "a step of the plan, encoded", at_most(1, "ours")),
    heavy=True,
)
def null_100000(bench: Bench) -> dict[str, Samples]:
    """A fan-out of 100,000 steps; what a step costs there and in small runs, in time and memory."""
    with control_plane(bench.folder()) as fleet:
        pid = fleet.members["scheduler-1"].process.pid
        cost: dict[int, list[float]] = {}
        fan_of(fleet, 1000)
        before = memory_kib(pid, "VmRSS")
        for size in SIZES:
            rounds = max(1, min(5, 10_000 // size))
            cost[size] = [fan_of(fleet, size) / size * 1e6 for _ in range(rounds)]
        grown = memory_kib(pid, "VmHWM") - before
        floor = appends_of(fleet, 10_000) / 10_000
    step = len(encoded(planned(0))) / KIB
    return {
        "null-100000": Samples([1e6 / value for value in cost[HUGE]], [1 / floor]),
        "flat": Samples(cost[HUGE], cost[1000], {f"us_per_step_{n}": cost[n] for n in SIZES}),
        "memory-per-step": Samples([grown / HUGE], [step], {"rss_before_kib": before}),
    }


@workload(
    "takeover-100000",
    "s",
    floor="reading the same log from the bus, once",
    bound=at_most(3, "ours"),
    heavy=True,
)
def takeover(bench: Bench) -> Samples:
    """From the owner's SIGKILL amid a run of 100,000 steps to the next owner's first event."""
    with control_plane(bench.folder(), schedulers=2) as fleet:
        taken, read = with_bus(fleet.bus, lambda bus, names: taken_over(fleet, bus, names))
    return Samples([taken], [read])


@workload("two-schedulers", "steps/s", floor="one scheduler, the same sixteen runs")
def two_schedulers(bench: Bench) -> Samples:
    """Sixteen runs at once, one in each partition, 10,000 steps together."""
    rates: dict[int, list[float]] = {}
    for count in (2, 1):
        with control_plane(bench.folder(), schedulers=count) as fleet:
            sixteen(fleet, 10)
            rates[count] = [10_000 / sixteen(fleet, 625) for _ in range(bench.rounds(3))]
    return Samples(rates[2], rates[1])


def sixteen(fleet: Fleet, steps: int) -> float:
    """Return the seconds of a run of so many steps in each partition, all at once."""

    async def work(bus: NatsBus, names: Subjects) -> float:
        runs = [NullRun(bus, names, planned_fan(steps), partition=p) for p in range(16)]
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.gather(*(run.seconds() for run in runs))
        return loop.time() - began

    return with_bus(fleet.bus, work)


async def taken_over(fleet: Fleet, bus: NatsBus, names: Subjects) -> tuple[float, float]:
    """Kill the owner amid a run; return the seconds to the next owner's first event, and to read the log."""
    run = NullRun(bus, names, planned_fan(HUGE), partition=PARTITION)
    loop = asyncio.get_running_loop()
    count, killed_at, first = 0, 0.0, loop.create_future()
    amid = asyncio.Event()

    async def take(stored: Stored) -> None:
        nonlocal count
        count += 1
        if count > HUGE // 2:
            amid.set()
        # What the killed owner had told is in the stream before the next one begins its term.
        if killed_at and stored.at > killed_at and not first.done():
            first.set_result(loop.time())

    follower = await bus.follow(names.stream("events"), [names.run_events(run.id)], take)
    async with run.ending() as over, asyncio.timeout(500):
        await run.give()
        await amid.wait()
        owner = await owner_of(bus, names)
        await asyncio.to_thread(fleet.kill, owner)
        began = loop.time()
        log: list[int] = []
        subject = names.runlog(PARTITION)
        await bus.replay(names.stream("runs"), [subject], lambda s: log.append(s.sequence))
        read = loop.time() - began
        killed_at = await told_by(bus, names)
        taken = await first - began
        await over.wait()
    await follower.close()
    await run.check()
    if await owner_of(bus, names) == owner:
        raise WorkLost(f"{owner} was killed and is still the owner")
    return taken, read


async def owner_of(bus: NatsBus, names: Subjects) -> str:
    """Return the scheduler that wrote last that the partition is its own."""
    own = await bus.last(names.stream("runs"), names.own(PARTITION))
    assert own is not None
    return str(json.loads(own.data)["instance"])


async def told_by(bus: NatsBus, names: Subjects) -> float:
    """Return when the last event that is stored now was stored, by the server's clock."""
    last = await bus.last(names.stream("events"), names.events())
    assert last is not None
    return last.at


def memory_kib(pid: int, what: str) -> int:
    """Return a line of /proc/<pid>/status in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1])
    raise WorkLost(f"no {what} of {pid}")
