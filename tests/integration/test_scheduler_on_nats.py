"""The scheduler as processes on a real nats-server, with an executor that runs nothing."""

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from penstock.bus import Delivery, Stored
from penstock.bus.nats import NatsBus, connect
from penstock.bus.topology import ensure, work_consumer
from penstock.contracts.chain import HEADER, Told, checked
from penstock.contracts.codec import decoded, encoded
from penstock.contracts.inbox import CancelRun
from penstock.contracts.plans import PlanHead, PlannedStep, PlanPart
from penstock.contracts.queries import RunsAnswer, RunSummary, RunView, WhyAnswer
from penstock.contracts.subjects import Subjects
from penstock.contracts.work import AttemptStarted, Failure, WorkItem
from penstock.ids import partition_of, run_id
from penstock.testing.fleet import Fleet
from penstock.testing.null_executor import NullExecutor
from penstock.testing.servers import NatsServer
from penstock.units import GIB, Seconds
from penstock_scheduler.state import STARTS_MAX
from penstock_scheduler.strays import LOOK_S

pytestmark = pytest.mark.server
WAIT_S = 60.0


class Event(msgspec.Struct):
    seq: int
    run: str
    what: str
    step: str = ""
    attempt: int = 0
    reused_from: str = ""
    reason: str = ""
    failure: Failure = Failure(code="", message="")


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server with room for the limits of many workspaces."""
    server = NatsServer(tmp_path_factory.mktemp("nats"), max_file_bytes=512 * GIB)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def fleet(nats: NatsServer, tmp_path: Path, workspace: str) -> Iterator[Fleet]:
    with Fleet(tmp_path / "fleet", bus=nats.url, store="", workspace=workspace) as started:
        yield started


@pytest.fixture
async def executor(bus: NatsBus, names: Subjects) -> NullExecutor:
    await ensure(bus, names, ("inbox", "work", "events", "runs"))
    started = NullExecutor(bus, names)
    await started.start()
    return started


def named(seed: str) -> str:
    return run_id(Seconds(time.time()), seed)


async def submit(bus: NatsBus, names: Subjects, head: PlanHead, *steps: PlannedStep) -> str:
    part = PlanPart(head=head, steps=steps)
    subject = names.inbox(head.run, "planner", "plan", "part0")
    await bus.append(subject, encoded(part), message_id=f"{head.run}.plan.0")
    return head.run


class Story:
    """A run's events, as they come."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.told: list[Told] = []
        self._news = asyncio.Condition()

    async def take(self, stored: Stored) -> None:
        async with self._news:
            event = decoded(stored.data, Event)
            self.events.append(event)
            link = stored.headers.get(HEADER, "")
            self.told.append(Told(stored.sequence, event.seq, link, stored.data))
            self._news.notify_all()

    async def until(self, *what: str, step: str = "", count: int = 1) -> list[Event]:
        """Return all events once `count` of one of these kinds were told."""

        def met() -> bool:
            told = [e for e in self.events if e.what in what and (step in ("*", e.step))]
            return len(told) >= count

        async with asyncio.timeout(WAIT_S), self._news:
            await self._news.wait_for(met)
        return list(self.events)

    async def ended(self) -> list[Event]:
        """Return all events of a run that has ended; they count 1..n without a gap, and are linked."""
        events = await self.until("succeeded", "failed", "cancelled")
        assert checked(self.told).verdict == "whole"
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        return events


async def story(bus: NatsBus, names: Subjects, run: str) -> Story:
    told = Story()
    await bus.follow(names.stream("events"), [names.run_events(run)], told.take)
    return told


def step(name: str, *needs: str, command: str = "true", **fields: object) -> PlannedStep:
    return PlannedStep(name=name, command=command, needs=needs, **fields)  # type: ignore[arg-type]


