"""The harness itself: its oracle, its proxy, and that every invariant notices what it is there for."""

import asyncio
import hashlib
import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.chaos.harness import disks
from tests.chaos.harness.disks import MIB, Disk
from tests.chaos.harness.evidence import BODY, LINK, Event, Evidence, Queue, Vitals
from tests.chaos.harness.graphs import SCRIPT, Graph, Kind, Step, Surroundings, graph
from tests.chaos.harness.invariants import INVARIANTS, violations
from tests.chaos.harness.proxy import Mode, Proxy
from tests.chaos.harness.side_ledger import Execution, executions
from tests.chaos.harness.stack import Kill, Landed
from tests.chaos.harness.workload import Submission

from penstock.testing.servers import free_port

RUN = "06frx4xyz000001"
TREE = "d" * 64


# -- the oracle -------------------------------------------------------------------------------------
def test_one_seed_makes_one_graph() -> None:
    assert graph(random.Random(7)) == graph(random.Random(7))
    assert graph(random.Random(7)) != graph(random.Random(8))


def test_the_oracle_knows_what_the_shell_writes(tmp_path: Path) -> None:
    kinds: tuple[Kind, ...] = ("quick", "big", "files", "flood", "python", "flaky", "slow")
    steps = [Step("first", "quick", "t0")]
    for kind in kinds:
        steps.append(Step(kind, kind, f"t-{kind}", (steps[-1].name, "first")[: len(steps)]))
    wanted = Graph(tuple(steps))
    where = Surroundings(tmp_path / "ledger", "mark", "c" * 64, slow_s=0)
    (tmp_path / "step.py").write_bytes(SCRIPT)
    spec: dict[str, Any] = wanted.spec(where)["steps"]  # type: ignore[assignment]
    for step in wanted.steps:
        command = spec[step.name]["command"].replace("${{outputs.o}}", f"{tmp_path}/{step.name}")
        for name, source in spec[step.name]["inputs"].items():
            of = source["path"].split(".")[2]
            command = command.replace(f"${{{{inputs.{name}}}}}", f"{tmp_path}/{of}")
        variables = {
            "PATH": "/usr/bin:/bin",
            "PENSTOCK_RUN_ID": RUN,
            "PENSTOCK_STEP": step.name,
            "PENSTOCK_ATTEMPT": "1",
        }
        done = subprocess.run(
            ["/bin/bash", "-c", command.replace("python step", "python3 step")],
            cwd=tmp_path,
            env=variables,
            capture_output=True,
            check=True,
        )
        assert done.stdout == wanted.stdout(step.name)
        output = tmp_path / step.name
        files = {p.name: p for p in output.iterdir()} if output.is_dir() else {"o": output}
        found = {name: hashlib.sha256(p.read_bytes()).hexdigest() for name, p in files.items()}
        assert found == wanted.outputs()[step.name]
    assert [x.step for x in executions(where.ledger)] == [step.name for step in wanted.steps]


# -- the proxy --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("mode", "comes_back"),
    [
        ("pass", True),
        ("delay", True),
        ("slow", True),
        ("reset", False),
        ("blackhole", False),
        ("half-up", False),
        ("half-down", False),
        ("truncate", False),
    ],
)
async def test_the_proxy_does_what_its_mode_says_and_heals(mode: Mode, comes_back: bool) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    port = free_port()
    server = await asyncio.start_server(echo, "127.0.0.1", port)
    async with server, Proxy(port) as proxy:
        proxy.set(mode)
        assert await answered(proxy.port) == comes_back
        assert bool(proxy.hits) == (mode != "pass")
        proxy.set("pass")
        assert await answered(proxy.port)


async def answered(port: int) -> bool:
    """Say whether a kilobyte comes back through the proxy."""
    try:
        async with asyncio.timeout(0.7):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(bytes(1024))
                return await reader.readexactly(1024) == bytes(1024)
            finally:
                writer.transport.abort()
    except (TimeoutError, OSError, asyncio.IncompleteReadError):
        return False


