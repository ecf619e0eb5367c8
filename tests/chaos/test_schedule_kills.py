"""Two triggers, a schedule, and kill -9 at random moments: each tick makes one run, none is missing.

`PENSTOCK_SEED` repeats a choice of moments and victims. Kills are counted where they land, so a
lucky run without one fails.
"""

import asyncio
import json
import os
import random
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from penstock.bus import Stored
from penstock.bus.nats import NatsBus, connect
from penstock.bus.topology import ensure
from penstock.contracts.codec import decoded, encoded
from penstock.contracts.events import RunEvent, TriggerEvent
from penstock.contracts.schedules import Schedule, ScheduleCommand, ScheduleState, ScheduleView
from penstock.contracts.subjects import Subjects
from penstock.testing.fleet import Fleet
from penstock.testing.planner import RecordingPlanner
from penstock.testing.servers import NATS_BINARY, NatsServer, binary
from penstock_trigger.main import STREAMS

pytestmark = [pytest.mark.server, pytest.mark.slow]

WAIT_S = 60.0
NAMES = Subjects("chaos")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    if binary(NATS_BINARY) is None:
        pytest.skip(f"{NATS_BINARY} is missing")
    server = NatsServer(tmp_path / "nats")
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def own_bus(server: NatsServer) -> AsyncIterator[NatsBus]:
    connection = await connect(server.url, name="chaos")
    yield connection
    await connection.close()


async def ask(bus: NatsBus, verb: str, command: ScheduleCommand) -> ScheduleView:
    answer = await bus.request(NAMES.query(f"schedule.{verb}"), encoded(command))
    assert b'"error"' not in answer.data, answer.data
    return decoded(answer.data, ScheduleView)


async def told(bus: NatsBus, what: str) -> list[TriggerEvent]:
    """Return the events of the schedule s."""
    found: list[TriggerEvent] = []

    def take(stored: Stored) -> None:
        found.append(decoded(stored.data, TriggerEvent))

    await bus.replay(NAMES.stream("events"), [NAMES.trigger_event("s", what)], take)
    return found


async def kill_around_ticks(
    fleet: Fleet, members: list[str], schedule: Schedule, end_at: float
) -> Counter[str]:
    """Kill and restart random members where it hurts: 5 ms before a tick to 25 ms after it."""
    seed = int(os.environ.get("PENSTOCK_SEED", secrets.randbelow(10**6)))
    print(f"PENSTOCK_SEED={seed}")
    choice = random.Random(seed)
    kills = Counter[str]()
    while time.time() < end_at - schedule.every:
        tick = (time.time() - schedule.created_at) // schedule.every + 1
        moment = schedule.created_at + tick * schedule.every + choice.uniform(-0.005, 0.025)
        await asyncio.sleep(max(0.0, moment - time.time()))
        victim = choice.choice(members)
        await asyncio.to_thread(fleet.kill, victim)
        kills[victim] += 1
        await asyncio.to_thread(fleet.restart, victim)
    return kills


