"""Data that lies elsewhere: which steps a plan gets to bring it in and to write it there, and what is refused."""

import json
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.contracts.data import Asset, Datastore, Location, azure_aliases
from penstock.contracts.plans import Bound, PlannedOutput, PlannedStep
from penstock.contracts.requests import RunRequest
from penstock.errors import Invalid
from penstock_planner.decide.places import Places
from penstock_planner.decide.plan import Origin, Plan, planned
from penstock_planner.decide.reading import spec_of

URL = "https://example.org/data/titanic.csv"
BLOB = "azureml://datastores/workspaceblobstore/paths/"
LONG = "azureml://subscriptions/s/resourcegroups/r/workspaces/w/datastores/lake/paths/a/b.csv"
PLACES = Places(
    {"lake": Datastore(url="s3://bucket/lake", aliases=azure_aliases("account", "container"))}
)
DIGEST = "d" * 64


def step(command: str = "true", **fields: Any) -> dict[str, Any]:
    return {"command": command, **fields}


def reads(path: str, kind: str = "uri_folder", **fields: Any) -> dict[str, Any]:
    return step("cat ${{inputs.x}}", inputs={"x": {"type": kind, "path": path}}, **fields)


def writes(path: str, kind: str = "uri_folder", **fields: Any) -> dict[str, Any]:
    return step("x ${{outputs.y}}", outputs={"y": {"type": kind, "path": path}}, **fields)


def plan(steps: dict[str, Any], parameters: dict[str, Any] | None = None, **spec: Any) -> Plan:
    body = {"name": "p", "steps": steps, **spec}
    asked = msgspec.convert({"parameters": parameters or {}}, RunRequest)
    origin = Origin(run="r1", spec="s1", places=PLACES)
    return planned(spec_of(json.dumps(body).encode(), stored=True), asked, origin)


def by_name(made: Plan) -> dict[str, PlannedStep]:
    return {each.name: each for each in made.steps}


def needs(made: Plan) -> dict[str, tuple[str, ...]]:
    return {each.name: each.needs for each in made.steps}


def refusal(*arguments: Any, **spec: Any) -> str:
    with pytest.raises(Invalid) as caught:
        plan(*arguments, **spec)
    return str(caught.value)


# -- in ---------------------------------------------------------------------------------------------
def test_a_url_is_brought_in_by_a_step_of_its_own_that_is_never_reused() -> None:
    made = by_name(plan({"a": reads(URL, "uri_file", compute="cpu")}))
    assert made["import--a--x"] == PlannedStep(
        name="import--a--x",
        command="",
        kind="import",
        source=Location(url=URL),
        outputs={"data": PlannedOutput()},
        compute="cpu",
        attempts_max=4,
        retry_delay_s=2.0,
        deterministic=False,
    )
    assert made["a"].inputs == {"x": Bound(type="uri_file", step="import--a--x", output="data")}
    assert made["a"].needs == ("import--a--x",)


def test_an_input_of_the_pipeline_is_brought_in_once_for_all_its_readers() -> None:
    inputs = {"raw": {"type": "uri_folder", "path": BLOB + "raw"}}
    made = plan(
        {"a": reads("${{parent.inputs.raw}}"), "b": reads("${{parent.inputs.raw}}")}, inputs=inputs
    )
    assert needs(made) == {
        "import--raw": (),
        "a": ("import--raw",),
        "b": ("import--raw",),
    }
    assert made.head.parameters == {"raw": BLOB + "raw"}


def test_a_parameter_may_name_a_place_and_a_rerun_gives_it_again() -> None:
    steps = {"a": reads("${{parent.inputs.raw}}")}
    inputs = {"raw": {"type": "uri_folder"}}
    made = plan(steps, {"raw": LONG}, inputs=inputs)
    source = Location(datastore="lake", root="s3://bucket/lake", path="a/b.csv")
    assert by_name(made)["import--raw"].source == source
    again = plan(steps, dict(made.head.parameters), inputs=inputs)
    assert again == made


@pytest.mark.parametrize(
    "text",
    [
        "azureml://datastores/lake/paths/a/b.csv",
        LONG,
        "wasbs://container@account.blob.core.windows.net/a/b.csv",
        "abfss://container@account.dfs.core.windows.net/a/b.csv",
        "https://account.blob.core.windows.net/container/a/b.csv",
    ],
)
def test_every_spelling_of_a_place_means_the_same(text: str) -> None:
    made = by_name(plan({"a": reads(text)}))
    source = made["import--a--x"].source
    assert source == Location(datastore="lake", root="s3://bucket/lake", path="a/b.csv")


