"""MLflow in steps, with a real tracking server and without one. MLflow itself is installed by uv for the test."""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.bus.nats import connect
from penstock.contracts.spec import EnvironmentSpec
from penstock.contracts.subjects import Subjects
from penstock.runtime import stack
from penstock.testing.attempts import Attempts
from penstock.testing.fleet import Fleet
from penstock.testing.servers import NatsServer
from penstock.trees.client import TreeClient
from penstock_executor.building import tools, variables

pytestmark = [pytest.mark.server, pytest.mark.slow]

PACKAGES = ("mlflow>=3,<4", "scikit-learn")
SCRIPT = """
import os, sys, mlflow
mlflow.log_metric('accuracy', 0.25)
mlflow.log_metric('accuracy', 0.75, step=2)
mlflow.log_param('depth', 3)
mlflow.set_tag('team', 'vision')
open('notes.txt', 'w').write('kept')
mlflow.log_artifact('notes.txt')
with mlflow.start_run(nested=True, run_name='fold1'):
    mlflow.log_metric('score', 4)
mlflow.end_run(status='FAILED' if 'fail' in sys.argv else 'FINISHED')
"""
AUTOLOG = """
import mlflow
mlflow.sklearn.autolog(log_models=False, log_datasets=False)
from sklearn.linear_model import LinearRegression
with mlflow.start_run():
    LinearRegression().fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0])
"""
FILES = {"step.py": SCRIPT, "auto.py": AUTOLOG}


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an `mlflow` program."""
    venv = tmp_path_factory.mktemp("mlflow") / "venv"
    environ = variables(os.environ)
    subprocess.run([tools().uv, "venv", "-q", "-p", sys.executable, venv], env=environ, check=True)
    done = subprocess.run(
        [tools().uv, "pip", "install", "-q", "--python", venv, *PACKAGES],
        env=environ, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"MLflow cannot be installed: {done.stderr[-300:]}")
    return venv / "bin"


class Local:
    """A stack of `penstock up --mlflow`."""

    def __init__(self, folder: Path, path: Path) -> None:
        self.folder = folder
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK_")}
        self.environ["PATH"] = f"{path}:{self.environ['PATH']}"

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "penstock.cli.main", *words],
            cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip

    def run(self, command: str, environment: dict[str, Any] | None) -> dict[str, Any]:
        """Run one step and return the run."""
        step: dict[str, Any] = {"command": command, "code": "./src"}
        if environment is not None:
            step["environment"] = environment
        document = {"type": "pipeline", "experiment_name": "tracked", "jobs": {"step": step}}
        (self.folder / "p.yml").write_text(json.dumps(document))
        answer = self("submit", "p.yml", "--watch", "-o", "json")
        run = json.loads(answer.stdout.splitlines()[0])["run"]
        shown: dict[str, Any] = json.loads(self("run", "show", run, "-o", "json").stdout)
        return shown


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, mlflow: Path) -> Iterator[Local]:
    folder = tmp_path_factory.mktemp("stack")
    (folder / "src").mkdir()
    for name, text in FILES.items():
        (folder / "src" / name).write_text(text)
    local = Local(folder, mlflow)
    answer = local("up", "--detach", "--mlflow")
    assert answer.returncode == 0, answer.stderr
    assert "mlflow    http://127.0.0.1:" in answer.stdout
    yield local
    local("down")


ENVIRONMENT = {"conda_file": {"dependencies": [{"pip": list(PACKAGES)}]}}


def asked(local: Local, what: str) -> Any:
    """Return what the tracking server answers."""
    import urllib3

    port = (local.folder / ".penstock" / "mlflow" / "port").read_text()
    return urllib3.request("GET", f"http://127.0.0.1:{port}/api/2.0/mlflow/{what}").json()


def test_metrics_of_the_server_are_the_runs_and_its_state_is_the_process_s(local: Local) -> None:
    found = local.run("python step.py", ENVIRONMENT)
    assert found["state"] == "succeeded", found
    assert found["steps"][0]["metrics"] == {"accuracy": 0.75, "fold1/score": 4.0}
    experiment = asked(local, "experiments/get-by-name?experiment_name=tracked")["experiment"]
    assert experiment["artifact_location"].startswith("mlflow-artifacts:")
    failed = local.run("python step.py fail", ENVIRONMENT)
    assert failed["state"] == "succeeded", "a step ends as its process does"
    left = local.run("python step.py && exit 3", ENVIRONMENT)
    assert left["state"] == "failed"
    assert left["steps"][0]["metrics"]["accuracy"] == 0.75


def test_autolog_joins(local: Local) -> None:
    found = local.run("python auto.py", ENVIRONMENT)
    assert found["state"] == "succeeded", found
    assert any(name.startswith("training_") for name in found["steps"][0]["metrics"])


def test_a_server_that_is_away_does_not_hold_up_a_step(local: Local) -> None:
    running = stack.find(local.folder)
    assert running is not None
    (server,) = (one for one in running.services if one.name == "mlflow")
    os.killpg(server.pid, signal.SIGSTOP)  # it hangs
    try:
        found = local.run("python step.py --again", ENVIRONMENT)
    finally:
        os.killpg(server.pid, signal.SIGCONT)
    assert found["state"] == "succeeded", found
    assert found["steps"][0]["metrics"]["accuracy"] == 0.75
    logs = local("run", "logs", found["run"]).stdout
    assert "the MLflow server is away, so MLflow logs into the attempt's folder" in logs


def test_nothing_of_the_server_outlives_the_supervisor(local: Local) -> None:
    running = stack.find(local.folder)
    assert running is not None
    (server,) = (one for one in running.services if one.name == "mlflow")
    mark = f"{local.folder}/.penstock/mlflow".encode()

    def left() -> list[str]:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    line = (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if mark in line or f"--port\0{port}".encode() in line:
                    found.append(entry.name)
        return found

    port = (local.folder / ".penstock" / "mlflow" / "port").read_text()
    assert str(server.pid) in left()
    os.kill(running.supervisor_pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while left():
        assert time.monotonic() < deadline, left()
        time.sleep(0.05)
    assert local("up", "--detach", "--mlflow").returncode == 0


async def test_without_a_server_mlflow_works_and_its_metrics_are_the_steps(
    nats: NatsServer, tmp_path: Path, mlflow: Path
) -> None:
    workspace = f"t{secrets.token_hex(5)}"
    store = f"file:{tmp_path / 'store'}"
    with Fleet(tmp_path / "f", bus=nats.url, store=store, workspace=workspace) as fleet:
        fleet.start("artifact")
        fleet.start("executor", drain_s="1")
        names = Subjects(workspace)
        bus = await connect(nats.url, name="attempts")
        trees = TreeClient(bus, names, cache=tmp_path / "cache", patience_s=20)
        attempts = Attempts(bus, names, trees)
        await attempts.open()
        (tmp_path / "src").mkdir()
        for name, text in FILES.items():
            (tmp_path / "src" / name).write_text(text)
        code = (await trees.put_folder(tmp_path / "src", "test")).digest
        spec = EnvironmentSpec(pip=PACKAGES)
        given = await attempts.give("python step.py", code=code, environment=spec)
        result = await given.success(200)
        assert result.metrics == {"accuracy": 0.75, "fold1/score": 4.0}
        assert result.tags == {"team": "vision"}
        files = await attempts.archived(given)
        assert [files[n] for n in files if n.endswith("artifacts/notes.txt")] == [b"kept"]
        assert files["metrics.jsonl"].count(b'"accuracy"') == 2, "every value"
        given = await attempts.give("python auto.py", code=code, environment=spec, step="auto")
        assert any(name.startswith("training_") for name in (await given.success(100)).metrics)
        await trees.close()
        await bus.close()
