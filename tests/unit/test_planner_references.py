"""References to what is registered: which texts are some, what they become, what is refused."""

import pytest

from penstock.contracts.registry import (
    AssetCommand,
    AssetView,
    DataContent,
    Reference,
    is_version,
    reference_of,
)
from penstock.contracts.spec import EnvironmentSpec, Input, PipelineSpec, StepSpec
from penstock.errors import Invalid
from penstock_planner.decide.references import (
    Looked,
    checked_asset,
    notes_of,
    parameters_with,
    refuse_unknown,
    spec_with,
    wanted_in,
)

TREE = "artifact:" + "a" * 64
PREP = AssetView(
    kind="component",
    name="prep",
    version="3",
    component=StepSpec(
        command="prep ${{inputs.raw}} $[[${{inputs.n}}]]",
        environment="azureml:sk@latest",
        inputs={"raw": Input(), "n": Input(type="integer", default=2)},
        outputs={"out": None},
    ),
)
SK = AssetView(
    kind="environment", name="sk", version="1.0", environment=EnvironmentSpec(pip=("pandas",))
)
RAW = AssetView(kind="data", name="raw", version="7", data=DataContent(type="uri_file", path=TREE))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("azureml:prep:3", Reference("prep", "3")),
        ("azureml:prep@latest", Reference("prep")),
        ("azureml:prep", Reference("prep")),
        (
            "azureml://registries/azureml/components/prep/versions/0.0.1",
            Reference("prep", "0.0.1", "component"),
        ),
        (
            "azureml://registries/r/environments/sk/labels/latest",
            Reference("sk", "latest", "environment"),
        ),
        ("azureml://registries/r/models/m", Reference("m", "latest", "model")),
        ("azureml://datastores/d/paths/p", None),
        ("azureml:a:b:c", None),
        ("azureml:", None),
        ("prep:3", None),
        ("./prep.yml", None),
    ],
)
def test_a_text_refers_to_what_azure_means_by_it(text: str, found: Reference | None) -> None:
    assert reference_of(text) == found


@pytest.mark.parametrize(
    ("text", "good"), [("1", True), ("0.0.1", True), ("latest", False), ("", False), ("a/b", False)]
)
def test_a_version_is_one_part_of_a_key(text: str, good: bool) -> None:
    assert is_version(text) is good


def test_what_a_component_refers_to_is_looked_up_in_turn() -> None:
    spec = PipelineSpec(
        steps={"p": StepSpec(component="azureml:prep@latest", inputs={"raw": "azureml:raw:7"})}
    )
    first = wanted_in(spec, {})
    prep = Looked("azureml:prep@latest", "prep", "latest", ("component",))
    raw = Looked("azureml:raw:7", "raw", "7", ("data", "model"))
    assert first == {prep: "steps.p.component", raw: "steps.p.inputs.raw"}
    found: dict[Looked, AssetView | None] = {prep: PREP, raw: RAW}
    spec = spec_with(spec, found)
    assert spec.steps["p"] == StepSpec(
        command="prep ${{inputs.raw}} $[[${{inputs.n}}]]",
        environment="azureml:sk@latest",
        inputs={
            "raw": Input(type="uri_file", path=TREE),
            "n": Input(type="integer", default=2),
        },
        outputs={"out": None},
    )
    second = wanted_in(spec, {})
    sk = Looked("azureml:sk@latest", "sk", "latest", ("environment",), needed=False)
    assert second == {sk: "steps.p.environment"}
    spec = spec_with(spec, {sk: SK})
    assert spec.steps["p"].environment == EnvironmentSpec(name="sk", version="1.0", pip=("pandas",))
    assert wanted_in(spec, {}) == {}
    assert list(notes_of(first, found)) == ["azureml:prep@latest is component prep, version 3"]


def test_pipelines_within_pipelines_and_parameters_refer_as_well() -> None:
    inner = PipelineSpec(
        steps={"s": StepSpec(command="c", inputs={"d": Input(path="azureml:raw@latest")})}
    )
    spec = PipelineSpec(
        steps={"n": StepSpec(pipeline=inner)},
        inputs={"m": Input(type="mlflow_model", path="azureml:best:1")},
    )
    wanted = wanted_in(spec, {"x": "azureml:raw:7", "lr": 0.1})
    assert set(wanted.values()) == {
        "request.parameters.x",
        "inputs.m",
        "steps.n.pipeline.steps.s.inputs.d",
    }
    assert {looked.kinds for looked, at in wanted.items() if at == "inputs.m"} == {
        ("model", "data")
    }
    x = Looked("azureml:raw:7", "raw", "7", ("data", "model"))
    assert parameters_with({"x": "azureml:raw:7", "lr": 0.1}, {x: RAW}) == {"x": TREE, "lr": 0.1}


def test_what_nobody_knows_is_refused_with_what_is_near() -> None:
    perp = Looked("azureml:perp:3", "perp", "3", ("component",))
    old = Looked("azureml:prep:9", "prep", "9", ("component",))
    with pytest.raises(Invalid) as caught:
        refuse_unknown(
            {perp: "steps.p.component", old: "steps.q.component"},
            {"component": [PREP]},
            {old: ["3"]},
        )
    assert caught.value.code == "E_REF"
    text = f"{caught.value.where} {caught.value.message} {caught.value.hint}"
    assert "steps.p.component" in text
    assert "did you mean 'prep'?" in text
    assert "component 'prep' has no version '9'" in text


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (AssetCommand(kind="component", name="a"), "E_EMPTY"),
        (AssetCommand(kind="component", name="a", data=DataContent(path=TREE)), "E_TYPE"),
        (AssetCommand(kind="component", name="a", component=StepSpec()), "E_TYPE"),
        (AssetCommand(kind="data", name="a", data=DataContent(path="./x")), "E_PATH"),
        (AssetCommand(kind="data", name="a", data=DataContent(path="azureml:b:1")), "E_PATH"),
        (
            AssetCommand(kind="model", name="a", version="latest", data=DataContent(path=TREE)),
            "E_ID",
        ),
    ],
)
def test_what_cannot_be_registered_is_refused(command: AssetCommand, code: str) -> None:
    with pytest.raises(Invalid) as caught:
        checked_asset(command)
    assert caught.value.code == code
