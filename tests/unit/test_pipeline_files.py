"""What pipeline files become."""

import shlex
from pathlib import Path

from penstock.contracts.spec import (
    Input,
    Limits,
    Output,
    PipelineSpec,
    Settings,
    StepSpec,
    spec_bytes,
)
from penstock.sdk.definition import Definition, Local
from penstock.sdk.pipeline_files import pipeline_of, read_pipeline
from penstock.sdk.yaml_text import document_of


def definition(text: str, folder: Path) -> Definition:
    return pipeline_of(document_of(text.encode(), "p.yml"), folder / "p.yml")


def test_a_file_becomes_the_spec_that_it_describes(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "rows.csv").write_text("a,b\n")
    found = definition(
        """
$schema: https://azuremlschemas.azureedge.net/latest/pipelineJob.schema.json
type: pipeline
name: digits
display_name: Digits
experiment_name: numbers
tags: {team: vision}
compute: azureml:cpu-cluster
settings:
  continue_on_step_failure: true
  deadline: 600
inputs:
  rate: 1e-3
  epochs: {type: integer, default: 3, min: 1}
  rows: {type: URI_FILE, path: ./rows.csv, mode: RO_Mount}
outputs:
  model: {type: mlflow_model}
jobs:
  prepare:
    command: python prepare.py ${{inputs.rows}} ${{outputs.data}}
    code: ./src
    hash_paths: [prepare.py]
    inputs:
      rows: ${{parent.inputs.rows}}
    outputs:
      data:
  train:
    type: command
    command: python train.py
    code: src
    compute: azureml:serverless
    inputs:
      data: {type: uri_folder, path: "${{parent.jobs.prepare.outputs.data}}"}
      rate: ${{parent.inputs.rate}}
      depth: {value: 3}
      nothing:
    outputs:
      model: ${{parent.outputs.model}}
    environment_variables: {N: 3, FLAG: true, EMPTY: }
    limits: {timeout: 60, retries: 2}
    is_deterministic: false
    depends_on: prepare
""",
        tmp_path,
    )
    assert found.spec == PipelineSpec(
        name="digits",
        display_name="Digits",
        experiment="numbers",
        tags={"team": "vision"},
        inputs={
            "rate": "1e-3",
            "epochs": Input(type="integer", default=3, min=1),
            "rows": Input(type="uri_file", mode="ro_mount"),
        },
        outputs={"model": Output(type="mlflow_model")},
        settings=Settings(
            default_compute="cpu-cluster", continue_on_step_failure=True, deadline=600
        ),
        steps={
            "prepare": StepSpec(
                command="python prepare.py ${{inputs.rows}} ${{outputs.data}}",
                hash_paths=("prepare.py",),
                inputs={"rows": "${{parent.inputs.rows}}"},
                outputs={"data": None},
            ),
            "train": StepSpec(
                command="python train.py",
                inputs={
                    "data": Input(path="${{parent.jobs.prepare.outputs.data}}"),
                    "rate": "${{parent.inputs.rate}}",
                    "depth": 3,
                    "nothing": None,
                },
                outputs={"model": "${{parent.outputs.model}}"},
                environment_variables={"N": "3", "FLAG": "True", "EMPTY": ""},
                limits=Limits(timeout=60, retries=2),
                is_deterministic=False,
                needs=("prepare",),
            ),
        },
    )
    assert found.locals == (
        Local(("inputs", "rows"), tmp_path / "rows.csv"),
        Local(("steps", "prepare", "code"), tmp_path / "src", ("prepare.py",)),
        Local(("steps", "train", "code"), tmp_path / "src"),
    )
    assert found.notes == ()
    assert found.where("steps", "train", "inputs", "rate") == "p.yml:34:7"


def test_what_azure_only_warns_about_is_a_note(tmp_path: Path) -> None:
    found = definition(
        """
type: pipeline
settings: {default_datestore: azureml:blobs, zzz: 1}
jobs:
  a:
    command: x
    environment: azureml:AzureML-sklearn@latest
    resources: {instance_type: Standard_E4}
    services: {ssh: {type: ssh}}
  b:
    command: x
    environment: azureml:AzureML-sklearn@latest
    outputs: {m: {pth: azureml://datastores/x/paths/y, name: model}}
""",
        tmp_path,
    )
    assert sorted(found.notes) == [
        "p.yml:13:19: unknown key 'pth' is not used (did you mean 'path'?)",
        "p.yml:3:12: default_datestore is ignored: a slip in Azure's own examples",
        "p.yml:3:46: unknown key 'zzz' is not used",
        "p.yml:8:17: instance_type is ignored: say cores, memory, gpus",
        "p.yml:9:5: services is ignored: no ssh, no notebook beside a step",
    ]


