"""What steps ask for, on a real executor: GPUs of their own, and work that others found too large."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.bus import Delivery
from penstock.bus.nats import connect
from penstock.bus.topology import work_consumer
from penstock.contracts.resources import Resources
from penstock.contracts.subjects import Subjects
from penstock.contracts.work import AttemptStarted, AttemptSucceeded
from penstock.testing.attempts import Attempts, Given
from penstock.testing.fleet import Fleet
from penstock.testing.servers import NatsServer
from penstock.trees.client import TreeClient
from penstock_executor.decide.outcome import DELIVERIES_MAX
from penstock_executor.takes import TAKEN

pytestmark = pytest.mark.server

GPUS = {"CUDA_VISIBLE_DEVICES": "3,5"}
SEEN = b"import os\nprint(os.environ['CUDA_VISIBLE_DEVICES'], flush=True)\n"


@pytest.fixture(scope="module")
def fleet(nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """An executor of a machine with two GPUs, as far as its variables say."""
    root = tmp_path_factory.mktemp("room")
    workspace = f"t{secrets.token_hex(5)}"
    store = f"file:{root / 'store'}"
    with Fleet(root, bus=nats.url, store=store, workspace=workspace, environ=GPUS) as fleet:
        fleet.start("artifact")
        fleet.start("executor", slots="3", drain_s="1")
        yield fleet


@pytest.fixture
async def attempts(fleet: Fleet, nats: NatsServer, tmp_path: Path) -> AsyncIterator[Attempts]:
    names = Subjects(fleet.workspace)
    bus = await connect(nats.url, name="attempts")
    trees = TreeClient(bus, names, cache=tmp_path / "cache", patience_s=20)
    attempts = Attempts(bus, names, trees)
    await attempts.open()
    yield attempts
    await trees.close()
    await bus.close()


async def said(attempts: Attempts, given: Given) -> str:
    await given.success()
    return (await attempts.archived(given))["stdout.txt"].decode().strip()


@pytest.mark.parametrize("how", ["shell", "forked"])
async def test_steps_side_by_side_see_each_its_own_gpus(
    attempts: Attempts, tmp_path: Path, how: str
) -> None:
    go = tmp_path / "go"
    wait = f"import pathlib, time\nwhile not pathlib.Path({str(go)!r}).exists(): time.sleep(0.02)\n"
    code = await attempts.trees.put_bytes({"main.py": SEEN + wait.encode()}, "t")
    shell = f"echo $CUDA_VISIBLE_DEVICES; until [ -e {go} ]; do sleep 0.02; done"
    one: dict[str, Any] = {
        "command": "python main.py" if how == "forked" else shell,
        "code": code.digest,
        "resources": Resources(gpus=1),
    }
    both = [await attempts.give(step=f"s{n}", **one) for n in range(2)]
    await asyncio.gather(*(given.start() for given in both))
    go.touch()
    assert sorted([await said(attempts, given) for given in both]) == ["3", "5"]


async def test_who_asks_for_no_gpu_sees_what_the_executor_sees(attempts: Attempts) -> None:
    shown = "echo $CUDA_VISIBLE_DEVICES"
    assert await said(attempts, await attempts.give(shown)) == "3,5"
    two = await attempts.give(shown, resources=Resources(gpus=2))
    assert await said(attempts, two) == "3,5"
    own = await attempts.give(
        shown,
        resources=Resources(gpus=1),
        environment_variables={"CUDA_VISIBLE_DEVICES": "none"},
    )
    assert await said(attempts, own) == "none"


async def test_work_that_smaller_executors_gave_back_is_not_lost_but_run(
    fleet: Fleet, attempts: Attempts
) -> None:
    """As those do it every few seconds while the bigger one is busy or away."""
    given_back = asyncio.Event()

    async def misfit(delivery: Delivery) -> None:
        if delivery.deliveries > DELIVERIES_MAX:
            given_back.set()
        await delivery.nak()

    spec = work_consumer(attempts.names, "large")
    small = await attempts.bus.consume(spec, misfit, batch=1)
    given = await attempts.give("true", target="large", resources=Resources(cores=0.5))
    await asyncio.wait_for(given_back.wait(), 20)
    await small.close()
    name = fleet.start("executor", slots="1", targets="large")
    await given.success()
    assert [type(report) for report in given.reports] == [AttemptStarted, AttemptSucceeded]
    assert fleet.terminate(name) == 0
    assert list((fleet.directory / name / TAKEN).iterdir()) == [], "it has survived it"


async def test_work_that_an_executor_dies_of_is_counted_by_the_next_one(
    fleet: Fleet, attempts: Attempts
) -> None:
    often = asyncio.Event()

    async def misfit(delivery: Delivery) -> None:
        if delivery.deliveries > DELIVERIES_MAX:
            often.set()
        await delivery.nak()

    name = fleet.start("executor", slots="1", targets="deadly")
    fleet.kill(name)
    small = await attempts.bus.consume(work_consumer(attempts.names, "deadly"), misfit, batch=1)
    given = await attempts.give("true", target="deadly", resources=Resources(cores=0.5))
    await asyncio.wait_for(often.wait(), 20)
    await small.close()
    fleet.restart(name, environ={"PENSTOCK_CRASH_AT": "executor.after-take"})
    dying = fleet.members[name].process
    assert await asyncio.to_thread(dying.wait, 20) == -9
    (count,) = (fleet.directory / name / TAKEN).iterdir()
    assert count.read_bytes() == b"."
    count.write_bytes(b"." * DELIVERIES_MAX)  # as often as it may
    fleet.restart(name)
    failure = await given.failure()
    assert (failure.failure.code, failure.retriable) == ("E_LOST", True)
    assert fleet.terminate(name) == 0
    assert not count.exists()
