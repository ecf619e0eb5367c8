"""Executors and what they stand on, killed and paused while attempts run."""

import asyncio
import os
import secrets
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from penstock.bus.nats import connect
from penstock.contracts.plans import PlannedOutput
from penstock.contracts.subjects import Subjects
from penstock.contracts.work import AttemptStarted, WorkInput
from penstock.sdk.conversation import Conversation
from penstock.sdk.executors import present, waits_of
from penstock.testing.attempts import Attempts, Given, marked_processes
from penstock.testing.fleet import Fleet
from penstock.testing.servers import NatsServer
from penstock.trees.client import TreeClient
from penstock.units import MIB

pytestmark = [pytest.mark.server, pytest.mark.slow]

ACK_WAIT_S = 15.0
DAEMONS = (
    "import os, signal, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "if os.fork() == 0:\n"
    "    os.setsid()\n"
    "    if os.fork() == 0: time.sleep(600)\n"
    "    os._exit(0)\n"
    "os.wait()\n"
    "time.sleep(600)\n"
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path / "nats")
    server.start()
    yield server
    if server.process is not None:
        server.stop()


@pytest.fixture
def fleet(server: NatsServer, tmp_path: Path) -> Iterator[Fleet]:
    workspace = f"t{secrets.token_hex(5)}"
    store = f"file:{tmp_path / 'store'}"
    with Fleet(tmp_path / "fleet", bus=server.url, store=store, workspace=workspace) as fleet:
        fleet.start("artifact")
        yield fleet


@pytest.fixture
async def attempts(fleet: Fleet, server: NatsServer) -> AsyncIterator[Attempts]:
    bus = await connect(server.url, name="attempts")
    names = Subjects(fleet.workspace)
    trees = TreeClient(bus, names, patience_s=20)
    attempts = Attempts(bus, names, trees)
    await attempts.open()
    yield attempts
    await trees.close()
    await bus.close()


async def until(true: Callable[[], object], timeout_s: float = 30) -> None:
    """Return once `true` returns something true."""
    async with asyncio.timeout(timeout_s):
        while not true():  # noqa: ASYNC110 - other processes set no events of ours
            await asyncio.sleep(0.02)


async def eventually(true: Callable[[], Awaitable[object]], timeout_s: float = 30) -> None:
    """Return once `true` returns something true."""
    async with asyncio.timeout(timeout_s):
        while not await true():  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.05)


def start(fleet: Fleet, mode: str, **flags: str) -> str:
    """Start an executor on the data folder that all of this fleet share."""
    flags = {"slots": "1", "namespace": mode, "data_dir": str(fleet.directory / "data"), **flags}
    return fleet.start("executor", **flags)


def executors(given: Given) -> list[str]:
    return [report.executor for report in given.reports if isinstance(report, AttemptStarted)]


@pytest.mark.parametrize("mode", ["auto", "off"])
async def test_after_a_kill_nothing_is_left_and_another_executor_finishes_the_attempt(
    fleet: Fleet, attempts: Attempts, tmp_path: Path, mode: str
) -> None:
    first = start(fleet, mode)
    mark = f"mark-{secrets.token_hex(8)}"
    flag = tmp_path / "second"
    given = await attempts.give(
        f"if [ -e {flag} ]; then printf done > ${{{{outputs.o}}}}; "
        f"else touch {flag}; exec python -c '{DAEMONS}'; fi",
        environment_variables={"MARK": mark},
        outputs={"o": PlannedOutput(type="uri_file")},
    )
    await until(flag.exists)
    await until(lambda: len(marked_processes(mark)) >= 2)  # main and daemon
    await given.start()
    killed_at = time.monotonic()
    fleet.kill(first)
    await until(lambda: not marked_processes(mark), timeout_s=5)
    second = start(fleet, mode)
    result = await given.success(timeout_s=60)
    assert time.monotonic() - killed_at < ACK_WAIT_S + 15
    assert result.executor == second
    assert result.delivery == 2
    assert executors(given) == [first, second]
    assert await attempts.files(result.outputs["o"].digest) == {"o": b"done"}
    folder = fleet.directory / "data" / "attempts"
    await until(lambda: not list(folder.iterdir()))


