"""A pipeline file and a Python pipeline through all services, seen by the command line and the SDK."""

import asyncio
import json
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats as nats_client
import pytest

from penstock import (
    Client,
    CommandStep,
    Experiment,
    OutputFileDatasetConfig,
    Pipeline,
    PipelineParameter,
    PythonScriptStep,
)
from penstock.errors import NotFound, PenstockError, Refused
from penstock.sdk.run import RunFailed
from penstock.testing.fleet import SERVICES, Fleet
from penstock.testing.servers import NatsServer

pytestmark = pytest.mark.server

WAIT_S = 60
WORKSPACE = "clients"
RUN = r"[0-9a-z]{15}"

PIPELINE = """
type: pipeline
name: sums
inputs:
  add: 1
  rows: {type: uri_file, path: rows.txt}
outputs:
  total: {type: uri_folder}
jobs:
  prepare:
    command: cp ${{inputs.rows}} ${{outputs.data}}/rows.txt; echo prepared
    inputs: {rows: "${{parent.inputs.rows}}"}
    outputs: {data: }
  sum:
    code: src
    command: python sum.py ${{inputs.data}}/rows.txt ${{inputs.add}} ${{outputs.total}}
    inputs:
      data: ${{parent.jobs.prepare.outputs.data}}
      add: ${{parent.inputs.add}}
    outputs: {total: "${{parent.outputs.total}}"}
"""
SUM = """
import sys
from pathlib import Path
import penstock
rows, add, out = sys.argv[1:]
total = sum(int(line) for line in Path(rows).read_text().split()) + int(add)
Path(out, "total.txt").write_text(f"{total}\\n")
penstock.current_run().log("total", total)
print("total", total)
"""
FAILING = """
type: pipeline
name: failing
jobs:
  good: {command: "echo fine > ${{outputs.o}}/x", outputs: {o: }}
  bad: {command: "echo this went wrong >&2; exit 3", needs: [good]}
"""
WAITING = """
type: pipeline
name: waiting
jobs:
  wait: {command: "echo before; until [ -e ${{inputs.gate}} ]; do sleep 0.05; done", inputs: {gate: GATE}}
"""


