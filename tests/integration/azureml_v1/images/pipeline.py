# Only the import lines differ from what Azure ML's tutorial on image classification does.
from penstock import azureml
from penstock.azureml.core import Dataset, Environment, Experiment, Workspace
from penstock.azureml.core.compute import AmlCompute, ComputeTarget
from penstock.azureml.core.compute_target import ComputeTargetException
from penstock.azureml.core.runconfig import RunConfiguration
from penstock.azureml.data import OutputFileDatasetConfig
from penstock.azureml.pipeline.core import Pipeline, PipelineParameter
from penstock.azureml.pipeline.steps import PythonScriptStep
from penstock.azureml.widgets import RunDetails

print("Azure ML SDK Version:", azureml.core.VERSION)
workspace = Workspace.from_config()
exp = Experiment(workspace=workspace, name="keras-mnist-fashion")

cluster_name = "cpu-cluster"
found = False
try:
    compute_target = ComputeTarget(workspace=workspace, name=cluster_name)
    found = True
except ComputeTargetException:
    compute_config = AmlCompute.provisioning_configuration(vm_size="STANDARD_D2_V2", max_nodes=4)
    compute_target = ComputeTarget.create(workspace, cluster_name, compute_config)
    compute_target.wait_for_completion(show_output=True, min_node_count=None, timeout_in_minutes=10)
assert not found
status = compute_target.get_status().serialize()
assert (status["vmSize"], status["scaleSettings"]["maxNodeCount"]) == ("STANDARD_D2_V2", 4)
assert status["currentNodeCount"] == 0
assert type(ComputeTarget(workspace, cluster_name)) is AmlCompute
assert {"cpu-cluster", "default"} <= set(workspace.compute_targets)
assert workspace.compute_targets["default"].get_status().current_node_count == 1

datastore = workspace.get_default_datastore()
fashion_ds = Dataset.File.from_files(["raw/images-0.txt", "raw/images-1.txt"])

run_config = RunConfiguration()
prepared_fashion_ds = OutputFileDatasetConfig(
    destination=(datastore, "outputdataset/{run-id}")
).register_on_complete(name="prepared_fashion_ds")

prep_step = PythonScriptStep(
    name="prepare step",
    script_name="prepare.py",
    arguments=[fashion_ds.as_named_input("fashion_ds").as_mount(), prepared_fashion_ds],
    source_directory="src",
    compute_target=compute_target,
    runconfig=run_config,
    allow_reuse=True,
)

regularization = PipelineParameter(name="regularization", default_value=0.5)
train_step = PythonScriptStep(
    name="train step",
    script_name="train.py",
    arguments=[
        "--regularization",
        regularization,
        "--prepared",
        prepared_fashion_ds.read_delimited_files(header=False).as_input(name="prepared_fashion_ds"),
    ],
    source_directory="src",
    compute_target=cluster_name,
    runconfig=run_config,
)

pipeline = Pipeline(workspace, steps=[prep_step, train_step])
run = exp.submit(pipeline, pipeline_parameters={"regularization": 2.0})
RunDetails(run).show()
run.wait_for_completion(show_output=True)

step_run = run.find_step_run("train step")[0]
metrics = step_run.get_metrics()
print("metrics", metrics)
assert run.get_status() == "Completed"
assert metrics["regularization"] == 2.0
assert metrics["accuracy"] > 0.9
compute_target.delete()
assert cluster_name not in workspace.compute_targets