async def test_a_successor_kills_and_removes_what_its_predecessor_could_not(
    fleet: Fleet, attempts: Attempts
) -> None:
    first = start(fleet, "off")
    mark = f"mark-{secrets.token_hex(8)}"
    given = await attempts.give("sleep 600", environment_variables={"MARK": mark})
    await until(lambda: marked_processes(mark))
    executor = fleet.members[first].process.pid
    launchers = children(executor)
    keepers = [pid for launcher in launchers for pid in children(launcher)]
    for pid in (*keepers, *launchers):  # nobody who could clean up is left
        os.kill(pid, signal.SIGSTOP)
    fleet.kill(first)
    for pid in (*keepers, *launchers):
        os.kill(pid, signal.SIGKILL)
    assert marked_processes(mark)
    start(fleet, "off", drain_s="0")
    await until(lambda: not marked_processes(mark) or len(given.reports) > 1, timeout_s=10)
    folder = fleet.directory / "data" / "attempts"
    assert not list(folder.glob(f"{given.item.run}*-1"))


async def test_two_executors_on_one_folder_leave_each_others_attempts_alone(
    fleet: Fleet, attempts: Attempts
) -> None:
    start(fleet, "auto")
    given = await attempts.give(
        "echo begin; read -t 3 x < <(sleep 2); printf ok > ${{outputs.o}}",
        outputs={"o": PlannedOutput(type="uri_file")},
    )
    await given.start()
    start(fleet, "auto")  # sweeps at its start
    result = await given.success()
    assert await attempts.files(result.outputs["o"].digest) == {"o": b"ok"}


async def test_an_executor_of_two_targets_takes_work_of_both_within_its_slots(
    fleet: Fleet, attempts: Attempts, tmp_path: Path
) -> None:
    start(fleet, "auto", targets="cpu,gpu")
    lock = tmp_path / "lock"
    command = f"mkdir {lock} && sleep 0.2 && rmdir {lock}"  # two at a time would fail
    given = [
        await attempts.give(command, step=f"s{number}", target=("cpu", "gpu")[number % 2])
        for number in range(6)
    ]
    for one in given:
        await one.success()


async def test_a_drained_executor_gives_back_what_it_cannot_finish(
    fleet: Fleet, attempts: Attempts, tmp_path: Path
) -> None:
    first = start(fleet, "auto", slots="2", drain_s="1")
    flag = tmp_path / "second"
    quick = await attempts.give("sleep 0.5; echo ok", step="quick")
    long = await attempts.give(
        f"if [ -e {flag} ]; then echo ok; else touch {flag}; sleep 600; fi", step="long"
    )
    await until(flag.exists)
    await quick.start()
    second = start(fleet, "auto")
    began = time.monotonic()
    assert fleet.terminate(first) == 0
    assert time.monotonic() - began < 10
    assert (await quick.success()).executor == first
    result = await long.success(timeout_s=10)  # at once: given back, not timed out
    assert result.executor == second


async def test_a_dead_launcher_ends_the_executor_and_the_attempt_runs_elsewhere(
    fleet: Fleet, attempts: Attempts, tmp_path: Path
) -> None:
    first = start(fleet, "auto")
    flag = tmp_path / "second"
    mark = f"mark-{secrets.token_hex(8)}"
    given = await attempts.give(
        f"if [ -e {flag} ]; then echo ok; else touch {flag}; sleep 600; fi",
        environment_variables={"MARK": mark},
    )
    await until(flag.exists)
    os.kill(launcher_of(fleet.members[first].process.pid), signal.SIGKILL)
    await until(lambda: not fleet.alive(first))
    await until(lambda: not marked_processes(mark), timeout_s=5)
    second = start(fleet, "auto")
    result = await given.result(timeout_s=60)
    assert result.executor in (first, second)


async def test_the_bus_may_be_away_while_a_step_runs_and_ends(
    fleet: Fleet, server: NatsServer, attempts: Attempts, tmp_path: Path
) -> None:
    name = start(fleet, "auto")
    counter = tmp_path / "counter"
    given = await attempts.give(
        f"echo run >> {counter}; echo before; sleep 2; echo after; printf x > ${{{{outputs.o}}}}",
        outputs={"o": PlannedOutput(type="uri_file")},
    )
    await until(counter.exists)
    server.kill()
    await asyncio.sleep(4)  # the step ends meanwhile: an outage has to last, there is no event
    server.start()
    result = await given.success(timeout_s=60)
    assert result.executor == name
    assert counter.read_text() == "run\n", "the executor knew that it ran, or had run, the attempt"
    files = await attempts.archived(given)
    assert files["stdout.txt"] == b"before\nafter\n"
    assert await attempts.live_log(given, "stdout") == b"before\nafter\n"
    assert len(given.results) == 1


