# mypy: ignore-errors
# ruff: noqa: ANN202
"""Settings, sweeps, parallel steps and changed files of SDK v2: the graph is the one of YAML."""

from pathlib import Path

import pytest
from tests.unit.test_azure_v2_shapes import folder, from_yaml, same

from penstock.azure.ai.ml import (
    Input,
    MpiDistribution,
    Output,
    PyTorchDistribution,
    TensorFlowDistribution,
    command,
    dsl,
    load_component,
    load_job,
)
from penstock.azure.ai.ml.client import definition_of
from penstock.azure.ai.ml.entities import (
    CommandComponent,
    CommandJobLimits,
    Environment,
    JobResourceConfiguration,
    ResourceConfiguration,
)
from penstock.azure.ai.ml.parallel import RunFunction, parallel_run_function
from penstock.azure.ai.ml.sweep import BanditPolicy, Choice, Randint, Uniform
from penstock.contracts.spec import Output as Declared
from penstock.errors import Invalid
from penstock.sdk.definition import Definition

__all__ = ["folder"]


def one(text: str, folder: Path) -> Definition:
    return from_yaml(f"type: command\nname: one\ncommand: python x.py\n{text}", folder)


# -- settings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("distribution", "text"),
    [
        (
            PyTorchDistribution(process_count_per_instance=2),
            "pytorch, process_count_per_instance: 2",
        ),
        (MpiDistribution(process_count_per_instance=3), "mpi, process_count_per_instance: 3"),
        (TensorFlowDistribution(worker_count=2), "tensorflow, worker_count: 2"),
    ],
)
def test_a_distribution_is_set_where_a_step_is_made_or_later(
    distribution: object, text: str, folder: Path
) -> None:
    yaml = one(f"distribution: {{type: {text}}}\n", folder)
    early = command(name="one", command="python x.py", distribution=distribution)
    same(definition_of(early), yaml)
    late = command(name="one", command="python x.py")
    late.distribution = distribution
    same(definition_of(late), yaml)


def test_what_a_command_asks_for_is_set_key_by_key(folder: Path) -> None:
    step = command(name="one", command="python x.py", shm_size="1g", distribution={"type": "mpi"})
    step.resources.instance_count = 2
    step.limits.timeout = 60
    step.distribution.process_count_per_instance = 2
    step.environment_variables["A"] = "b"
    text = """
resources: {instance_count: 2, shm_size: 1g}
limits: {timeout: 60}
distribution: {type: mpi, process_count_per_instance: 2}
environment_variables: {A: b}
"""
    same(definition_of(step), one(text, folder))
    copied = step()
    copied.resources.instance_count = 3
    copied.environment_variables["A"] = "c"
    same(definition_of(step), one(text, folder))
    step.resources = {"instance_count": 2}
    step.resources["shm_size"] = "1g"
    same(definition_of(step), one(text, folder))


def test_what_a_command_asks_for_is_an_object(folder: Path) -> None:
    text = "resources: {instance_count: 2, docker_args: --init}\nlimits: {timeout: 60}\n"
    asked = JobResourceConfiguration(instance_count=2, docker_args="--init")
    limits = CommandJobLimits(timeout=60)
    step = command(name="one", command="python x.py")
    step.resources, step.limits = asked, limits
    same(definition_of(step), one(text, folder))
    step = command(name="one", command="python x.py", resources=asked, limits=limits)
    same(definition_of(step), one(text, folder))
    part = CommandComponent(
        name="part",
        command="python x.py",
        resources=ResourceConfiguration(instance_count=2),
        distribution=PyTorchDistribution(process_count_per_instance=2),
    )

    @dsl.pipeline
    def asking():
        part()

    found = asking().definition().spec.steps["part"]
    assert found.resources.instance_count == 2
    assert "RANK=3" in found.command.replace('"', "").replace("\n", " ")


def test_an_output_is_declared_by_its_keys_too(folder: Path) -> None:
    step = command(
        name="one", command="python x.py", outputs={"m": {"type": "uri_file"}, "n": None}
    )
    same(definition_of(step), one("outputs: {m: {type: uri_file}, n: {}}\n", folder))
    assert definition_of(step).spec.outputs["m"] == Declared(type="uri_file")


# -- sweeps -----------------------------------------------------------------------------------------

SWEEP = """
    sampling_algorithm: grid
    search_space:
      rate: {type: choice, values: [0.1, 0.2]}
      note: {type: uniform, min_value: 0, max_value: 1}
    objective: {goal: Maximize, primary_metric: score}
    limits: {max_total_trials: 4, max_concurrent_trials: 2, timeout: 90}
    early_termination: {type: bandit, slack_factor: 0.1}
"""
TUNED = f"""
type: pipeline
name: tuning
display_name: tuning
inputs:
  rows: {{type: uri_folder}}
outputs:
  best: {{type: uri_folder}}
jobs:
  tuned:
    type: sweep
    trial: ./train.yml
    compute: azureml:gpu
    environment_variables: {{LEVEL: info}}
    inputs:
      data: ${{{{parent.inputs.rows}}}}
    outputs:
      model: ${{{{parent.outputs.best}}}}
{SWEEP}"""


