"""`@step` and `@pipeline`: plain functions, and the graph that they become."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Optional, cast

import pandas as pd
import pytest

from penstock import File, Folder, pipeline, step
from penstock.contracts.requests import RunRequest
from penstock.contracts.spec import EnvironmentSpec, Input
from penstock.errors import Invalid
from penstock.sdk.calling import arguments_of, read, write
from penstock.sdk.functions import Step, kind_of, outputs_of
from penstock.sdk.in_step import CurrentRun
from penstock_planner.decide.plan import Origin, planned


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


LOOKS: list[Callable[[Any], object]] = [
    bool,
    str,
    hash,
    lambda later: later == "x",
    lambda later: later != "x",
    lambda later: later in ["x", "y"],
    lambda later: later in {"x", "y"},
    lambda later: {"x": 1}[later],
    lambda later: f"n-{later}",
    lambda later: f"{later:>9}",
    lambda later: f"n-{later!s}",
]


@pytest.mark.parametrize("look", LOOKS)
def test_what_is_not_known_yet_cannot_be_looked_at(look: Callable[[Any], object]) -> None:
    """Each of these had a value that meant nothing, so the graph was another than the author's."""

    @pipeline
    def looking_at_a_parameter(kind: str = "x") -> None:
        look(kind)

    @pipeline
    def looking_at_a_result() -> None:
        look(load())

    for each in (looking_at_a_parameter, looking_at_a_result):
        with pytest.raises(TypeError, match="decide in a step"):
            each.definition()


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


def test_a_default_of_none_makes_a_parameter_optional_and_steps_get_none(tmp_path: Path) -> None:
    @step
    def use(
        n: int | None,
        rate: float | None,
        rows: File | None,
        k: int = 3,
        names: list[str] | None = None,
    ) -> None: ...

    @pipeline
    def asking(
        n: int | None = None,
        rate: float | None = None,
        rows: Optional[File] = None,  # noqa: UP045 - the older spelling
        k: int = 5,
    ) -> None:
        use(n, rate, rows, None, names=["a"])  # type: ignore[arg-type]

    spec = asking.definition().spec
    assert spec.inputs == {
        "n": Input(type="integer", optional=True),
        "rate": Input(type="number", optional=True),
        "rows": Input(type="uri_file", optional=True),
    }
    made = planned(spec, RunRequest(), Origin(run="r"))
    assert "E_" not in " ".join(made.notes)
    words = shlex.split(spec.steps["use"].command)[5:]
    assert words == ["n=n", "rate=rate", "rows=rows", "k=", "names"]

    def called_with(parameters: dict[str, Any], inputs: dict[str, str]) -> dict[str, Any]:
        run = CurrentRun(
            {"PENSTOCK_PARAMETERS": json.dumps(parameters), "PENSTOCK_INPUTS": json.dumps(inputs)}
        )
        return arguments_of(cast("Step", use), run, words)

    none = {"n": None, "rate": None, "rows": None, "k": None, "names": ["a"]}
    assert called_with({"names": '["a"]'}, {}) == none
    given = called_with({"n": 1, "rate": 2, "names": '["a"]'}, {"rows": "/data/x.csv"})
    assert given == {**none, "n": 1, "rate": 2.0, "rows": Path("/data/x.csv")}
    assert isinstance(given["rate"], float)


def test_a_parameter_whose_type_nobody_tells_is_refused() -> None:
    @step
    def use(n: int) -> None: ...

    @pipeline
    def typed_by_its_default(n=3):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        use(n)

    @pipeline
    def untyped(n):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        use(n)

    @pipeline
    def several(n: int | str) -> None:
        use(n)  # type: ignore[arg-type]

    assert typed_by_its_default.definition().spec.inputs == {"n": 3}
    for each in (untyped, several):
        with pytest.raises(Invalid) as refused:
            each.definition()
        assert (refused.value.code, refused.value.where) == ("E_TYPE", f"{each.name}(n)")
        assert "annotate" in refused.value.hint or "n: int" in refused.value.hint


def test_a_conda_file_is_read_as_everywhere(tmp_path: Path) -> None:
    file = tmp_path / "env.yml"

    @step(environment=str(file))
    def use() -> None: ...

    @pipeline
    def one() -> None:
        use()

    (tmp_path / "more.txt").write_text("pandas  # tables\n", encoding="utf-8")
    file.write_text("dependencies:\n- pip:\n  - -r more.txt\n", encoding="utf-8")
    assert one.definition().spec.steps["use"].environment == EnvironmentSpec(
        conda={"dependencies": [{"pip": ["pandas"]}]}
    )
    for text, code in (("dependencies: [", "E_YAML"), ("- a", "E_TYPE"), ("", "E_EMPTY")):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(Invalid) as refused:
            one.definition()
        assert refused.value.code == code
        assert refused.value.where.split(":")[0] == str(file)


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
