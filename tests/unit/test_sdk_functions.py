"""`@step` and `@pipeline`: plain functions, and the graph that they become."""

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest

from penstock import File, Folder, pipeline, step
from penstock.contracts.spec import EnvironmentSpec, Input
from penstock.errors import Invalid
from penstock.sdk.calling import read, write
from penstock.sdk.functions import kind_of, outputs_of


class Model:
    """Something that only a pickle can carry."""


class Scores(NamedTuple):
    accuracy: float
    report: dict[str, float]


@step
def load(rows: int = 3) -> pd.DataFrame:
    return pd.DataFrame({"x": range(rows)})


@step
def split(table: pd.DataFrame, share: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    cut = int(len(table) * share)
    return table[:cut], table[cut:]


@step(environment=["scikit-learn==1.5"], compute="gpu", retries=2, reuse=False, memory="2g")
def fit(table: pd.DataFrame, rate: float = 0.1, layers: list[int] | None = None) -> Model:
    return Model()


@step
def score(model: Model, table: pd.DataFrame) -> Scores:
    return Scores(len(table) / 10, {"rows": len(table)})


@step
def tell(accuracy: float) -> None:
    assert accuracy >= 0


@pipeline
def training(share: float = 0.5, rate: float = 0.2) -> Any:
    """Trains."""
    train, test = split(load(10), share)
    scores = score(fit(train, rate, layers=[1, 2]), test)
    tell(scores.accuracy)
    return {"scores": scores.report}


def test_a_pipeline_and_its_steps_are_plain_functions() -> None:
    assert load(2).to_dict("list") == {"x": [0, 1]}
    assert training(share=0.8) == {"scores": {"rows": 2}}


def test_a_pipeline_becomes_a_graph() -> None:
    found = training.definition()
    spec = found.spec
    assert (spec.name, spec.description) == ("training", "Trains.")
    assert spec.inputs == {"share": 0.5, "rate": 0.2}
    assert list(spec.steps) == ["load", "split", "fit", "score", "tell"]
    assert spec.steps["load"].inputs == {"rows": 10}
    assert spec.steps["fit"].inputs == {
        "table": "${{parent.jobs.split.outputs.output_0}}",
        "rate": "${{parent.inputs.rate}}",
        "layers": "[1, 2]",
    }
    fit_spec = spec.steps["fit"]
    assert fit_spec.environment == EnvironmentSpec(pip=("scikit-learn==1.5",))
    assert (fit_spec.compute, fit_spec.limits.retries, fit_spec.is_deterministic) == (
        "gpu", 2, False,
    )  # fmt: skip
    assert fit_spec.resources.memory == "2g"
    assert (
        fit_spec.command
        == f"python -m penstock.sdk.calling {Path(__file__).name} fit table rate layers"
    )
    assert spec.steps["tell"].inputs == {"accuracy": "${{parent.jobs.score.outputs.accuracy}}"}
    assert spec.steps["score"].outputs == {
        "accuracy": None,
        "report": "${{parent.outputs.scores}}",
    }
    assert {local.path for local in found.locals} == {Path(__file__).parent}


def test_what_a_result_will_be_cannot_be_looked_at() -> None:
    @pipeline
    def deciding() -> None:
        if load():
            tell(1.0)

    with pytest.raises(TypeError, match="decide in a step"):
        deciding.definition()


def test_parameters_without_default_are_asked_for(tmp_path: Path) -> None:
    @step
    def use(rows: File, folder: Folder, n: int) -> None: ...

    @pipeline
    def asking(rows: File, folder: Folder, n: int) -> None:
        use(rows, folder, n)

    assert asking.definition().spec.inputs == {
        "rows": Input(type="uri_file"),
        "folder": Input(type="uri_folder"),
        "n": Input(type="integer"),
    }


def test_what_cannot_travel_is_refused_where_it_is_handed_over() -> None:
    @pipeline
    def handing() -> None:
        score(Model(), load())

    with pytest.raises(Invalid, match="a Model cannot be handed") as refused:
        handing.definition()
    assert refused.value.where == "score(model)"


def test_annotations_say_how_data_travels() -> None:
    found = [
        kind_of(hint) for hint in (int, pd.DataFrame, File, Folder, Path, dict[str, int], Model)
    ]
    assert found == ["value", "table", "file", "folder", "folder", "json", "pickle"]
    assert list(outputs_of(Scores)) == ["accuracy", "report"]
    assert list(outputs_of(tuple[int, str])) == ["output_0", "output_1"]
    assert outputs_of(None) == {}


@pytest.mark.parametrize(
    ("value", "kind"),
    [(0.5, "value"), ({"a": [1, None]}, "json"), (Path("x"), "pickle")],
)
def test_what_is_written_is_read(value: Any, kind: str, tmp_path: Path) -> None:
    write(value, kind, tmp_path / "out", "s.o")
    assert read(tmp_path / "out", kind, "i") == value


def test_tables_and_paths_are_written_and_read(tmp_path: Path) -> None:
    table = pd.DataFrame({"a": ["007", "x"], "b": [1.5, 2.0]})
    write(table, "table", tmp_path / "table", "s.o")
    pd.testing.assert_frame_equal(read(tmp_path / "table", "table", "i"), table)
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    assert read(tmp_path / "rows.csv", "table", "i").to_dict("list") == {"a": [1], "b": [2]}
    write(tmp_path / "rows.csv", "file", tmp_path / "copy.csv", "s.o")
    assert (tmp_path / "copy.csv").read_text() == "a,b\n1,2\n"
    with pytest.raises(SystemExit, match="annotate it as File"):
        write(tmp_path / "rows.csv", "folder", tmp_path / "other", "s.o")
