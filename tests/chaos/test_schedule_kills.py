"""Two triggers, a schedule, and kill -9 at random moments: each tick makes one run, none is missing.

`PENSTOCK_SEED` repeats a choice of moments. The kills are counted, and so is which replica decided,
so a lucky run without a kill, or with one idle replica, fails.
"""

import asyncio
import os
import random
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from penstock.bus.nats import NatsBus, connect
from penstock.bus.topology import ensure
from penstock.contracts.codec import decoded, encoded
from penstock.contracts.events import TriggerEvent
from penstock.contracts.schedules import Schedule, ScheduleCommand, ScheduleState, ScheduleView
from penstock.contracts.subjects import Subjects
from penstock.testing.fleet import Fleet
from penstock.testing.planner import RecordingPlanner
from penstock.testing.servers import NATS_BINARY, NatsServer, binary
from penstock_trigger.main import STREAMS

pytestmark = [pytest.mark.server, pytest.mark.slow]

WAIT_S = 30.0


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


async def ask(bus: NatsBus, names: Subjects, verb: str, command: ScheduleCommand) -> ScheduleView:
    answer = await bus.request(names.query(f"schedule.{verb}"), encoded(command))
    assert b'"error"' not in answer.data, answer.data
    return decoded(answer.data, ScheduleView)


async def events_of(bus: NatsBus, names: Subjects, name: str, what: str) -> list[TriggerEvent]:
    found: list[TriggerEvent] = []
    subject = names.trigger_event(name, what)
    await bus.replay(
        names.stream("events"), [subject], lambda s: found.append(decoded(s.data, TriggerEvent))
    )
    return found


@pytest.mark.parametrize(("every_s", "lasting_s"), [(1.0, 20.0), (2.0, 60.0)])
async def test_every_tick_makes_one_run_while_triggers_are_killed(
    server: NatsServer,
    own_bus: NatsBus,
    tmp_path: Path,
    every_s: float,
    lasting_s: float,
) -> None:
    seed = int(os.environ.get("PENSTOCK_SEED", secrets.randbelow(10**6)))
    print(f"PENSTOCK_SEED={seed}")
    choice = random.Random(seed)
    names = Subjects("chaos")
    await ensure(own_bus, names, STREAMS)
    planner = RecordingPlanner(own_bus, names)
    await planner.start()
    with Fleet(tmp_path / "fleet", bus=server.url, store="", workspace="chaos") as fleet:
        members = [await asyncio.to_thread(fleet.start, "trigger") for _ in range(2)]
        schedule = Schedule(name="s", pipeline="p", every=every_s)
        view = await ask(own_bus, names, "create", ScheduleCommand(schedule=schedule))
        created_at = view.schedule.created_at
        end_at = created_at + lasting_s
        kills = 0
        while time.time() < end_at - 1:
            # Around a tick is where it hurts: up to 5 ms before it, up to 25 ms after it.
            ticks_past = (time.time() - created_at) // every_s
            moment = created_at + (ticks_past + 1) * every_s + choice.uniform(-0.005, 0.025)
            await asyncio.sleep(max(0.0, moment - time.time()))
            victim = choice.choice(members)
            await asyncio.to_thread(fleet.kill, victim)
            kills += 1
            await asyncio.to_thread(fleet.restart, victim)
        last = created_at + every_s * ((end_at - created_at) // every_s)
        async with asyncio.timeout(WAIT_S):
            cursors = own_bus.stored(f"KV_{names.bucket('cursors')}", [names.key("cursors", "s")])
            async for stored in cursors:
                state = decoded(stored.data, ScheduleState)
                if state.last_due >= last and not state.pending:
                    break
        await ask(own_bus, names, "pause", ScheduleCommand(name="s"))
        assert all(fleet.alive(member) for member in members)
    await planner.stop()

    assert kills >= lasting_s / every_s / 4, f"only {kills} kills landed"
    fired = [e for e in await events_of(own_bus, names, "s", "fired") if e.due <= last]
    expected = [
        round(created_at + every_s * n, 3)
        for n in range(1, round((last - created_at) / every_s) + 1)
    ]
    assert [round(event.due, 3) for event in fired] == expected
    assert await events_of(own_bus, names, "s", "skipped") == []
    runs = {key.rpartition("/")[2]: run for key, run in planner.runs.items()}
    assert len(runs) >= len(expected)
    assert [event.run for event in fired] == list(runs.values())[: len(expected)]
    late = sorted(event.at - event.due for event in fired)
    copies = len(planner.requests) - len(planner.runs)
    print(f"{len(fired)} ticks, {kills} kills, {copies} copies, latest {late[-1]:.3f} s late")
