# mypy: ignore-errors
# ruff: noqa: ANN202
"""SDK v2 in Python and CLI v2 in YAML give one graph. Values stand as annotations there: no types."""

from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from penstock.azure.ai.ml import Input, Output, command, dsl, group, load_component
from penstock.azure.ai.ml.constants import AssetTypes
from penstock.azure.ai.ml.entities import Environment
from penstock.contracts.spec import spec_bytes
from penstock.errors import Invalid
from penstock.sdk.definition import Definition
from penstock.sdk.pipeline_files import pipeline_of
from penstock.sdk.yaml_text import document_of

PREPARE = """
name: prepare_data
type: command
command: python prepare.py --rows ${{inputs.rows}} --share ${{inputs.share}} --to ${{outputs.prepared}}
code: ./src
environment: azureml:sklearn@latest
inputs:
  rows: {type: uri_file}
  share: {type: number, default: 0.5}
outputs:
  prepared: {type: uri_folder}
"""
TRAIN = """
name: train_model
type: command
command: >-
  python train.py --data ${{inputs.data}} --rate ${{inputs.rate}} $[[--note ${{inputs.note}}]]
  --model ${{outputs.model}}
code: ./src
environment: azureml:sklearn@latest
inputs:
  data: {type: uri_folder}
  rate: {type: number}
  note: {type: string, optional: true}
outputs:
  model: {type: uri_folder}
"""
YAML = """
type: pipeline
name: digits
display_name: digits
description: Prepares and trains.
settings: {default_compute: "azureml:cpu", force_rerun: true}
inputs:
  rows: {type: uri_file, path: rows.csv}
  rate: {type: number, default: 0.1, value: 0.2}
outputs:
  best: {type: uri_folder, mode: upload}
jobs:
  prepared:
    type: command
    component: ./prepare.yml
    inputs: {rows: "${{parent.inputs.rows}}"}
  trained:
    type: command
    component: ./train.yml
    compute: azureml:gpu
    inputs:
      data: ${{parent.jobs.prepared.outputs.prepared}}
      rate: ${{parent.inputs.rate}}
      note: run ${{parent.inputs.rate}}
    outputs:
      model: {type: uri_folder, mode: upload, path: "${{parent.outputs.best}}"}
    environment_variables: {LEVEL: info}
    limits: {timeout: 60}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "train.py").write_text("print(1)\n")
    (tmp_path / "rows.csv").write_text("1\n")
    (tmp_path / "prepare.yml").write_text(PREPARE)
    (tmp_path / "train.yml").write_text(TRAIN)
    (tmp_path / "pipeline.yml").write_text(YAML)
    return tmp_path


def from_yaml(text: str, folder: Path) -> Definition:
    return pipeline_of(document_of(text.encode(), "p.yml"), folder / "p.yml")


def resolved(definition: Definition) -> set[tuple[Any, Path]]:
    return {(local.place, local.path.resolve()) for local in definition.locals}


def same(python: Definition, yaml: Definition) -> None:
    assert spec_bytes(python.spec) == spec_bytes(yaml.spec)
    assert resolved(python) == resolved(yaml)


def test_a_pipeline_of_component_files_is_the_one_in_yaml(folder: Path) -> None:
    prepare_data = load_component(source="./prepare.yml")
    train_model = load_component(source=folder / "train.yml")

    @dsl.pipeline(default_compute="cpu", display_name="digits", force_rerun=True)
    def digits(rows: Input(type="uri_file"), rate: float = 0.1):
        """Prepares and trains."""
        prepared = prepare_data(rows=rows)
        trained = train_model(data=prepared.outputs.prepared, rate=rate, note=f"run {rate}")
        trained.compute = "azureml:gpu"
        trained.environment_variables = {"LEVEL": "info"}
        trained.limits.timeout = 60
        trained.outputs.model.mode = "upload"
        return {"best": trained.outputs.model}

    job = digits(rows=Input(type=AssetTypes.URI_FILE, path="rows.csv"), rate=0.2)
    text = YAML.replace("rate: {type: number, default: 0.1, value: 0.2}", "rate: 0.2")
    same(job.definition(), from_yaml(text, folder))
    text = YAML.replace(", value: 0.2", "")
    same(
        digits(rows=Input(type="uri_file", path=str(folder / "rows.csv"))).definition(),
        from_yaml(text, folder),
    )
    assert "trained" in str(job)


def test_a_nested_pipeline_is_a_component_within(folder: Path) -> None:
    prepare_data = load_component(source="./prepare.yml")
    train_model = load_component(source="./train.yml")

    @dsl.pipeline
    def inner(rows: Input(type="uri_file"), rate: float):
        one = prepare_data(rows)
        two = train_model(one.outputs.prepared, rate)
        return {"model": two.outputs.model}

    @dsl.pipeline()
    def outer(rows: Input(type="uri_file")):
        slow = inner(rows=rows, rate=0.1)
        inner(rows=rows, rate=0.2)
        check = command(
            name="check",
            command="ls ${{inputs.one}}",
            environment=Environment(image="python:3.11"),
            inputs={"one": Input(type="uri_folder")},
        )
        looked = check(one=slow.outputs.model)
        looked.run_after(slow)

    found = outer(rows=Input(type="uri_file", path="rows.csv")).definition().spec
    assert list(found.steps) == ["slow", "inner", "looked"]
    slow = found.steps["slow"].pipeline
    assert slow is not None
    assert list(slow.steps) == ["one", "two"]
    assert found.steps["slow"].inputs["rate"] == 0.1
    assert found.steps["looked"].inputs["one"] == "${{parent.jobs.slow.outputs.model}}"
    assert found.steps["looked"].needs == ("slow",)


def test_a_command_is_a_job_by_itself(folder: Path) -> None:
    job = command(
        name="alone",
        command="python train.py ${{inputs.n}} ${{outputs.o}}",
        code="./src",
        environment="azureml:sklearn@latest",
        inputs={"n": 3},
        outputs={"o": Output(type="uri_folder")},
        environment_variables={"A": 1},
        timeout=10,
    )
    from penstock.azure.ai.ml.client import definition_of

    text = """
