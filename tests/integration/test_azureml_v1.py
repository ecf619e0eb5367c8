"""Scripts as they are written for SDK v1, their import lines changed, run on real services."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sklearn.datasets import load_digits

from penstock.testing.fleet import SERVICES, Fleet
from penstock.testing.servers import NatsServer

pytestmark = [pytest.mark.server, pytest.mark.slow]

SCRIPTS = Path(__file__).parent / "azureml_v1"
WORKSPACE = "azure"
WAIT_S = 120


@pytest.fixture(scope="module")
def services(nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    directory = tmp_path_factory.mktemp("fleet")
    store = f"file:{directory / 'store'}"
    with Fleet(directory, bus=nats.url, store=store, workspace=WORKSPACE) as fleet:
        for service in SERVICES:
            fleet.start(service)
        yield fleet


def ran(services: Fleet, folder: Path, *words: str) -> str:
    """Run a Python program in a folder as a user of the workspace; return what it printed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK_")}
    environment |= {"PENSTOCK_BUS": services.bus, "PENSTOCK_WORKSPACE": WORKSPACE}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def write_images(folder: Path) -> None:
    """Write scikit-learn's digits as rows of numbers, the label last, in two files."""
    digits = load_digits()
    rows = [
        ",".join(str(value) for value in [*image, label])
        for image, label in zip(digits.data[:400], digits.target[:400], strict=True)
    ]
    folder.mkdir()
    (folder / "images-0.txt").write_text("\n".join(rows[:200]) + "\n")
    (folder / "images-1.txt").write_text("\n".join(rows[200:]) + "\n")


def test_the_tutorial_with_two_steps_on_images_runs(services: Fleet, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    shutil.copytree(SCRIPTS / "images", folder)
    write_images(folder / "raw")
    said = ran(services, folder, "pipeline.py")
    assert "'accuracy'" in said


def test_the_tutorial_that_compares_publishes_and_schedules_runs(
    services: Fleet, tmp_path: Path
) -> None:
    folder = tmp_path / "compare"
    shutil.copytree(SCRIPTS / "compare", folder)
    said = ran(services, folder, "pipeline.py")
    assert said.splitlines()[-1] == "runs 5"


def test_data_on_datastores_goes_in_and_out(services: Fleet, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(SCRIPTS / "data", folder)
    for name, text in (
        ("rows/a.txt", "1\n2\n"), ("rows/b.txt", "3\n"), ("other/c.txt", "40\n"),
        ("table.csv", "a;b\n1;3\n2;5\n"), ("more/table.csv", "a;b\n7;2\n"),
    ):  # fmt: skip
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    said = ran(services, folder, "pipeline.py").splitlines()
    assert "total 6" in said
    assert said[-1] == "other 40.0" or said[-1] == "other 40"


REGISTERING = """
from penstock.azureml.core import Dataset, Environment, Workspace
from penstock.azureml.core.environment import DockerBuildContext
from penstock.azureml.core.model import Model
from penstock.azureml.exceptions import UserErrorException

ws = Workspace.from_config()
environment = Environment("welcome")
environment.environment_variables = {"GREETING": "hello"}
assert environment.register(workspace=ws).version == "1"
assert environment.register(workspace=ws).version == "1"

for built in (
    Environment.from_dockerfile("from_text", "FROM example/none\\nENV A=1\\n"),
    Environment.from_docker_build_context(
        "from_folder", DockerBuildContext.from_local_directory(ws, "context", "Own")),
):
    try:
        built.spec()
    except UserErrorException as error:
        print("refused", error.code)
    built.register(ws)
    assert built.spec().build.context.startswith("artifact:"), built.spec()

Dataset.File.from_files("rows.txt").register(ws, "rows")
Model.register(ws, model_path="rows.txt", model_name="one", tags={"a": "b"})
Model.register(ws, model_path="context", model_name="several")
"""
USING = """
from pathlib import Path
from penstock.azureml.core import Environment, Experiment, RunConfiguration, Workspace
from penstock.azureml.core.model import Model
from penstock.azureml.exceptions import ModelNotFoundException
from penstock.azureml.pipeline.core import Pipeline
from penstock.azureml.pipeline.steps import PythonScriptStep

ws = Workspace.from_config()
assert {"welcome", "from_text", "from_folder"} <= set(ws.environments)
folder = Environment.get(ws, "from_folder").spec()
assert (folder.build.context[:9], folder.build.dockerfile) == ("artifact:", "Own")
changed = Environment.get(ws, "welcome", version="1").clone("other")
changed.environment_variables["NAME"] = "you"
assert changed.register(ws).spec().variables == {"GREETING": "hello", "NAME": "you"}

config = RunConfiguration()
config.environment = Environment.get(workspace=ws, name="welcome")
step = PythonScriptStep("greet.py", source_directory="src", runconfig=config)
run = Experiment(ws, "greeting").submit(Pipeline(ws, steps=[step]))
run.wait_for_completion()
assert run.get_status() == "Completed"

assert "rows" in ws.datasets and {"one", "several"} <= set(ws.models)
assert [model.id for model in Model.list(ws, name="one")] == ["one:1"]
assert Path(Model(ws, "one").download("models")).read_text() == "1\\n"
try:
    Model(ws, "one").download("models")
except ModelNotFoundException as error:
    print("refused", error.code)
Model(ws, "one").download("models", exist_ok=True)
assert (Path(ws.models["several"].download("models")) / "Own").is_file()
assert sorted(path.name for path in Path("models").iterdir()) == ["rows.txt", "several"]
"""


def test_what_one_program_registers_another_finds_by_name(services: Fleet, tmp_path: Path) -> None:
    for name, text in (
        ("registering.py", REGISTERING), ("using.py", USING), ("rows.txt", "1\n"),
        ("context/Own", "FROM example/none\n"), ("context/more.txt", "2\n"),
        ("src/greet.py", "import os\nassert os.environ['GREETING'] == 'hello'\n"),
    ):  # fmt: skip
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    assert ran(services, tmp_path, "registering.py").split() == ["refused", "E_UNSUPPORTED"] * 2
    assert "refused E_EXISTS" in ran(services, tmp_path, "using.py")