def test_only_a_web_address_is_written_with_escapes() -> None:
    for text, path in (
        ("https://account.blob.core.windows.net/container/a%20b/%C3%A4.csv", "a b/ä.csv"),
        ("https://account.blob.core.windows.net/container/a/*.csv", "a/*.csv"),
        ("abfss://container@account.dfs.core.windows.net/a%20b", "a%20b"),
    ):
        source = by_name(plan({"a": reads(text)}))["import--a--x"].source
        assert source == Location(datastore="lake", root="s3://bucket/lake", path=path)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("wasbs://c@other.blob.core.windows.net/a", "E_PATH steps.a.inputs.x: 'wasbs://c@other.blob.core.windows.net/a': wasbs: is reached through a datastore only"),
        ("azureml://datastores/lakes/paths/a", "E_REF steps.a.inputs.x: no datastore 'lakes' (did you mean 'lake'?)"),
        ("azureml://datastores/lake/paths/../a", "E_PATH steps.a.inputs.x: '../a' is no path on a datastore; allowed: names with '/' between them, no '..'"),
        ("azureml://datastores/lake/paths/a//b", "E_PATH steps.a.inputs.x: 'a//b' is no path"),
        ("https://user:secret@host/x", "E_PATH steps.a.inputs.x: a URL with a password in it"),
        ("https://host/x?sv=1&sig=abc", "E_PATH steps.a.inputs.x: a URL with a signature in it"),
        ("https://", "E_PATH steps.a.inputs.x: 'https://' is no URL"),
        ("https://account.blob.core.windows.net/container/a.csv?sv=1&sig=secret", "E_PATH steps.a.inputs.x: a URL with a signature in it"),
        ("https://account.blob.core.windows.net/container/a.csv?se=secret", "E_PATH steps.a.inputs.x: a URL below datastore 'lake' with more than a path in it"),
        ("https://account.blob.core.windows.net/container/a.csv#secret", "E_PATH steps.a.inputs.x: a URL below datastore 'lake' with more than a path in it"),
        ("wasbs://container@account.blob.core.windows.net/a.csv?sig=secret", "E_PATH steps.a.inputs.x: a URL below datastore 'lake' with more than a path in it"),
        ("wasbs://c@other.blob.core.windows.net/a?sig=secret", "E_PATH steps.a.inputs.x: 'wasbs://c@other.blob.core.windows.net/a': wasbs: is reached"),
        ("https://?sig=secret", "E_PATH steps.a.inputs.x: 'https://' is no URL"),
        ("https://account.blob.core.windows.net/container/%2e%2e/a", "E_PATH steps.a.inputs.x: '../a' is no path"),
        ("https://account.blob.core.windows.net/container/a%3f.csv", "E_PATH steps.a.inputs.x: 'a%3f.csv' is no path on a datastore; allowed: escapes of UTF-8"),
        ("https://account.blob.core.windows.net/container/%ff", "E_PATH steps.a.inputs.x: '%ff' is no path on a datastore; allowed: escapes of UTF-8"),
        ("azureml:titanic:3", "E_REF steps.a.inputs.x: 'azureml:titanic:3' is not registered"),
    ],
)  # fmt: skip
def test_a_place_that_cannot_be_is_refused_in_these_words(path: str, said: str) -> None:
    found = refusal({"a": reads(path)})
    assert found.startswith(said)
    assert "secret" not in found
    assert "sig=abc" not in found


# -- out --------------------------------------------------------------------------------------------
def test_an_output_with_a_path_is_written_there_by_a_step_of_its_own() -> None:
    made = by_name(plan({"a": writes(BLOB + "models/m.bin", "uri_file", compute="cpu")}))
    assert made["a"].outputs == {"y": PlannedOutput(type="uri_file", file="m.bin")}
    assert made["copy--a--y"] == PlannedStep(
        name="copy--a--y",
        command="",
        kind="copy",
        destination=Location(datastore="workspaceblobstore", path="models/m.bin"),
        inputs={"data": Bound(type="uri_file", step="a", output="y")},
        outputs={"data": PlannedOutput(type="uri_file", file="m.bin")},
        needs=("a",),
        compute="cpu",
        attempts_max=4,
        retry_delay_s=2.0,
        deterministic=False,
    )


