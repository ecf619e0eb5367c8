"""Two copies of every service on an outside NATS and an outside store; anything may be killed.

The workload's outputs are known without the system, and each execution writes a line into a ledger
beside it, so that "nothing lost, nothing committed twice" is checked against something else than
the system's own word.
"""

import asyncio
import hashlib
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import nats as nats_client
import pytest

from penstock.bus import Stored
from penstock.bus.nats import connect
from penstock.contracts.subjects import Subjects
from penstock.testing.fleet import SERVICES, Fleet
from penstock.testing.servers import NatsServer
from penstock.testing.stores import MinioServer, minio_binary
from penstock.trees.client import TreeClient

pytestmark = [pytest.mark.server, pytest.mark.slow]

STEPS = 24
WAIT_S = 150.0


def spec_of(ledger: Path, seconds: float) -> dict[str, object]:
    """A three-row lattice: every output is a digest of the step's name and its inputs' bytes."""
    steps: dict[str, object] = {}
    for n in range(STEPS):
        needs = [f"s{m:02}" for m in (n - 3, n - 4) if m >= 0]
        cat = " ".join(f"${{{{inputs.i{k}}}}}" for k in range(len(needs)))
        steps[f"s{n:02}"] = {
            "command": (
                f'echo "$PENSTOCK_STEP $PENSTOCK_ATTEMPT $$" >> {ledger}; sleep {seconds}; '
                f"(echo s{n:02}; cat {cat} /dev/null) | sha256sum | cut -c1-64 > ${{{{outputs.o}}}}"
            ),
            "inputs": {
                f"i{k}": f"${{{{parent.jobs.{need}.outputs.o}}}}" for k, need in enumerate(needs)
            },
            "outputs": {"o": {"type": "uri_file"}},
            "limits": {"retries": 5, "retry_delay": 0.1},
        }
    return {"name": "lattice", "steps": steps}


def expected() -> dict[str, str]:
    texts: dict[str, str] = {}
    for n in range(STEPS):
        body = f"s{n:02}\n" + "".join(texts[f"s{m:02}"] for m in (n - 3, n - 4) if m >= 0)
        texts[f"s{n:02}"] = hashlib.sha256(body.encode()).hexdigest() + "\n"
    return texts


async def submitted(url: str, workspace: str, body: Mapping[str, object]) -> str:
    """Ask for a run as an outsider does, again and again with one key until there is an answer."""
    client = await nats_client.connect(url, max_reconnect_attempts=-1, reconnect_time_wait=0.1)
    try:
        for _ in range(60):
            try:
                answer = await client.request(
                    f"{workspace}.request.run", json.dumps(body).encode(), timeout=2
                )
            except nats_client.errors.Error:
                await asyncio.sleep(0.2)
                continue
            told = json.loads(answer.data)
            assert "error" not in told, told
            return str(told["run"])
    finally:
        await client.close()
    raise AssertionError("no planner answered")


async def ended(
    url: str, names: Subjects, run: str, kill: Callable[[int], Awaitable[None]]
) -> list[dict[str, object]]:
    """Follow a run to its end, telling `kill` the number of each event; return all of its events."""
    bus = await connect(url, name="watcher")
    events: list[dict[str, object]] = []
    over = asyncio.Event()

    async def on_event(stored: Stored) -> None:
        event = json.loads(stored.data)
        events.append(event)
        await kill(len(events))
        if ".run." in stored.subject and event["what"] in ("succeeded", "failed", "cancelled"):
            over.set()

    subscription = await bus.follow(names.stream("events"), [names.run_events(run)], on_event)
    try:
        await asyncio.wait_for(over.wait(), WAIT_S)
    finally:
        await subscription.close()
        await bus.close()
    return events


