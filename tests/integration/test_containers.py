"""What only containers do: hardening, limits of memory, images that are made, warm containers, no orphans.

That a step in a container is otherwise like one without is held by test_executor.py, which runs over both.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.bus.nats import connect
from penstock.contracts.plans import PlannedOutput
from penstock.contracts.resources import Resources
from penstock.contracts.spec import BuildContext, EnvironmentSpec
from penstock.contracts.subjects import Subjects
from penstock.ids import run_id
from penstock.testing.attempts import Attempts
from penstock.testing.fleet import Fleet
from penstock.testing.images import BARE, BASE, IMAGE, docker
from penstock.testing.servers import NatsServer
from penstock.trees.client import TreeClient
from penstock.units import Seconds

pytestmark = [pytest.mark.server, pytest.mark.docker]

GONE_S = 20.0


@pytest.fixture(scope="module")
def fleet(
    nats: NatsServer, image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """An artifact service and an executor of containers, with two slots."""
    root = tmp_path_factory.mktemp("containers")
    store, workspace = f"file:{root / 'store'}", f"t{secrets.token_hex(5)}"
    with Fleet(root, bus=nats.url, store=store, workspace=workspace) as fleet:
        fleet.start("artifact")
        fleet.start("executor", slots="2", drain_s="1", kind="docker", image=image)
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


def containers_of(folder: Path) -> list[str]:
    """Return ids of all containers, running or not, of an executor's data folder."""
    return docker("ps", "-aq", "--filter", f"label=org.penstock.data={folder}").split()


async def said(attempts: Attempts, command: str, **fields: Any) -> str:
    """Return what a step writes to stdout; it must succeed."""
    given = await attempts.give(command, **fields)
    await given.success()
    return (await attempts.archived(given)).get("stdout.txt", b"").decode()


async def test_a_container_has_no_privilege_no_network_and_nothing_to_write_to_but_its_own(
    attempts: Attempts,
) -> None:
    text = await said(
        attempts,
        "grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; id -u; ls /sys/class/net;"
        " touch /x /usr/x 2>/dev/null || echo sealed; ls /var/run/docker.sock 2>&1 | tail -c 26;"
        " touch /tmp/x && echo scratch; cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max"
        " 2>/dev/null; ulimit -c",
    )
    lines = dict(line.split(":\t") for line in text.splitlines() if ":\t" in line)
    rest = [line for line in text.splitlines() if ":\t" not in line]
    assert int(lines["CapEff"], 16) == int(lines["CapBnd"], 16) == 0
    assert (lines["NoNewPrivs"], lines["Seccomp"]) == ("1", "2")
    assert int(rest[0]) != 0
    assert rest[1] == "lo"
    assert "sealed" in rest
    assert "scratch" in rest
    assert "No such file or directory" in text
    assert rest[-1] == "0"
    assert 0 < int(rest[-2]) < 10_000


async def test_out_of_memory_is_told_with_its_figures(attempts: Attempts) -> None:
    given = await attempts.give(
        'python -c "a = bytearray(400_000_000)"', resources=Resources(memory="128m")
    )
    failure = (await given.failure()).failure
    assert failure.code == "E_MEMORY"
    assert "128 MiB allowed" in failure.message
    assert failure.signal == "SIGKILL"


async def test_a_child_that_runs_out_of_memory_is_no_secret_either(attempts: Attempts) -> None:
    given = await attempts.give(
        'python -c "a = bytearray(400_000_000)" || exit 9', resources=Resources(memory="128m")
    )
    failure = (await given.failure()).failure
    assert (failure.code, failure.exit_code) == ("E_MEMORY", 9)


async def test_an_image_without_python_runs_steps_as_well(attempts: Attempts) -> None:
    environment = EnvironmentSpec(image=BARE)
    given = await attempts.give(
        "echo out; echo err >&2; printf x > ${{outputs.o}}/f; echo $PENSTOCK_STEP",
        environment=environment,
        outputs={"o": PlannedOutput()},
    )
    result = await given.success()
    assert await attempts.files(result.outputs["o"].digest) == {"f": b"x"}
    logs = await attempts.archived(given)
    assert (logs["stdout.txt"], logs["stderr.txt"]) == (b"out\nstep\n", b"err\n")
    failure = (await (await attempts.give("exit 5", environment=environment)).failure()).failure
    assert (failure.code, failure.exit_code) == ("E_EXIT", 5)
    given = await attempts.give("sleep 60 & sleep 60", environment=environment, timeout_s=1)
    assert (await given.failure()).failure.code == "E_TIMEOUT"


async def test_an_image_that_is_nowhere_fails_at_once_and_says_so(attempts: Attempts) -> None:
    given = await attempts.give("true", environment=EnvironmentSpec(image="localhost:1/none:1"))
    failure = await given.failure()
    assert failure.failure.code == "E_ENVIRONMENT"
    assert "cannot be pulled" in failure.failure.message
    assert not failure.retriable


