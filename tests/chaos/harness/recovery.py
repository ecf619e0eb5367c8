"""How long it takes until things go on: measured one kill at a time, told and not asserted.

`python -m tests.chaos.harness.recovery [--times 5]`
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.chaos.harness.graphs import Graph, Step
from tests.chaos.harness.stack import Stack
from tests.chaos.harness.workload import Workload

from penstock.bus import Stored

PROMISED = {
    "an executor dies → its attempt starts again": 45.0,
    "the owning scheduler dies → next commit": 5.0,
    "the broker is back → first commit": 0.0,
    "the store is back → first step ends": 0.0,
}
WAIT_S = 90.0


class Watch:
    """Sees every event as it comes, with our own time beside it."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, dict[str, Any]]] = []
        self.news = asyncio.Condition()

    async def take(self, stored: Stored) -> None:
        """Keep an event."""
        if ".event.trigger." in stored.subject:
            return
        async with self.news:
            self.seen.append((time.monotonic(), json.loads(stored.data)))
            self.news.notify_all()

    async def first(self, true: Callable[[dict[str, Any]], bool], after: float) -> float:
        """Return when the first such event after a moment came."""

        def found() -> float:
            return next((at for at, event in self.seen if at > after and true(event)), 0)

        async with asyncio.timeout(WAIT_S), self.news:
            await self.news.wait_for(lambda: found() > 0)
        return found()


def chain(chance: random.Random, length: int) -> Graph:
    """Return quick steps one after the other: something is always about to happen."""
    steps = [
        Step(f"s{n:03}", "quick", f"t{chance.getrandbits(48)}", (f"s{n - 1:03}",) if n else ())
        for n in range(length)
    ]
    return Graph(tuple(steps))


async def measured(root: Path, times: int) -> dict[str, list[float]]:
    """Kill one thing at a time and return the seconds of each recovery."""
    chance = random.Random(1)
    found: dict[str, list[float]] = {name: [] for name in PROMISED}
    async with Stack(root, store="minio") as stack:
        workload = Workload(stack, chance, clients=0, every_s=3600)
        await workload.start()
        watch = Watch()
        await workload.bus.follow(stack.names.stream("events"), [stack.names.events()], watch.take)
        try:
            for _ in range(times):
                await _executor(stack, workload, watch, chance, found)
                for name, kill in (
                    ("the owning scheduler dies → next commit", "scheduler"),
                    ("the broker is back → first commit", "broker"),
                    ("the store is back → first step ends", "store"),
                ):
                    found[name].append(await _under_a_chain(stack, workload, watch, chance, kill))
        finally:
            await workload.close()
    return found


async def _asked(workload: Workload, spec: dict[str, object]) -> str:
    names = workload.stack.names
    body = json.dumps({"spec": spec}).encode()
    answer = json.loads((await workload.bus.request(names.request("run"), body, timeout_s=20)).data)
    return str(answer["run"])


async def _executor(
    stack: Stack,
    workload: Workload,
    watch: Watch,
    chance: random.Random,
    found: dict[str, list[float]],
) -> None:
    """Kill the executor that runs a step; the step sleeps longer than it takes until we kill."""
    line = f"sleep 5 # {chance.random()}"
    run = await _asked(workload, {"name": "one", "steps": {"s": {"command": line}}})
    start: Callable[[dict[str, Any]], bool] = lambda e: e["run"] == run and e["what"] == "started"  # noqa: E731
    at = await watch.first(lambda e: start(e) and "step" in e, 0)
    executor = next(e["executor"] for _, e in watch.seen if start(e) and "step" in e)
    await asyncio.sleep(chance.uniform(0.2, 2))
    killed_at = time.monotonic()
    assert await stack.kill(executor)
    at = await watch.first(lambda e: start(e) and "step" in e, killed_at)
    found["an executor dies → its attempt starts again"].append(at - killed_at)
    await watch.first(lambda e: e["run"] == run and e["what"] == "succeeded" and "step" not in e, 0)


async def _under_a_chain(
    stack: Stack, workload: Workload, watch: Watch, chance: random.Random, component: str
) -> float:
    run = await _asked(workload, chain(chance, 100).spec(workload.where))
    await watch.first(lambda e: e["run"] == run and e.get("step") == "s010", 0)
    done: Callable[[dict[str, Any]], bool] = lambda e: (  # noqa: E731
        e["run"] == run and "step" in e and (component != "store" or e["what"] == "succeeded")
    )
    strike: Callable[[], Awaitable[object]]
    if component == "scheduler":
        owner = _owner(stack, run)
        strike = lambda: stack.kill(owner)  # noqa: E731
        began = time.monotonic()
        await strike()
    else:
        await stack.away(component, 3)
        began = time.monotonic()  # it answers again
    await asyncio.sleep(0.05)  # what was on its way before is not counted
    at = await watch.first(done, began + 0.05)
    await watch.first(lambda e: e["run"] == run and e["what"] == "succeeded" and "step" not in e, 0)
    return at - began


def _owner(stack: Stack, run: str) -> str:
    """Return the scheduler that took the run's partition over last, by the logs."""
    from penstock.ids import partition_of

    partition = partition_of(run)
    taken: list[tuple[str, str]] = []
    for name in stack.fleet.members:
        if name.startswith("scheduler"):
            lines = stack.fleet.members[name].log.read_text().splitlines()
            told = [json.loads(line) for line in lines if '"took over"' in line]
            taken += [(t["timestamp"], name) for t in told if t["partition"] == partition]
    return max(taken)[1]


def main(arguments: list[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="penstock-recovery-") as folder:
        found = asyncio.run(measured(Path(folder), given.times))
    print(f"| recovery | promised | median of {given.times} | worst |\n|---|---|---|---|")
    for name, seconds in found.items():
        promise = f"≤ {PROMISED[name]:g} s" if PROMISED[name] else "-"
        print(f"| {name} | {promise} | {statistics.median(seconds):.2f} s | {max(seconds):.2f} s |")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