def test_oddities_of_upstream_files_load(tmp_path: Path) -> None:
    found = definition(
        """
type: pipeline
jobs:
  prep-data:
    inputs:
    outputs: {o: {}}
    compute: ${{parent.inputs.c}}
    command: >-
      echo hi &&
      echo ho
  b:
    command: cat ${{inputs.d}}
    inputs: {d: "${{jobs.prep-data.outputs.o}}"}
inputs: {c: cpu-cluster}
""",
        tmp_path,
    )
    assert found.spec.steps["prep-data"].command == "echo hi && echo ho"
    assert found.spec.steps["prep-data"].compute == "${{parent.inputs.c}}"
    assert found.spec.steps["b"].inputs == {"d": "${{parent.jobs.prep-data.outputs.o}}"}


def test_equal_files_have_equal_bytes_whatever_is_written_out(tmp_path: Path) -> None:
    short = definition("type: pipeline\njobs: {a: {command: x}}\n", tmp_path)
    long = definition(
        "type: pipeline\ndescription: ''\ntags: {}\nsettings: {force_rerun: false, deadline: 0}\n"
        "jobs: {a: {command: x, limits: {timeout: 0, retry_delay: 1}, outputs: , "
        "is_deterministic: true}}\n",
        tmp_path,
    )
    assert spec_bytes(short.spec) == spec_bytes(long.spec)
    assert spec_bytes(short.spec) == b'{"name":"p","steps":{"a":{"command":"x"}}}'


def test_a_pipeline_without_name_is_called_as_its_file_or_folder(tmp_path: Path) -> None:
    text = "type: pipeline\njobs: {a: {command: x}}\n"
    folder = tmp_path / "my digits"
    folder.mkdir()
    (folder / "pipeline.yml").write_text(text)
    (folder / "train model.yml").write_text(text)
    assert read_pipeline(folder / "pipeline.yml").spec.name == "my-digits"
    assert read_pipeline(folder / "train model.yml").spec.name == "train-model"


def test_dates_and_words_that_yaml_reads_stay_texts_as_keys(tmp_path: Path) -> None:
    found = definition(
        "type: pipeline\ninputs: {on: 2024-01-01, d: 1.5}\njobs: {a: {command: x}}\n", tmp_path
    )
    assert found.spec.inputs == {"on": "2024-01-01", "d": 1.5}


def test_a_sweep_by_itself_keeps_all_that_its_trial_says(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a\n")
    trial = """
  command: python t.py ${{inputs.lr}} ${{inputs.rows}} ${{inputs.depth}} ${{inputs.n}}
  environment: azureml:one@latest
  environment_variables: {A: trial, B: trial}
  resources: {memory: 2g}
  compute: azureml:cpu
  limits: {timeout: 3}
  is_deterministic: false
  inputs:
    lr: {type: number}
    rows: {type: uri_file, path: ./rows.csv}
    depth: {type: integer, default: 3}
    n: {type: integer, default: 4}
"""
    text = f"""
type: sweep
name: tuned
trial:{trial}
inputs: {{n: 5}}
environment_variables: {{B: job}}
search_space: {{lr: {{type: choice, values: [1, 2]}}}}
objective: {{goal: minimize, primary_metric: loss}}
limits: {{max_total_trials: 2}}
"""
    found = definition(text, tmp_path)
    step = found.spec.steps["tuned"]
    assert step.environment == "azureml:one@latest"
    assert step.environment_variables == {"A": "trial", "B": "job"}
    assert step.resources.memory == "2g"
    assert (step.compute, step.is_deterministic, step.limits) == ("cpu", False, Limits())
    assert list(step.inputs) == ["rows", "depth", "n"]
    assert step.inputs["depth"] == Input(type="integer", default=3)
    assert step.inputs["n"] == Input(type="integer", default=4, value="${{parent.inputs.n}}")
    assert ("steps", "tuned", "inputs", "rows") in [local.place for local in found.locals]


def test_a_command_component_run_as_the_job_keeps_its_defaults(tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_text("""
command: echo ${{inputs.n}} ${{inputs.m}}
inputs: {n: {type: integer, default: 3}, m: {type: integer}}
""")
    found = definition("type: pipeline\nname: one\ncomponent: ./c.yml\ninputs: {m: 2}\n", tmp_path)
    inputs = found.spec.steps["one"].inputs
    assert inputs["n"] == Input(type="integer", default=3)
    assert inputs["m"] == Input(type="integer", value="${{parent.inputs.m}}")


def test_one_partition_key_is_a_list_of_one(tmp_path: Path) -> None:
    found = definition(
        """
type: pipeline
jobs:
  a:
    type: parallel
    task: {entry_script: e.py, code: .}
    input_data: ${{inputs.t}}
    inputs:
      t: {type: mltable, path: azureml://datastores/lake/paths/t}
    partition_keys: store
    retry_settings: {max_retries: 0}
""",
        tmp_path,
    )
    words = shlex.split(found.spec.steps["a"].command)
    assert {"--keys=store", "--retries=0"} <= set(words)