async def all_ticks(bus: NatsBus, schedule: Schedule, end_at: float) -> list[float]:
    """Return the due times up to `end_at`, once every one of them is decided and carried out."""
    count = round((end_at - schedule.created_at) // schedule.every)
    dues = [round(schedule.created_at + schedule.every * n, 3) for n in range(1, count + 1)]
    async with asyncio.timeout(WAIT_S):
        subject = NAMES.key("cursors", "s")
        async for stored in bus.stored(f"KV_{NAMES.bucket('cursors')}", [subject]):
            state = decoded(stored.data, ScheduleState)
            if state.last_due >= dues[-1] - 0.001 and not state.pending:
                break
    return dues


def told_dues(events: list[TriggerEvent], dues: list[float]) -> list[float]:
    return [round(event.due, 3) for event in events if event.due <= dues[-1] + 0.001]


async def test_every_tick_makes_one_run_while_triggers_are_killed(
    server: NatsServer, own_bus: NatsBus, tmp_path: Path
) -> None:
    await ensure(own_bus, NAMES, STREAMS)
    planner = RecordingPlanner(own_bus, NAMES)
    await planner.start()
    with Fleet(tmp_path / "fleet", bus=server.url, store="", workspace="chaos") as fleet:
        members = [await asyncio.to_thread(fleet.start, "trigger") for _ in range(2)]
        wish = Schedule(name="s", pipeline="p", every=1)
        schedule = (await ask(own_bus, "create", ScheduleCommand(schedule=wish))).schedule
        end_at = schedule.created_at + 20
        kills = await kill_around_ticks(fleet, members, schedule, end_at)
        dues = await all_ticks(own_bus, schedule, end_at)
        assert all(fleet.alive(member) for member in members)
    await planner.stop()

    assert kills.total() >= 6, kills
    assert set(kills) == set(members)
    fired = await told(own_bus, "fired")
    assert told_dues(fired, dues) == dues
    assert await told(own_bus, "skipped") == []
    # The run of a tick is known by its key, which names the tick; copies share both.
    assert [event.run for event in fired[: len(dues)]] == list(planner.runs.values())[: len(dues)]
    late = max(event.at - event.due for event in fired)
    copies = len(planner.requests) - len(planner.runs)
    print(f"{len(dues)} ticks, {kills.total()} kills, {copies} copies, latest {late:.3f} s late")


async def test_every_tick_makes_one_real_run_while_triggers_and_planners_are_killed(
    server: NatsServer, own_bus: NatsBus, tmp_path: Path
) -> None:
    with Fleet(tmp_path / "fleet", bus=server.url, store="", workspace="chaos") as fleet:
        await asyncio.to_thread(fleet.start, "scheduler")
        members = [
            await asyncio.to_thread(fleet.start, service)
            for service in ("planner", "planner", "trigger", "trigger")
        ]
        spec = {"name": "p", "steps": {"only": {"command": "true"}}}
        body = json.dumps({"name": "p", "spec": spec}).encode()
        registered = await own_bus.request(NAMES.query("pipeline.create"), body)
        assert b'"error"' not in registered.data, registered.data
        wish = Schedule(name="s", pipeline="p", every=2)
        schedule = (await ask(own_bus, "create", ScheduleCommand(schedule=wish))).schedule
        end_at = schedule.created_at + 60
        kills = await kill_around_ticks(fleet, members, schedule, end_at)
        dues = await all_ticks(own_bus, schedule, end_at)
        await ask(own_bus, "delete", ScheduleCommand(name="s"))
        fired = await told(own_bus, "fired")
        accepted: list[RunEvent] = []
        complete = asyncio.Event()

        async def take(stored: Stored) -> None:
            accepted.append(decoded(stored.data, RunEvent))
            if len(accepted) >= len(fired):
                complete.set()

        subject = f"{NAMES.workspace}.event.p.*.run.accepted"
        follow = await own_bus.follow(NAMES.stream("events"), [subject], take)
        await asyncio.wait_for(complete.wait(), WAIT_S)
        await follow.close()

    assert kills.total() >= 10, kills
    assert told_dues(fired, dues) == dues
    assert await told(own_bus, "skipped") == []
    assert Counter(event.run for event in accepted) == Counter(event.run for event in fired)
    assert {event.trigger for event in accepted} == {"s"}
    late = max(event.at - event.due for event in fired)
    print(f"{len(dues)} ticks, {dict(kills)} kills, latest {late:.3f} s late")


async def test_no_tick_is_lost_while_the_bus_is_killed(
    server: NatsServer, own_bus: NatsBus, tmp_path: Path
) -> None:
    await ensure(own_bus, NAMES, STREAMS)
    planner = RecordingPlanner(own_bus, NAMES)
    await planner.start()
    with Fleet(tmp_path / "fleet", bus=server.url, store="", workspace="chaos") as fleet:
        members = [await asyncio.to_thread(fleet.start, "trigger") for _ in range(2)]
        wish = Schedule(name="s", pipeline="p", every=1)
        schedule = (await ask(own_bus, "create", ScheduleCommand(schedule=wish))).schedule
        for seconds in (3.0, 6.0, 9.0):
            # Down from just before a tick until after it.
            await asyncio.sleep(schedule.created_at + seconds - 0.01 - time.time())
            assert server.kill() == -9
            await asyncio.sleep(0.5)
            await asyncio.to_thread(server.start)
        end_at = schedule.created_at + 14
        await asyncio.sleep(end_at - time.time())
        dues = await all_ticks(own_bus, schedule, end_at)
        assert all(fleet.alive(member) for member in members), "a trigger gave up"
        assert [await asyncio.to_thread(fleet.terminate, member) for member in members] == [0, 0]
        fired = await told(own_bus, "fired")
    await planner.stop()
    assert told_dues(fired, dues) == dues
    assert await told(own_bus, "skipped") == []
    assert len({event.run for event in fired}) == len(fired)
    print(f"{len(dues)} ticks, latest {max(e.at - e.due for e in fired):.3f} s late")