async def test_a_long_outage_of_the_bus_starts_no_second_copy_on_the_same_executor(
    fleet: Fleet, server: NatsServer, attempts: Attempts, tmp_path: Path
) -> None:
    start(fleet, "auto", slots="2")
    counter, stop = tmp_path / "counter", tmp_path / "stop"
    given = await attempts.give(f"echo run >> {counter}; while [ ! -e {stop} ]; do sleep 0.1; done")
    await until(counter.exists)
    server.kill()
    await asyncio.sleep(ACK_WAIT_S + 2)  # the loan runs out meanwhile
    server.start()
    await asyncio.sleep(3)  # and the work is offered again
    stop.touch()
    await given.success(timeout_s=60)
    assert counter.read_text() == "run\n"
    assert len(given.results) == 1


async def test_the_artifact_service_may_be_away_and_the_log_says_so(
    fleet: Fleet, attempts: Attempts, tmp_path: Path
) -> None:
    start(fleet, "auto")
    data = await attempts.trees.put_bytes({"x": b"x"}, "test")
    fleet.kill("artifact-1")
    given = await attempts.give(
        "cp ${{inputs.data}}/x ${{outputs.o}}",
        inputs={"data": WorkInput(type="uri_folder", artifact=data.digest)},
        outputs={"o": PlannedOutput(type="uri_file")},
    )

    async def told() -> bool:
        chunks = await attempts.chunks(given)
        return any(b"input data: waiting for the store" in chunk.data for chunk in chunks)

    await eventually(told, timeout_s=40)
    assert not given.results
    talk = Conversation(attempts.bus, attempts.names)
    where = (given.item.run, given.item.step)
    said = waits_of(*where, await present(talk))
    assert said.startswith("waits for the store since ")
    fleet.restart("artifact-1")
    result = await given.success(timeout_s=60)
    assert await attempts.files(result.outputs["o"].digest) == {"o": b"x"}


async def test_a_stop_ends_an_attempt_that_waits_for_the_store(
    fleet: Fleet, attempts: Attempts
) -> None:
    start(fleet, "auto")
    fleet.kill("artifact-1")
    given = await attempts.give(
        "true", inputs={"data": WorkInput(type="uri_folder", artifact="ab" * 32)}
    )
    for _ in range(100):  # repeated, as the scheduler does: the attempt may not be there yet
        await attempts.stop(given, reason="superseded", grace_s=0)
        if given.ended.is_set():
            break
        await asyncio.sleep(0.2)
    failure = (await given.failure(timeout_s=20)).failure
    assert failure.code == "E_CANCELLED"
    assert "preparing" in failure.message


@pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a small disk")
async def test_a_full_disk_is_waited_for_and_a_step_that_fills_it_hurts_only_itself(
    fleet: Fleet, attempts: Attempts, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(disk)]
    await asyncio.to_thread(lambda: subprocess.run(mount, check=True))
    try:
        name = start(fleet, "auto", data_dir=str(disk))
        filling = await attempts.give("echo begin; head -c 200M /dev/zero > big || exit 3")
        result = await filling.failure()
        assert (result.failure.code, result.failure.exit_code) == ("E_EXIT", 3)
        assert "No space left" in result.failure.log_tail
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(60 * MIB))
        waiting = await attempts.give("echo ok")
        await until(lambda: "E_DISK" in fleet.tail(name))
        assert not waiting.reports
        ballast.unlink()
        await waiting.success()
        fleet.stop()
    finally:
        umount = ["umount", "-l", str(disk)]
        await asyncio.to_thread(lambda: subprocess.run(umount, check=True))


def launcher_of(executor: int) -> int:
    """Return the id of an executor's launcher; beside it stand the fork servers."""
    (launcher,) = [
        pid
        for pid in children(executor)
        if b"launcher.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    return launcher


def children(parent: int) -> list[int]:
    """Return the ids of a process's children."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                text = (folder / "stat").read_text()
            except OSError:
                continue
            if int(text.rpartition(")")[2].split()[1]) == parent:
                found.append(int(folder.name))
    return found
