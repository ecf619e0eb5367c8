from penstock.azureml.core import Dataset, Datastore, Experiment, Model, Workspace
from penstock.azureml.data import OutputFileDatasetConfig
from penstock.azureml.data.datapath import DataPath, DataPathComputeBinding
from penstock.azureml.exceptions import UserErrorException
from penstock.azureml.pipeline.core import Pipeline, PipelineParameter
from penstock.azureml.pipeline.steps import PythonScriptStep

ws = Workspace.from_config()
store = Datastore.get(ws, "workspaceblobstore")
store.upload(src_dir="rows", target_path="in/rows", overwrite=True, show_progress=False)
store.upload_files(["table.csv", "more/table.csv"], relative_root=".", target_path="in/table")

rows = PipelineParameter("rows", default_value=DataPath(store, "in/rows"))
table = Dataset.Tabular.from_delimited_files((store, "in/table/**"), separator=";")
assert list(table.to_pandas_dataframe()["b"]) == [2, 3, 5]
out = OutputFileDatasetConfig("out", destination=(store, "out/{output-name}"))
step = PythonScriptStep(
    "sum.py",
    arguments=["--rows", (rows, DataPathComputeBinding()), "--out", out],
    inputs=[(rows, DataPathComputeBinding()), table.as_named_input("table")],
    source_directory="src",
)
pipeline = Pipeline(ws, [step])
run = Experiment(ws, "data").submit(pipeline)
run.wait_for_completion(show_output=True)
assert run.get_metrics()["total"] == 6, run.get_metrics()
assert run.get_metrics()["mean"] * 3 == 10, run.get_metrics()
store.download("got", prefix="out/out")
print("total", open("got/total.txt").read())
try:
    Model.register(ws, model_path="table.csv", model_name="kept")
except UserErrorException as error:  # as long as there is no registry of models
    assert error.code == "E_UNSUPPORTED", error
store.upload("other", "in/other")
again = Experiment(ws, "data").submit(
    pipeline, pipeline_parameters={"rows": DataPath(store, "in/other")}
)
again.wait_for_completion()
print("other", again.get_metrics()["total"])