type: command
name: alone
command: python train.py ${{inputs.n}} ${{outputs.o}}
code: src
environment: azureml:sklearn@latest
inputs: {n: 3}
outputs: {o: {type: uri_folder}}
environment_variables: {A: 1}
limits: {timeout: 10}
"""
    same(definition_of(job), from_yaml(text, folder))


def test_inputs_may_be_groups_and_enumerations(folder: Path) -> None:
    class Kind(Enum):
        FAST = "fast"
        GOOD = "good"

    @group
    class Training:
        rate: float = 0.1
        note: str = "x"

    train_model = load_component(source="./train.yml")

    @dsl.pipeline
    def grouped(data: Input, training: Training, kind: Kind = Kind.FAST):
        train_model(data=data, rate=training.rate, note=kind)

    job = grouped(data=Input(path=str(folder / "src")), training=Training(rate=0.5))
    spec = job.definition().spec
    assert spec.inputs["training__rate"] == 0.5
    assert spec.inputs["kind"].enum == ("fast", "good")
    assert spec.steps["train_model"].inputs["rate"].value == "${{parent.inputs.training__rate}}"


def test_what_is_wrong_is_said_where_it_is_called(folder: Path) -> None:
    train_model = load_component(source="./train.yml")
    with pytest.raises(Invalid, match="train_model has no input 'dato'") as refused:
        train_model(dato=1)
    assert refused.value.hint == "did you mean 'data'?"
    with pytest.raises(Invalid, match=r"'m' is no Output") as refused:
        command(name="one", command="x", outputs={"o": "m"})
    assert refused.value.where == "one.outputs.o"
