"""Components in files, inline and by reference: what a step that uses one becomes."""

from pathlib import Path

import pytest

from penstock.contracts.spec import (
    BuildContext,
    EnvironmentSpec,
    Input,
    Limits,
    Output,
    PipelineSpec,
    StepSpec,
)
from penstock.errors import Invalid
from penstock.sdk.definition import Definition, Include, Local, with_artifacts
from penstock.sdk.pipeline_files import pipeline_of, read_pipeline
from penstock.sdk.yaml_text import document_of

TRAIN = """
$schema: https://azuremlschemas.azureedge.net/latest/commandComponent.schema.json
type: command
name: train_model
version: 01
display_name: Train
is_deterministic: false
inputs:
  data: {type: uri_folder, mode: download}
  epochs: {type: integer, default: 3, min: 1}
  rate: {type: number, default: 1e-3}
  label: {type: string, default: 3.10}
  note: {type: string, optional: true}
outputs:
  model: {type: uri_file}
code: ./src
environment: azureml:sklearn-1.5@latest
environment_variables: {A: component, B: component}
compute: azureml:cpu
limits: {timeout: 60}
command: >-
  python train.py --data ${{inputs.data}} --epochs ${{inputs.epochs}}
  $[[--note ${{inputs.note}}]] --out ${{outputs.model}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("parts/src", "data", "shared_code"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "f.py").write_text("pass\n")
    (tmp_path / "parts/train.yml").write_text(TRAIN)
    return tmp_path


def read(text: str, folder: Path, name: str = "p.yml") -> Definition:
    return pipeline_of(document_of(text.encode(), name, folder), folder / name)


@pytest.mark.parametrize(
    "spelled", ["./parts/train.yml", "file:./parts/train.yml", "parts/train.yml"]
)
def test_a_component_file_fills_the_step_that_uses_it(spelled: str, folder: Path) -> None:
    found = read(
        f"""
type: pipeline
jobs:
  fit:
    type: command
    component: {spelled}
    inputs:
      data: {{type: uri_folder, path: ./data}}
      epochs: ${{{{parent.inputs.n}}}}
      stranger: 5
    environment_variables: {{B: step}}
inputs: {{n: 7}}
""",
        folder,
    )
    assert found.spec.steps["fit"] == StepSpec(
        command=(
            "python train.py --data ${{inputs.data}} --epochs ${{inputs.epochs}} "
            "$[[--note ${{inputs.note}}]] --out ${{outputs.model}}"
        ),
        inputs={
            "data": Input(type="uri_folder", mode="download"),
            "epochs": Input(type="integer", default=3, min=1, value="${{parent.inputs.n}}"),
            "rate": Input(type="number", default=0.001),
            "label": Input(type="string", default="3.1"),
            "note": Input(type="string", optional=True),
            "stranger": 5,
        },
        outputs={"model": Output(type="uri_file")},
        environment="azureml:sklearn-1.5@latest",
        environment_variables={"A": "component", "B": "step"},
        compute="cpu",
        limits=Limits(timeout=60),
        is_deterministic=False,
        display_name="Train",
    )
    assert set(found.locals) == {
        Local(("steps", "fit", "code"), folder / "parts/src"),
        Local(("steps", "fit", "inputs", "data"), folder / "data"),
    }
    assert [note.partition(": ")[2] for note in found.notes] == [
        "3.10 is read as 3.1; quote it if that is not meant"
    ]


def test_a_component_may_be_written_into_the_step_without_name_and_type(folder: Path) -> None:
    found = read(
        "type: pipeline\njobs:\n  a:\n    component:\n      code: ./parts/src\n      command: echo ${{inputs.x}}\n"
        "      inputs: {x: {type: string}}\n      environment: {name: e, version: 1, image: python}\n"
        "    inputs: {x: hello}\n",
        folder,
    )
    assert found.spec.steps["a"] == StepSpec(
        command="echo ${{inputs.x}}",
        inputs={"x": Input(type="string", value="hello")},
        environment=EnvironmentSpec(name="e", version="1", image="python"),
    )


@pytest.mark.parametrize(
    "reference",
    [
        "azureml:train:1",
        "azureml:train@latest",
        "azureml://registries/azureml/components/t/labels/latest",
    ],
)
def test_a_reference_is_left_to_the_planner(reference: str, folder: Path) -> None:
    found = read(
        f"type: pipeline\njobs:\n  a:\n    component: {reference}\n    inputs: {{x: 1}}\n", folder
    )
    assert found.spec.steps["a"] == StepSpec(component=reference, inputs={"x": 1})


INNER = """
$schema: https://azuremlschemas.azureedge.net/latest/pipelineComponent.schema.json
type: pipeline
name: inner
inputs:
  raw: {type: uri_folder}
  rate: {type: number, default: 0.5}
outputs:
  model: {type: uri_file}
jobs:
  fit:
    component: ./train.yml
    inputs: {data: "${{parent.inputs.raw}}", rate: "${{parent.inputs.rate}}"}
    outputs: {model: "${{parent.outputs.model}}"}