def tuned_of(train_model: object) -> Definition:
    @dsl.pipeline
    def tuning(rows: Input(type="uri_folder")):
        trained = train_model(
            data=rows, rate=Choice(values=[0.1, 0.2]), note=Uniform(min_value=0, max_value=1)
        )
        trained.environment_variables = {"LEVEL": "info"}
        tuned = trained.sweep(
            primary_metric="score",
            goal="Maximize",
            sampling_algorithm="grid",
            compute="azureml:gpu",
        )
        tuned.set_limits(max_total_trials=4, max_concurrent_trials=2)
        tuned.limits.timeout = 90
        tuned.early_termination = BanditPolicy(slack_factor=0.1)
        return {"best": tuned.outputs.model}

    job = tuning(rows=Input(type="uri_folder"))
    assert "type: sweep" in str(job)
    return job.definition()


def test_a_sweep_of_a_component_is_the_one_in_yaml(folder: Path) -> None:
    yaml = from_yaml(TUNED, folder)
    same(tuned_of(load_component("./train.yml")), yaml)
    assert [note.partition(": ")[2] for note in yaml.notes] == ["every trial runs to its end"]
    changed = load_component("./train.yml", params_override=[{"description": "Trains."}])
    found = tuned_of(changed)
    assert found.spec.steps["tuned"].command == yaml.spec.steps["tuned"].command
    assert found.spec.steps["tuned"].description == "Trains."


def test_a_sweep_of_a_command_is_a_job_by_itself(folder: Path) -> None:
    step = command(
        name="alone",
        command="python train.py ${{inputs.n}} ${{inputs.depth}} ${{outputs.o}}",
        code="./src",
        environment="azureml:sklearn@latest",
        environment_variables={"LEVEL": "info"},
        inputs={"n": 3, "depth": 1},
        outputs={"o": Output(type="uri_folder")},
        shm_size="1g",
        compute="gpu",
    )
    swept = step(depth=Randint(5)).sweep(
        primary_metric="score", goal="minimize", max_total_trials=3, search_space=None
    )
    text = """
type: sweep
name: alone
compute: gpu
trial:
  command: python train.py ${{inputs.n}} ${{inputs.depth}} ${{outputs.o}}
  code: src
  environment: azureml:sklearn@latest
  environment_variables: {LEVEL: info}
  resources: {shm_size: 1g}
inputs: {n: 3}
outputs: {o: {type: uri_folder}}
sampling_algorithm: random
search_space: {depth: {type: randint, upper: 5}}
objective: {goal: minimize, primary_metric: score}
limits: {max_total_trials: 3}
"""
    same(definition_of(swept), from_yaml(text, folder))


def test_only_a_command_is_swept(folder: Path) -> None:
    train_model = load_component("./train.yml")
    swept = train_model(data="x", rate=Choice([1])).sweep(primary_metric="m", goal="minimize")
    for refuse in (swept.sweep, lambda: swept.component):
        with pytest.raises(Invalid) as refused:
            refuse()
        assert refused.value.code == "E_UNSUPPORTED"


# -- parallel steps ---------------------------------------------------------------------------------

PARALLEL = """
type: pipeline
name: scoring
display_name: scoring
inputs:
  rows: {type: uri_folder}
jobs:
  scored:
    type: parallel
    task:
      type: run_function
      code: ./src
      entry_script: train.py
      program_arguments: --to ${{outputs.rows}}
      append_row_to: ${{outputs.rows}}
      environment: {image: "python:3.11"}
    input_data: ${{inputs.data}}
    mini_batch_size: "3"
    retry_settings: {max_retries: 2, timeout: 60}
    max_concurrency_per_instance: 2
    error_threshold: 5
    inputs: {data: "${{parent.inputs.rows}}"}
    outputs: {rows: {type: uri_file}}
"""


def test_a_parallel_step_is_the_one_in_yaml(folder: Path) -> None:
    score = parallel_run_function(
        name="score",
        inputs={"data": Input(type="uri_folder")},
        outputs={"rows": Output(type="uri_file")},
        input_data="${{inputs.data}}",
        mini_batch_size="10",
        retry_settings={"max_retries": 2},
        max_concurrency_per_instance=2,
        error_threshold=5,
        task=RunFunction(
            code="./src",
            entry_script="train.py",
            program_arguments="--to ${{outputs.rows}}",
            append_row_to="${{outputs.rows}}",
            environment=Environment(image="python:3.11"),
        ),
    )

    @dsl.pipeline
    def scoring(rows: Input(type="uri_folder")):
        scored = score(data=rows)
        scored.mini_batch_size = "3"
        scored.retry_settings.timeout = 60

    found = scoring(rows=Input(type="uri_folder")).definition()
    same(found, from_yaml(PARALLEL, folder))
    assert score.component.type == "parallel"


