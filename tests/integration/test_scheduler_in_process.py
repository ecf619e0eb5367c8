"""The scheduler's shell in this process, on the bus in memory: what only an insider can provoke."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from penstock.bus import Stored
from penstock.bus.memory import MemoryBus, MemoryServer
from penstock.bus.topology import ensure
from penstock.contracts.codec import encoded
from penstock.contracts.inbox import CancelRun
from penstock.contracts.plans import PlanHead, PlannedStep, PlanPart
from penstock.contracts.queries import LatestEntry, ReuseEntry, RunSummary
from penstock.contracts.subjects import Subjects
from penstock.ids import partition_of, run_id
from penstock.runtime.logs import logger
from penstock.runtime.service import Context
from penstock.testing.null_executor import NullExecutor
from penstock.units import Seconds
from penstock_scheduler import lookups, partition, shell, tools
from penstock_scheduler.decide import LookedUp, handle
from penstock_scheduler.effects import LookUp
from penstock_scheduler.projection import Summaries
from penstock_scheduler.runlog import LIVE
from penstock_scheduler.settings import Settings
from penstock_scheduler.transitions import commit_of

WAIT_S = 30.0
NAMES = Subjects("w")


@pytest.fixture
async def bus() -> AsyncIterator[MemoryBus]:
    connection = await MemoryServer().connect("test")
    yield connection
    await connection.close()


@pytest.fixture
async def scheduler(
    bus: MemoryBus, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Context[Settings]]:
    monkeypatch.setattr(tools, "AGAIN_S", 0.01)
    monkeypatch.setattr(partition, "COMPACT_S", 0.05)
    context = Context(
        service="scheduler",
        instance="scheduler-1",
        settings=Settings(),
        bus=bus,
        names=NAMES,
        log=logger("scheduler", "scheduler-1", "critical"),
    )
    task = asyncio.create_task(shell.serve(context))
    executor_bus = await bus.server.connect("executor")
    await NullExecutor(executor_bus, NAMES).start()
    yield context
    context.stopping.set()
    await asyncio.wait_for(task, WAIT_S)
    await executor_bus.close()


async def submit(bus: MemoryBus, seed: str, *steps: PlannedStep, **head: Any) -> str:
    head = {"reuse": "off", **head}
    run = run_id(Seconds(time.time()), seed)
    part = PlanPart(head=PlanHead(run=run, pipeline="p", **head), steps=steps)
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                await bus.append(NAMES.inbox(run, "planner", "plan", "part0"), encoded(part))
            except Exception:
                await asyncio.sleep(0.01)
            else:
                return run


async def ended(bus: MemoryBus, run: str) -> str:
    """Return how a run ended."""
    subject = f"w.event.p.{run}.run.*"
    async with asyncio.timeout(WAIT_S):
        async for stored in bus.stored(NAMES.stream("events"), [subject]):
            what = stored.subject.rsplit(".", 1)[1]
            if what in ("succeeded", "failed", "cancelled"):
                return what
    raise AssertionError(run)


async def first(bus: MemoryBus, stream: str, subject: str) -> Stored:
    """Return the first message on a subject, once there is one."""
    async with asyncio.timeout(WAIT_S):
        async for stored in bus.stored(NAMES.stream(stream), [subject]):
            return stored
    raise AssertionError(subject)


async def test_a_message_that_breaks_a_decision_is_set_aside_and_everything_else_goes_on(
    bus: MemoryBus, scheduler: Context[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(turn: Any, message: Any) -> None:
        handle(turn, message)
        if isinstance(message, CancelRun) and message.who == "poison":
            raise AssertionError("a bug of ours")

    monkeypatch.setattr(partition, "handle", broken)
    run = await submit(bus, "1", PlannedStep(name="a", command="hang"))
    subject = NAMES.inbox(run, "planner", "cancel")
    await bus.append(subject, encoded(CancelRun(run=run, who="poison")))
    dead = await first(bus, "dead", NAMES.dead("inbox"))
    assert dead.headers["Penstock-Reason"] == "AssertionError: a bug of ours"
    await bus.append(subject, encoded(CancelRun(run=run, who="me")))
    assert await ended(bus, run) == "cancelled"
    assert await ended(bus, await submit(bus, "2", PlannedStep(name="a", command="true"))) == (
        "succeeded"
    )


@pytest.mark.parametrize("garbage", [b"[" * 5_000, b"x" * (1024 * 1024 - 20)])
async def test_garbage_however_deep_or_large_is_set_aside_and_everything_else_goes_on(
    bus: MemoryBus, scheduler: Context[Settings], garbage: bytes
) -> None:
    run = await submit(bus, "1", PlannedStep(name="a", command="hang"))
    subject = NAMES.inbox(run, "planner", "cancel")
    await bus.append(subject, garbage)
    dead = await first(bus, "dead", NAMES.dead("inbox"))
    assert garbage.startswith(dead.data)
    await bus.append(subject, encoded(CancelRun(run=run, who="me")))
    assert await ended(bus, run) == "cancelled"


async def test_what_an_insider_writes_into_log_and_story_stops_no_run(
    bus: MemoryBus, scheduler: Context[Settings]
) -> None:
    run = await submit(bus, "1", PlannedStep(name="a", command="hang"))
    await first(bus, "events", f"w.event.p.{run}.step.a.started")
    number = partition_of(run)
    await bus.append(NAMES.runlog(number), b"[" * 5_000)
    await bus.append(NAMES.run_event("p", run, "bogus"), b"\xff")
    await bus.append(NAMES.own(number), b"")  # now everybody is deposed, and must read all that
    subject = NAMES.inbox(run, "planner", "cancel")
    await bus.append(subject, encoded(CancelRun(run=run, who="me")))
    assert await ended(bus, run) == "cancelled"
    seqs = []
    async for stored in bus.stored(NAMES.stream("events"), [NAMES.run_events(run)]):
        if stored.data == b"\xff":
            continue
        event = json.loads(stored.data)
        seqs.append(event["seq"])
        if event["what"] == "cancelled" and "step" not in event:
            break
    assert seqs == list(range(1, len(seqs) + 1))


async def test_the_log_shrinks_to_one_message_that_says_that_nothing_is_live(
    bus: MemoryBus, scheduler: Context[Settings]
) -> None:
    steps = [PlannedStep(name=f"s{n}", command="true") for n in range(20)]
    run = await submit(bus, "1", *steps)
    assert await ended(bus, run) == "succeeded"
    runlog = NAMES.runlog(partition_of(run))
    async with asyncio.timeout(WAIT_S):
        async for stored in bus.stored(NAMES.stream("runs"), [runlog]):
            if stored.headers[LIVE] == "0":
                break
    left: list[Stored] = []
    async with asyncio.timeout(WAIT_S):
        while len(left) != 1:
            await asyncio.sleep(0.01)
            left.clear()
            await bus.replay(NAMES.stream("runs"), [runlog], left.append)
    assert (commit_of(left[0].data).transitions, commit_of(left[0].data).live) == ((), 0)


async def test_a_plan_that_comes_again_after_its_run_has_ended_is_not_run_again(
    bus: MemoryBus, scheduler: Context[Settings]
) -> None:
    step = PlannedStep(name="a", command="true")
    run = await submit(bus, "1", step)
    assert await ended(bus, run) == "succeeded"
    runlog = NAMES.runlog(partition_of(run))
    async with asyncio.timeout(WAIT_S):
        async for stored in bus.stored(NAMES.stream("runs"), [runlog]):
            if stored.headers[LIVE] == "0":
                break  # the run is forgotten
    before = await bus.last(NAMES.stream("events"), NAMES.run_events(run))
    part = PlanPart(head=PlanHead(run=run, pipeline="p", reuse="off"), steps=(step,))
    await bus.append(NAMES.inbox(run, "planner", "plan", "part0"), encoded(part))
    marker = await submit(bus, "2", step)
    assert await ended(bus, marker) == "succeeded"
    assert await bus.last(NAMES.stream("events"), NAMES.run_events(run)) == before


class Looking:
    """Look-ups without a scheduler around them."""

    def __init__(self, bus: MemoryBus) -> None:
        self.answers: asyncio.Queue[LookedUp] = asyncio.Queue()
        log = logger("scheduler", "x", "critical")
        self.rooms = lookups.LookUps(bus, NAMES, log, self.answers.put_nowait)

    async def look(self, **fields: Any) -> LookedUp:
        about = {"run": "r1", "step": "a", "look": 1, "fingerprint": "f", "latest": "p.a"}
        self.rooms.add(LookUp(**{**about, "claim": True, **fields}))
        return await asyncio.wait_for(self.answers.get(), WAIT_S)


@pytest.fixture
async def looking(bus: MemoryBus) -> AsyncIterator[Looking]:
    await ensure(bus, NAMES, ("reuse", "latest"))
    found = Looking(bus)
    task = asyncio.create_task(found.rooms.work())
    yield found
    task.cancel()
    await asyncio.wait({task})


async def test_of_all_who_look_one_gets_the_claim(bus: MemoryBus, looking: Looking) -> None:
    assert (await looking.look()).claimed
    assert (await looking.look()).claimed  # asked again after a crash: still ours
    other = await looking.look(run="r2")
    assert (other.claimed, other.entry) == (False, ReuseEntry(run="r1", step="a"))
    taken = await looking.look(run="r2", stale=("r1", "a"))
    assert (taken.claimed, taken.entry) == (True, None)
    assert (await looking.look()).entry == ReuseEntry(run="r2", step="a")


async def test_a_refreshing_look_claims_nothing_and_compares(
    bus: MemoryBus, looking: Looking
) -> None:
    latest = LatestEntry(run="r0", fingerprint="e", parts={"command": "x"})
    await looking.rooms.latest.put("p.a", latest)
    answer = await looking.look(claim=False)
    assert (answer.claimed, answer.entry, answer.latest) == (False, None, latest)
    assert await looking.rooms.reuse.get("f") is None


async def test_garbage_in_a_bucket_is_overwritten_by_a_claim(
    bus: MemoryBus, looking: Looking
) -> None:
    await bus.append(looking.rooms.reuse.subject("f"), b"garbage")
    assert (await looking.look()).claimed


async def test_a_summary_that_is_final_stays_and_an_older_owner_cannot_unsay_it(
    bus: MemoryBus,
) -> None:
    await ensure(bus, NAMES, ("runs",))
    log = logger("scheduler", "x", "critical")
    new, old = Summaries(bus, NAMES, log), Summaries(bus, NAMES, log)
    tasks = [asyncio.create_task(s.work()) for s in (new, old)]
    for room, states in ((old, ["queued"]), (new, ["running", "succeeded"]), (old, ["running"])):
        for state in states:
            room.add(RunSummary(run="r1", pipeline="p", state=state))  # type: ignore[arg-type]
            await asyncio.wait_for(room.progress.reached(room.progress.given), WAIT_S)
    kept = await new.bucket.get("r1")
    assert kept is not None
    assert kept.value.state == "succeeded"
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