# -- the disks --------------------------------------------------------------------------------------
@pytest.mark.skipif(not disks.possible(), reason="only root can mount a loop image")
def test_a_power_cut_keeps_what_was_synced_and_a_full_disk_takes_nothing(tmp_path: Path) -> None:
    disk = Disk(tmp_path, "disk", 64)
    disk.make()
    try:
        with (disk.point / "synced").open("wb", buffering=0) as file:
            file.write(b"kept")
            subprocess.run(["sync", str(disk.point / "synced")], check=True)
        (disk.point / "hasty").write_bytes(b"lost")
        disk.cut()
        disk.come_back()
        assert (disk.point / "synced").read_bytes() == b"kept"
        assert not (disk.point / "hasty").exists() or not (disk.point / "hasty").read_bytes()
        assert disk.fill() > 30 * MIB
        with pytest.raises(OSError, match="No space left"):
            (disk.point / "more").write_bytes(bytes(MIB))
        disk.free()
        (disk.point / "more").write_bytes(bytes(MIB))
    finally:
        disk.unmount()


# -- the invariants ---------------------------------------------------------------------------------
def told(*events: Event) -> list[Event]:
    """Number and chain events as the stream keeps them."""
    link = ""
    for number, event in enumerate(events, 1):
        event["seq"] = number
        event[BODY] = json.dumps(event).encode()
        event[LINK] = link = hashlib.sha256(link.encode() + event[BODY]).hexdigest()
    return list(events)


def sound() -> Evidence:
    """Return the evidence of two steps, one killed executor and one tick, with nothing wrong."""
    wanted = Graph((Step("a", "quick", "ta"), Step("b", "quick", "tb", ("a",))))
    hashes = wanted.outputs()
    trees = {"a": "a" * 64, "b": "b" * 64}
    logs = {"a": "1" * 64, "b": "2" * 64}

    def step(name: str, what: str, **fields: object) -> Event:
        return {"step": name, "what": what, "attempt": 1, **fields}

    def success(name: str, attempt: int) -> Event:
        outputs = {"o": {"digest": trees[name]}}
        log = {"digest": logs[name]}
        return step(name, "succeeded", attempt=attempt, outputs=outputs, logs=log)

    run = told(
        {"what": "accepted", "tags": {"key": "k"}},
        {"what": "started"},
        step("a", "queued"),
        step("a", "started"),
        step("a", "started"),
        success("a", 1),
        step("b", "queued"),
        step("b", "started"),
        step("b", "retrying"),
        step("b", "queued", attempt=2),
        step("b", "started", attempt=2),
        success("b", 2),
        {"what": "succeeded"},
    )
    tick = told({"what": "accepted"}, {"what": "started"}, {"what": "succeeded"})
    return Evidence(
        submissions=[Submission(key="k", graph=wanted, run=RUN, answers={RUN})],
        runs={RUN: run, "tick": tick},
        ticks=[100.0],
        fired=[{"due": 100.0, "run": "tick"}],
        skipped=[],
        executions=[
            Execution(RUN, "a", 1, 7, 1.0),
            *(Execution(RUN, "b", n, 8, 2.0) for n in (1, 2)),
        ],
        views={RUN: "succeeded", "tick": "succeeded"},
        queues=[Queue("work", 0, 0, 0)],
        dead=[],
        processes=[],
        folders=[],
        mounts=[],
        vitals={"executor-1": Vitals(80, 20, 9)},
        busy={"executor-1": 0},
        landed=Landed(
            kills=[Kill("executor", "executor-1", 10, 1.0)], births={"executor-1": [10, 11]}
        ),
        trees={trees[name]: hashes[name] for name in ("a", "b")},
        logs={logs[name]: {"stdout.txt": wanted.stdout(name)} for name in ("a", "b")},
        reuse={"f": {"ended_at": 1, "outputs": {"o": {"digest": trees["a"]}}}},
    )


def event(e: Evidence, what: str, step: str) -> Event:
    return next(x for x in e.runs[RUN] if x["what"] == what and x.get("step", "") == step)


def chained(change: Callable[[list[Event]], object]) -> Callable[[Evidence], object]:
    """Change a run's events and number and chain them anew, so that only the change is wrong."""

    def changed(e: Evidence) -> None:
        change(e.runs[RUN])
        for x in e.runs[RUN]:
            for name in (BODY, LINK, "seq"):
                x.pop(name, None)
        e.runs[RUN] = told(*e.runs[RUN])

    return changed


