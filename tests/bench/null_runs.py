"""Runs of the control plane alone: plans put where a planner puts them, ends told by events, nothing lost."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from tests.bench.pipelines import WorkLost

from penstock.bus import Stored, StreamSpec
from penstock.bus.nats import NatsBus, connect
from penstock.bus.topology import ensure, streams
from penstock.contracts.codec import encoded
from penstock.contracts.plans import Bound, PlanHead, PlannedStep, PlanPart
from penstock.contracts.requests import Reuse
from penstock.contracts.subjects import Subjects
from penstock.contracts.work import AttemptStarted, AttemptSucceeded, WorkItem
from penstock.ids import partition_of, run_id
from penstock.testing.fleet import Fleet
from penstock.units import GIB, Seconds

PART_STEPS = 500
STREAMS = ("inbox", "runs", "events", "work")
ENDS = ("succeeded", "failed", "cancelled")
EVENTS_PER_STEP = 3
"""queued, started, succeeded."""

_folds = itertools.count()
T = TypeVar("T")


def with_bus(url: str, work: Callable[[NatsBus, Subjects], Coroutine[Any, Any, T]]) -> T:
    """Connect, make sure that the streams are there, and run `work`."""

    async def whole() -> T:
        bus, names = await connect(url, name="bench", timeout_s=60), Subjects("b")
        await ensure(bus, names, STREAMS)
        try:
            return await work(bus, names)
        finally:
            await bus.close()

    return asyncio.run(whole())


def fan_of(fleet: Fleet, steps: int, reuse: Reuse = "off") -> float:
    """Return the seconds of a fan-out of so many steps."""
    return with_bus(
        fleet.bus, lambda bus, names: NullRun(bus, names, planned_fan(steps), reuse).seconds()
    )


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


def planned_fan(count: int) -> list[PlannedStep]:
    """Return steps that know nothing of each other."""
    return [planned(number) for number in range(count)]


def planned_chain(count: int) -> list[PlannedStep]:
    """Return steps one after the other."""
    return [planned(n, (f"s{n - 1:05}",) if n else ()) for n in range(count)]


class NullRun:
    """One run, from its plan to its last event."""

    def __init__(
        self,
        bus: NatsBus,
        names: Subjects,
        steps: list[PlannedStep],
        reuse: Reuse = "off",
        partition: int | None = None,
    ) -> None:
        self.bus, self.names = bus, names
        self.id = next(
            name
            for n in itertools.count()
            if (name := run_id(Seconds(time.time()), str(time.perf_counter_ns()), str(n)))
            and partition in (None, partition_of(name))
        )
        head = PlanHead(run=self.id, pipeline="bench", reuse=reuse)
        chunks = [steps[n : n + PART_STEPS] for n in range(0, len(steps), PART_STEPS)]
        self.count = len(steps)
        self.parts = [
            encoded(PlanPart(head=head, part=part, parts=len(chunks), steps=tuple(chunk)))
            for part, chunk in enumerate(chunks)
        ]

    async def give(self) -> None:
        """Put the plan into its partition's inbox."""
        for part, data in enumerate(self.parts):
            subject = self.names.inbox(self.id, "planner", "plan", f"part{part}")
            await self.bus.append(subject, data, message_id=f"{self.id}.plan.{part}")

    @asynccontextmanager
    async def ending(self) -> AsyncIterator[asyncio.Event]:
        """Lend an event that is set when the run has ended."""
        over = asyncio.Event()

        async def take(stored: Stored) -> None:
            if stored.subject.rsplit(".", 1)[1] in ENDS:
                over.set()

        subject = f"{self.names.workspace}.event.bench.{self.id}.run.*"
        follower = await self.bus.follow(self.names.stream("events"), [subject], take)
        try:
            yield over
        finally:
            await follower.close()

    async def seconds(self) -> float:
        """Run, check that every event came once and in order, and return how long it took."""
        async with self.ending() as over:
            began = time.perf_counter()
            await self.give()
            async with asyncio.timeout(600):
                await over.wait()
            seconds = time.perf_counter() - began
        await self.check()
        return seconds

    async def check(self) -> None:
        """Read the run's whole history. Raises WorkLost unless it has all events, 1..n without a gap."""
        count = 0

        def tell(stored: Stored) -> None:
            nonlocal count
            count += 1
            if json.loads(stored.data)["seq"] != count:
                raise WorkLost(f"event {count} of {self.id} is {stored.data[:100]!r}")

        await self.bus.replay(self.names.stream("events"), [self.names.run_events(self.id)], tell)
        wanted = EVENTS_PER_STEP * self.count + 3
        if count != wanted:
            raise WorkLost(f"{count} events of {self.id}, not {wanted}")


def messages(steps: int) -> list[tuple[str, bytes]]:
    """Return what a step costs on the bus: (stream, bytes), `steps` times."""
    item = WorkItem(run="0" * 15, step="s00000", attempt=1, pipeline="bench", command="x" * 40)
    started = AttemptStarted(run="0" * 15, step="s00000", attempt=1, executor="null")
    ended = AttemptSucceeded(run="0" * 15, step="s00000", attempt=1, executor="null")
    event = b"e" * 230
    one = [("work", encoded(item)), ("inbox", encoded(started)), ("inbox", encoded(ended))]
    per_step = [*one, *[("events", event)] * EVENTS_PER_STEP]
    commits = [("runs", b"c" * 350 * 100)] * (steps // 100 + 1)  # about 350 bytes a step
    return per_step * steps + commits


@asynccontextmanager
async def floor_streams(bus: NatsBus) -> AsyncIterator[Subjects]:
    """Make streams like ours that nobody consumes."""
    names = Subjects("floor")
    for name in STREAMS:
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
    for name in STREAMS:
        await bus.purge(names.stream(name), f"floor.{name}")


def appends_of(fleet: Fleet, steps: int) -> float:
    """Return the seconds that appending a fan-out's messages takes, as quickly as they go out."""

    async def work(bus: NatsBus, _: Subjects) -> float:
        async with floor_streams(bus):
            began = time.perf_counter()
            futures = [
                await bus.append_soon(f"floor.{name}", data) for name, data in messages(steps)
            ]
            await asyncio.gather(*futures)
            return time.perf_counter() - began

    return with_bus(fleet.bus, work)


def hops_of(fleet: Fleet, hops: int) -> float:
    """Return the seconds that three appends one after the other take, `hops` times."""

    async def work(bus: NatsBus, _: Subjects) -> float:
        async with floor_streams(bus):
            began = time.perf_counter()
            for _hop in range(hops):
                await bus.append("floor.inbox", b"r" * 150)
                await bus.append("floor.runs", b"c" * 700)
                await bus.append("floor.work", b"w" * 200)
            return time.perf_counter() - began

    return with_bus(fleet.bus, work)
