"""Steps per second and time per hop, beside acked appends of the same bytes in the same run.

`python tests/bench/bench_scheduler.py [--sync always|2m] [--quick]` starts a nats-server, one
scheduler and one executor that runs nothing, each in a process of its own.

    fan-out   N steps without needs. Floor: one process appending the six messages of every step
              (work item, two reports, three events) and the run's commits, pipelined, all acked.
    reuse     The same once more with the reuse rules on: looks, claims and results kept.
    chain     50 steps in a line. Floor: three appends one after the other (report, commit, work item).
"""

import argparse
import asyncio
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from penstock.bus import Stored, StreamSpec
from penstock.bus.nats import NatsBus, connect
from penstock.bus.topology import ensure, streams
from penstock.contracts.codec import encoded
from penstock.contracts.plans import Bound, PlanHead, PlannedStep, PlanPart
from penstock.contracts.requests import Reuse
from penstock.contracts.subjects import Subjects
from penstock.contracts.work import AttemptStarted, AttemptSucceeded, WorkItem
from penstock.ids import run_id
from penstock.testing.fleet import Fleet
from penstock.testing.servers import NatsServer
from penstock.units import GIB, Seconds

REPORT = Path(".bench/latest.json")
CHAIN = 50
ENDS = ("succeeded", "failed", "cancelled")


_folds = itertools.count()


def planned(number: int, needs: tuple[str, ...] = ()) -> PlannedStep:
    """Return a step of the usual size that equals no other."""
    return PlannedStep(
        name=f"s{number:05}",
        command="python train.py --fold ${{inputs.fold}}",
        code="ab" * 32,
        code_digest="ab" * 32,
        inputs={"fold": Bound(value=next(_folds))},
        needs=needs,
    )


async def run(bus: NatsBus, names: Subjects, steps: list[PlannedStep], reuse: Reuse) -> float:
    """Submit a run and return the seconds from its plan's last part to its last event."""
    name = run_id(Seconds(time.time()), str(time.perf_counter_ns()))
    head = PlanHead(run=name, pipeline="bench", reuse=reuse)
    chunks = [steps[n : n + 500] for n in range(0, len(steps), 500)]
    over = asyncio.Event()

    async def take(stored: Stored) -> None:
        if stored.subject.rsplit(".", 1)[1] in ENDS:
            over.set()

    subject = f"{names.workspace}.event.bench.{name}.run.*"
    follower = await bus.follow(names.stream("events"), [subject], take)
    began = time.perf_counter()
    for number, chunk in enumerate(chunks):
        part = PlanPart(head=head, part=number, parts=len(chunks), steps=tuple(chunk))
        await bus.append(
            names.inbox(name, "planner", "plan", f"part{number}"),
            encoded(part),
            message_id=f"{name}.plan.{number}",
        )
    async with asyncio.timeout(600):
        await over.wait()
    seconds = time.perf_counter() - began
    await follower.close()
    count = 0

    def tell(stored: Stored) -> None:
        nonlocal count
        count += 1
        assert json.loads(stored.data)["seq"] == count

    await bus.replay(names.stream("events"), [names.run_events(name)], tell)
    assert count == 3 * len(steps) + 3, f"{count} events of {len(steps)} steps"
    return seconds


