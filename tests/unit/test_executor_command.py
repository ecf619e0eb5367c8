"""Expressions of a command line, and the variables a step sees."""

import json

import pytest

from penstock.contracts.plans import PlannedOutput
from penstock.contracts.work import WorkInput, WorkItem
from penstock.errors import Invalid
from penstock_executor.decide.command import substituted, text_of
from penstock_executor.decide.environment import Bindings, InStep, inherited, variables
from penstock_executor.decide.layout import Place, checked_item, input_path

RUN = "06fac3vcr2v7947"
INPUTS = {"rate": "0.001", "data": "/a/in/data", "hostile": "$(rm -rf /); ${{inputs.rate}}"}
OUTPUTS = {"model": "/a/out/model"}


def replaced(text: str) -> str:
    return substituted(text, INPUTS, OUTPUTS, "train.command")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("echo ${{inputs.rate}}", "echo 0.001"),
        ("echo ${{ inputs.rate }}", "echo 0.001"),
        ("ls ${{inputs.data.path}}", "ls /a/in/data"),
        ("cp ${{inputs.data}}/x ${{outputs.model}}/y", "cp /a/in/data/x /a/out/model/y"),
        ("a &&\n  b ${{outputs.model.path}}", "a &&\n  b /a/out/model"),
        ("echo $HOME $(date) ${x} {{inputs.rate}}", "echo $HOME $(date) ${x} {{inputs.rate}}"),
    ],
)
def test_expressions_become_paths_and_values(text: str, expected: str) -> None:
    assert replaced(text) == expected


def test_a_value_is_inserted_once_and_never_read_as_an_expression() -> None:
    assert replaced("echo ${{inputs.hostile}}") == "echo $(rm -rf /); ${{inputs.rate}}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train $[[--rate ${{inputs.rate}}]] end", "train --rate 0.001 end"),
        ("train $[[--depth ${{inputs.depth}}]] end", "train  end"),
        ("train $[[--both ${{inputs.rate}} ${{inputs.depth}}]]", "train "),
        ("train $[[--out ${{outputs.model}}]]", "train --out /a/out/model"),
        ("train $[[inputs.rate]]", "train inputs.rate"),
        ("[[ -f x ]] && train", "[[ -f x ]] && train"),
    ],
)
def test_an_optional_group_stays_only_if_all_its_inputs_have_values(
    text: str, expected: str
) -> None:
    assert replaced(text) == expected


