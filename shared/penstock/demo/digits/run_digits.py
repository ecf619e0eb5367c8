"""The first two steps of the pipeline in Python: `python run_digits.py` while a stack runs."""

from penstock import Experiment, OutputFileDatasetConfig, Pipeline, PythonScriptStep

data, model = OutputFileDatasetConfig("data"), OutputFileDatasetConfig("model")
prepare = PythonScriptStep("prepare.py", arguments=["--out", data], source_directory="prepare")
train = PythonScriptStep(
    "train.py", arguments=["--data", data.as_input(), "--out", model], source_directory="train"
)
run = Experiment("digits").submit(Pipeline(steps=[prepare, train]))
run.wait_for_completion(show_output=True)
print(run.get_metrics())
