"""Pipelines in Azure ML's YAML, run whole: tests/pipelines, each with an outcome that is worked out here.

What they must give is computed in this file from their data, never taken from a run. `process` is the
compute of all of them; DOCKER names the third that runs in containers as well.
"""

import csv
import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock import Client
from penstock.contracts.queries import RunView
from penstock.contracts.spec import EnvironmentSpec, PipelineSpec
from penstock.errors import PenstockError
from penstock.sdk.run import Run
from penstock.sdk.submissions import definition_of
from penstock.testing.fleet import SERVICES, Fleet
from penstock.testing.servers import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.slow]

PIPELINES = Path(__file__).parents[1] / "pipelines"
WORKSPACE = "corpus"
TARGETS = "default,cpu-cluster"
WAIT_S = 240

DOCKER = (
    "hello_command", "three_in_a_row", "nested_twice", "three_deep", "optional_inputs", "typed_literals",
    "expressions_in_strings", "as_bash_would", "files_and_folders", "component_is_the_job",
    "three_ranks", "mini_batches", "best_of_trials",
)  # fmt: skip
"""They need nothing but a shell and a bare Python."""


@dataclass(frozen=True)
class Case:
    """One pipeline: what is asked for, and what must come of it."""

    folder: str
    texts: dict[str, str] = field(default_factory=dict)
    """Pipeline output, or output/path in it → the text in it, without blanks around it."""
    steps: dict[str, str] = field(default_factory=dict)
    """Step → state, of steps that do not succeed."""
    state: str = "succeeded"
    file: str = "pipeline.yml"
    parameters: dict[str, Any] = field(default_factory=dict)
    count: int = 0
    """How many steps the run has; 0: not looked at."""
    also: "Callable[[Run, Path], None] | None" = None

    @property
    def path(self) -> Path:
        return PIPELINES / self.folder / self.file


def rows(*names: str) -> list[dict[str, str]]:
    return [
        row for name in names for row in csv.DictReader(io.StringIO((PIPELINES / name).read_text()))
    ]


def sums(least: float) -> dict[str, float]:
    """Return what sales_by_region reports: value by region of the rows that are worth enough."""
    found: dict[str, float] = {}
    for row in rows("sales_by_region/data/a.csv", "sales_by_region/data/b.csv"):
        value = int(row["count"]) * float(row["price"])
        if value >= least:
            found[row["region"]] = round(found.get(row["region"], 0) + value, 6)
    return dict(sorted(found.items()))