"""


def test_a_pipeline_component_is_a_step_with_a_pipeline_and_its_files_stay_its_own(
    folder: Path,
) -> None:
    (folder / "parts/inner.yml").write_text(INNER)
    found = read(
        "type: pipeline\njobs:\n  sub:\n    type: pipeline\n    component: ./parts/inner.yml\n"
        "    inputs: {raw: ./data, rate: 1}\n    outputs: {model: '${{parent.outputs.m}}'}\noutputs: {m: }\n",
        folder,
    )
    sub = found.spec.steps["sub"]
    assert sub.inputs == {"raw": Input(), "rate": 1}
    assert sub.pipeline is not None
    assert sub.pipeline.inputs == {
        "raw": Input(),
        "rate": Input(type="number", default=0.5),
    }
    assert sub.pipeline.steps["fit"].inputs["data"] == Input(
        mode="download", path="${{parent.inputs.raw}}"
    )
    stored = {local.place: f"artifact:{local.path.name}" for local in found.locals}
    assert stored == {
        ("steps", "sub", "pipeline", "steps", "fit", "code"): "artifact:src",
        ("steps", "sub", "inputs", "raw"): "artifact:data",
    }
    whole = with_artifacts(found.spec, stored).steps["sub"]
    assert whole.pipeline is not None
    assert whole.pipeline.steps["fit"].code == "artifact:src"
    assert whole.inputs["raw"] == Input(path="artifact:data")
    assert found.where("steps", "sub", "pipeline", "steps", "fit").endswith("inner.yml:11:3")


def test_a_job_may_be_a_component_and_nothing_else(folder: Path) -> None:
    (folder / "parts/inner.yml").write_text(INNER)
    found = read(
        "type: pipeline\nexperiment_name: e\ncomponent: ./parts/inner.yml\n"
        "inputs: {raw: {path: ./data}, rate: 1}\nsettings: {default_compute: azureml:cpu}\n",
        folder,
    )
    assert found.spec.inputs == {"raw": Input(), "rate": Input(type="number", default=0.5, value=1)}
    assert list(found.spec.steps) == ["fit"]
    assert found.spec.outputs == {"model": Output(type="uri_file")}
    assert found.spec.settings.default_compute == "cpu"
    assert {local.place for local in found.locals} == {
        ("inputs", "raw"),
        ("steps", "fit", "code"),
    }


def test_a_job_may_be_a_registered_component(folder: Path) -> None:
    found = read(
        "type: pipeline\ncomponent: azureml:inner@latest\ninputs: {rate: 1}\noutputs: {model: }\n",
        folder,
        "job_of_it.yml",
    )
    assert found.spec.steps == {
        "job_of_it": StepSpec(
            component="azureml:inner@latest",
            inputs={"rate": "${{parent.inputs.rate}}"},
            outputs={"model": "${{parent.outputs.model}}"},
        )
    }


def test_a_component_that_contains_itself_is_refused(folder: Path) -> None:
    (folder / "loop.yml").write_text("type: pipeline\njobs:\n  a: {component: ./loop.yml}\n")
    with pytest.raises(Invalid, match=r"loop.yml is already being read") as caught:
        read_pipeline(folder / "loop.yml")
    assert caught.value.code == "E_CYCLE"


def test_a_refusal_in_a_component_names_its_own_file(folder: Path) -> None:
    (folder / "parts/train.yml").write_text("type: command\nlimits: {timeout: soon}\ncommand: x\n")
    with pytest.raises(Invalid) as caught:
        read("type: pipeline\njobs: {a: {component: parts/train.yml}}\n", folder)
    assert caught.value.where.endswith("parts/train.yml:2:10")


# -- commands by themselves -----------------------------------------------------------------------


def test_a_command_by_itself_is_a_pipeline_of_one_step_named_after_its_file(folder: Path) -> None:
    found = read(
        "command: echo ${{inputs.x}} ${{inputs.d}} > ${{outputs.o}}/f\n"
        "inputs: {x: 3, d: {type: uri_folder, path: ./data}}\noutputs: {o: {type: uri_folder}}\n"
        "code: ./parts/src\nenvironment: {image: python}\nlimits: {timeout: 9}\n",
        folder,
        "hello-world.yml",
    )
    assert found.spec == PipelineSpec(
        name="hello-world",
        inputs={"x": 3, "d": Input()},
        outputs={"o": Output()},
        steps={
            "hello-world": StepSpec(
                command="echo ${{inputs.x}} ${{inputs.d}} > ${{outputs.o}}/f",
                inputs={"x": "${{parent.inputs.x}}", "d": Input(path="${{parent.inputs.d}}")},
                outputs={"o": "${{parent.outputs.o}}"},
                environment=EnvironmentSpec(image="python"),
                limits=Limits(timeout=9),
            )
        },
    )


def test_a_component_file_runs_by_itself_with_its_defaults(folder: Path) -> None:
    found = read_pipeline(folder / "parts/train.yml")
    assert found.spec.name == "train_model"
    assert found.spec.inputs["epochs"] == Input(type="integer", default=3, min=1)
    assert found.spec.steps["train_model"].inputs["note"] == "${{parent.inputs.note}}"


# -- code and environments ------------------------------------------------------------------------


def test_what_lies_beside_the_code_is_included_and_a_zip_means_a_packed_folder(
    folder: Path,
) -> None:
    (folder / "parts/c.yml").write_text(
        "type: command\ncommand: x\ncode: ./src\nadditional_includes: [../shared_code/, ../data.zip]\n"
    )
    found = read("type: pipeline\njobs: {a: {component: parts/c.yml}}\n", folder)
    (local,) = found.locals
    assert local.path == folder / "parts/src"
    assert local.includes == (
        Include("shared_code", folder / "parts/../shared_code"),
        Include("data.zip", folder / "parts/../data", packed=True),
    )


def test_an_environment_is_read_whole_whatever_way_it_is_written(folder: Path) -> None:
    (folder / "requirements.txt").write_text("numpy\n# none\npandas==2  # pinned\n")
    conda = "name: e\ndependencies:\n- python=3.11\n- pip\n- pip:\n  - -r requirements.txt\n  - mlflow\n"
    (folder / "conda.yml").write_text(conda)
    found = read(
        "type: pipeline\njobs:\n  a:\n    command: x\n    environment: {image: i, conda_file: ./conda.yml}\n"
        "  b:\n    command: x\n    environment: {build: {path: ./data, dockerfile_path: d/F}}\n"
        "  c:\n    command: x\n    environment: {pip: [numpy], python: 3.10}\n"
        "  d:\n    command: x\n    environment: ./env.yml\n"
        if (folder / "env.yml").write_text("name: e\nversion: 2\nimage: i\n")
        else "",
        folder,
    )
    environments = {name: step.environment for name, step in found.spec.steps.items()}
    assert environments == {
        "a": EnvironmentSpec(
            image="i",
            conda={
                "name": "e",
                "dependencies": ["python=3.11", "pip", {"pip": ["numpy", "pandas==2", "mlflow"]}],
            },
        ),
        "b": EnvironmentSpec(build=BuildContext(context="", dockerfile="d/F")),
        "c": EnvironmentSpec(pip=("numpy",), python="3.10"),
        "d": EnvironmentSpec(name="e", version="2", image="i"),
    }
    assert found.locals == (Local(("steps", "b", "environment"), folder / "data"),)
    stored = with_artifacts(found.spec, {("steps", "b", "environment"): "artifact:1"})
    built = stored.steps["b"].environment
    assert isinstance(built, EnvironmentSpec)
    assert built.build == BuildContext(context="artifact:1", dockerfile="d/F")


def test_the_environment_and_data_of_a_step_replace_those_of_its_component(folder: Path) -> None:
    (folder / "c.yml").write_text(
        "type: command\ncommand: x\nenvironment: {build: {path: ./data}}\n"
        "inputs: {d: {type: uri_folder, path: ./data}}\n"
    )
    found = read(
        "type: pipeline\njobs:\n  a: {component: ./c.yml, environment: azureml:e@latest, "
        "inputs: {d: 'azureml:rows:1'}}\n",
        folder,
    )
    assert found.locals == ()
    assert found.spec.steps["a"].environment == "azureml:e@latest"
    assert found.spec.steps["a"].inputs == {"d": Input(path="azureml:rows:1")}


# -- values put in ---------------------------------------------------------------------------------


def test_values_are_put_into_the_file_before_it_is_read(folder: Path) -> None:
    (folder / "p.yml").write_text("type: pipeline\njobs: {a: {command: x}}\ninputs: {n: 1}\n")
    found = read_pipeline(
        folder / "p.yml",
        values=(
            "inputs.n=2",
            "settings.force_rerun=true",
            "jobs.a.compute=azureml:gpu",
            "tags.x=y z",
        ),
    )
    assert found.spec.inputs == {"n": 2}
    assert found.spec.settings.force_rerun
    assert found.spec.steps["a"].compute == "gpu"
    assert found.spec.tags == {"x": "y z"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("inputs.n", "E_PARAM --set inputs.n: 'inputs.n' is not a.b.c=value"),
        ("type.x=1", "E_PARAM --set type.x=1: type holds no keys"),
        ("jobs.a.limits.timeout=soon", "E_TYPE {folder}/p.yml:2:8: jobs.a.limits.timeout: expected a number"),
    ],
)  # fmt: skip
def test_values_that_cannot_be_put_in_are_refused(text: str, words: str, folder: Path) -> None:
    (folder / "p.yml").write_text("type: pipeline\njobs: {a: {command: x}}\n")
    with pytest.raises(Invalid) as caught:
        read_pipeline(folder / "p.yml", values=(text,))
    assert str(caught.value).startswith(words.replace("{folder}", str(folder)))
