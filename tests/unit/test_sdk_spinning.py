"""One step of a pipeline becomes a pipeline of its own, with what an earlier run has made."""

from pathlib import Path

import pytest

from penstock.contracts.artifacts import TreeRef
from penstock.contracts.queries import RunView, StepView
from penstock.contracts.spec import Input, Output
from penstock.errors import NotFound
from penstock.sdk.definition import Definition
from penstock.sdk.pipeline_files import pipeline_of
from penstock.sdk.spinning import file_with, has_made, spun
from penstock.sdk.yaml_text import document_of

YAML = b"""
type: pipeline
name: digits
inputs: {rate: 0.1, other: 3}
outputs: {best: {type: uri_folder}}
jobs:
  prepare: {command: "make", outputs: {data: {type: uri_file}}}
  train:
    command: train ${{inputs.rate}}
    inputs: {data: "${{parent.jobs.prepare.outputs.data}}", rate: "${{parent.inputs.rate}}"}
    outputs:
      model: ${{parent.outputs.best}}
      copy: {path: "azureml://datastores/workspaceblobstore/paths/x", name: kept}
    depends_on: prepare
"""
TREE = TreeRef(digest="a" * 64, files=1, size_bytes=3)


@pytest.fixture
def definition(tmp_path: Path) -> Definition:
    return pipeline_of(document_of(YAML, "p.yml"), tmp_path / "p.yml")


def run_of(**outputs: TreeRef) -> RunView:
    steps = (StepView(step="prepare", state="succeeded", outputs=outputs),)
    return RunView(
        run="r", pipeline="digits", state="failed", parameters={"rate": 0.7}, steps=steps
    )


def test_a_step_gets_the_bytes_and_the_parameters_of_the_run(definition: Definition) -> None:
    spec = spun(definition, "train", run_of(data=TREE)).spec
    assert (spec.name, spec.inputs, spec.outputs) == ("digits-spin", {"rate": 0.7}, {})
    (step,) = spec.steps.values()
    assert step.inputs == {
        "data": Input(type="uri_file", path=f"artifact:{'a' * 64}"),
        "rate": "${{parent.inputs.rate}}",
    }
    assert step.outputs == {"model": None, "copy": Output()}
    assert step.needs == ()


def test_a_run_that_lacks_an_input_is_not_taken(definition: Definition) -> None:
    assert has_made(definition, "train", run_of(data=TREE))
    assert not has_made(definition, "train", run_of())
    with pytest.raises(NotFound, match="no output 'data' of step 'prepare'"):
        spun(definition, "train", run_of())
    with pytest.raises(NotFound, match="no step 'trian'") as refused:
        spun(definition, "trian", None)
    assert refused.value.hint == "did you mean 'train'?"


def test_the_file_is_found_by_its_step(tmp_path: Path) -> None:
    (tmp_path / "pipeline.yml").write_bytes(YAML)
    (tmp_path / "train.py").write_text("train = 1\n")
    assert file_with("train", tmp_path) == tmp_path / "pipeline.yml"
    with pytest.raises(NotFound):
        file_with("test", tmp_path)