async def test_a_diamond_runs_and_every_query_tells_of_it(
    fleet: Fleet, bus: NatsBus, names: Subjects, executor: NullExecutor
) -> None:
    fleet.start("scheduler")
    head = PlanHead(run=named("diamond"), pipeline="diamond", reuse="off", parameters={"c": 1.5})
    run = await submit(
        bus,
        names,
        head,
        step("a"),
        step("b", "a"),
        step("c", "a", command="fail-once", attempts_max=2, retry_delay_s=0.05),
        step("d", "b", "c"),
    )
    events = await (await story(bus, names, run)).ended()
    whats = [(event.step, event.what) for event in events]
    assert whats[0] == ("", "accepted")
    assert whats[-1] == ("", "succeeded")
    assert whats.index(("d", "started")) > max(
        whats.index(("b", "succeeded")), whats.index(("c", "succeeded"))
    )
    assert ("c", "retrying") in whats
    assert sorted(executor.begun) == sorted(
        [(run, "a", 1), (run, "b", 1), (run, "c", 1), (run, "c", 2), (run, "d", 1)]
    )
    answer = await bus.request(names.query("run"), encoded({"run": run[:12]}))
    view = decoded(answer.data, RunView)
    assert view.state == "succeeded"
    assert {s.step: (s.state, s.attempts) for s in view.steps} == {
        "a": ("succeeded", 1),
        "b": ("succeeded", 1),
        "c": ("succeeded", 2),
        "d": ("succeeded", 1),
    }
    assert view.parameters == {"c": 1.5}

    async with asyncio.timeout(WAIT_S):
        async for line in bus.stored(f"KV_{names.bucket('runs')}", [names.key("runs", run)]):
            if decoded(line.data, RunSummary).state == "succeeded":
                break
    page = decoded((await bus.request(names.query("runs"), b"{}")).data, RunsAnswer)
    assert [r.run for r in page.runs] == [run]
    why = await bus.request(names.query("why"), encoded({"run": run, "step": "b"}))
    assert decoded(why.data, WhyAnswer).reason == "reuse is off in this run"
    lost = await bus.request(names.query("why"), encoded({"run": run, "step": "bb"}))
    assert b"E_NOT_FOUND" in lost.data
    assert b"did you mean" in lost.data


async def test_what_has_not_changed_is_reused_and_two_equal_steps_run_once(
    fleet: Fleet, bus: NatsBus, names: Subjects, executor: NullExecutor
) -> None:
    fleet.start("scheduler")
    steps = [step("a", command="echo 1"), step("b", command="echo 1"), step("c", "a", "b")]
    first = await submit(bus, names, PlanHead(run=named("1"), pipeline="p"), *steps)
    events = await (await story(bus, names, first)).ended()
    assert len(executor.begun) == 2  # a and b are equal: one of them waited for the other
    assert sorted(
        e.what for e in events if e.step in ("a", "b") and e.what in ("succeeded", "reused")
    ) == [
        "reused",
        "succeeded",
    ]
    second = await submit(bus, names, PlanHead(run=named("2"), pipeline="p"), *steps)
    events = await (await story(bus, names, second)).ended()
    assert [e.what for e in events] == ["accepted", "started", *["reused"] * 3, "succeeded"]
    assert {e.reused_from for e in events if e.what == "reused"} == {first}
    refreshed = PlanHead(run=named("3"), pipeline="p", reuse="refresh")
    third = await submit(bus, names, refreshed, *steps)
    events = await (await story(bus, names, third)).ended()
    assert [e.what for e in events].count("succeeded") == 4
    assert "this run refreshes results" in {e.reason for e in events}


async def test_a_cancelled_run_ends_at_once_and_its_executor_is_told(
    fleet: Fleet, bus: NatsBus, names: Subjects, executor: NullExecutor
) -> None:
    fleet.start("scheduler")
    head = PlanHead(run=named("hang"), pipeline="p", reuse="off")
    run = await submit(bus, names, head, step("a", command="hang"), step("b", "a"))

    told = await story(bus, names, run)
    await told.until("started", step="a")
    cancel = CancelRun(run=run, reason="enough", who="me")
    await bus.append(names.inbox(run, "planner", "cancel"), encoded(cancel))
    events = await told.ended()
    assert [(e.step, e.what) for e in events[-3:]] == [
        ("b", "cancelled"),
        ("a", "cancelled"),
        ("", "cancelled"),
    ]
    assert events[-1].reason == "cancelled by me: enough"


async def test_a_killed_scheduler_is_replaced_and_nothing_is_lost_or_told_twice(
    fleet: Fleet, bus: NatsBus, names: Subjects, executor: NullExecutor
) -> None:
    fleet.start("scheduler")
    steps = [step(f"s{n}", *([f"s{n - 20}"] if n >= 20 else [])) for n in range(300)]
    run = await submit(bus, names, PlanHead(run=named("300"), pipeline="p", reuse="off"), *steps)

    told = await story(bus, names, run)
    await told.until("succeeded", step="*", count=60)
    fleet.start("scheduler")
    fleet.kill("scheduler-1")
    assert executor.done < 300, "killed too late to prove anything"
    events = await told.ended()
    finals = [e for e in events if e.what == "succeeded"]
    assert len(finals) == 301
    assert len({e.step for e in finals}) == 301
    assert "took over" in fleet.tail("scheduler-2", 20_000)


