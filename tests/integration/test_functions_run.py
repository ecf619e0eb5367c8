"""Pipelines of plain functions, run on real services as a new user would."""

from pathlib import Path

import pytest
from tests.integration.test_azureml_v1 import ran, services

from penstock.testing.fleet import Fleet

pytestmark = [pytest.mark.server, pytest.mark.slow]
__all__ = ["services"]

PROGRAM = """
import tempfile
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression

from penstock import File, Folder, current_run, pipeline, step


class Parts(NamedTuple):
    train: pd.DataFrame
    test: pd.DataFrame


@step
def load(share: float = 0.3) -> Parts:
    table = load_wine(as_frame=True).frame.sample(frac=1, random_state=1)
    cut = int(len(table) * share)
    return Parts(train=table[cut:], test=table[:cut])


@step
def fit(
    table: pd.DataFrame, C: float, names: list[str], most: int | None, least: int | None, C2: int = 2
) -> LogisticRegression:
    assert (names, most, C2) == (["a", "b"], None, None)
    assert least in (None, 3)
    return LogisticRegression(C=C, max_iter=5000).fit(table.drop(columns="target"), table.target)


@step
def evaluate(model: LogisticRegression, table: pd.DataFrame) -> float:
    accuracy = model.score(table.drop(columns="target"), table.target)
    current_run().log("accuracy", accuracy)
    return accuracy


@step
def report(accuracy: float, template: File) -> Folder:
    folder = Path(tempfile.mkdtemp())
    (folder / "index.txt").write_text(Path(template).read_text().format(accuracy=accuracy))
    return folder


@pipeline
def wine(
    template: File = Path("template.txt"), C: float = 1.0,
    most: int | None = None, least: int | None = None, C2: int = 7,
):
    parts = load(share=0.25)
    accuracy = evaluate(fit(parts.train, C, ["a", "b"], most, least, None), parts.test)
    return {"report": report(accuracy, template)}


if __name__ == "__main__":
    folder = wine(least=3)["report"]                         # here, without a stack
    assert (folder / "index.txt").read_text().startswith("accuracy 0.")
    run = wine.submit(C=0.5, least=3, most=None)
    run.wait_for_completion(show_output=False)
    assert run.get_metrics()["accuracy"] > 0.8
    run.download_output("report", "output", "../got")
    assert Path("../got/index.txt").read_text().startswith("accuracy 0.")
    again = wine.submit(C=0.25, least=3)
    again.wait_for_completion(show_output=False)
    states = {step.step: step.state for step in again.view().steps}
    assert states["load"] == "reused", states
    print("run", run.id)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "wine.py").write_text(PROGRAM)
    (folder / "template.txt").write_text("accuracy {accuracy:.3f}\n")
    return folder


def test_functions_run_here_and_on_the_stack(services: Fleet, folder: Path) -> None:
    assert ran(services, folder, "wine.py").splitlines()[-1].startswith("run ")


def test_a_python_file_is_submitted_like_any_other(services: Fleet, folder: Path) -> None:
    said = ran(
        services, folder, "-m", "penstock.cli.main", "submit", "wine.py", "-p", "C=2", "--watch"
    )
    assert "succeeded" in said


def test_one_step_is_spun_with_the_inputs_of_the_last_run(services: Fleet, folder: Path) -> None:
    penstock = ("-m", "penstock.cli.main")
    ran(services, folder, *penstock, "submit", "wine.py", "--watch")
    source = folder / "wine.py"
    changed = source.read_text().replace(
        "    accuracy = model.score(", '    print("spun", len(table))\n    accuracy = model.score('
    )
    source.write_text(changed)
    said = ran(services, folder, *penstock, "spin", "evaluate")
    assert "spun 44" in said
    assert "spun 44" in ran(
        services, folder, *penstock, "spin", "evaluate", "wine.py", "-o", "table"
    )
