"""Environments on a real executor: built once, by uv, from a real package index; kept; explained when not.

The packages are small ones. Where no package index can be reached, the tests skip by name.
"""

import asyncio
import os
import secrets
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from penstock.bus.nats import connect
from penstock.contracts.spec import BuildContext, EnvironmentSpec
from penstock.contracts.subjects import Subjects
from penstock.testing.attempts import Attempts
from penstock.testing.fleet import Fleet
from penstock.testing.servers import NatsServer
from penstock.trees.client import TreeClient
from penstock_executor.building import tools, variables

pytestmark = [pytest.mark.server, pytest.mark.slow]

SMALL = EnvironmentSpec(name="small", pip=("iniconfig==2.0.0",))
ASK = "python -c 'import iniconfig, sys; print(iniconfig.__file__, sys.prefix)'"


@pytest.fixture(scope="module", autouse=True)
def index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip where no package index answers."""
    folder = tmp_path_factory.mktemp("index")
    (folder / "in").write_text("iniconfig==2.0.0\n")
    asked = subprocess.run(
        [tools().uv, "pip", "compile", "-q", str(folder / "in")],
        env=variables({**os.environ, "UV_HTTP_TIMEOUT": "20"}),
        capture_output=True,
        timeout=120,
        check=False,
    )
    if asked.returncode:
        pytest.skip(f"no package index: {asked.stderr.decode()[:200]}")


@pytest.fixture(scope="module", params=["auto", "off"])
def fleet(
    request: pytest.FixtureRequest, nats: NatsServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """An executor with namespaces, and one without."""
    root = tmp_path_factory.mktemp("environments")
    workspace = f"t{secrets.token_hex(5)}"
    with Fleet(root, bus=nats.url, store=f"file:{root / 'store'}", workspace=workspace) as fleet:
        fleet.start("artifact")
        fleet.start("executor", slots="4", namespace=request.param, drain_s="1")
        yield fleet


@pytest.fixture
async def attempts(fleet: Fleet, nats: NatsServer, tmp_path: Path) -> AsyncIterator[Attempts]:
    async with listening(fleet.workspace, nats, tmp_path) as attempts:
        yield attempts


class listening:  # noqa: N801 - reads as a verb
    """Where a scheduler would be."""

    def __init__(self, workspace: str, nats: NatsServer, folder: Path) -> None:
        self.workspace, self.nats, self.folder = workspace, nats, folder

    async def __aenter__(self) -> Attempts:
        names = Subjects(self.workspace)
        self.bus = await connect(self.nats.url, name="attempts")
        self.trees = TreeClient(self.bus, names, cache=self.folder / "cache", patience_s=20)
        attempts = Attempts(self.bus, names, self.trees)
        await attempts.open()
        return attempts

    async def __aexit__(self, *_: object) -> None:
        await self.trees.close()
        await self.bus.close()


def folders(fleet: Fleet, executor: str = "executor-1") -> list[str]:
    """Return the keys of the environments that are whole."""
    root = fleet.directory / executor / "environments"
    return sorted(done.parent.name for done in root.glob("*/done.json"))


def halves(data: str) -> list[Path]:
    """Return the folders of environments, whole or not."""
    return [path for path in Path(data, "environments").iterdir() if path.is_dir()]


async def test_a_step_runs_in_its_environment_and_the_build_is_in_its_log(
    attempts: Attempts, fleet: Fleet
) -> None:
    given = await attempts.give(ASK, environment=SMALL)
    result = await given.success(120)
    files = await attempts.archived(given)
    where = files["stdout.txt"].decode()
    assert f"/environments/{folders(fleet)[0]}/venv" in where
    assert b"[penstock: building environment small: python 3." in files["stderr.txt"]
    assert b"iniconfig==2.0.0" in files["environment.txt"]
    assert result.seconds < 60, "a build is no run time"
    again = await attempts.give(ASK, environment=SMALL)
    await again.success(60)
    assert "environment.txt" not in await attempts.archived(again), "nothing was built"


async def test_many_at_a_time_build_once(attempts: Attempts, fleet: Fleet) -> None:
    before = folders(fleet)
    spec = EnvironmentSpec(pip=("iniconfig==2.0.0", "pluggy==1.5.0"))
    many = [await attempts.give(ASK, environment=spec, step=f"s{n}") for n in range(6)]
    for given in many:
        await given.success(120)
    assert len(folders(fleet)) == len(before) + 1


@pytest.mark.parametrize(
    ("spec", "said", "hint"),
    [
        (
            EnvironmentSpec(pip=("penstock-has-no-such-package",)),
            "was not found in the package registry",
            "spelled right",
        ),
        (
            EnvironmentSpec(pip=("iniconfig==99.1",)),
            "no version of iniconfig",
            "pip index versions",
        ),
        (
            EnvironmentSpec(pip=("iniconfig==2.0.0", "iniconfig==1.1.1")),
            "iniconfig",
            "environment.txt",
        ),
        (EnvironmentSpec(pip=("-r other.txt",)), "refers to a file", "into the environment"),
        (EnvironmentSpec(pip=("not a requirement",)), "not a requirement", ""),
    ],
    ids=["unknown", "no-version", "clash", "file", "syntax"],
)
async def test_what_cannot_be_built_is_explained(
    attempts: Attempts, fleet: Fleet, spec: EnvironmentSpec, said: str, hint: str
) -> None:
    before = folders(fleet)
    given = await attempts.give("true", environment=spec)
    failure = (await given.failure(120)).failure
    assert failure.code == "E_ENVIRONMENT"
    assert said in failure.message
    assert hint in failure.hint
    assert "\n" not in failure.message
    assert folders(fleet) == before, "nothing half-built is used"


async def test_a_conda_file_is_built_from_packages_of_the_index(attempts: Attempts) -> None:
    conda = {
        "channels": ["conda-forge"],
        "dependencies": ["python=3.4", "iniconfig=2.0", "cudatoolkit", {"pip": ["pluggy<2"]}],
    }
    given = await attempts.give(
        f"{ASK} && python -c 'import pluggy'",
        environment=EnvironmentSpec(image="python:3.4", conda=conda),
    )
    await given.success(120)
    log = (await attempts.archived(given))["stderr.txt"].decode()
    assert "image python:3.4 is not used on a process target" in log
    assert "not for a virtual environment: cudatoolkit" in log
    assert "python 3.4 is not on this machine" in log


async def test_pins_without_wheels_for_the_python_at_hand_become_the_nearest(
    attempts: Attempts,
) -> None:
    spec = EnvironmentSpec(python="3.5", pip=("markupsafe==1.0", "iniconfig==2.0.0", "pluggy"))
    given = await attempts.give("python -c 'import markupsafe, pluggy'", environment=spec)
    await given.success(180)
    log = (await attempts.archived(given))["stderr.txt"].decode()
    assert "nearest versions that fit: markupsafe 2.1" in log
    assert "(asked: ==1.0)" in log


@pytest.mark.parametrize(
    "install",
    [
        "pip install 'packaging<25' -q",
        "pip install --user -q 'packaging<25'",
        "pip3 install --upgrade -q 'packaging<25'",
        "python -m pip install -q 'packaging<25'",
        "pip install -q -r requirements.txt",
        "uv pip install -q 'packaging<25'",
    ],
)
async def test_pip_brings_only_what_is_missing(
    attempts: Attempts, tmp_path: Path, install: str
) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "requirements.txt").write_text("packaging<25\niniconfig\n")
    code = (await attempts.trees.put_folder(tmp_path / "code", "test")).digest
    show = (
        "python -c 'import packaging, iniconfig; print(packaging.__file__, iniconfig.__file__)'"
        " && python -c 'from azureml.core import Run; import penstock'"
    )
    given = await attempts.give(
        f"{install} && {show}",
        code=code,
        environment=EnvironmentSpec(pip=("iniconfig==2.0.0", "uv")),
    )
    await given.success(120)
    ours, theirs = (await attempts.archived(given))["stdout.txt"].decode().split()
    assert "/attempts/" in ours
    assert "/environments/" in theirs, "what is there is not brought again"


async def test_a_script_that_calls_pip_reaches_its_step_alone(attempts: Attempts) -> None:
    script = (
        "import subprocess, sys; "
        "subprocess.run([sys.executable, '-m', 'pip', 'install', '-q', 'iniconfig<2'], check=True); "
        "import iniconfig; print(iniconfig.__file__)"
    )
    given = await attempts.give(f'python -c "{script}"', environment=SMALL)
    await given.success(120)
    assert b"/attempts/" in (await attempts.archived(given))["stdout.txt"]


async def test_what_a_step_installs_is_its_own(attempts: Attempts) -> None:
    install = (
        "pip install -q 'iniconfig<2' && python -c 'import iniconfig; print(iniconfig.__file__)'"
    )
    given = await attempts.give(install, environment=SMALL)
    await given.success(120)
    assert b"/attempts/" in (await attempts.archived(given))["stdout.txt"]
    after = await attempts.give(ASK, environment=SMALL)
    await after.success(60)
    assert b"/environments/" in (await attempts.archived(after))["stdout.txt"]


async def test_variables_of_an_environment_reach_its_steps_and_the_steps_own_win(
    attempts: Attempts,
) -> None:
    spec = EnvironmentSpec(variables={"A": "environment", "B": "environment"})
    given = await attempts.give(
        'echo "$A $B"', environment=spec, environment_variables={"B": "step"}
    )
    await given.success()
    assert (await attempts.archived(given))["stdout.txt"] == b"environment step\n"


async def test_a_killed_build_leaves_nothing_half_used(nats: NatsServer, tmp_path: Path) -> None:
    workspace = f"t{secrets.token_hex(5)}"
    store = f"file:{tmp_path / 'store'}"
    data = str(tmp_path / "data")
    with Fleet(tmp_path / "f", bus=nats.url, store=store, workspace=workspace) as fleet:
        fleet.start("artifact")
        name = fleet.start(
            "executor", data_dir=data, drain_s="1", crash_at="executor.in-environment"
        )
        member = fleet.members[name]
        async with listening(workspace, nats, tmp_path) as attempts:
            given = await attempts.give(ASK, environment=SMALL)
            code = await asyncio.to_thread(member.process.wait, 60)
            assert code == -signal.SIGKILL
            (half,) = halves(data)
            assert (half / "venv").is_dir()
            assert not (half / "done.json").exists()
            fleet.start("executor", data_dir=data, drain_s="1")
            await given.success(180)
        assert (half / "done.json").exists()


async def test_two_executors_on_one_machine_build_once(nats: NatsServer, tmp_path: Path) -> None:
    workspace = f"t{secrets.token_hex(5)}"
    store = f"file:{tmp_path / 'store'}"
    data = str(tmp_path / "data")
    with Fleet(tmp_path / "f", bus=nats.url, store=store, workspace=workspace) as fleet:
        fleet.start("artifact")
        for _ in range(2):
            fleet.start("executor", data_dir=data, slots="2", drain_s="1")
        async with listening(workspace, nats, tmp_path) as attempts:
            many = [await attempts.give(ASK, environment=SMALL, step=f"s{n}") for n in range(4)]
            who = {(await given.success(180)).executor for given in many}
        assert len(who) == 2, "both had work"
        built = [fleet.tail(name).count("built an environment") for name in fleet.members]
        assert sum(built) == 1


async def test_the_environment_used_the_longest_time_ago_goes_first(
    nats: NatsServer, tmp_path: Path
) -> None:
    workspace = f"t{secrets.token_hex(5)}"
    store = f"file:{tmp_path / 'store'}"
    with Fleet(tmp_path / "f", bus=nats.url, store=store, workspace=workspace) as fleet:
        fleet.start("artifact")
        fleet.start("executor", environments_bytes_max="1", drain_s="1")
        async with listening(workspace, nats, tmp_path) as attempts:
            await (await attempts.give(ASK, environment=SMALL)).success(120)
            (first,) = folders(fleet)
            other = EnvironmentSpec(pip=("pluggy==1.5.0",))
            await (await attempts.give("true", environment=other, step="b")).success(120)
            assert first not in folders(fleet)
            assert len(folders(fleet)) == 1
            await (await attempts.give(ASK, environment=SMALL, step="c")).success(120)


async def test_python_steps_are_forked_from_a_warm_interpreter_of_their_environment(
    attempts: Attempts, fleet: Fleet, tmp_path: Path
) -> None:
    script = (
        "import os, sys, iniconfig, penstock\nfrom azureml.core import Run\n"
        "Run.get_context().log('a', 1)\n"
        "print('/environments/' in iniconfig.__file__, sorted(os.listdir('d')), penstock.current_run().step)\n"
    )
    (tmp_path / "code" / "d").mkdir(parents=True)
    (tmp_path / "code" / "step.py").write_text(script)
    for name in ("z", "a", "m"):
        (tmp_path / "code" / "d" / name).touch()
    code = (await attempts.trees.put_folder(tmp_path / "code", "test")).digest
    log = fleet.directory / "executor-1.log"
    async with asyncio.timeout(90):
        while "iniconfig" not in log.read_text():  # "preloaded"
            given = await attempts.give(
                "python step.py", code=code, environment=SMALL, step=f"s{secrets.token_hex(2)}"
            )
            await given.success()
    given = await attempts.give("python step.py", code=code, environment=SMALL)
    result = await given.success()
    assert result.metrics == {"a": 1}
    assert (await attempts.archived(given))["stdout.txt"] == b"True ['a', 'm', 'z'] step\n"


async def test_of_a_dockerfile_a_process_target_takes_the_packages(
    attempts: Attempts, tmp_path: Path
) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "requirements.txt").write_text("iniconfig==2.0.0\n")
    (context / "Dockerfile").write_text(
        "FROM ubuntu\nRUN apt-get install -y git\nCOPY requirements.txt .\nRUN pip install -r requirements.txt\n"
    )
    digest = (await attempts.trees.put_folder(context, "test")).digest
    build = BuildContext(context=f"artifact:{digest}")
    given = await attempts.give(ASK, environment=EnvironmentSpec(build=build))
    await given.success(120)
    log = (await attempts.archived(given))["stderr.txt"].decode()
    assert "a process target builds no image" in log
    assert "1 other instructions are not carried out" in log
    missing = BuildContext(context=f"artifact:{digest}", dockerfile="Other")
    given = await attempts.give(ASK, environment=EnvironmentSpec(build=missing), step="b")
    assert "no Other in the build context" in (await given.failure(60)).failure.message


async def test_variables_of_a_conda_file_reach_the_step(attempts: Attempts) -> None:
    conda = {"dependencies": ["iniconfig"], "variables": {"OMP_NUM_THREADS": 3}}
    given = await attempts.give("echo $OMP_NUM_THREADS", environment=EnvironmentSpec(conda=conda))
    await given.success(120)
    assert (await attempts.archived(given))["stdout.txt"] == b"3\n"