async def test_an_owner_that_sleeps_through_its_replacement_changes_nothing_when_it_wakes(
    fleet: Fleet, bus: NatsBus, names: Subjects, executor: NullExecutor
) -> None:
    for _ in range(2):
        fleet.start("scheduler")
    steps = [step(f"s{n}", *([f"s{n - 10}"] if n >= 10 else [])) for n in range(200)]
    run = await submit(bus, names, PlanHead(run=named("200"), pipeline="p", reuse="off"), *steps)
    told = await story(bus, names, run)
    await told.until("succeeded", step="*", count=30)
    own = await bus.last(names.stream("runs"), names.own(partition_of(run)))
    assert own is not None
    sleeper = fleet.members[json.loads(own.data)["instance"]].process
    sleeper.send_signal(signal.SIGSTOP)
    try:
        await told.until("succeeded", step="*", count=100)
    finally:
        sleeper.send_signal(signal.SIGCONT)
    events = await told.ended()
    assert events[-1].what == "succeeded"
    assert len({e.step for e in events if e.what == "succeeded"}) == 201
    again = await submit(
        bus, names, PlanHead(run=named("again"), pipeline="p", reuse="off"), *steps
    )
    assert (await (await story(bus, names, again)).ended())[-1].what == "succeeded"


async def test_a_step_that_loses_ten_executors_has_failed_whatever_became_of_the_server(
    tmp_path: Path, names: Subjects
) -> None:
    """Killed where it would once have said, in passing, that it delivers the attempt no more."""
    server = NatsServer(tmp_path / "own", max_file_bytes=64 * GIB)
    server.start()
    fleet = Fleet(tmp_path / "fleet", bus=server.url, store="", workspace=names.workspace)
    with fleet:
        fleet.start("scheduler")
        bus = await connect(server.url, name="test")
        await ensure(bus, names, ("inbox", "work", "events"))
        killed: list[int] = []

        async def lose(delivery: Delivery) -> None:
            item, number = decoded(delivery.message.data, WorkItem), delivery.deliveries
            if item.attempt == 1 and number == 5 and not killed:
                killed.append(number)
                await asyncio.to_thread(server.restart)
                return
            start = AttemptStarted(
                run=item.run, step=item.step, attempt=item.attempt, executor="x", delivery=number
            )
            subject = names.inbox(item.run, "executor", "started", item.step)
            await bus.append(subject, encoded(start))
            await delivery.nak()

        spec = replace(work_consumer(names, "default"), ack_wait_s=1)
        old = await bus.consume(replace(spec, max_deliver=5), lose, batch=0)
        await old.close()  # a workspace from before
        await bus.consume(spec, lose, batch=1)
        head = PlanHead(run=named("lost"), pipeline="p", reuse="off")
        run = await submit(bus, names, head, step("a", attempts_max=2, retry_delay_s=0.1))
        told = await story(bus, names, run)
        events = await told.ended()
        assert killed == [5]
        assert [(e.what, e.attempt) for e in events if e.step and e.what != "started"] == [
            ("queued", 1),
            ("retrying", 1),
            ("queued", 2),
            ("failed", 2),
        ]
        assert [e.attempt for e in events if e.what == "started" and e.step].count(2) == STARTS_MAX
        failure = events[-2].failure
        assert failure.code == "E_LOST"
        assert failure.message == "10 executors began the attempt and none reported it"
        assert await bus.last(names.stream("work"), names.work("default", run, "a", 2)) is None
        await bus.close()
    server.stop()


