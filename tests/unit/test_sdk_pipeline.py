"""Pipelines in Python: the same pipeline in YAML has the same bytes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from penstock import (
    CommandStep,
    OutputFileDatasetConfig,
    Pipeline,
    PipelineParameter,
    PythonScriptStep,
)
from penstock.contracts.spec import spec_bytes
from penstock.errors import Invalid
from penstock.sdk.pipeline_files import pipeline_of
from penstock.sdk.yaml_text import document_of


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "src"
    folder.mkdir()
    for name in ("prepare.py", "train.py", "evaluate.py"):
        (folder / name).write_text("print('x')\n")
    (tmp_path / "rows.csv").write_text("a\n")
    return folder


def test_the_same_pipeline_in_python_and_in_yaml_has_the_same_bytes(source: Path) -> None:
    folder = source.parent
    prepared = OutputFileDatasetConfig("prepared", destination=(None, "x/{run-id}"))
    model = OutputFileDatasetConfig("model")
    rate = PipelineParameter("rate", 0.1)
    label = PipelineParameter("label", "first try")
    PythonScriptStep(
        "prepare.py",
        arguments=["--rows", folder / "rows.csv", "--to", prepared, "--seed", 7],
        source_directory=source,
        hash_paths=["prepare.py"],
    )
    train = PythonScriptStep(
        name="train",
        script_name="train.py",
        arguments=["--data", prepared.as_input(), "--rate", rate, "--label", label, "--out", model],
        source_directory=source,
        compute_target="cpu",
        allow_reuse=False,
        params={"depth": 3, "rate": rate},
    )
    tidy = CommandStep("rm -f x && echo done", name="tidy up")
    tidy.run_after(train)
    pipeline = Pipeline(None, [tidy], name="digits", outputs={"best": model})

    text = """
type: pipeline
name: digits
inputs: {rate: 0.1, label: first try}
outputs: {best: }
jobs:
  prepare:
    code: src
    hash_paths: [prepare.py]
    command: python prepare.py --rows "${{inputs.rows}}" --to "${{outputs.prepared}}" --seed 7
    display_name: prepare.py
    inputs: {rows: {type: uri_file, path: rows.csv}}
    outputs: {prepared: }
  train:
    code: src
    compute: azureml:cpu
    is_deterministic: false
    command: >-
      python train.py --data "${{inputs.prepared}}" --rate ${{inputs.rate}}
      --label "$AZUREML_PARAMETER_label" --out "${{outputs.model}}"
    environment_variables: {AML_PARAMETER_depth: 3, AML_PARAMETER_rate: "${{inputs.rate}}"}
    inputs:
      prepared: ${{parent.jobs.prepare.outputs.prepared}}
      rate: ${{parent.inputs.rate}}
      label: ${{parent.inputs.label}}
    outputs: {model: "${{parent.outputs.best}}"}
  tidy_up:
    command: rm -f x && echo done
    display_name: tidy up
    depends_on: train
"""
    in_yaml = pipeline_of(document_of(text.encode(), "p.yml"), folder / "p.yml")
    in_python = pipeline.definition()
    assert spec_bytes(in_python.spec) == spec_bytes(in_yaml.spec)
    assert set(in_python.locals) == set(in_yaml.locals)


def test_steps_are_pulled_in_through_data_and_order(source: Path) -> None:
    data = OutputFileDatasetConfig()
    first = CommandStep(["make", data], name="first")
    before = CommandStep("echo", name="before")
    first.run_after(before)
    last = CommandStep(["use", data.as_input("x")], name="last")
    steps = Pipeline(steps=[[last]], name="p").definition().spec.steps
    assert {name: (step.needs, step.inputs) for name, step in steps.items()} == {
        "last": ((), {"x": "${{parent.jobs.first.outputs.output}}"}),
        "first": (("before",), {}),
        "before": ((), {}),
    }


def test_an_output_listed_as_input_is_read_and_otherwise_written(source: Path) -> None:
    out = OutputFileDatasetConfig("o")
    one = PythonScriptStep("prepare.py", arguments=["--to", out], source_directory=source)
    two = PythonScriptStep(
        "train.py", arguments=["--from", out], inputs=[out], source_directory=source
    )
    three = CommandStep(["cat", out], name="three")
    assert one.command() == 'python prepare.py --to "${{outputs.o}}"'
    assert two.command() == 'python train.py --from "${{inputs.o}}"'
    assert three.command() == 'cat "${{inputs.o}}"'


def test_arguments_are_safe_from_the_shell(source: Path) -> None:
    step = PythonScriptStep(
        "train.py", arguments=["--text", "a b; $(rm -rf /)", True, 1e-3], source_directory=source
    )
    assert step.command() == "python train.py --text 'a b; $(rm -rf /)' True 0.001"


def test_equal_names_are_told_apart(source: Path) -> None:
    steps = [CommandStep("x", name="same"), CommandStep("y", name="same")]
    assert list(Pipeline(steps=steps, name="p").definition().spec.steps) == ["same", "same_2"]


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (
            lambda source: [PythonScriptStep("none.py", source_directory=source)],
            "E_PATH none.script_name: there is no none.py in ",
        ),
        (
            lambda source: [CommandStep(["x", OutputFileDatasetConfig("o").as_input()], name="a")],
            "E_REF a.inputs.o: no step writes 'o'",
        ),
        (lambda source: [], "E_EMPTY steps: no steps"),
        (
            lambda source: [CommandStep(["x", Path("/does/not/exist")], name="a")],
            "E_PATH steps.a.inputs.exist: /does/not/exist does not exist",
        ),
    ],
)
def test_validate_says_what_is_wrong(
    build: Callable[[Path], list[PythonScriptStep]], expected: str, source: Path
) -> None:
    (problem,) = Pipeline(steps=build(source), name="p").validate()
    assert problem.startswith(expected)


def test_a_cycle_is_found_before_anything_is_sent(source: Path) -> None:
    one, two = CommandStep("x", name="one"), CommandStep("y", name="two")
    one.run_after(two)
    two.run_after(one)
    (problem,) = Pipeline(steps=[one], name="p").validate()
    assert problem in (
        "E_CYCLE steps.one: one -> two -> one",
        "E_CYCLE steps.two: two -> one -> two",
    )


def test_two_steps_cannot_write_one_output(source: Path) -> None:
    out = OutputFileDatasetConfig("o")
    CommandStep("x", name="one", outputs=[out])
    with pytest.raises(Invalid, match="is written by 'one' already"):
        CommandStep("y", name="two", outputs=[out])
