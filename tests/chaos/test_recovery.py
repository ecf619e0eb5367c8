"""How soon work goes on after a death, and that who was only paused cannot do harm when it wakes."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.integration.test_scheduler_on_nats import Story, named, step, story, submit

from penstock.bus.nats import NatsBus, connect
from penstock.contracts.plans import PlanHead, PlannedOutput
from penstock.contracts.subjects import Subjects
from penstock.testing.fleet import Fleet
from penstock.testing.servers import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.slow]

RETRIED_S = 45.0
"""An attempt of a dead executor runs elsewhere by then (README, promise 3)."""
TAKEN_OVER_S = 5.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path / "nats")
    server.start()
    yield server
    if server.process is not None:
        server.stop()


@pytest.fixture
def fleet(server: NatsServer, workspace: str, tmp_path: Path) -> Iterator[Fleet]:
    store = f"file:{tmp_path / 'store'}"
    with Fleet(tmp_path / "fleet", bus=server.url, store=store, workspace=workspace) as fleet:
        fleet.start("artifact")
        fleet.start("scheduler")
        fleet.start("executor", slots="1")
        yield fleet


@pytest.fixture
async def bus(server: NatsServer) -> AsyncIterator[NatsBus]:
    connection = await connect(server.url, name="recovery")
    yield connection
    await connection.close()


async def begun(fleet: Fleet, bus: NatsBus, names: Subjects, side: Path, gate: Path) -> Story:
    """Return the story of a run whose one step writes where it runs until the gate is there."""
    command = (
        f"until [ -e {gate} ]; do echo ${{{{outputs.o}}}} >> {side}; sleep 0.1; done; "
        "printf done > ${{outputs.o}}"
    )
    head = PlanHead(run=named(str(side)), pipeline="p", reuse="off")
    output = {"o": PlannedOutput(type="uri_file")}
    run = await submit(bus, names, head, step("a", command=command, outputs=output))
    told = await story(bus, names, run)
    await told.until("started", step="a")
    return told


def lines_of(side: Path, delivery: int) -> int:
    """Return how many lines a delivery's step has written."""
    lines = side.read_text().splitlines() if side.exists() else []
    return sum(f"-a-1-{delivery}/" in line for line in lines)


async def written(side: Path, delivery: int, more: int) -> int:
    """Return how many lines a delivery's step has written, once there are more than `more`."""
    async with asyncio.timeout(30):
        while True:
            count = lines_of(side, delivery)
            if count > more:
                return count
            await asyncio.sleep(0.05)


async def test_a_paused_executor_that_wakes_is_fenced_and_its_step_is_killed(
    fleet: Fleet, bus: NatsBus, names: Subjects, tmp_path: Path
) -> None:
    side, gate = tmp_path / "side", tmp_path / "gate"
    told = await begun(fleet, bus, names, side, gate)
    paused = fleet.members["executor-1"].process
    paused.send_signal(signal.SIGSTOP)
    second = fleet.start("executor", slots="1")
    async with asyncio.timeout(RETRIED_S):
        await told.until("started", step="a", count=2)
    first_lines = await written(side, 1, 0)
    await written(side, 2, 0)
    assert await written(side, 1, first_lines) > first_lines, "its step runs while it sleeps"
    paused.send_signal(signal.SIGCONT)
    log = fleet.members["executor-1"].log
    async with asyncio.timeout(30):
        while "fenced" not in log.read_text():  # noqa: ASYNC110 - another process's file
            await asyncio.sleep(0.05)
    old = await written(side, 1, 0)
    new = await written(side, 2, 0)
    await written(side, 2, new + 10)  # for a second, the other one writes, and the first does not
    assert await written(side, 1, 0) <= old + 1
    gate.touch()
    events = await told.ended()
    assert [e.what for e in events if e.step] == ["queued", "started", "started", "succeeded"]
    assert f'"{second}"' in told.told[-2].body.decode(), "the second executor's result counts"


async def test_an_attempt_of_a_killed_executor_runs_elsewhere_soon(
    fleet: Fleet, bus: NatsBus, names: Subjects, tmp_path: Path
) -> None:
    side, gate = tmp_path / "side", tmp_path / "gate"
    told = await begun(fleet, bus, names, side, gate)
    fleet.start("executor", slots="1")
    fleet.kill("executor-1")
    async with asyncio.timeout(RETRIED_S):
        await told.until("started", step="a", count=2)
    gate.touch()
    assert (await told.ended())[-1].what == "succeeded"


async def test_a_killed_scheduler_s_runs_go_on_with_another_soon(
    fleet: Fleet, bus: NatsBus, names: Subjects, tmp_path: Path
) -> None:
    side, gate = tmp_path / "side", tmp_path / "gate"
    told = await begun(fleet, bus, names, side, gate)
    fleet.start("scheduler")
    gate.touch()
    fleet.kill("scheduler-1")
    async with asyncio.timeout(TAKEN_OVER_S):
        await told.until("succeeded")
    await told.ended()