async def test_an_option_that_would_open_the_container_is_refused(attempts: Attempts) -> None:
    given = await attempts.give("true", resources=Resources(docker_args="--privileged"))
    failure = (await given.failure()).failure
    assert failure.code == "E_RESOURCES"
    assert "--privileged" in failure.message


async def test_a_build_context_is_built_once_however_many_steps_want_it(
    attempts: Attempts,
) -> None:
    mark = secrets.token_hex(6)
    file = f"FROM {BASE}\nCOPY hello.txt /hello.txt\nRUN echo making {mark}\n"
    files = {"sub/Dockerfile": file.encode(), "hello.txt": mark.encode()}
    tree = await attempts.trees.put_bytes(files, "t")
    build = BuildContext(context=f"artifact:{tree.digest}", dockerfile="sub/Dockerfile")
    given = [
        await attempts.give(
            "cat /hello.txt", step=f"s{n}", environment=EnvironmentSpec(build=build)
        )
        for n in range(2)
    ]
    for one in given:
        await one.success()
    logs = [await attempts.archived(one) for one in given]
    assert [log["stdout.txt"].decode() for log in logs] == [mark, mark]
    told = b"".join(log.get("stderr.txt", b"") for log in logs).decode()
    assert told.count(f"RUN echo making {mark}") == 1


async def test_a_build_that_fails_is_explained(attempts: Attempts) -> None:
    mark = secrets.token_hex(4)
    files = {"Dockerfile": f"FROM {BASE}\nRUN echo {mark}-reason && exit 4\n".encode()}
    tree = await attempts.trees.put_bytes(files, "t")
    environment = EnvironmentSpec(build=BuildContext(context=f"artifact:{tree.digest}"))
    failure = await (await attempts.give("true", environment=environment)).failure()
    assert failure.failure.code == "E_ENVIRONMENT"
    assert f"{mark}-reason" in failure.failure.message
    assert not failure.retriable


async def test_the_next_step_of_a_run_finds_the_container_warm_and_clean(
    attempts: Attempts,
) -> None:
    run = run_id(Seconds(time.time()), secrets.token_hex(8))
    command = "cat /proc/1/stat | cut -d' ' -f22; ls -A /tmp /dev/shm | grep mine; "
    command += "touch /tmp/mine-x /dev/shm/mine-y; ls -A ../.. | wc -l"
    first = await said(attempts, command, run=run, step="a")
    again = await said(attempts, command, run=run, step="b")
    other = await said(attempts, command, step="c")
    assert "mine" not in first + again + other
    assert first.split()[0] == again.split()[0]  # the same init
    assert other.split()[0] != first.split()[0]  # another run's is another container
    assert (first.split()[-1], again.split()[-1]) == ("1", "1")  # its own folder and no other


async def test_nothing_is_left_of_containers_when_the_executor_is_killed(
    fleet: Fleet, attempts: Attempts
) -> None:
    name = fleet.start("executor", slots="2", targets="doomed", kind="docker", image=IMAGE)
    folder = fleet.directory / name
    given = [
        await attempts.give("sleep 600 & sleep 600", target="doomed", step="warm"),
        await attempts.give(
            "sleep 600", target="doomed", step="plain", environment=EnvironmentSpec(image=BARE)
        ),
    ]
    for one in given:
        await one.start()
    await until(lambda: len(running(folder)) == len(given))
    dead = set(containers_of(folder))
    fleet.kill(name)
    await until(lambda: not running(folder))  # nobody swept: they ended with their executor
    fleet.restart(name)
    assert not dead & set(containers_of(folder))
    fleet.members[name].process.terminate()
    fleet.members[name].process.wait(GONE_S)
    assert containers_of(folder) == []


async def test_nothing_is_left_of_containers_whose_attempts_are_stopped_while_they_begin(
    fleet: Fleet, attempts: Attempts
) -> None:
    """The engine makes a container whether or not anybody still waits for it."""
    name = fleet.start("executor", slots="2", targets="fickle", kind="docker", image=IMAGE)
    folder = fleet.directory / name
    for pause_s in (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4):
        given = await attempts.give("sleep 600", target="fickle")
        await asyncio.sleep(pause_s)
        ended = asyncio.ensure_future(given.failure())
        while not ended.done():  # as the scheduler does: it may come before the work is taken
            await attempts.stop(given, grace_s=0.0)
            await asyncio.wait({ended}, timeout=1)
        await ended
    fleet.members[name].process.terminate()
    fleet.members[name].process.wait(GONE_S)
    assert containers_of(folder) == []


async def until(true: Callable[[], bool]) -> None:
    """Return once `true` says so."""
    async with asyncio.timeout(GONE_S):
        while not true():  # noqa: ASYNC110 - the engine sets no events of ours
            await asyncio.sleep(0.1)


def running(folder: Path) -> list[str]:
    return docker("ps", "-q", "--filter", f"label=org.penstock.data={folder}").split()