def test_macros_in_a_path_mean_what_they_mean_on_azure_ml() -> None:
    path = "azureml://datastores/${{default_datastore}}/paths/${{name}}/${{ output_name }}/{run-id}/{output-name}"
    made = by_name(plan({"a": writes(path)}, settings={"default_datastore": "azureml:lake"}))
    assert made["copy--a--y"].destination == Location(
        datastore="lake", root="s3://bucket/lake", path="r1.a/y/r1.a/y"
    )
    bound = {"a": writes("${{parent.outputs.out}}")}
    made = by_name(plan(bound, outputs={"out": {"path": path}}))
    assert made["copy--a--y"].destination == Location(
        datastore="workspaceblobstore", path="r1/out/r1/out"
    )


def test_a_path_may_hold_literals_of_the_pipeline() -> None:
    made = by_name(plan({"a": writes(BLOB + "x_${{parent.inputs.n}}")}, inputs={"n": 3}))
    assert made["copy--a--y"].destination == Location(datastore="workspaceblobstore", path="x_3")


def test_the_pipeline_s_own_path_goes_before_the_step_s() -> None:
    steps = {"a": writes(BLOB + "step"), "b": step("y", inputs={}, outputs={})}
    outputs = {"out": {"path": "${{parent.jobs.a.outputs.y}}"}}
    made = by_name(plan(steps, outputs=outputs))
    assert made["copy--a--y"].destination == Location(datastore="workspaceblobstore", path="step")
    bound = {"a": writes("${{parent.outputs.out}}")}
    made = by_name(plan(bound, outputs={"out": {"path": BLOB + "own"}}))
    assert made["copy--a--y"].destination == Location(datastore="workspaceblobstore", path="own")


def test_a_pipeline_within_may_be_overruled_from_outside() -> None:
    inner = {
        "name": "inner",
        "outputs": {"o": {"path": BLOB + "inner"}},
        "steps": {"a": writes("${{parent.outputs.o}}")},
    }
    made = by_name(plan({"sub": {"pipeline": inner}}))
    assert made["copy--sub--a--y"].destination == Location(
        datastore="workspaceblobstore", path="inner"
    )
    outer = {"sub": {"pipeline": inner, "outputs": {"o": {"path": BLOB + "outer"}}}}
    made = by_name(plan(outer))
    assert made["copy--sub--a--y"].destination == Location(
        datastore="workspaceblobstore", path="outer"
    )


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (URL, f"E_PATH steps.a.outputs.y.path: nothing can be written to '{URL}'"),
        (BLOB + "*.csv", "E_PATH steps.a.outputs.y.path: nothing can be written to"),
        (BLOB + "../x", "E_PATH steps.a.outputs.y.path: '../x' is no path on a datastore"),
        ("wasbs://c@o/x", "E_PATH steps.a.outputs.y.path: 'wasbs://c@o/x': wasbs: is reached"),
        (BLOB + "${{parent.inputs.q}}", "E_REF steps.a.outputs.y.path: the pipeline has no input 'q'"),
    ],
)  # fmt: skip
def test_a_destination_that_cannot_be_is_refused_in_these_words(path: str, said: str) -> None:
    assert refusal({"a": writes(path)}).startswith(said)


def test_a_copy_step_writes_its_input_to_the_path_of_its_output() -> None:
    copy = {
        "kind": "copy",
        "inputs": {"from": {"type": "uri_file", "path": URL}},
        "outputs": {"to": {"type": "uri_file", "path": BLOB + "t.csv"}},
    }
    made = plan({"up": copy})
    assert needs(made) == {"import--up--from": (), "up": ("import--up--from",)}
    assert by_name(made)["up"].destination == Location(datastore="workspaceblobstore", path="t.csv")
    assert not by_name(made)["up"].deterministic
    assert "E_TYPE steps.up: a copy has one input" in refusal({"up": {**copy, "inputs": {"a": 3}}})


def test_an_output_with_a_name_is_registered_by_a_step_of_its_own() -> None:
    outputs = {"y": {"name": "mine", "version": "3", "type": "mlflow_model"}}
    made = by_name(plan({"a": step(outputs=outputs)}))["copy--a--y"]
    assert made.asset == Asset(name="mine", kind="model", type="mlflow_model", version="3")
    assert (made.destination, made.needs, made.deterministic) == (None, ("a",), False)
    assert refusal({"a": step(outputs={"y": {"version": "3"}})}).startswith(
        "E_TYPE steps.a.outputs.y: a version without a name"
    )
    assert refusal({"a": step(outputs={"y": {"name": "no/name"}})}).startswith(
        "E_ID steps.a.outputs.y.name: 'no/name' is not a name"
    )