def messages(steps: int) -> list[tuple[str, bytes]]:
    """Return what a step costs on the bus: (stream, bytes), `steps` times."""
    item = WorkItem(run="0" * 15, step="s00000", attempt=1, pipeline="bench", command="x" * 40)
    started = AttemptStarted(run="0" * 15, step="s00000", attempt=1, executor="null")
    ended = AttemptSucceeded(run="0" * 15, step="s00000", attempt=1, executor="null")
    event = b"e" * 230
    one = [("work", encoded(item)), ("inbox", encoded(started)), ("inbox", encoded(ended))]
    per_step = [*one, ("events", event), ("events", event), ("events", event)]
    commits = [("runs", b"c" * 350 * 100)] * (steps // 100 + 1)  # about 350 bytes a step
    return per_step * steps + commits


@asynccontextmanager
async def floor_streams(bus: NatsBus) -> AsyncIterator[Subjects]:
    """Make streams like ours that nobody consumes."""
    names = Subjects("floor")
    for name in ("work", "inbox", "events", "runs"):
        like = streams(names)[name]
        await bus.ensure_stream(
            StreamSpec(
                name=like.name,
                subjects=(f"floor.{name}",),
                max_bytes=4 * GIB,
                persist_async=like.persist_async,
            )
        )
    yield names
    for name in ("work", "inbox", "events", "runs"):
        await bus.purge(names.stream(name), f"floor.{name}")


async def pipelined_floor(bus: NatsBus, steps: int) -> float:
    """Return the seconds that appending a fan-out's messages takes."""
    async with floor_streams(bus):
        began = time.perf_counter()
        futures = [await bus.append_soon(f"floor.{name}", data) for name, data in messages(steps)]
        await asyncio.gather(*futures)
        return time.perf_counter() - began


async def sequential_floor(bus: NatsBus, hops: int) -> float:
    """Return the seconds that three appends one after the other take, `hops` times."""
    async with floor_streams(bus):
        began = time.perf_counter()
        for _ in range(hops):
            await bus.append("floor.inbox", b"r" * 150)
            await bus.append("floor.runs", b"c" * 700)
            await bus.append("floor.work", b"w" * 200)
        return time.perf_counter() - began


async def measure(url: str, workspace: str, *, quick: bool) -> dict[str, dict[str, object]]:
    """Run every workload and return ours, floor and ratio."""
    bus, names = await connect(url, name="bench"), Subjects(workspace)
    await ensure(bus, names, ("inbox", "runs", "events", "work"))
    results: dict[str, dict[str, object]] = {}

    def note(workload: str, ours: float, floor: float, unit: str, *, more_is_better: bool) -> None:
        ratio = floor / ours if more_is_better else ours / floor
        results[workload] = {
            "ours": round(ours, 3),
            "floor": round(floor, 3),
            "ratio": round(ratio, 2),
            "unit": unit,
        }
        print(f"{workload:34} {ours:10.1f}  floor {floor:10.1f}  {ratio:5.2f}x  {unit}", flush=True)

    await run(bus, names, [planned(n) for n in range(100)], "off")  # warm
    for count in (100, 1_000) if quick else (100, 1_000, 10_000):
        steps = [planned(n) for n in range(count)]
        floor = await pipelined_floor(bus, count)
        for reuse in ("off", "use"):
            seconds = await run(bus, names, steps, reuse)
            what = "scheduler.fan_out" if reuse == "off" else "scheduler.fan_out_with_reuse"
            note(f"{what}.{count}", count / seconds, count / floor, "steps/s", more_is_better=True)
    chain = [planned(n, (f"s{n - 1:05}",) if n else ()) for n in range(CHAIN)]
    hops = [await run(bus, names, chain, "off") / CHAIN * 1e3 for _ in range(5)]
    floors = [await sequential_floor(bus, CHAIN) / CHAIN * 1e3 for _ in range(5)]
    note("scheduler.hop", min(hops), min(floors), "ms", more_is_better=False)
    await bus.close()
    return results


@contextmanager
def null_executor(url: str, workspace: str) -> Iterator[None]:
    """Run an executor that runs nothing, in a process of its own."""
    module = "penstock.testing.null_executor"
    process = subprocess.Popen(
        [sys.executable, "-m", module, "--bus", url, "--workspace", workspace]
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def kept(results: dict[str, dict[str, object]]) -> None:
    """Put results beside those of other benchmarks."""
    REPORT.parent.mkdir(exist_ok=True)
    known = json.loads(REPORT.read_text(encoding="utf-8")) if REPORT.exists() else {}
    REPORT.write_text(json.dumps({**known, **results}, indent=2, sort_keys=True), encoding="utf-8")


def main() -> int:
    """Start everything, measure, print, keep."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sync", default="always")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = NatsServer(Path(folder) / "nats", max_file_bytes=64 * GIB, sync=given.sync)
        server.start()
        try:
            with Fleet(Path(folder) / "fleet", bus=server.url, store="", workspace="b") as fleet:
                fleet.start("scheduler")
                with null_executor(server.url, "b"):
                    kept(asyncio.run(measure(server.url, "b", quick=given.quick)))
                print(fleet.tail("scheduler-1", 1500), file=sys.stderr)
        finally:
            server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
