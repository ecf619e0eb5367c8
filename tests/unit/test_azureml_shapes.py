"""SDK v1's classes become our spec: what scripts say, and what is run."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import penstock_executor
from penstock.azureml.core import (
    Dataset,
    Datastore,
    Environment,
    RunConfiguration,
    ScriptRunConfig,
)
from penstock.azureml.core.conda_dependencies import CondaDependencies
from penstock.azureml.core.runconfig import (
    MpiConfiguration,
    PyTorchConfiguration,
    TensorflowConfiguration,
)
from penstock.azureml.data import DatasetConsumptionConfig, OutputFileDatasetConfig
from penstock.azureml.data.datapath import DataPath, DataPathComputeBinding
from penstock.azureml.data.dataset_factory import DataType, PromoteHeadersBehavior
from penstock.azureml.data.datasets import TabularDataset
from penstock.azureml.exceptions import UserErrorException
from penstock.azureml.pipeline.core import (
    Pipeline,
    PipelineData,
    PipelineParameter,
    StepSequence,
)
from penstock.azureml.pipeline.core.pipeline import pipeline_of
from penstock.azureml.pipeline.steps import CommandStep, HyperDriveStep, PythonScriptStep
from penstock.contracts.spec import EnvironmentSpec, Input, Output, StepSpec

STORE = Datastore(None, "workspaceblobstore")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "s.py").write_text("print(1)\n")
    (tmp_path / "t.py").write_text("print(2)\n")
    return tmp_path


def steps_of(*steps: object) -> dict[str, StepSpec]:
    return Pipeline(None, list(steps)).definition().spec.steps


def test_an_environment_is_a_spec_a_name_or_nothing() -> None:
    assert Environment("empty").spec() == ""
    assert (
        Environment.get(None, "AzureML-sklearn-1.5").spec() == "azureml:AzureML-sklearn-1.5@latest"
    )
    assert Environment.get(None, "mine", version="3").spec() == "azureml:mine:3"
    made = Environment("made")
    made.python.conda_dependencies = CondaDependencies.create(
        conda_packages=["numpy"], pip_packages=["azureml-defaults", "joblib==1.4"]
    )
    made.environment_variables = {"A": "1"}
    assert made.spec() == EnvironmentSpec(
        name="made",
        conda={"name": "environment", "dependencies": ["numpy", {"pip": ["joblib==1.4"]}]},
        variables={"A": "1"},
    )
    assert Environment.get(None, "made").spec() == "azureml:made@latest"
    made.register(None)
    assert Environment.get(None, "made") is made
    image = Environment.from_docker_image("image", "python:3.11")
    assert image.spec() == EnvironmentSpec(name="image", image="python:3.11")


def test_a_runconfig_reaches_the_step(source: Path) -> None:
    config = RunConfiguration()
    config.target = "gpu"
    config.environment = Environment.get(None, "mine")
    config.environment_variables = {"LEVEL": 3}
    config.max_run_duration_seconds = 60
    (step,) = steps_of(PythonScriptStep("s.py", source_directory=source, runconfig=config)).values()
    assert (step.compute, step.environment) == ("gpu", "azureml:mine@latest")
    assert step.environment_variables == {"LEVEL": "3"}
    assert step.limits.timeout == 60
    chosen = PipelineParameter("environment", "azureml:mine@latest")
    spec = (
        Pipeline(
            None,
            [
                PythonScriptStep(
                    "s.py",
                    source_directory=source,
                    runconfig=config,
                    runconfig_pipeline_params={"environment": chosen},
                )
            ],
        )
        .definition()
        .spec
    )
    assert spec.steps["s"].environment == "${{parent.inputs.environment}}"
    assert spec.inputs == {"environment": "azureml:mine@latest"}


def test_pipeline_data_is_written_by_one_step_and_read_by_others(source: Path) -> None:
    data = PipelineData("data", datastore=STORE)
    one = PythonScriptStep(
        "s.py", arguments=["--out", data], outputs=[data], source_directory=source
    )
    two = PythonScriptStep("t.py", arguments=["--in", data], inputs=[data], source_directory=source)
    steps = steps_of(two, one)
    assert steps["s"].command == 'python s.py --out "${{outputs.data}}"'
    assert steps["t"].command == 'python t.py --in "${{inputs.data}}"'
    assert steps["t"].inputs == {"data": "${{parent.jobs.s.outputs.data}}"}


def test_a_dataset_of_pipeline_data_is_the_output_of_whoever_lists_it(source: Path) -> None:
    data = PipelineData("data").as_dataset().register("kept")
    one = PythonScriptStep(
        "s.py", arguments=["--out", data], outputs=[data], source_directory=source
    )
    two = PythonScriptStep(
        "t.py",
        arguments=["--in", data.as_named_input("rows")],
        inputs=[data.as_named_input("rows")],
        source_directory=source,
    )
    steps = steps_of(one, two)
    assert steps["s"].command == 'python s.py --out "${{outputs.data}}"'
    assert steps["s"].outputs == {"data": Output(name="kept")}
    assert steps["t"].inputs == {"rows": "${{parent.jobs.s.outputs.data}}"}


def test_an_output_goes_to_its_destination_and_is_registered(source: Path) -> None:
    out = OutputFileDatasetConfig("out", destination=(STORE, "a/{run-id}/{output-name}"))
    out = out.as_upload(overwrite=True).register_on_complete("kept")
    (step,) = steps_of(PythonScriptStep("s.py", arguments=[out], source_directory=source)).values()
    path = "azureml://datastores/workspaceblobstore/paths/a/${{name}}/out"
    assert step.outputs == {"out": Output(path=path, name="kept")}


def test_data_on_a_datastore_is_an_input_by_its_place(source: Path) -> None:
    files = Dataset.File.from_files((STORE, "rows/*.csv"))
    (step,) = steps_of(
        PythonScriptStep(
            "s.py",
            arguments=["--rows", files.as_named_input("rows").as_mount()],
            source_directory=source,
        )
    ).values()
    assert step.command == 'python s.py --rows "${{inputs.rows}}"'
    place = "azureml://datastores/workspaceblobstore/paths/rows/*.csv"
    assert step.inputs == {"rows": Input(path=place)}


def test_several_places_are_gathered_by_a_step_before(source: Path) -> None:
    files = Dataset.File.from_files(["https://example.org/a.csv", "https://example.org/b.csv"])
    step = PythonScriptStep(
        "s.py", arguments=[files.as_named_input("rows").as_download()], source_directory=source
    )
    steps = steps_of(step)
    assert steps["gather_data"].inputs == {
        "place_0": Input(path="https://example.org/a.csv"),
        "place_1": Input(path="https://example.org/b.csv"),
    }
    assert steps["s"].inputs == {"rows": "${{parent.jobs.gather_data.outputs.data}}"}


def test_a_table_that_is_read_in_its_own_way_comes_with_an_mltable(source: Path) -> None:
    table = Dataset.Tabular.from_delimited_files("https://example.org/a.csv", separator=";").take(5)
    step = PythonScriptStep("s.py", inputs=[table.as_named_input("rows")], source_directory=source)
    command = steps_of(step)["gather_data"].command
    told = json.loads(command.split("--table '")[1].split("'")[0])
    assert told["transformations"] == [{"read_delimited": {"delimiter": ";"}}, {"take": 5}]


def test_a_table_is_read_with_pandas(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x;y;z\n1;2;3\n4;5;6\n")
    table = Dataset.Tabular.from_delimited_files(str(tmp_path / "a.csv"), separator=";")
    found = table.keep_columns(["x", "z"]).skip(1).to_pandas_dataframe()
    assert found.to_dict("list") == {"x": [4], "z": [6]}


def test_how_a_table_is_read_is_kept_in_its_mltable(source: Path) -> None:
    types = {"n": DataType.to_string(), "day": DataType.to_datetime("%d.%m.%Y")}
    converted = {
        "convert_column_types": [
            {"columns": "n", "column_type": "string"},
            {"columns": "day", "column_type": {"datetime": {"formats": ["%d.%m.%Y"]}}},
        ]
    }
    place = "https://example.org/a"
    tables = {
        "one": Dataset.Tabular.from_delimited_files(
            place, include_path=True, set_column_types=types, infer_column_types=False,
            header=PromoteHeadersBehavior.ONLY_FIRST_FILE_HAS_HEADERS, encoding="latin1",
        ),
        "two": Dataset.Tabular.from_parquet_files(place, set_column_types=types),
        "three": Dataset.Tabular.from_json_lines_files(place, include_path=True),
    }  # fmt: skip
    readers = {
        "one": {
            "read_delimited": {
                "header": "from_first_file", "encoding": "latin1", "infer_column_types": False,
                "include_path_column": True,
            }
        },
        "two": {"read_parquet": {}},
        "three": {"read_json_lines": {"invalid_lines": "error", "include_path_column": True}},
    }  # fmt: skip
    for name, table in tables.items():
        expected = [readers[name], *([] if name == "three" else [converted])]
        step = PythonScriptStep(
            "s.py", inputs=[table.as_named_input("rows")], source_directory=source
        )
        command = steps_of(step)["gather_data"].command
        told = json.loads(command.split("--table '")[1].split("'")[0])
        assert told["transformations"] == expected
    written = OutputFileDatasetConfig("o").read_delimited_files(set_column_types=types)
    CommandStep(["make", written.written], name="make")
    reader = CommandStep(["read", written.as_input("rows")], name="read")
    told = json.loads(steps_of(reader)["gather_o"].command.split("--table '")[1].split("'")[0])
    assert told["transformations"] == [{"read_delimited": {}}, converted]


@pytest.mark.parametrize(
    "given",
    [
        lambda: Dataset.File.from_files("https://a.org/b", partition_format="/{year}/"),
        lambda: Dataset.Tabular.from_parquet_files("https://a.org/b", partition_format="/{year}/"),
        lambda: Dataset.Tabular.from_delimited_files(
            "https://a.org/b", infer_column_types={"a": 1}
        ),
        lambda: Dataset.Tabular.from_delimited_files("https://a.org/b", header="sometimes"),
        lambda: Dataset.Tabular.from_delimited_files(
            "https://a.org/b", set_column_types={"a": "int9"}
        ),
        lambda: OutputFileDatasetConfig("o").read_delimited_files(path_glob="*.csv"),
        lambda: OutputFileDatasetConfig("o").read_parquet_files(partition_format="/{year}/"),
        lambda: DataType.to_float(","),
        lambda: PipelineParameter(
            "rows", Dataset.Tabular.from_delimited_files("https://a.org/b", separator=";")
        ),
    ],
)
def test_ways_to_read_that_cannot_be_carried_are_refused(given: Callable[[], object]) -> None:
    with pytest.raises(UserErrorException) as refused:
        given()
    assert refused.value.code in ("E_UNSUPPORTED", "E_TYPE")


def test_a_table_is_read_as_it_was_told_here_and_in_steps(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("n;day;x\n007;01.02.2027;1\n")
    (tmp_path / "b.csv").write_text("008;03.02.2027;2\n")
    table = Dataset.Tabular.from_delimited_files(
        [str(tmp_path / "a.csv"), str(tmp_path / "b.csv")], separator=";", infer_column_types=False,
        header=PromoteHeadersBehavior.ONLY_FIRST_FILE_HAS_HEADERS,
        set_column_types={"day": DataType.to_datetime("%d.%m.%Y"), "x": DataType.to_long()},
    )  # fmt: skip
    kind, place = table.drop_columns("x").registrable(tmp_path / "stored")
    assert kind == "mltable"
    read_again = TabularDataset([place], {}).skip(
        1
    )  # as registered data is, and what is done to it
    kind, again = read_again.registrable(tmp_path / "again")
    assert kind == "mltable"
    rows = [("007", "2027-02-01"), ("008", "2027-02-03")]
    for found, expected in (
        (table.to_pandas_dataframe(), rows),
        (read_again.to_pandas_dataframe(), rows[1:]),
        (in_a_step(place), rows),
        (in_a_step(again), rows[1:]),
    ):
        assert [
            (n, str(day)[:10]) for n, day in zip(found["n"], found["day"], strict=True)
        ] == expected
    assert table.to_pandas_dataframe()["x"].sum() == 3


def in_a_step(folder: object) -> Any:
    """Return the rows of a folder with an MLTable as the stand-in of steps reads them."""
    standins = Path(penstock_executor.__file__).parent / "in_step" / "standins"
    program = (
        "import mltable, sys; print(mltable.load(sys.argv[1]).to_pandas_dataframe().to_json())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)], env={"PYTHONPATH": str(standins)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    days = [datetime.fromtimestamp(at / 1000, UTC) for at in found["day"].values()]
    return {"n": list(found["n"].values()), "day": days}


def test_include_path_says_where_a_row_is_from(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"a": 1}\nnothing\n')
    table = Dataset.Tabular.from_json_lines_files(
        str(file), include_path=True, invalid_lines="drop"
    )
    assert table.to_pandas_dataframe().to_dict("list") == {"a": [1], "Path": [str(file)]}


def test_data_may_be_chosen_at_submission(source: Path) -> None:
    path = PipelineParameter("path", default_value=DataPath(STORE, "in"))
    files = PipelineParameter("files", Dataset.File.from_files((STORE, "files")))
    step = PythonScriptStep(
        "s.py",
        arguments=[
            (path, DataPathComputeBinding(mode="mount")),
            DatasetConsumptionConfig("rows", files).as_mount(),
        ],
        inputs=[(path, DataPathComputeBinding(mode="mount"))],
        source_directory=source,
    )
    spec = Pipeline(None, [step]).definition().spec
    assert spec.inputs == {
        "path": Input(path="azureml://datastores/workspaceblobstore/paths/in"),
        "files": Input(path="azureml://datastores/workspaceblobstore/paths/files"),
    }
    assert spec.steps["s"].inputs == {
        "path": Input(path="${{parent.inputs.path}}"),
        "rows": Input(path="${{parent.inputs.files}}"),
    }


def test_a_sequence_orders_what_has_no_data_between(source: Path) -> None:
    one, two, three = (CommandStep("echo", name=name) for name in ("one", "two", "three"))
    graph = Pipeline(None, StepSequence([one, [two, three]])).graph
    assert graph == {"one": (), "two": ("one",), "three": ("one",)}


def test_what_needs_azure_is_refused_when_it_is_made() -> None:
    with pytest.raises(UserErrorException) as refused:
        HyperDriveStep("tune", None)
    assert refused.value.code == "E_UNSUPPORTED"
    config = RunConfiguration()
    config.node_count = 2
    with pytest.raises(UserErrorException, match="node_count=2 of c"):
        CommandStep("c", name="c", runconfig=config)


SAYING = """
import os
line = f"{os.environ.get('AZUREML_PROCESS_NAME')} {os.environ.get('LOCAL_RANK')}\\n"
os.write(1, line.encode())  # at once: others write as well
"""


def said(command: str, folder: Path) -> list[str]:
    """Run a step's command as an executor would and return its lines."""
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=True
    )
    return sorted(done.stdout.split("\n")[:-1])


