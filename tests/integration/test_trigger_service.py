"""The trigger on a real nats-server: policies, commands, bad input, planners that are away."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest

from penstock.bus import MESSAGE_ID, Received, Stored, StreamSpec
from penstock.bus.buckets import Bucket
from penstock.bus.nats import NatsBus
from penstock.bus.topology import ensure
from penstock.clock import SystemClock
from penstock.contracts.codec import decoded, encoded
from penstock.contracts.events import TriggerEvent
from penstock.contracts.schedules import (
    Firing,
    Schedule,
    ScheduleCommand,
    ScheduleState,
    ScheduleView,
)
from penstock.contracts.subjects import Subjects
from penstock.runtime.logs import logger
from penstock.runtime.service import Context
from penstock.testing.planner import RecordingPlanner
from penstock.testing.servers import NatsServer
from penstock_trigger.effects import Announce
from penstock_trigger.main import STREAMS, serve
from penstock_trigger.outside import Outside
from penstock_trigger.settings import Settings

pytestmark = pytest.mark.server

WAIT_S = 20.0


@dataclass
class Stage:
    """One workspace: a planner that records, triggers that run in this process, all events."""

    bus: NatsBus
    names: Subjects
    planner: RecordingPlanner
    events: list[tuple[TriggerEvent, Stored]] = field(default_factory=list)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)
    replicas: list[tuple[Context[Settings], asyncio.Task[None]]] = field(default_factory=list)

    async def start(self, **settings: Any) -> None:
        """Start one more replica and return when it serves."""
        instance = f"trigger-{secrets.token_hex(3)}"
        ready = asyncio.Event()
        context = Context(
            service="trigger",
            instance=instance,
            settings=Settings(workspace=self.names.workspace, **settings),
            bus=self.bus,
            names=self.names,
            log=logger("trigger", instance, "error"),
        )
        context.ready = ready.set  # type: ignore[method-assign]
        task = asyncio.create_task(serve(context))
        self.replicas.append((context, task))
        done, _ = await asyncio.wait(
            {task, asyncio.ensure_future(ready.wait())},
            timeout=WAIT_S,
            return_when=asyncio.FIRST_COMPLETED,
        )
        assert done, "the trigger is not ready"
        if task.done():
            task.result()

    async def stop(self) -> None:
        """Stop all replicas."""
        for context, task in self.replicas:
            context.stopping.set()
            await asyncio.wait_for(task, WAIT_S)
        self.replicas.clear()

    async def ask(self, verb: str, **command: Any) -> dict[str, Any]:
        """Return the answer to a command."""
        return await self.ask_raw(verb, encoded(ScheduleCommand(**command)))

    async def ask_raw(self, verb: str, data: bytes) -> dict[str, Any]:
        """Return the answer to some bytes."""
        answer = await self.bus.request(self.names.query(f"schedule.{verb}"), data)
        body: dict[str, Any] = json.loads(answer.data)
        return body

    async def create(self, **fields: Any) -> dict[str, Any]:
        """Create a schedule of the pipeline p."""
        given = {"pipeline": "p", **fields}
        answer = await self.ask("create", schedule=Schedule(**given), name=given["name"])
        assert "error" not in answer, answer
        return answer

    async def put(self, **fields: Any) -> Schedule:
        """Write a schedule into the bucket, as if it had been created long ago."""
        schedule = Schedule(**{"pipeline": "p", **fields})
        bucket = Bucket(self.bus, self.names.bucket("schedules"), Schedule)
        await bucket.put(schedule.name, schedule)
        return schedule

    @property
    def cursors(self) -> Bucket[ScheduleState]:
        """The bucket of cursors."""
        return Bucket(self.bus, self.names.bucket("cursors"), ScheduleState)

    def told(self, name: str, what: str) -> list[TriggerEvent]:
        """Return the events of a schedule so far."""
        return [e for e, _ in self.events if (e.trigger, e.what) == (name, what)]

    def keys(self, name: str) -> list[str]:
        """Return the idempotency keys of a schedule in the order they came, copies included."""
        start = f"schedule/{name}/"
        keys = (request.idempotency_key for _, request in self.planner.requests)
        return [key for key in keys if key.startswith(start)]

    async def until(self, true: Callable[[], object]) -> None:
        """Wait until something is true after an event."""
        async with self.news:
            await asyncio.wait_for(self.news.wait_for(true), WAIT_S)

    async def cursor_is(self, name: str, true: Callable[[ScheduleState], object]) -> ScheduleState:
        """Wait until a schedule's cursor is as wanted."""
        async with asyncio.timeout(WAIT_S):
            async for stored in self.bus.stored(self.cursors.stream, [self.cursors.subject(name)]):
                state = decoded(stored.data, ScheduleState)
                if true(state):
                    return state
        raise AssertionError

    async def hear(self, stored: Stored) -> None:
        """Take in an event."""
        async with self.news:
            self.events.append((decoded(stored.data, TriggerEvent), stored))
            self.news.notify_all()


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server with room on paper for the streams of many workspaces."""
    server = NatsServer(tmp_path_factory.mktemp("nats"), max_file_bytes=1024**4)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def stage(bus: NatsBus, names: Subjects) -> AsyncIterator[Stage]:
    await ensure(bus, names, STREAMS)
    stage = Stage(bus, names, RecordingPlanner(bus, names))
    await stage.planner.start()
    events = f"{names.workspace}.event.trigger.>"
    follow = await bus.follow(names.stream("events"), [events], stage.hear)
    yield stage
    await stage.stop()
    await follow.close()
    await stage.planner.stop()


async def test_each_tick_makes_one_request_and_one_event_with_three_replicas(stage: Stage) -> None:
    for _ in range(3):
        await stage.start()
    await stage.create(name="s", every=1, parameters={"x": 1.5}, experiment="e")
    await stage.until(lambda: len(stage.told("s", "fired")) >= 4)
    fired = stage.told("s", "fired")
    assert {round(b.due - a.due, 3) for a, b in pairwise(fired)} == {1.0}
    assert [e.run for e in fired] == [stage.planner.runs[key] for key in stage.keys("s")]
    assert len(stage.keys("s")) == len(set(stage.keys("s"))), "a needless copy was sent"
    request = stage.planner.requests[0][1]
    assert (request.pipeline, request.parameters, request.experiment, request.who) == (
        "p", {"x": 1.5}, "e", "trigger/s",
    )  # fmt: skip
    headers = next(stored.headers for event, stored in stage.events if event.what == "fired")
    assert headers["ce-type"] == "penstock.trigger.fired.v1"
    assert headers["ce-id"] == headers[MESSAGE_ID] == f"{stage.keys('s')[0]}/fired"


@pytest.mark.parametrize(
    ("catch_up", "fired", "skipped"), [("none", 0, 5), ("last", 1, 4), ("all", 3, 2)]
)
async def test_ticks_missed_while_nobody_was_there_follow_the_policy_and_are_recorded(
    stage: Stage, catch_up: str, fired: int, skipped: int
) -> None:
    now = time.time()
    schedule = await stage.put(
        name="s", every=60, created_at=now - 330, catch_up=catch_up, catch_up_max=3
    )
    await stage.start()
    await stage.cursor_is("s", lambda state: state.last_due and not state.pending)
    await stage.until(lambda: len(stage.told("s", "fired")) + len(stage.told("s", "skipped")) >= 5)
    dues = [schedule.created_at + 60 * n for n in range(1, 6)]
    assert [e.due for e in stage.told("s", "skipped")] == pytest.approx(dues[:skipped], abs=1e-5)
    assert [e.due for e in stage.told("s", "fired")] == pytest.approx(dues[5 - fired :], abs=1e-5)
    assert len(stage.keys("s")) == fired
    assert all(catch_up in e.reason for e in stage.told("s", "skipped"))


async def test_a_replica_that_joins_others_does_not_call_late_ticks_missed(stage: Stage) -> None:
    async def stalled(message: Received) -> None:
        await stage.bus.publish(message.reply, b"{}")  # it lives, and does not get round to firing

    other = await stage.bus.subscribe(stage.names.query("schedule.show"), stalled)
    await stage.put(name="s", every=60, created_at=time.time() - 80)  # due 20 s ago: late_s is 30
    await stage.start()
    await other.close()
    await stage.until(lambda: stage.told("s", "fired"))
    assert not stage.told("s", "skipped")


async def test_overlap_skip_fires_again_once_the_run_before_has_ended(stage: Stage) -> None:
    await stage.start()
    await stage.create(name="s", every=1, overlap="skip")
    await stage.until(lambda: len(stage.told("s", "skipped")) >= 2)
    (first,) = stage.told("s", "fired")
    assert first.run in stage.told("s", "skipped")[0].reason
    await stage.planner.end(first.run, "failed")
    await stage.until(lambda: len(stage.told("s", "fired")) >= 2)


async def test_overlap_queue_fires_the_oldest_waiting_one_as_soon_as_the_run_has_ended(
    stage: Stage,
) -> None:
    await stage.start()
    await stage.create(name="s", every=1, overlap="queue")
    state = await stage.cursor_is("s", lambda state: len(state.queued) >= 2)
    (first,) = stage.told("s", "fired")
    assert state.last_run == first.run
    await stage.planner.end(first.run)
    await stage.until(lambda: len(stage.told("s", "fired")) >= 2)
    assert stage.told("s", "fired")[1].due == state.queued[0]
    assert len(stage.keys("s")) == 2
    assert not stage.told("s", "skipped")


async def test_overlap_replace_cancels_the_run_before(stage: Stage) -> None:
    await stage.start()
    await stage.create(name="s", every=1, overlap="replace")
    await stage.until(lambda: len(stage.told("s", "fired")) >= 3)
    runs = [e.run for e in stage.told("s", "fired")]
    assert stage.planner.cancelled[:2] == runs[:2]
    assert len(set(runs)) == len(runs)


async def test_paused_time_is_nobodys_even_when_everything_is_caught_up(stage: Stage) -> None:
    await stage.start()
    await stage.create(name="clock", every=1)
    await stage.create(name="s", every=1, catch_up="all", catch_up_max=100)
    await stage.until(lambda: len(stage.told("s", "fired")) >= 1)
    paused = await stage.ask("pause", name="s", who="ann")
    assert paused["schedule"]["paused"]
    assert "next_due" not in paused
    count = len(stage.told("clock", "fired"))
    await stage.until(lambda: len(stage.told("clock", "fired")) >= count + 3)
    resumed_at = time.time()
    await stage.ask("resume", name="s")
    fired = len(stage.told("s", "fired"))
    await stage.until(lambda: len(stage.told("s", "fired")) >= fired + 2)
    paused_at = stage.told("s", "paused")[0].at
    assert stage.told("s", "paused")[0].reason == "by ann"
    assert not [e for e in stage.told("s", "fired") if paused_at + 0.1 < e.due < resumed_at]
    assert not stage.told("s", "skipped")


async def test_a_refusal_is_recorded_and_the_schedule_goes_on(stage: Stage) -> None:
    await stage.start()
    await stage.create(name="s", every=1)
    stage.planner.unknown.add("p")
    await stage.until(lambda: len(stage.told("s", "skipped")) >= 1)
    assert "E_NOT_FOUND pipeline: no pipeline 'p'" in stage.told("s", "skipped")[0].reason
    stage.planner.unknown.clear()
    fired = len(stage.told("s", "fired"))
    await stage.until(lambda: len(stage.told("s", "fired")) > fired)


async def test_ticks_wait_for_a_planner_that_is_away_and_none_is_lost(stage: Stage) -> None:
    await stage.start()
    await stage.planner.stop()
    answer = await stage.create(name="s", every=1)
    assert answer["notes"] == ["no planner answers now: whether 'p' exists is not checked"]
    await stage.cursor_is("s", lambda state: len(state.pending) >= 3)
    await stage.planner.start()
    await stage.until(lambda: len(stage.told("s", "fired")) >= 5)
    dues = [e.due for e in stage.told("s", "fired")]
    assert {round(b - a, 3) for a, b in pairwise(dues)} == {1.0}
    assert len(set(stage.keys("s"))) == len(stage.planner.runs)


async def test_one_silent_pipeline_and_two_broken_schedules_hold_nobody_up(stage: Stage) -> None:
    stage.planner.silent.add("stuck")
    await stage.put(name="bad", cron="61 * * * *", created_at=time.time())
    broken = stage.names.key("schedules", "worse")
    await stage.bus.append(broken, b'{"name": 7')
    await stage.bus.append(stage.names.key("cursors", "good"), b"[]")
    await stage.start()
    await stage.create(name="stuck", pipeline="stuck", every=1)
    await stage.create(name="good", every=1)
    await stage.until(lambda: len(stage.told("good", "fired")) >= 3)
    assert not stage.told("stuck", "fired")
    listed = await stage.ask("list")
    assert [v["schedule"]["name"] for v in listed["schedules"]] == [
        "bad", "good", "stuck", "worse",
    ]  # fmt: skip
    shown = await stage.ask("show", name="bad")
    assert "E_CRON" in shown["notes"][0]
    assert (await stage.ask("show", name="worse"))["error"]["code"] == "E_CORRUPT"
    assert "it was broken" in (await stage.ask("delete", name="worse"))["notes"][0]


async def test_what_a_dead_replica_had_decided_is_carried_out_by_another(stage: Stage) -> None:
    schedule = await stage.put(name="s", every=3600, created_at=time.time() - 3700)
    due = schedule.created_at + 3600
    pending = Firing(what="fire", due=due, key="k")
    state = ScheduleState(
        name="s", revision=1, last_due=due, pending=(pending,), definition=schedule, by="dead"
    )
    await stage.cursors.put("s", state)
    gone = Firing(what="skip", due=due, key="k", reason="why")
    definition = Schedule(name="gone", pipeline="p", every=60)
    left = ScheduleState(
        name="gone", revision=1, last_due=due, pending=(gone,), definition=definition, by="dead"
    )
    await stage.cursors.put("gone", left)
    await stage.start(takeover_s=0.1)
    await stage.until(lambda: stage.told("s", "fired") and stage.told("gone", "skipped"))
    assert stage.keys("s") == ["schedule/s/1/k"]
    assert stage.told("s", "fired")[0].due == due
    settled = await stage.cursor_is("s", lambda state: not state.pending)
    assert settled.last_run == stage.planner.runs["schedule/s/1/k"]


async def test_an_event_is_stored_once_even_after_the_stream_forgot_its_id(
    bus: NatsBus, names: Subjects
) -> None:
    await bus.ensure_stream(
        StreamSpec(
            name=names.stream("events"),
            subjects=(names.events(),),
            max_bytes=1024 * 1024,
            duplicate_window_s=0.1,
        )
    )
    outside = Outside(bus, names, SystemClock(), logger("trigger", "t", "error"))

    def announcement(number: int) -> Announce:
        event = TriggerEvent(trigger="s", what="skipped", at=time.time(), due=number)
        return Announce(event, f"id-{number}")

    await outside.announce([announcement(n) for n in range(3)])
    stored = await bus.last(names.stream("events"), names.events())
    assert stored is not None
    await asyncio.sleep(0.5)  # until the ids are forgotten; nothing tells us when
    await outside.announce([announcement(n) for n in range(5)])
    await asyncio.gather(*(outside.announce([announcement(5)]) for _ in range(4)))
    dues: list[float] = []

    def take(stored: Stored) -> None:
        dues.append(decoded(stored.data, TriggerEvent).due)

    await bus.replay(names.stream("events"), [names.events()], take)
    assert dues == [0, 1, 2, 3, 4, 5]


async def test_a_schedule_lives_through_all_its_commands(stage: Stage) -> None:
    await stage.start()
    view = await stage.create(
        name="nightly", cron="30 2 * * *", time_zone="Europe/Berlin", start="2027-01-01T00:00:00Z"
    )
    assert len(view["next_due"]) == 5
    shown = await stage.ask("show", name="nightly")
    assert "02:30 does not exist on 2027-03-28 in Europe/Berlin; fires at 03:00" in shown["notes"]

    same = Schedule(name="nightly", pipeline="p", cron="0 4 * * *")
    refused = await stage.ask("create", schedule=same)
    assert refused["error"]["code"] == "E_EXISTS"
    assert "--replace" in refused["error"]["hint"]
    replaced = await stage.ask("create", schedule=same, replace=True)
    assert replaced["schedule"]["revision"] == 2
    again = await stage.ask("create", schedule=same, replace=True)
    assert again["notes"][0] == "nothing changed"
    assert again["schedule"]["revision"] == 2

    ran = await stage.ask("run-now", name="nightly", who="ann")
    assert ran["run"] in stage.planner.runs.values()
    assert "last_due" not in ran
    await stage.until(lambda: stage.told("nightly", "fired"))
    assert stage.told("nightly", "fired")[0].reason == "run-now by ann"

    assert (await stage.ask("pause", name="nightly"))["schedule"]["paused"]
    assert "paused already" in (await stage.ask("pause", name="nightly"))["notes"][0]
    assert "paused" not in (await stage.ask("resume", name="nightly"))["schedule"]
    assert "deleted" in (await stage.ask("delete", name="nightly"))["notes"]
    assert await stage.ask("list") == {}
    for verb in ("show", "pause", "resume", "run-now", "delete"):
        assert (await stage.ask(verb, name="nightly"))["error"]["code"] == "E_NOT_FOUND"
    await stage.until(lambda: stage.told("nightly", "deleted"))
    order = ["created", "changed", "fired", "paused", "resumed", "deleted"]
    assert [event.what for event, _ in stage.events] == order


async def test_a_successor_of_a_deleted_schedule_never_reuses_its_keys(stage: Stage) -> None:
    await stage.start()
    await stage.create(name="s", every=1)
    await stage.until(lambda: stage.told("s", "fired"))
    await stage.ask("delete", name="s")
    await stage.create(name="s", every=1)
    fired = len(stage.told("s", "fired"))
    await stage.until(lambda: len(stage.told("s", "fired")) > fired)
    assert stage.keys("s")[-1].startswith("schedule/s/2/")


BAD = [
    ("create", b"", "E_EMPTY"),
    ("create", b"{", "E_DECODE"),
    ("create", b"[]", "E_TYPE"),
    ("create", b"\xff{}", "E_DECODE"),
    ("create", b"{}", "E_EMPTY"),
    ("create", b'{"schedule": {}}', "E_TYPE"),
    ("create", b'{"schedule": {"name": "s", "pipeline": "p"}}', "E_SCHEDULE"),
    ("create", b'{"schedule": {"name": "s", "pipeline": "p", "crn": "* * * * *"}}', "E_UNKNOWN_FIELD"),
    ("create", b'{"schedule": {"name": "s", "pipeline": "p", "every": "5"}}', "E_TYPE"),
    ("create", b'{"schedule": {"name": "s", "pipeline": "p", "every": NaN}}', "E_NUMBER"),
    ("create", b'{"schedule": {"name": "s", "pipeline": "p", "every": 0.2}}', "E_INTERVAL"),
    ("create", b'{"schedule": {"name": "s", "name": "t", "pipeline": "p"}}', "E_DUPLICATE_KEY"),
    ("create", b'{"schedule": {"name": "s", "pipeline": "p", "cron": "@reboot"}}', "E_CRON"),
    ("create", b'{"schedule": {"name": "s", "pipeline": "p", "cron": "*/0"}}', "E_CRON"),
    ("create", b'{"schedule": {"name": "s.t", "pipeline": "p", "every": 5}}', "E_ID"),
    ("create", b'{"schedule": {"name": ">", "pipeline": "p", "every": 5}}', "E_ID"),
    ("create", b'{"name": "t", "schedule": {"name": "s", "pipeline": "p", "every": 5}}', "E_ID"),
    ("create", b'{"schedule": {"name": "s", "pipeline": "none", "every": 5}}', "E_NOT_FOUND"),
    ("create", b'{"schedule": {"name": "s", "pipeline": "p", "every": 5, "overlap": "no"}}', "E_TYPE"),
    ("create", b'{"schedule": {"name": "s", "pipeline": "p", "every": 5, "time_zone": "X"}}', "E_ZONE"),
    ("create", b'{"schedule": {"name": "s", "pipeline": "p", "every": 5, "start": "1"}}', "E_TIME"),
    ("create", b"[" * 100_000, "E_DECODE"),
    ("show", b"", "E_ID"),
    ("show", b'{"name": "*"}', "E_ID"),
    ("pause", b'{"name": "absent"}', "E_NOT_FOUND"),
    ("delete", b'{"name": 3}', "E_TYPE"),
]  # fmt: skip


async def test_bad_input_is_answered_with_a_code_and_leaves_no_trace(stage: Stage) -> None:
    await stage.start()
    stage.planner.unknown.add("none")
    for verb, data, code in BAD:
        answer = await stage.ask_raw(verb, data)
        assert answer.get("error", {}).get("code") == code, (verb, data[:60], answer)
        assert answer["error"]["message"]
    assert await stage.ask("list") == {}
    assert stage.events == []
    view = decoded(encoded(await stage.create(name="fine", every=5)), ScheduleView)
    assert view.schedule.name == "fine"