@pytest.mark.parametrize("gone", [False, True])
async def test_work_that_the_server_owes_to_nobody_is_offered_again(
    gone: bool, fleet: Fleet, bus: NatsBus, names: Subjects, executor: NullExecutor
) -> None:
    """As a killed server leaves it: below its consumer's floor; or away, and nobody has reported."""
    fleet.start("scheduler")
    run = await submit(
        bus, names, PlanHead(run=named("stray"), pipeline="p"), step("a", compute="lonely")
    )
    told = await story(bus, names, run)
    await told.until("queued", step="a")
    stream, spec = names.stream("work"), work_consumer(names, "lonely")
    await bus.ensure_consumer(spec)
    for _ in range(500):
        stored = await bus.last(stream, names.work("lonely", run, "a", 1))
        if stored is not None:
            break
        await asyncio.sleep(0.01)
    assert stored is not None
    if gone:
        await bus.purge(stream, stored.subject)
    else:
        subject = f"$JS.API.CONSUMER.RESET.{stream}.{spec.name}"
        body = msgspec.json.encode({"seq": stored.sequence + 1})
        answer = await bus.request(subject, body, timeout_s=5)
        assert b'"error"' not in answer.data, answer.data
        assert (await bus.standing(stream, spec.name)).floor >= stored.sequence
    late = NullExecutor(bus, names, target="lonely", name="late")
    await late.start()
    events = await told.ended()
    assert events[-1].what == "succeeded"
    assert [e.attempt for e in events if e.step == "a" and e.what == "started"] == [1]
    assert late.begun == [(run, "a", 1)]


async def test_work_that_waits_for_an_executor_is_left_alone(
    fleet: Fleet, bus: NatsBus, names: Subjects, executor: NullExecutor
) -> None:
    fleet.start("scheduler")
    head = PlanHead(run=named("patient"), pipeline="p", reuse="off")
    run = await submit(bus, names, head, step("a", compute="nobody"), step("b", command="hang"))
    told = await story(bus, names, run)
    await told.until("started", step="b")
    stream = names.stream("work")
    subjects = [names.work("nobody", run, "a", 1), names.work("default", run, "b", 1)]
    before = await bus.last_many(stream, subjects)
    await asyncio.sleep(2 * LOOK_S + 1)  # two looks; the null executor renews no loan
    after = await bus.last_many(stream, subjects)
    assert [s and s.sequence for s in after] == [s and s.sequence for s in before]
    assert executor.begun == [(run, "b", 1)]


async def test_work_that_a_killed_server_forgot_is_offered_again(
    tmp_path: Path, names: Subjects
) -> None:
    server = NatsServer(tmp_path / "own", max_file_bytes=64 * GIB)
    server.start()
    fleet = Fleet(tmp_path / "fleet", bus=server.url, store="", workspace=names.workspace)
    with fleet:
        fleet.start("scheduler")
        bus = await connect(server.url, name="test")
        executor = NullExecutor(bus, names)
        await executor.start()
        head = PlanHead(run=named("outage"), pipeline="p", reuse="off")
        steps = [step(f"s{n}", *([f"s{n - 10}"] if n >= 10 else [])) for n in range(300)]
        run = await submit(bus, names, head, *steps)
        told = await story(bus, names, run)
        for count in (60, 120):
            await told.until("succeeded", step="*", count=count)
            server.restart()
        events = await told.ended()
        assert len({e.step for e in events if e.what == "succeeded"}) == 301
        await bus.close()
    server.stop()


async def test_a_garbage_message_is_set_aside_and_everything_else_goes_on(
    fleet: Fleet, bus: NatsBus, names: Subjects, executor: NullExecutor
) -> None:
    fleet.start("scheduler")
    run = named("garbage")
    await bus.append(names.inbox(run, "planner", "plan", "part0"), b'{"type":"who.knows.v9"}')
    await submit(bus, names, PlanHead(run=run, pipeline="p", reuse="off"), step("a"))
    assert [e.what for e in await (await story(bus, names, run)).ended()][-1] == "succeeded"

    async with asyncio.timeout(WAIT_S):
        async for dead in bus.stored(names.stream("dead"), [names.dead("inbox")]):
            assert dead.data == b'{"type":"who.knows.v9"}'
            break


async def test_runs_survive_a_night_without_any_scheduler(
    fleet: Fleet, bus: NatsBus, names: Subjects, executor: NullExecutor
) -> None:
    fleet.start("scheduler")
    head = PlanHead(run=named("night"), pipeline="p", reuse="off")
    run = await submit(
        bus, names, head, step("a", command="fail-once", attempts_max=2, retry_delay_s=0.5)
    )

    told = await story(bus, names, run)
    await told.until("retrying", step="a")
    fleet.kill("scheduler-1")
    await asyncio.sleep(0.6)  # the timer fires while nobody is there: that is the case
    fleet.restart("scheduler-1")
    events = await told.ended()
    assert events[-1].what == "succeeded"