@pytest.mark.parametrize(
    ("wish", "lines"),
    [
        (MpiConfiguration(3), ["rank_0 0", "rank_1 1", "rank_2 2"]),
        (PyTorchConfiguration(process_count=2), ["rank_0 0", "rank_1 1"]),
        (PyTorchConfiguration(), ["rank_0 0"]),
        (TensorflowConfiguration(2), ["ps_0 None", "worker_0 None", "worker_1 None"]),
        (None, ["None None"]),
    ],
)
def test_a_script_runs_in_the_processes_of_its_distribution(
    wish: object, lines: list[str], source: Path
) -> None:
    (source / "s.py").write_text(SAYING)
    shared = RunConfiguration()
    config = ScriptRunConfig(source, "s.py", run_config=shared, distributed_job_config=wish)
    (step,) = pipeline_of(config, None).definition().spec.steps.values()
    assert said(step.command, source) == lines
    alone = ScriptRunConfig(source, "s.py", run_config=shared)
    (step,) = pipeline_of(alone, None).definition().spec.steps.values()
    assert step.command == "python s.py"


def test_a_runconfig_with_a_communicator_asks_for_processes_also_from_a_file(source: Path) -> None:
    (source / "s.py").write_text(SAYING)
    config = RunConfiguration(communicator="IntelMpi")
    config.mpi.process_count_per_node = 2
    config.save(source, "two")
    loaded = RunConfiguration.load(source, "two")
    steps = [
        step
        for number, told in enumerate((config, loaded))
        for step in (
            PythonScriptStep("s.py", f"s{number}", source_directory=source, runconfig=told),
            CommandStep("python s.py", f"c{number}", source_directory=source, runconfig=told),
        )
    ]
    for step in steps_of(*steps).values():
        assert said(step.command, source) == ["rank_0 0", "rank_1 1"]