def moved(what: str, step: str, to: int) -> Callable[[list[Event]], None]:
    def move(events: list[Event]) -> None:
        at = next(n for n, x in enumerate(events) if (x["what"], x.get("step")) == (what, step))
        events.insert(to, events.pop(at))

    return move


def waiting_after_a_cut(e: Evidence) -> None:
    """A power cut excuses what is owed to nobody, not what waits."""
    e.landed.note("power", "broker")
    e.queues.append(Queue("inbox", 1, 1, 0))


WRONGS: dict[str, list[Callable[[Evidence], object]]] = {
    "i1_every_accepted_run_has_one_end": [
        chained(lambda events: events.append({"what": "failed"})),
        chained(lambda events: events.pop()),
        lambda e: e.submissions[0].answers.add("another"),
        lambda e: e.submissions[0].refusals.append("E_INTERNAL"),
        lambda e: e.views.update({RUN: "running"}),
    ],
    "i2_every_success_has_the_right_bytes": [
        lambda e: e.trees["a" * 64].update({"o": "0"}),  # type: ignore[union-attr]
        chained(lambda events: events.insert(6, dict(events[5]))),
        chained(lambda events: events.pop(5)),
    ],
    "i3_every_success_was_executed": [lambda e: e.executions.pop()],
    "i4_no_step_starts_before_its_inputs": [chained(moved("queued", "b", 2))],
    "i5_no_old_attempt_wins": [
        lambda e: event(e, "succeeded", "b").update(attempt=1),
        chained(lambda events: events.append({"what": "started", "step": "a", "attempt": 1})),
    ],
    "i6_the_event_log_has_no_holes": [
        lambda e: e.runs[RUN].pop(4),
        lambda e: e.runs[RUN][3].update({BODY: b"{}"}),
    ],
    "i7_every_tick_made_one_run": [
        lambda e: e.fired.clear(),
        lambda e: e.fired.append(dict(e.fired[0])),
        lambda e: e.skipped.append({"due": 100.0, "reason": "late"}),
        lambda e: e.runs.pop("tick"),
    ],
    "i8_nothing_is_left_behind": [
        lambda e: e.processes.append(1),
        lambda e: e.folders.append("/x"),
        lambda e: e.mounts.append("/x"),
    ],
    "i9_every_queue_is_empty": [
        lambda e: e.queues.append(Queue("inbox", 1, 0, 0)),
        lambda e: e.queues.append(Queue("inbox", 0, 0, 1)),
        lambda e: e.dead.append("w.dead.inbox"),
        waiting_after_a_cut,
    ],
    "i10_everything_committed_can_be_read": [lambda e: e.logs.update({"x": "NotFound"})],
    "i11_logs_hold_what_steps_wrote": [
        lambda e: e.logs["1" * 64].update({"stdout.txt": b"t"}),  # type: ignore[union-attr]
        lambda e: event(e, "succeeded", "a").pop("logs"),
    ],
    "i12_every_slot_is_free": [
        lambda e: e.busy.update({"executor-1": 1}),
        lambda e: e.busy.clear(),
    ],
    "i13_services_stay_small": [lambda e: e.vitals.update({"planner-1": Vitals(900, 9, 9)})],
    "i14_what_may_be_reused_is_there": [
        lambda e: e.reuse.update({"g": {"ended_at": 1, "outputs": {"o": {"digest": TREE}}}})
    ],
    "i15_the_faults_landed": [
        lambda e: e.landed.births["executor-1"].pop(),
        lambda e: e.landed.births["executor-1"].remove(10),
        chained(lambda events: events.pop(4)),
        chained(lambda events: events.pop(8)),
    ],
}


def test_evidence_with_nothing_wrong_passes() -> None:
    assert violations(sound()) == {}


@pytest.mark.parametrize(
    ("name", "wrong"), [(name, wrong) for name, wrongs in WRONGS.items() for wrong in wrongs]
)
def test_each_invariant_notices_what_it_is_there_for(
    name: str, wrong: Callable[[Evidence], object]
) -> None:
    evidence = sound()
    wrong(evidence)
    assert name in violations(evidence)


def test_every_invariant_is_tested() -> None:
    assert set(WRONGS) == {invariant.__name__ for invariant in INVARIANTS}