@dataclass
class Shell:
    """A folder with pipelines, and the command line in it."""

    folder: Path
    bus: str

    @property
    def environ(self) -> dict[str, str]:
        return {**os.environ, "PENSTOCK_BUS": self.bus, "PENSTOCK_WORKSPACE": WORKSPACE}

    def penstock(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a command and check its exit code."""
        done = subprocess.run(
            self.command(*words),
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def data(self, *words: str) -> Any:
        """Run a command with -o json and return what it prints."""
        return json.loads(self.penstock(*words, "-o", "json").stdout)

    @staticmethod
    def command(*words: str) -> list[str]:
        return [sys.executable, "-m", "penstock.cli.main", *words]


@pytest.fixture(scope="module")
def services(nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    directory = tmp_path_factory.mktemp("fleet")
    store = f"file:{directory / 'store'}"
    with Fleet(directory, bus=nats.url, store=store, workspace=WORKSPACE) as fleet:
        for service in SERVICES:
            fleet.start(service)
        yield fleet


@pytest.fixture
def shell(services: Fleet, tmp_path: Path) -> Shell:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "sum.py").write_text(SUM)
    # Every test's data is its own, so that tests do not reuse each other's results.
    (tmp_path / "rows.txt").write_text(f"1\n2\n3\n{int.from_bytes(os.urandom(4), 'big')}\n")
    (tmp_path / "pipeline.yml").write_text(PIPELINE)
    (tmp_path / "failing.yml").write_text(FAILING)
    gate = tmp_path / "gate"
    (tmp_path / "waiting.yml").write_text(WAITING.replace("GATE", json.dumps(str(gate))))
    return Shell(tmp_path, services.bus)


@pytest.fixture
def client(services: Fleet) -> Iterator[Client]:
    with Client(bus=services.bus, workspace=WORKSPACE) as found:
        yield found


def expected_total(shell: Shell, add: int = 1) -> int:
    return sum(map(int, (shell.folder / "rows.txt").read_text().split())) + add


def test_a_pipeline_file_runs_and_everything_about_it_can_be_asked(shell: Shell) -> None:
    watched = shell.penstock("submit", "pipeline.yml", "--watch")
    match = re.fullmatch(rf"run ({RUN}) succeeded\n", watched.stdout)
    assert match, watched.stdout
    run = match[1]
    lines = [re.sub(r"^\d\d:\d\d:\d\d  ", "", line) for line in watched.stderr.splitlines()]
    told = [" ".join(line.split()[:2]) for line in lines]
    assert told[0] == f"run {run}"
    assert told[1] == "run accepted"
    assert told[-1] == "run succeeded"
    assert told.index("prepare succeeded") < told.index("sum started")

    view = shell.data("run", "show", run[:13])
    assert {
        "run",
        "pipeline",
        "state",
        "seconds",
        "parameters",
        "metrics",
        "outputs",
        "steps",
    } <= set(view)
    assert (view["run"], view["pipeline"], view["state"]) == (run, "sums", "succeeded")
    assert view["metrics"] == {"total": expected_total(shell)}
    steps = {step["step"]: step for step in view["steps"]}
    for step in steps.values():
        assert {
            "step", "state", "attempts", "seconds", "reused_from", "outputs", "metrics", "error",
        } <= set(step)  # fmt: skip
    assert steps["sum"]["attempts"] == 1
    assert steps["sum"]["error"] is None
    assert steps["sum"]["reused_from"] is None

    logs = shell.penstock("run", "logs", run).stdout
    assert f"sum     | total {expected_total(shell)}\n" in logs
    assert shell.penstock("run", "logs", run, "--step", "prepare").stdout == "prepared\n"

    shell.penstock("run", "download", run, "got")
    assert (shell.folder / "got/sum/total/total.txt").read_text() == f"{expected_total(shell)}\n"
    shell.penstock("run", "download", run, "one", "--step", "sum", "--output", "total")
    assert (shell.folder / "one/total.txt").exists()
    said = shell.penstock("run", "download", run, "some", "--path", "total.*").stdout
    assert said.split() == ["some/sum/total/total.txt"]
    assert (shell.folder / said.strip()).read_text() == f"{expected_total(shell)}\n"
    refusal = shell.penstock("run", "download", run, "none", "--path", "no/such", code=3)
    assert "E_NOT_FOUND" in refusal.stderr
    assert not (shell.folder / "none").exists()

    runs = json.loads(shell.penstock("run", "list", "-o", "json").stdout)
    assert run in [item["run"] for item in runs]
    assert run in shell.penstock("job", "list", "-o", "name").stdout.split()


def test_what_has_not_changed_is_reused_and_what_has_is_named(shell: Shell) -> None:
    first = shell.data("submit", "pipeline.yml", "--wait")
    assert first["state"] == "succeeded"
    assert [s["decision"] for s in shell.data("plan", "pipeline.yml")["steps"]] == [
        "reuse",
        "reuse",
    ]
    forecast = {s["step"]: s for s in shell.data("plan", "pipeline.yml", "-p", "add=5")["steps"]}
    assert forecast["prepare"]["decision"] == "reuse"
    assert forecast["sum"]["decision"] == "run"
    assert "add" in forecast["sum"]["reason"]

    second = shell.data("job", "create", "--file", "pipeline.yml", "--wait", "-p", "add=5")
    why = shell.data("why", str(second["run"]), "sum")
    assert {"run", "step", "reused", "compared_with", "parts"} <= set(why)
    assert why["reused"] is False
    changed = [part for part in why["parts"] if part["changed"]]
    assert changed == [{"part": "parameter:add", "changed": True, "old": "1", "new": "5"}]
    assert shell.data("why", str(second["run"]), "prepare")["reused"] is True
    # What a reused step wrote is what it wrote when it ran.
    said = shell.penstock("run", "logs", str(second["run"]), "--step", "prepare").stdout
    assert said == "prepared\n"

    diff = shell.data("run", "diff", str(first["run"]), str(second["run"]))
    whats = [row["what"] for row in diff["differences"]]
    assert "parameter add" in whats
    assert "metric total" in whats


def test_a_failed_run_exits_1_says_why_and_can_be_rerun(shell: Shell) -> None:
    done = shell.penstock("submit", "failing.yml", "--watch", code=1)
    run = done.stdout.split()[1]
    assert "bad failed: E_EXIT" in done.stderr
    assert "| this went wrong" in done.stderr
    assert f"penstock run rerun {run} --from failed" in done.stderr
    again = shell.penstock("run", "rerun", run, "--from", "failed", "--wait", "-o", "json", code=1)
    view = shell.data("run", "show", json.loads(again.stdout)["run"])
    states = {step["step"]: step["state"] for step in view["steps"]}
    assert states == {"good": "reused", "bad": "failed"}


def test_a_registered_pipeline_runs_by_name(shell: Shell) -> None:
    created = shell.data("pipeline", "create", "--file", "pipeline.yml")
    again = shell.data("pipeline", "create", "--file", "pipeline.yml")
    assert again["version"] == created["version"]
    assert again["created"] is False
    name = f"sums@{created['version']}"
    done = shell.data(
        "submit", name, "-p", "add=40", "--wait", "--tag", "team=x", "--experiment", "e"
    )
    view = shell.data("run", "show", str(done["run"]))
    assert view["parameters"]["add"] == 40
    assert view["tags"] == {"team": "x"}
    assert view["experiment"] == "e"


def test_ctrl_c_detaches_and_the_run_goes_on(shell: Shell) -> None:
    with subprocess.Popen(
        shell.command("submit", "waiting.yml", "--watch"),
        cwd=shell.folder,
        env=shell.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        told = []
        for line in process.stderr:
            told.append(line)
            if "wait  started" in line:
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(WAIT_S) == 130
    run = told[0].split()[1]
    assert f"detached; run {run} goes on" in rest
    assert shell.data("run", "show", run)["state"] == "running"
    timed_out = shell.penstock("run", "wait", run, "--timeout", "0.2", code=124)
    assert "E_WAIT_TIMEOUT" in timed_out.stderr
    (shell.folder / "gate").touch()
    assert shell.data("run", "wait", run) == {"run": run, "state": "succeeded"}


def test_a_cancelled_run_is_cancelled(shell: Shell) -> None:
    run = str(shell.data("submit", "waiting.yml")["run"])
    shell.penstock("run", "cancel", run)
    shell.penstock("run", "wait", run, code=1)
    assert shell.data("run", "show", run)["state"] == "cancelled"


def test_a_run_can_be_verified_and_a_forged_event_shows(shell: Shell) -> None:
    run = shell.data("submit", "pipeline.yml", "--watch")["run"]
    check = shell.data("run", "verify", run)
    assert check["verdict"] == "whole"
    assert re.fullmatch("[0-9a-f]{64}", check["last"])
    told = shell.penstock("run", "verify", run)
    assert (
        told.stdout.splitlines()[0] == f"{run}  {check['events']} events, no gap, nothing changed"
    )

    forge(shell.bus, f"{WORKSPACE}.event.sums.{run}.run.failed", check["events"] + 1)
    forged = shell.penstock("run", "verify", run, code=1)
    assert "it carries no link" in forged.stdout


def forge(bus: str, subject: str, seq: int) -> None:
    """Put an event into the stream as anybody could who may write there."""

    async def put() -> None:
        connection = await nats_client.connect(bus)
        await connection.jetstream().publish(subject, json.dumps({"seq": seq}).encode())
        await connection.close()

    asyncio.run(put())


def test_events_are_cloudevents_in_order(shell: Shell) -> None:
    run = str(shell.data("submit", "pipeline.yml", "--wait")["run"])
    printed = shell.penstock("events", "--run", run, "-o", "json").stdout
    events = [json.loads(line) for line in printed.splitlines()]
    assert [event["data"]["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[0]["type"] == "penstock.run.accepted.v1"
    assert events[-1]["type"] == "penstock.run.succeeded.v1"
    assert all(event["id"] for event in events)
    only = shell.penstock("events", "--run", run, "--type", "step.succeeded", "-o", "name").stdout
    assert set(only.split()) <= {"step.succeeded"}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("run", "show", "zzzzzzzzzzzzzzz"), 3, "E_NOT_FOUND"),
        (("run", "watch", "zzzzzzzzzzzzzzz"), 3, "E_NOT_FOUND"),
        (("submit", "nothing-of-this-name"), 3, "E_NOT_FOUND"),
        (("submit", "pipeline.yml", "-p", "ad=3"), 2, "did you mean 'add'?"),
        (("submit", "pipeline.yml", "-p", "add=many"), 2, "not a value of type number"),
        (("submit", "pipeline.yml", "-p", "rows=none.txt"), 3, "none.txt does not exist"),
        (("why", "zzzzzzzzzzzzzzz", "sum"), 3, "E_NOT_FOUND"),
        (("submit", "pipeline.yml", "--reuse", "never"), 2, "Invalid value"),
    ],
)
def test_refusals_have_their_exit_code_and_say_why(
    shell: Shell, words: tuple[str, ...], code: int, said: str
) -> None:
    done = shell.penstock(*words, code=code)
    assert said in done.stderr
    assert done.stdout == ""


def test_the_planners_refusal_names_the_line_of_the_file(shell: Shell) -> None:
    text = PIPELINE.replace("${{parent.inputs.add}}", "${{parent.inputs.ad}}")
    (shell.folder / "wrong.yml").write_text(text)
    done = shell.penstock("submit", "wrong.yml", code=2)
    line = next(n for n, x in enumerate(text.splitlines(), 1) if "parent.inputs.ad}" in x)
    assert f"wrong.yml:{line}:" in done.stderr


def test_a_local_file_may_be_given_for_a_data_input(shell: Shell) -> None:
    (shell.folder / "other.txt").write_text("40\n1\n")
    run = shell.data("submit", "pipeline.yml", "--wait", "-p", "rows=other.txt")["run"]
    assert shell.data("run", "show", run)["metrics"] == {"total": 42}


def test_one_key_is_one_run(shell: Shell) -> None:
    one = shell.data("submit", "pipeline.yml", "--key", f"k-{shell.folder.name}")
    two = shell.data("submit", "pipeline.yml", "--key", f"k-{shell.folder.name}")
    assert one["run"] == two["run"]


# -- the SDK --------------------------------------------------------------------------------------


def test_a_python_pipeline_runs_from_parameters_to_outputs(
    client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in.txt"
    source.write_text(tmp_path.name)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "say.py").write_text(
        "import sys, pathlib\npathlib.Path(sys.argv[2], 'word.txt').write_text(sys.argv[1])\n"
    )
    word = PipelineParameter("word", 'it\'s "quoted" $HOME')
    said = OutputFileDatasetConfig("said")
    PythonScriptStep(
        "say.py", name="say it", arguments=[word, said], source_directory=tmp_path / "src"
    )
    show = CommandStep(["cat", source, "; ls", said.as_input("heard")], name="show")
    pipeline = Pipeline(client, [show], name="words", outputs={"all": said})

    run = pipeline.submit("sdk", pipeline_parameters={"word": 'it\'s "new" $PATH; *'})
    assert run.wait_for_completion() == "succeeded"
    assert "say_it  succeeded" in capsys.readouterr().out
    (step,) = run.find_step_run("say it")
    assert step.get_status() == "succeeded"
    folder = step.download_output("said", tmp_path / "got")
    assert (folder / "word.txt").read_text() == 'it\'s "new" $PATH; *'
    assert run.get_output("all") == step.get_output("said")
    (show_run,) = run.find_step_run("show")
    assert show_run.get_stdout_log() == f"{tmp_path.name}word.txt\n"
    assert [event.kind for event in run.events()][-1] == "run.succeeded"
    assert {s.name for s in run.get_steps()} == {"say_it", "show"}

    again = Experiment(client, "sdk").submit(pipeline, pipeline_parameters={"word": "x"})
    again.wait_for_completion(show_output=False)
    (step,) = again.find_step_run("say it")
    assert not step.reused
    assert [part.part for part in step.why().parts if part.changed] == ["parameter:word"]


def test_a_program_that_forgets_its_client_ends_without_a_word(shell: Shell) -> None:
    program = (
        f"import penstock; print(penstock.Client({shell.bus!r}, None, {WORKSPACE!r}).runs(limit=1))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", program],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_failed_run_raises_and_names_the_step(client: Client, tmp_path: Path) -> None:
    run = Pipeline(client, [CommandStep("exit 7", name="seven")], name="sevens").submit("sdk")
    with pytest.raises(RunFailed, match=r"step 'seven': E_EXIT.*7"):
        run.wait_for_completion(show_output=False)
    assert run.wait_for_completion(show_output=False, raise_on_error=False) == "failed"


def test_a_published_pipeline_runs_by_its_reference(client: Client, tmp_path: Path) -> None:
    pipeline = Pipeline(client, [CommandStep(f"echo {tmp_path.name}", name="a")], name="published")
    published = pipeline.publish("published pipeline", description="for others")
    assert published.name == "published_pipeline"
    run = published.submit(experiment_name="sdk")
    assert run.wait_for_completion(show_output=False) == "succeeded"
    assert run.view().version == published.version


def test_a_spec_too_large_for_a_message_travels_as_an_artifact(client: Client) -> None:
    steps = [CommandStep(f"true {'x' * 2000} {n}", name=f"s{n}") for n in range(400)]
    last = CommandStep("true", name="last")
    last.after = list(steps)
    forecast = client.plan(Pipeline(client, [last], name="large"))
    assert len(forecast.steps) == 401


def test_a_run_that_is_not_there_is_not_found(client: Client) -> None:
    with pytest.raises(PenstockError) as caught:
        client.run("zzzzzzzzzzzzzzz")
    assert isinstance(caught.value, NotFound | Refused)
    assert "NOT_FOUND" in caught.value.code


def test_a_step_that_no_executor_serves_says_so_until_one_does(
    shell: Shell, services: Fleet
) -> None:
    target = f"lab-{secrets.token_hex(3)}"
    shell.penstock("compute", "create", target, "--description", "the lab's")
    (shell.folder / "lab.yml").write_text(
        f"type: pipeline\nname: lab\njobs:\n  far: {{command: echo there, compute: 'azureml:{target}'}}\n"
    )
    watching = subprocess.Popen(
        shell.command("submit", "lab.yml", "--watch"),
        cwd=shell.folder, env=shell.environ, text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert watching.stderr is not None
    try:
        run = watching.stderr.readline().split()[1]
        told = next(line for line in watching.stderr if " waiting " in line)
        reason = f"no executor serves '{target}' (served: default); "
        assert f"{reason}start one: penstock serve executor --targets {target}" in told
        assert reason in shell.penstock("run", "show", run).stdout
        shell.penstock("run", "wait", run, "--timeout", "0.1", code=124)

        name = services.start("executor", targets=target, slots="3")
        rest = watching.stderr.read()
        assert " started" in rest
        assert watching.wait(WAIT_S) == 0
        status = shell.data("status", "--bus", services.bus, "--workspace", WORKSPACE)
        executors = {executor["executor"]: executor for executor in status["executors"]}
        assert (executors[name]["targets"], executors[name]["slots"]) == ([target], 3)
        assert services.terminate(name) == 0
    finally:
        watching.kill()
        watching.communicate()


@pytest.mark.parametrize(
    ("redirected", "code", "said"),
    [
        (">&-", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
        ("> /dev/full", 4, "E_IO"),
        ("| true", 141, ""),
    ],
)
def test_output_that_goes_nowhere_is_no_crash(
    shell: Shell, tmp_path: Path, redirected: str, code: int, said: str
) -> None:
    # Enough to fill the pipe, so that the writer notices that nobody reads.
    (tmp_path / "many.yml").write_text(
        "type: pipeline\njobs:\n" + "".join(f"  s{n}: {{command: echo}}\n" for n in range(2000))
    )
    command = f"'{sys.executable}' -m penstock.cli.main plan many.yml {redirected}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=tmp_path, env=shell.environ, capture_output=True, text=True, timeout=WAIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert said in done.stderr