@pytest.mark.parametrize(
    "text", ["${{inputs.depth}}", "${{outputs.x}}", "${{parent.inputs.rate}}", "${{}}", "${{rate}}"]
)
def test_an_expression_without_a_value_is_refused_by_name(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        replaced(f"train {text}")
    assert caught.value.code == "E_COMMAND"
    assert text in caught.value.message


def test_a_misspelt_expression_is_answered_with_the_nearest_known_one() -> None:
    with pytest.raises(Invalid) as caught:
        replaced("${{inputs.dat}}")
    assert caught.value.hint == "did you mean 'inputs.data'?"


@pytest.mark.parametrize(
    ("value", "text"), [(True, "True"), (1.8, "1.8"), (0.001, "0.001"), (20, "20"), ("on", "on")]
)
def test_literals_become_text_as_in_azure_ml(value: str | float | bool, text: str) -> None:
    assert text_of(value) == text


def item(**changes: object) -> WorkItem:
    fields: dict[str, object] = {
        "run": RUN,
        "step": "train",
        "attempt": 2,
        "pipeline": "digits",
        "command": "true",
        **changes,
    }
    return WorkItem(**fields)  # type: ignore[arg-type]


def seen(
    environ: dict[str, str], declared: dict[str, str] | None = None, **changes: object
) -> tuple[dict[str, str], list[str]]:
    work = item(**changes)
    bindings = Bindings(
        inputs={
            n: str(i.value) if not i.artifact else f"/a/in/{n}" for n, i in work.inputs.items()
        },
        outputs={n: f"/a/out/{n}" for n in work.outputs},
    )
    return variables(
        work,
        Place("/a"),
        bindings,
        declared=declared or {},
        environ=environ,
        python_folder="/venv/bin",
        socket="/a/socket",
        in_step=InStep("/in_step", "/penstock"),
        workspace="ours",
    )


def test_a_step_inherits_neither_credentials_nor_anything_unlisted() -> None:
    environ = {
        "HOME": "/root-of/me",
        "LC_ALL": "C.UTF-8",
        "SSL_CERT_FILE": "/ca.pem",
        "PENSTOCK_STORE": "s3+http://key:secret@host/bucket",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "MINIO_ROOT_PASSWORD": "secret",
        "PYTHONPATH": "/elsewhere",
        "https_proxy": "http://proxy:3128",
        "HTTP_PROXY": "http://user:secret@proxy:3128",
    }
    assert inherited(environ) == {
        "HOME": "/root-of/me",
        "LC_ALL": "C.UTF-8",
        "SSL_CERT_FILE": "/ca.pem",
        "https_proxy": "http://proxy:3128",
    }
    found, _ = seen(environ)
    assert not [name for name, value in found.items() if "secret" in value]


def test_python_means_the_executors_own_interpreter() -> None:
    found, _ = seen({"PATH": "/usr/bin"})
    assert found["PATH"] == "/a/site/bin:/venv/bin:/usr/bin:/in_step/bin"
    assert found["TMPDIR"] == "/a/tmp"


def test_a_step_sees_its_names_and_its_data() -> None:
    found, _ = seen(
        {},
        parameters={"size": 3},
        inputs={
            "rate": WorkInput(value=0.5),
            "data": WorkInput(type="uri_folder", artifact="0" * 64),
        },
        outputs={"model": PlannedOutput()},
        tags={"a": "b"},
    )
    assert found["PENSTOCK_RUN_ID"] == RUN
    assert found["PENSTOCK_STEP"] == "train"
    assert found["PENSTOCK_ATTEMPT"] == "2"
    assert found["PENSTOCK_EXPERIMENT"] == "digits"
    assert json.loads(found["PENSTOCK_PARAMETERS"]) == {"size": 3, "rate": 0.5}
    assert json.loads(found["PENSTOCK_INPUTS"]) == {"data": "/a/in/data"}
    assert json.loads(found["PENSTOCK_OUTPUTS"]) == {"model": "/a/out/model"}
    assert json.loads(found["PENSTOCK_TAGS"]) == {"a": "b"}
    assert found["AZUREML_PARAMETER_rate"] == "0.5"
    assert found["AZURE_ML_INPUT_data"] == "/a/in/data"
    assert found["AZURE_ML_OUTPUT_model"] == "/a/out/model"


def test_declared_variables_win_and_keep_the_steps_own_packages_importable() -> None:
    found, _ = seen({}, declared={"PYTHONUNBUFFERED": "0", "PYTHONPATH": "src"})
    assert found["PYTHONUNBUFFERED"] == "0"
    assert found["PYTHONPATH"] == "/in_step/site:/a/site:src"


def test_a_variable_that_the_kernel_refuses_is_left_out_and_named() -> None:
    found, left_out = seen({}, parameters={"text": "x" * 200_000})
    assert left_out == ["PENSTOCK_PARAMETERS"]
    assert "PENSTOCK_PARAMETERS" not in found


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"run": "../../etc"}, "E_ID"),
        ({"step": "../x"}, "E_ID"),
        ({"step": "a.b"}, "E_ID"),
        ({"inputs": {"../x": WorkInput(value=1)}}, "E_ID"),
        ({"outputs": {"..": PlannedOutput()}}, "E_ID"),
        ({"outputs": {"m": PlannedOutput(type="uri_file", file="../m")}}, "E_OUTPUT_TYPE"),
        ({"outputs": {"m": PlannedOutput(type="uri_file", file="..")}}, "E_OUTPUT_TYPE"),
        ({"outputs": {"m": PlannedOutput(type="uri_file", file="x" * 256)}}, "E_OUTPUT_TYPE"),
        ({"inputs": {"x": WorkInput(type="uri_file", artifact="abc")}}, "E_INPUT"),
        ({"code": "abc"}, "E_CODE"),
        ({"command": "  \n"}, "E_COMMAND"),
        ({"attempt": -1}, "E_ID"),
    ],
)
def test_a_work_item_whose_names_lead_elsewhere_is_refused(
    changes: dict[str, object], code: str
) -> None:
    with pytest.raises(Invalid) as caught:
        checked_item(item(**changes))
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("kind", "files", "path"),
    [
        ("uri_file", ("data.csv",), "/in/x/data.csv"),
        ("uri_file", ("a.csv", "b.csv"), "/in/x"),
        ("uri_folder", ("data.csv",), "/in/x"),
        ("mltable", ("MLTable",), "/in/x"),
    ],
)
def test_a_file_input_is_its_one_file_with_its_own_name(
    kind: str, files: tuple[str, ...], path: str
) -> None:
    assert input_path("/in/x", kind, files) == path