async def checked(url: str, names: Subjects, events: list[dict[str, object]]) -> None:
    """Every step succeeded once, events are 1..n, and every output has the bytes it must have."""
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["what"] == "succeeded", events[-1]
    done = Counter(
        e["step"] for e in events if e["what"] in ("succeeded", "reused") and "step" in e
    )
    assert done == Counter(list(expected()))
    bus = await connect(url, name="checker")
    try:
        trees = TreeClient(bus, names)
        for event in events:
            if event["what"] == "succeeded" and "step" in event:
                outputs = event["outputs"]
                assert isinstance(outputs, dict)
                digest = outputs["o"]["digest"]
                (entry,) = (await trees.manifest(digest)).entries
                text = (await trees.read(digest, entry.path)).decode()
                assert text == expected()[str(event["step"])]
    finally:
        await bus.close()


@pytest.fixture
async def own_nats(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A server of this test's own: it will be killed."""
    server = NatsServer(tmp_path / "nats")
    server.start()
    yield server
    if server.process is not None:
        server.stop()


def fleet_of(fleet: Fleet) -> None:
    for service in SERVICES:
        for _ in range(2):
            fleet.start(service, **({"slots": "2"} if service == "executor" else {}))


async def test_any_service_may_be_killed_in_the_middle_of_its_work(
    tmp_path: Path, own_nats: NatsServer, workspace: str, minio_url: str
) -> None:
    names = Subjects(workspace)
    ledger = tmp_path / "ledger"
    chance = random.Random(20261121)
    with Fleet(tmp_path / "fleet", bus=own_nats.url, store=minio_url, workspace=workspace) as fleet:
        fleet_of(fleet)
        members = sorted(fleet.members)
        kills: list[str] = []

        async def kill(seen: int) -> None:
            if seen % 5 or len(kills) >= len(members):
                return
            name = members[len(kills)]
            await asyncio.to_thread(fleet.kill, name)
            kills.append(name)
            await asyncio.sleep(chance.random() * 0.5)
            await asyncio.to_thread(fleet.restart, name)

        run = await submitted(own_nats.url, workspace, {"spec": spec_of(ledger, 0.3)})
        events = await ended(own_nats.url, names, run, kill)
        assert len(kills) == len(members), f"only {kills} were killed"
        await checked(own_nats.url, names, events)
    executions = Counter(line.split()[0] for line in ledger.read_text().splitlines())
    assert set(executions) == set(expected())


async def test_nats_server_may_be_killed_in_the_middle_of_a_run(
    tmp_path: Path, own_nats: NatsServer, workspace: str, minio_url: str
) -> None:
    names = Subjects(workspace)
    with Fleet(tmp_path / "fleet", bus=own_nats.url, store=minio_url, workspace=workspace) as fleet:
        fleet_of(fleet)
        codes: list[int] = []

        async def kill(seen: int) -> None:
            if seen in (6, 20, 40):
                codes.append(await asyncio.to_thread(own_nats.kill))
                await asyncio.to_thread(own_nats.start)

        body = {"spec": spec_of(tmp_path / "ledger", 0.2)}
        run = await submitted(own_nats.url, workspace, body)
        events = await ended(own_nats.url, names, run, kill)
        assert codes == [-9, -9, -9]
        await checked(own_nats.url, names, events)


async def test_minio_may_be_killed_in_the_middle_of_a_run(
    tmp_path: Path, nats: NatsServer, workspace: str
) -> None:
    if minio_binary() is None:
        pytest.skip("there is no minio: go install it, see .ci/run")
    names = Subjects(workspace)
    store = MinioServer(tmp_path / "minio")
    store.start()
    url = store.url("chaos")
    try:
        with Fleet(tmp_path / "fleet", bus=nats.url, store=url, workspace=workspace) as fleet:
            fleet_of(fleet)
            codes: list[int] = []

            async def kill(seen: int) -> None:
                if seen in (6, 25, 45):
                    codes.append(await asyncio.to_thread(store.kill))
                    await asyncio.sleep(1)  # long enough that somebody meets its absence
                    await asyncio.to_thread(store.start)

            body = {"spec": spec_of(tmp_path / "ledger", 0.2)}
            run = await submitted(nats.url, workspace, body)
            events = await ended(nats.url, names, run, kill)
            assert codes == [-9, -9, -9]
            await checked(nats.url, names, events)
    finally:
        if store.process is not None:
            store.kill()