@pytest.mark.parametrize(
    ("changed", "code", "words"),
    [
        (
            {"mpi": MpiConfiguration(4)},
            "E_UNSUPPORTED",
            "4 processes in runconfig.mpi of s, without",
        ),
        ({"pytorch": PyTorchConfiguration(process_count=2)}, "E_UNSUPPORTED", "runconfig.pytorch"),
        ({"tensorflow": TensorflowConfiguration(2)}, "E_UNSUPPORTED", "runconfig.tensorflow"),
        ({"communicator": "Pigeons"}, "E_UNSUPPORTED", "communicator 'Pigeons' of s"),
        ({"mpi": MpiConfiguration(1, node_count=2)}, "E_UNSUPPORTED", "node_count=2 of s"),
        ({"mpi": MpiConfiguration(0)}, "E_RANGE", "process_count_per_node=0"),
    ],
)
def test_processes_that_a_runconfig_cannot_have_are_refused(
    changed: dict[str, Any], code: str, words: str
) -> None:
    config = RunConfiguration()
    for name, value in changed.items():
        setattr(config, name, value)
    with pytest.raises(UserErrorException, match=words) as refused:
        CommandStep("x", name="s", runconfig=config)
    assert refused.value.code == code


def test_what_is_no_distribution_and_what_no_submission_chooses_is_refused(source: Path) -> None:
    with pytest.raises(UserErrorException, match="dict is no distributed_job_config"):
        ScriptRunConfig(source, "s.py", distributed_job_config={"process_count": 2})
    with pytest.raises(UserErrorException, match="node_count=2 of ScriptRunConfig"):
        ScriptRunConfig(source, "s.py", distributed_job_config=MpiConfiguration(1, 2))
    for config in (None, RunConfiguration()):
        with pytest.raises(UserErrorException, match="'NodeCount' among the runconfig_pipeline"):
            CommandStep(
                "x",
                runconfig=config,
                runconfig_pipeline_params={"NodeCount": PipelineParameter("nodes", 2)},
            )
