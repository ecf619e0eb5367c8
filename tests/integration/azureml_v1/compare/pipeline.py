import os

from penstock.azureml.core import Experiment, Workspace
from penstock.azureml.core.authentication import ServicePrincipalAuthentication
from penstock.azureml.core.runconfig import RunConfiguration
from penstock.azureml.data import OutputFileDatasetConfig
from penstock.azureml.exceptions import ActivityFailedException, UserErrorException
from penstock.azureml.pipeline.core import (
    Pipeline,
    PipelineData,
    PipelineEndpoint,
    PipelineRun,
    PublishedPipeline,
    StepSequence,
)
from penstock.azureml.pipeline.core.graph import PipelineParameter
from penstock.azureml.pipeline.core.schedule import Schedule, ScheduleRecurrence
from penstock.azureml.pipeline.steps import CommandStep, PythonScriptStep
from penstock.errors import PenstockError

auth = ServicePrincipalAuthentication("tenant", "id", "secret")
ws = Workspace.from_config(auth=auth)
print(ws.name, ws.resource_group, ws.location, ws.subscription_id, sep="\n")

run_config = RunConfiguration()
run_config.environment_variables["LEVEL"] = "info"

blob = ws.get_default_datastore()
train_data = OutputFileDatasetConfig(name="train_data")
test_data = PipelineData("test_data", datastore=blob)
threshold = PipelineParameter(name="threshold", default_value=0.8)
test_size = PipelineParameter(name="test_size", default_value=0.3)

prepare = PythonScriptStep(
    name="prepare",
    script_name="prepare.py",
    arguments=["--train_path", train_data, "--test_path", test_data, "--test_size", test_size],
    outputs=[test_data],
    source_directory="src",
    runconfig=run_config,
)
models, trainings = [], []
for kind in ("tree", "linear"):
    model = PipelineData(f"model_{kind}", datastore=blob)
    models.append(model)
    trainings.append(
        PythonScriptStep(
            name=f"train-{kind}",
            script_name="train.py",
            arguments=[
                "--train_path",
                train_data.as_input("train"),
                "--model",
                model,
                "--kind",
                kind,
            ],
            outputs=[model],
            params={"team": "wine"},
            source_directory="src",
            runconfig=run_config,
        )
    )
best = PipelineData("best", datastore=blob, pipeline_output_name="best_model")
compare = PythonScriptStep(
    name="compare",
    script_name="compare.py",
    arguments=[
        "--test_path",
        test_data,
        "--best",
        best,
        "--threshold",
        threshold,
        "--models",
        *models,
    ],
    inputs=[test_data, *models],
    outputs=[best],
    source_directory="src",
    runconfig=run_config,
)
tell = CommandStep(name="tell", command="echo compared at level $LEVEL", runconfig=run_config)

pipeline = Pipeline(workspace=ws, steps=StepSequence([prepare, trainings, compare, tell]))
assert pipeline.validate() == []

# 1. an ordinary run
run = Experiment(ws, "wine").submit(pipeline, tags={"by": "script"})
assert run.wait_for_completion(show_output=False) == "Completed"
assert run.get_tags()["by"] == "script"
assert [step.name for step in run.get_steps()].count("compare") == 1
compared = run.find_step_run("compare")[0]
assert compared.get_metrics("accuracy")["accuracy"] > 0.9
assert "compared at level info" in run.find_step_run("tell")[0].get_stdout_log()
run.get_pipeline_output("best_model").download("got")
assert any(name == "model.pkl" for _, _, files in os.walk("got") for name in files)
run.download_file("outputs/model.pkl", "best.pkl")
assert os.path.getsize("best.pkl") > 100

(name,) = [name for name in run.get_file_names() if name.endswith("best/model.pkl")]
run.download_files(prefix=name.removesuffix("/model.pkl"), output_directory="by-prefix")
kept = [os.path.join(at, file) for at, _, files in os.walk("by-prefix") for file in files]
assert kept == [os.path.join("by-prefix", name.removeprefix("outputs/"))], kept
run.download_files(name, "alone", append_prefix=False)
assert os.listdir("alone") == ["model.pkl"]
try:
    run.download_files(prefix="azureml-logs/", output_directory="none")
except UserErrorException as error:
    assert error.code == "E_NOT_FOUND" and not os.path.exists("none")
else:
    raise AssertionError("a prefix that nothing has")

# 2. the same, refused by a threshold given at submission
strict = Experiment(ws, "wine").submit(pipeline, pipeline_parameters={"threshold": 2.0})
try:
    strict.wait_for_completion(show_output=False)
except ActivityFailedException as error:
    assert "compare" in str(error)
else:
    raise AssertionError("a model better than perfect")
assert strict.get_status() == "Failed"
reused = strict.find_step_run("prepare")[0]
assert reused.get_properties()["azureml.isreused"] == "true"

# 3. published, found again, run by id, behind an endpoint
published = pipeline.publish(name="Wine training", description="compares", version="1.0")
assert published.id in [found.id for found in PublishedPipeline.list(ws)]
found = PublishedPipeline.get(ws, published.id)
assert set(found.get_step_names()) == {"prepare", "train-tree", "train-linear", "compare", "tell"}
again = found.submit(ws, "wine", pipeline_parameters={"test_size": 0.4})
assert again.wait_for_completion(show_output=False) == "Completed"
endpoint = PipelineEndpoint.publish(
    ws, name="wine-endpoint", pipeline=published, description="door"
)
assert endpoint.get_default_version() == "0"
third = Experiment(ws, "wine").submit(endpoint, pipeline_version="0")
assert third.wait_for_completion(show_output=False) == "Completed"
assert third.find_step_run("train-linear")[0].get_properties()["azureml.isreused"] == "true"

said_again = found.submit(ws, "wine", {"test_size": 0.4}, continue_on_step_failure=False)
assert said_again.wait_for_completion(show_output=False) == "Completed"
for otherwise in (
    lambda: found.submit(ws, "wine", continue_on_step_failure=True),
    lambda: endpoint.submit("wine", continue_on_step_failure=True),
    lambda: Experiment(ws, "wine").submit(published, continue_on_step_failure=True),
    lambda: Schedule.create(
        ws, "other", found.id, "wine", ScheduleRecurrence("Day", 1), continue_on_step_failure=True
    ),
    lambda: Schedule.create_for_pipeline_endpoint(
        ws,
        "other",
        endpoint.id,
        "wine",
        ScheduleRecurrence("Day", 1),
        continue_on_step_failure=True,
    ),
):
    try:
        otherwise()
    except PenstockError as error:
        assert error.code == "E_UNSUPPORTED", error
    else:
        raise AssertionError("a flag that nobody heeds")
assert "other" not in [schedule.id for schedule in Schedule.list(ws)]

# 4. by the clock
recurrence = ScheduleRecurrence(
    frequency="Week",
    interval=1,
    week_days=["Monday"],
    time_of_day="06:30",
    time_zone="W. Europe Standard Time",
)
schedule = Schedule.create(
    ws,
    name="Weekly wine",
    pipeline_id=published.id,
    experiment_name="wine",
    recurrence=recurrence,
    pipeline_parameters={"test_size": 0.2},
)
assert schedule.id in [one.id for one in Schedule.list(ws)]
schedule.disable()
assert Schedule.get(ws, schedule.id).status == "Disabled"
assert schedule.id not in [one.id for one in Schedule.list(ws, active_only=True)]
assert PipelineRun.get_pipeline_runs(ws, published.id)[0].id == said_again.id
print("runs", len(list(Experiment(ws, "wine").get_runs())))