def test_a_path_with_the_run_s_name_can_be_foreseen_when_there_is_no_run_yet() -> None:
    body = {
        "name": "p",
        "outputs": {"o": {"type": "uri_folder", "path": BLOB + "x/${{name}}/t"}},
        "steps": {"a": step("x ${{outputs.y}}", outputs={"y": "${{parent.outputs.o}}"})},
    }
    spec = spec_of(json.dumps(body).encode(), stored=True)
    made = planned(spec, RunRequest(), Origin(run="", places=PLACES))
    assert [each.destination.path for each in made.steps if each.destination] == ["x/run/t"]


# -- order ------------------------------------------------------------------------------------------
def test_what_a_run_writes_is_there_before_it_is_read() -> None:
    made = plan({"make": writes(BLOB + "a/b"), "read": reads(BLOB + "a"), "other": reads(BLOB)})
    assert needs(made) == {
        "make": (),
        "copy--make--y": ("make",),
        "import--other--x": ("copy--make--y",),
        "import--read--x": ("copy--make--y",),
        "other": ("import--other--x",),
        "read": ("import--read--x",),
    }


def test_a_step_that_reads_a_place_and_writes_it_reads_what_was_there_before() -> None:
    both = {**reads(BLOB + "a"), "outputs": {"y": {"path": BLOB + "a"}}}
    made = plan({"both": both})
    assert needs(made) == {
        "import--both--x": (),
        "both": ("import--both--x",),
        "copy--both--y": ("both",),
    }


def test_one_place_read_before_and_after_it_is_written_is_brought_in_twice() -> None:
    first = {**reads(BLOB + "a"), "outputs": {"y": {"path": BLOB + "a"}}}
    after = reads(BLOB + "a", needs=["first"])
    made = plan({"first": first, "then": after})
    assert needs(made)["import--first--x"] == ()
    assert needs(made)["then"] == ("first", "import--then--x")
    assert needs(made)["import--then--x"] == ("copy--first--y", "first")


def test_an_import_from_a_datastore_waits_for_what_its_reader_needs_by_name() -> None:
    made = plan({"a": step(), "b": reads(BLOB + "a", needs=["a"]), "c": reads(URL, needs=["a"])})
    assert needs(made)["import--b--x"] == ("a",)
    assert needs(made)["import--c--x"] == ()


def test_other_places_do_not_wait_for_each_other() -> None:
    made = plan({"make": writes(BLOB + "ab"), "read": reads(BLOB + "a")})
    assert needs(made)["import--read--x"] == ()
    made = plan({"make": writes("azureml://datastores/lake/paths/a"), "read": reads(BLOB + "a")})
    assert needs(made)["import--read--x"] == ()


def calls_of(steps: dict[str, Any]) -> int:
    """Return how many functions are called to plan a pipeline of these steps."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    inputs = {"raw": {"type": "uri_folder", "path": BLOB + "raw"}}
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        plan(steps, inputs=inputs)
    finally:
        sys.setprofile(before)
    return calls


def test_twice_as_many_readers_and_writers_are_twice_as_much_work() -> None:
    def steps(count: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for n in range(count):
            made[f"w{n}"] = writes(f"{BLOB}d/{n}")
            made[f"r{n}"] = reads(f"{BLOB}d/{n}")
            made[f"i{n}"] = reads("${{parent.inputs.raw}}", needs=[f"w{n}"])
        return made

    plan(steps(2), inputs={"raw": {"path": BLOB}})  # what is imported or compiled once
    assert calls_of(steps(120)) < 2.5 * calls_of(steps(60))


PATHS = st.sampled_from(["a", "a/b", "a/b/c", "b", "b/*.csv", ""])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(PATHS, PATHS), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_whatever_reads_and_writes_whatever_the_plan_has_no_circle_and_nothing_is_pending(
    each: list[tuple[str, str]], random: Any
) -> None:
    steps = {}
    for number, (source, target) in enumerate(each):
        entry = reads(BLOB + source)
        entry["outputs"] = {"y": {"path": BLOB + target.replace("*", "x")}}
        entry["needs"] = [f"s{n}" for n in range(number) if random.random() < 0.3]
        steps[f"s{number}"] = entry
    made = plan(steps)
    seen: set[str] = set()
    for planned_step in made.steps:
        assert set(planned_step.needs) <= seen
        seen.add(planned_step.name)
        assert all(bound.step for bound in planned_step.inputs.values())
        assert (
            msgspec.json.decode(msgspec.json.encode(planned_step), type=PlannedStep) == planned_step
        )
    assert made == plan(dict(reversed(steps.items())))