def test_a_parallel_component_takes_settings_where_it_is_used(folder: Path) -> None:
    (folder / "score.yml").write_text("""
type: parallel
name: score
inputs: {data: {type: uri_folder}}
outputs: {rows: {type: uri_file}}
input_data: ${{inputs.data}}
mini_batch_size: "10"
task: {code: ./src, entry_script: train.py}
""")

    @dsl.pipeline
    def scoring(rows: Input(type="uri_folder")):
        scored = load_component("./score.yml")(data=rows)
        scored.mini_batch_size = "3"

    text = """
type: pipeline
name: scoring
display_name: scoring
inputs:
  rows: {type: uri_folder}
jobs:
  scored:
    component: ./score.yml
    inputs: {data: "${{parent.inputs.rows}}"}
    mini_batch_size: "3"
"""
    same(scoring(rows=Input(type="uri_folder")).definition(), from_yaml(text, folder))


# -- files with changes -----------------------------------------------------------------------------

PART = """
name: part
type: command
command: python train.py ${{inputs.rows}}
code: ./src
environment: ./env.yml
additional_includes: [./shared]
inputs:
  rows: {type: uri_file, path: ./rows.csv}
"""


def test_a_changed_component_is_read_from_where_its_file_lies(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "part.yml").write_text(PART)
    (folder / "env.yml").write_text("image: python:3.11\nconda_file: conda.yml\n")
    (folder / "conda.yml").write_text("dependencies: [python=3.11]\n")
    (folder / "shared").mkdir()
    (folder / "whole.yml").write_text("""
name: whole
type: pipeline
jobs:
  inner: {component: ./part.yml}
""")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    part = load_component(
        folder / "part.yml", params_override=[{"version": "7", "environment_variables.A": "b"}]
    )
    whole = load_component(folder / "whole.yml", params_override=[{"description": "All."}])
    assert part.version == "7"

    @dsl.pipeline
    def both():
        part()
        whole()

    text = """
type: pipeline
name: both
jobs:
  part: {component: ./part.yml, environment_variables: {A: b}}
  whole: {component: ./whole.yml}
"""
    job = both()
    found, yaml = job.definition(), from_yaml(text, folder)
    assert found.spec.steps["part"] == yaml.spec.steps["part"]
    assert found.spec.steps["whole"].description == "All."
    assert {(one.place, one.path.resolve(), one.includes) for one in found.locals} == {
        (one.place, one.path.resolve(), one.includes) for one in yaml.locals
    }
    assert "environment: ./env.yml" in str(job)


def test_code_of_a_changed_component_is_no_path_when_it_is_none(folder: Path) -> None:
    part = load_component(
        folder / "train.yml", params_override=[{"code": "azureml:src:1", "inputs": {}}]
    )

    @dsl.pipeline
    def calling():
        part()

    with pytest.raises(Invalid, match="azureml:src:1 is not on this machine") as refused:
        calling().definition()
    assert refused.value.where.startswith("train.yml")
    with pytest.raises(Invalid) as refused:
        load_component(folder / "train.yml", params_override=[{"name.first": "x"}])
    assert refused.value.code == "E_PARAM"


def test_attributes_of_a_job_of_a_file_go_before_the_file(folder: Path) -> None:
    job = load_job("pipeline.yml", params_override=[{"inputs.rate": 0.5, "description": "3.10"}])
    assert job.display_name == "digits"
    job.display_name = "other"
    job.compute = "big"
    job.experiment_name = "numbers"
    spec = job.definition().spec
    assert (spec.display_name, spec.description) == ("other", "3.10")
    assert spec.inputs["rate"] == 0.5
    (folder / "plain").mkdir()
    (folder / "plain" / "plain.yml").write_text("command: ls\n")
    plain = load_job(folder / "plain" / "plain.yml")
    plain.compute = "big"
    assert plain.definition().spec.steps["plain"].compute == "big"
    with pytest.raises(AttributeError, match="did you mean 'display_name'"):
        job.display_nam = "x"
    with pytest.raises(AttributeError, match="params_override"):
        job.settings = {}


def test_a_changed_component_registers_with_its_files(folder: Path) -> None:
    from penstock.azure.ai.ml.operations import Components

    part = load_component(folder / "train.yml", params_override=[{"version": "7"}])
    found = Components.__new__(Components)._registering(part)
    assert (found.command.name, found.command.version) == ("train_model", "7")
    assert {one.path.resolve() for one in found.definition.locals} == {folder.resolve() / "src"}
