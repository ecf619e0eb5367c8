from penstock.azureml.core import Dataset, Datastore, Experiment, Model, Workspace
from penstock.azureml.data import OutputFileDatasetConfig
from penstock.azureml.data.dataset_factory import DataType
from penstock.azureml.data.datapath import DataPath, DataPathComputeBinding
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
model = Model.register(ws, model_path="table.csv", model_name="kept", tags={"by": "me"})
assert (model.name, model.version, model.tags) == ("kept", "1", {"by": "me"})
assert Model(ws, "kept").version == "1"
Dataset.File.from_files("other").register(ws, "other-rows", create_new_version=True)
registered = Dataset.get_by_name(ws, "other-rows")
assert registered.version == "1", registered
chosen = PythonScriptStep(
    "sum.py",
    arguments=[
        "--rows",
        registered.as_named_input("rows").as_mount(),
        "--out",
        OutputFileDatasetConfig("o"),
    ],
    inputs=[table.as_named_input("table")],
    source_directory="src",
)
third = Experiment(ws, "data").submit(Pipeline(ws, [chosen]))
third.wait_for_completion(show_output=False)
assert third.get_metrics()["total"] == 40
store.upload("other", "in/other")
again = Experiment(ws, "data").submit(
    pipeline, pipeline_parameters={"rows": DataPath(store, "in/other")}
)
again.wait_for_completion()

typed = Dataset.Tabular.from_delimited_files(
    [(store, "in/table/table.csv"), (store, "in/table/more/table.csv")],
    separator=";",
    set_column_types={"a": DataType.to_string()},
).keep_columns(["a", "b"])
typed.register(ws, "typed")
found = Dataset.get_by_name(ws, "typed")
rows = found.to_pandas_dataframe()
assert (sorted(rows["a"]), sorted(rows["b"])) == (["1", "2", "7"], [2, 3, 5]), rows
Dataset.File.from_files([(store, "in/rows"), (store, "in/other")]).register(ws, "both")
both = Dataset.get_by_name(ws, "both")
for number, given in enumerate((found, found.take(2))):
    reading = PythonScriptStep(
        "sum.py",
        name=f"reading-{number}",
        arguments=["--rows", both.as_named_input("rows"), "--out", OutputFileDatasetConfig("o")],
        inputs=[given.as_named_input("table")],
        source_directory="src",
    )
    run = Experiment(ws, "data").submit(Pipeline(ws, [reading]))
    run.wait_for_completion()
    metrics = run.get_metrics()
    assert (metrics["total"], round(metrics["mean"] * (3 - number))) == (46, (10, 8)[number]), (
        metrics
    )
print("other", again.get_metrics()["total"])