def line_report() -> str:
    """Return what train_and_score reports: the points lie on y = 2x + 1, a quarter is held back."""
    count = len(rows("train_and_score/data/points.csv"))
    found = {"slope": 2.0, "intercept": 1.0, "rows": count // 4, "error": 0.0}
    return json.dumps(found, sort_keys=True)


def parts() -> str:
    """Return what split_and_gather gathers."""
    found = [
        f"{row['region']},{int(row['count']) * float(row['price'])}"
        for row in rows("split_and_gather/rows.csv")
    ]
    return "\n".join(sorted(found))


def squares() -> str:
    """Return what mini_batches appends: ten times the square of each file's number, but for the failing 7."""
    files = sorted((PIPELINES / "mini_batches/files").iterdir())
    numbers = {file.name: int(file.read_text()) for file in files}
    return "\n".join(f"{name}: {10 * n * n}" for name, n in numbers.items() if n != 7)


def totals() -> str:
    """Return what tables_by_key appends: a line by region, columns separated by blanks."""
    found: dict[str, int] = {}
    for row in rows("tables_by_key/table/rows.csv"):
        found[row["region"]] = found.get(row["region"], 0) + int(row["count"])
    return "\n".join(f"{region} {total}" for region, total in sorted(found.items()))


def best_draw() -> str:
    """Return the largest of the five values that sweep_by_itself draws with its seed."""
    chance = random.Random(31)
    return str(max(chance.uniform(-1.0, 1.0) for _ in range(5)))


def said_how_many(run: Run, _: Path) -> None:
    error = run.find_step_run("strict")[0].view().error
    assert error is not None
    assert "2 mini-batches failed" in error.log_tail


def told_why(run: Run, _: Path) -> None:
    error = run.find_step_run("bad")[0].view().error
    assert error is not None
    assert (error.code, error.exit_code) == ("E_EXIT", 7)
    assert "this goes wrong" in error.log_tail


def went_on(run: Run, folder: Path) -> None:
    found = run.download_output("behind_other", "o", folder)
    assert (found / "kept.txt").read_text() == "kept\n"


def timed_out(run: Run, _: Path) -> None:
    error = run.find_step_run("slow")[0].view().error
    assert error is not None
    assert error.code == "E_TIMEOUT"


def one_rank_ended_all(run: Run, _: Path) -> None:
    error = run.find_step_run("ranks")[0].view().error
    assert error is not None
    assert error.exit_code == 5
    assert run.find_step_run("ranks")[0].view().seconds < 100  # the other one sleeps for 300


def behind_the_barrier(run: Run, _: Path) -> None:
    """The second sub-pipeline's steps waited for the first one's result, which its body never reads."""
    view = {step.step: step for step in run.view().steps}
    for name in ("with_factor--scale", "with_factor--add"):
        assert "with_default--add" in view[name].needs
        assert view[name].started_at >= view["with_default--add"].ended_at


def in_order(run: Run, _: Path) -> None:
    view = {step.step: step for step in run.view().steps}
    for name in ("group--one", "group--two"):
        assert view[name].started_at >= view["first"].ended_at
        assert view["last"].started_at >= view[name].ended_at


CASES = (
    Case("hello_command", {"greeting/hello.txt": "hello world, 3 times"}, file="hello-job.yml", count=1),
    Case("hello_command", {"greeting/hello.txt": "hello you, 3 times"}, file="hello-job.yml",
         parameters={"who": "you"}),
    Case("three_in_a_row", {"shown/shown.txt": f"total={sum(n * n for n in range(1, 5))}"}, count=3),
    Case("train_and_score", {"report": line_report()}),
    Case("nested_twice", {"first/n.txt": str(10 * 10), "second/n.txt": str(10 * 5)}, count=4,
         also=behind_the_barrier),
    Case("three_deep", {"file": "leaf of tree-upper-lower"}, count=1),
    Case("optional_inputs", {
        "bare": "--must a --level 2",
        "full": "--must b --may c --table a-table --level 9",
        "passed": "--must d --level 2",
    }),
    Case("optional_inputs", {"passed": "--must d --may kim --level 2"}, parameters={"nickname": "kim"}),
    Case("expressions_in_strings", {"words/words.txt": "run_gamma_of_12|12|2e-5|True|env_gamma_12"}),
    Case("old_spellings", {"file": "OLD"}),
    Case("fails_in_the_middle", state="failed", steps={"bad": "failed", "never": "skipped"}, also=told_why),
    Case("goes_on_after_a_failure", state="failed", also=went_on,
         steps={"bad": "failed", "behind_bad": "skipped"}),
    Case("typed_literals", {"defaults": "20 0.001 False plain 1.5", "given": "3 2.5 True fancy 8"}),
    Case("as_bash_would", {
        "o/one.txt": "it's \"quoted\"",
        "o/two.txt": "a,b,",
        "o/three.txt": "2 y z",
        "o/four.txt": "logs outputs show.py",
        "o/five.txt": "42 lines of some words",
        "o/six.txt": "['some words']",
    }),
    Case("ordered_by_hand", count=4, also=in_order),
    Case("shared_code", {
        "o": "HELLO! from the zip ['.amlignore', 'lib', 'logs', 'outputs', 'packed.zip', 'use.py']"
    }),
    Case("files_and_folders", {"named": "table.csv", "listing": "2"}),
    Case("component_is_the_job", {"o": "1 5 9"}, count=1),
    Case("component_is_the_job", {"o": "3 7"}, parameters={"start": 3}),
    Case("three_ranks", {
        f"o/{rank}.txt": f"{rank} of 6, {rank % 3} on {rank // 3}: it''s (one) \"text\"".replace("''", "")
        for rank in range(6)
    }),
    Case("one_rank_fails", state="failed", steps={"ranks": "failed"}, also=one_rank_ended_all),
    Case("tensorflow_cluster", {f"o/{name}": "{'worker': 2, 'ps': 1}" for name in ("worker0", "worker1", "ps0")}),
    Case("one_file_of_code", {"o": "1"}),
    Case("takes_too_long", state="failed", steps={"slow": "failed"}, also=timed_out),
    Case("split_and_gather", {"sums": parts()}, count=7),
    Case("sales_by_region", {"report": json.dumps(sums(0))}),
    Case("sales_by_region", {"report": json.dumps(sums(4.5))}, parameters={"least": 4.5}),
    Case("table_in_a_folder", {
        "o": f"{len(rows('table_in_a_folder/table/rows.csv'))} "
        f"{sum(int(row['count']) for row in rows('table_in_a_folder/table/rows.csv'))}"
    }),
    Case("two_environments", {"a": "2.0.0", "b": "1.1.1"}),
    Case("control_outputs", {"o": "43 yes"}),
    Case("mini_batches", {"rows": squares()}),
    Case("too_many_failures", state="failed", steps={"strict": "failed"}, also=said_how_many),
    Case("tables_by_key", {"totals": totals()}),
    Case("best_of_trials", {"o": "0.25 2tested"}),  # 0.25 is nearest to 0.3; 0.5 fails, 0.1 and 0.9 are worse
    Case("sweep_by_itself", {"o/b.txt": best_draw()}, file="sweep.yml"),
)  # fmt: skip


@pytest.fixture(scope="module")
def services(nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    directory = tmp_path_factory.mktemp("corpus")
    store = f"file:{directory / 'store'}"
    with Fleet(directory, bus=nats.url, store=store, workspace=WORKSPACE) as fleet:
        for service in SERVICES:
            if service == "executor":
                fleet.start(service, targets=TARGETS, slots="4")
            else:
                fleet.start(service)
        yield fleet


@pytest.fixture(scope="module")
def client(services: Fleet) -> Iterator[Client]:
    with Client(bus=services.bus, workspace=WORKSPACE) as found:
        yield found


def ended(client: Client, case: Case) -> tuple[Run, RunView]:
    run = client.submit(case.path, parameters=case.parameters)
    view = client.wait(run.id, WAIT_S)
    return run, view


def text_in(folder: Path, name: str) -> str:
    """Return the text of a downloaded output: of a path in it, or of its only file."""
    output, _, path = name.partition("/")
    if path:
        return (folder / output / path).read_text().strip()
    (file,) = [one for one in sorted((folder / output).rglob("*")) if one.is_file()]
    return file.read_text().strip()


def found_text(client: Client, run: Run, name: str, folder: Path) -> str:
    output = name.partition("/")[0]
    if not (folder / output).exists():
        client.download(run.id, folder / output, output=output)
    return text_in(folder, name)


def logs_of(client: Client, run: Run) -> str:
    return "\n".join(str(line) for line in client.lines(run.id))


@pytest.mark.parametrize(
    "case", CASES, ids=[f"{c.folder}{'+' if c.parameters else ''}" for c in CASES]
)
def test_a_pipeline_gives_what_it_must(case: Case, client: Client, tmp_path: Path) -> None:
    run, view = ended(client, case)
    states = {step.step: step.state for step in view.steps}
    expected = {step: case.steps.get(step, "succeeded") for step in states}
    plain = {step: "succeeded" if state == "reused" else state for step, state in states.items()}
    assert (view.state, plain) == (case.state, expected), logs_of(client, run)
    assert not case.count or len(states) == case.count
    found = {name: found_text(client, run, name, tmp_path) for name in case.texts}
    assert found == case.texts
    if case.also is not None:
        case.also(run, tmp_path)


# -- in containers -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def in_containers(
    nats: NatsServer, image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    """The same services with an executor that runs steps in containers."""
    directory = tmp_path_factory.mktemp("corpus-docker")
    workspace = f"{WORKSPACE}-docker"
    with Fleet(
        directory, bus=nats.url, store=f"file:{directory / 'store'}", workspace=workspace
    ) as fleet:
        for service in SERVICES:
            if service == "executor":
                fleet.start(service, targets=TARGETS, slots="2", kind="docker")
            else:
                fleet.start(service)
        with Client(bus=fleet.bus, workspace=workspace) as found:
            yield found


def with_image(spec: PipelineSpec, image: str) -> PipelineSpec:
    """Return the pipeline in another image: the one that this machine's engine has."""
    steps = {
        name: msgspec.structs.replace(step, pipeline=with_image(step.pipeline, image))
        if step.pipeline
        else msgspec.structs.replace(step, environment=EnvironmentSpec(image=image))
        for name, step in spec.steps.items()
    }
    return msgspec.structs.replace(spec, steps=steps)


@pytest.mark.docker
@pytest.mark.parametrize("folder", DOCKER)
def test_a_third_of_them_gives_the_same_in_containers(
    folder: str, in_containers: Client, image: str, tmp_path: Path
) -> None:
    case = next(case for case in CASES if case.folder == folder)
    definition = definition_of(case.path)
    assert definition is not None
    definition = replace(definition, spec=with_image(definition.spec, image))
    run = in_containers.submit(definition, parameters=case.parameters)
    view = in_containers.wait(run.id, WAIT_S)
    assert view.state == "succeeded", logs_of(in_containers, run)
    assert {
        text: found_text(in_containers, run, text, tmp_path) for text in case.texts
    } == case.texts


# -- what is refused, and what is said about it --------------------------------------------------

REFUSED = {
    "enum_outside": "E_RANGE {file}:6:14 (steps.a.inputs.w): 'z'; allowed: x, y",
    "nothing_for_a_required_input": "E_MISSING_INPUT {file}:6:14 (steps.a.inputs.d): a uri_folder without a value",
    "reference_to_nobody": "E_REF {file}:4:",
    "around_in_a_circle": "E_CYCLE {file}:4:3: a -> b -> a",
    "command_asks_for_nothing_declared": "E_REF {file}:4:",
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_run_is_refused_at_submission_with_its_line(name: str, client: Client) -> None:
    file = PIPELINES / "refused" / f"{name}.yml"
    with pytest.raises(PenstockError) as caught:
        client.submit(file)
    assert str(caught.value).startswith(REFUSED[name].replace("{file}", str(file)))


def test_every_refused_pipeline_is_looked_at() -> None:
    assert {file.stem for file in (PIPELINES / "refused").iterdir()} == set(REFUSED)


def test_every_pipeline_of_the_corpus_is_run() -> None:
    folders = {folder.name for folder in PIPELINES.iterdir() if folder.is_dir()}
    assert folders == {case.folder for case in CASES} | {"refused", "reused_or_not"}
    assert set(DOCKER) <= folders


def test_what_is_ignored_is_said_when_it_is_submitted(client: Client) -> None:
    run = client.submit(PIPELINES / "old_spellings" / "pipeline.yml")
    for key in ("default_datestore", "services", "identity", "queue_settings"):
        assert any(f": {key} is ignored" in note for note in run.notes), key


# -- reuse ---------------------------------------------------------------------------------------


def test_a_deterministic_step_is_reused_and_a_moody_one_never(client: Client) -> None:
    file = PIPELINES / "reused_or_not" / "pipeline.yml"
    salt = {"salt": str(id(client))}
    states = []
    for _ in range(2):
        run = client.submit(file, parameters=salt)
        view = client.wait(run.id, WAIT_S)
        assert view.state == "succeeded", logs_of(client, run)
        states.append({step.step: step.state for step in view.steps})
    assert states[0] == dict.fromkeys(states[0], "succeeded")
    # What stands behind the moody one reads equal bytes again, so it is reused.
    assert states[1] == {"steady": "reused", "moody": "succeeded", "behind_moody": "reused"}


def test_force_rerun_runs_everything_again(client: Client) -> None:
    file = PIPELINES / "reused_or_not" / "pipeline.yml"
    client.wait(client.submit(file).id, WAIT_S)
    forced = definition_of(file, values=("settings.force_rerun=true",))
    assert forced is not None
    view = client.wait(client.submit(forced).id, WAIT_S)
    assert {step.state for step in view.steps} == {"succeeded"}


# -- the command line ----------------------------------------------------------------------------


def penstock(services: Fleet, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "penstock.cli.main", *words, "--bus", services.bus],
        env={**os.environ, "PENSTOCK_WORKSPACE": WORKSPACE},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )


def test_set_puts_a_value_into_the_file_as_az_does(
    services: Fleet, client: Client, tmp_path: Path
) -> None:
    file = str(PIPELINES / "component_is_the_job" / "pipeline.yml")
    done = penstock(services, "submit", file, "--set", "inputs.step=2", "--wait", "-o", "json")
    assert done.returncode == 0, done.stderr
    client.download(json.loads(done.stdout)["run"], tmp_path / "o", output="o")
    assert text_in(tmp_path, "o") == "1 3 5 7 9"


def test_an_unknown_key_is_a_warning_and_with_strict_an_error(
    services: Fleet, tmp_path: Path
) -> None:
    file = tmp_path / "p.yml"
    file.write_text("type: pipeline\njobs:\n  a:\n    command: echo hi\n    enviroment: x\n")
    lax = penstock(services, "submit", str(file), "--wait")
    assert lax.returncode == 0, lax.stderr
    told = f"{file}:5:5: unknown key 'enviroment' is not used (did you mean 'environment'?)"
    assert told in lax.stderr
    strict = penstock(services, "submit", str(file), "--strict")
    assert strict.returncode == 2
    assert f"{file}:5:5" in strict.stderr
    assert "did you mean 'environment'?" in strict.stderr


def test_a_schedule_file_registers_its_job_and_runs_it_with_the_time(
    services: Fleet, client: Client, tmp_path: Path
) -> None:
    (tmp_path / "job.yml").write_text(
        "type: pipeline\nname: corpus_scheduled\ninputs: {at: none, who: nobody}\noutputs: {o: {type: uri_file}}\n"
        "jobs:\n  a:\n    command: echo ${{inputs.at}} ${{inputs.who}} > ${{outputs.o}}\n"
        "    inputs: {at: '${{parent.inputs.at}}', who: '${{parent.inputs.who}}'}\n"
        "    outputs: {o: '${{parent.outputs.o}}'}\n"
    )
    (tmp_path / "schedule.yml").write_text(
        "$schema: https://azuremlschemas.azureedge.net/latest/schedule.schema.json\n"
        "name: corpus_schedule\ntrigger:\n  type: recurrence\n  frequency: week\n  interval: 1\n"
        "  schedule: {hours: [4], minutes: [0], week_days: [monday]}\n  time_zone: W. Europe Standard Time\n"
        "create_job:\n  type: pipeline\n  job: ./job.yml\n"
        "  inputs: {at: '${{creation_context.trigger_time}}', who: somebody}\n"
    )
    made = penstock(services, "schedule", "create", "--file", str(tmp_path / "schedule.yml"))
    assert made.returncode == 0, made.stderr
    shown = penstock(services, "schedule", "show", "corpus_schedule", "-o", "json")
    schedule = json.loads(shown.stdout)["schedule"]
    assert (schedule["pipeline"], schedule["time_zone"]) == ("corpus_scheduled@1", "Europe/Berlin")
    assert penstock(services, "schedule", "run-now", "corpus_schedule").returncode == 0
    (run,) = [one.run for one in client.runs(pipeline="corpus_scheduled")]
    assert client.wait(run, WAIT_S).state == "succeeded"
    client.download(run, tmp_path / "o", output="o")
    moment, who = text_in(tmp_path, "o").split()
    assert who == "somebody"
    assert datetime.fromisoformat(moment).year >= 2026
