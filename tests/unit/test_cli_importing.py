"""What of a folder of Azure ML files runs here: found by reading them, nothing is run."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from penstock.cli.import_ import command
from penstock.cli.importing import Finding, findings

V1 = """import azureml.core
from azureml.core import Workspace, Experiment
from azureml.pipeline.steps import PythonScriptStep, ParallelRunStep
from azureml.train.automl import AutoMLConfig
from azureml.core.compute import AmlCompute as Cluster
import os

experiment = Experiment(Workspace.from_config(), "x").start_logging()
"""
V2 = """from azure.ai.ml import MLClient, automl, dsl
from azure.identity import DefaultAzureCredential
from azure.ai.ml.sweep import Choice
best = step(rate=Choice([1, 2])).sweep(goal="maximize", primary_metric="score")
"""
STEP = """from azureml.core import Run
import mltable
run = Run.get_context()
"""
PIPELINE = """$schema: https://azuremlschemas.azureedge.net/latest/pipelineJob.schema.json
type: pipeline
jobs:
  one:
    command: echo hello
    environment: azureml:sklearn@latest
    compute: azureml:cpu
    colour: red
"""
SPARK = """type: pipeline
jobs:
  one:
    type: spark
    trial: ./x.yml
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "v1.py").write_text(V1)
    (tmp_path / "v2.py").write_text(V2)
    (tmp_path / "step.py").write_text(STEP)
    (tmp_path / "other.py").write_text("import os\n")
    (tmp_path / "other.yml").write_text("a: 1\n")
    (tmp_path / "jobs" / "pipeline.yml").write_text(PIPELINE)
    (tmp_path / "jobs" / "spark.yml").write_text(SPARK)
    return tmp_path


def of(folder: Path, file: str) -> list[tuple[str, int, str, str]]:
    return [
        (one.verdict, one.line, one.what, one.instead)
        for one in findings(folder)
        if one.file == file
    ]


def test_a_v1_script_is_told_line_by_line(folder: Path) -> None:
    assert of(folder, "v1.py") == [
        ("changes", 1, "import azureml.core", "from penstock import azureml"),
        (
            "changes", 2, "from azureml.core import Workspace, Experiment",
            "from penstock.azureml.core import Workspace, Experiment",
        ),
        (
            "changes", 3, "from azureml.pipeline.steps import PythonScriptStep, ParallelRunStep",
            "from penstock.azureml.pipeline.steps import PythonScriptStep, ParallelRunStep",
        ),
        (
            "cannot", 3, "azureml.pipeline.steps.ParallelRunStep",
            "write the pipeline in YAML, with a step of type parallel, or with azure.ai.ml.parallel",
        ),
        (
            "cannot", 4, "from azureml.train.automl import AutoMLConfig",
            "there is no penstock.azureml.train.automl",
        ),
        (
            "changes", 5, "from azureml.core.compute import AmlCompute as Cluster",
            "from penstock.azureml.core.compute import AmlCompute as Cluster",
        ),
        (
            "cannot", 8, ".start_logging(…)",
            "submit a step and log in it: Run.get_context()",
        ),
    ]  # fmt: skip


def test_v2_names_that_are_missing_are_told(folder: Path) -> None:
    assert [one[:3] for one in of(folder, "v2.py")] == [
        ("changes", 1, "from azure.ai.ml import MLClient, automl, dsl"),
        ("cannot", 1, "azure.ai.ml.automl"),
        ("changes", 2, "from azure.identity import DefaultAzureCredential"),
        ("changes", 3, "from azure.ai.ml.sweep import Choice"),
    ]


def test_step_code_runs_as_it_is(folder: Path) -> None:
    assert of(folder, "step.py") == [
        ("runs", 0, "step code: azureml.core, mltable is there in every step", "")
    ]
    assert of(folder, "other.py") == of(folder, "other.yml") == []


def test_yaml_is_told_by_the_reader_itself(folder: Path) -> None:
    told = of(folder, "jobs/pipeline.yml")
    assert ("note", 8, "unknown key 'colour' is not used", "") in told
    assert told[-1] == ("runs", 0, "pipeline 'jobs', 1 steps", "")
    (refused,) = of(folder, "jobs/spark.yml")
    assert refused[:2] == ("cannot", 4)
    assert refused[2].startswith("E_UNSUPPORTED: step type 'spark'")


def test_import_lines_are_changed_in_place(folder: Path) -> None:
    done = CliRunner().invoke(command, [str(folder / "v2.py"), "--write"], standalone_mode=False)
    assert done.return_value == 1  # automl cannot run
    text = (folder / "v2.py").read_text()
    assert text.startswith("from penstock.azure.ai.ml import MLClient, automl, dsl\n")
    assert not [one for one in findings(folder / "v2.py") if isinstance(one, Finding)]
