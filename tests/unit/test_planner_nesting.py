"""Pipelines within pipelines: what their steps are called, what they wait for, what they read."""

from typing import Any

import pytest
from tests.unit.test_planner_plan import DATA, plan, refusal, step, the_step

from penstock.contracts.plans import Bound
from penstock.errors import Invalid

INNER: dict[str, Any] = {
    "name": "inner",
    "inputs": {
        "data": {"type": "uri_folder"},
        "rate": {"type": "number", "default": 0.5, "max": 1},
        "note": {"type": "string", "optional": True},
    },
    "outputs": {"model": {"type": "uri_file"}},
    "steps": {
        "first": step(
            "first ${{inputs.d}} ${{inputs.r}} $[[--note ${{inputs.n}}]]",
            inputs={
                "d": "${{parent.inputs.data}}",
                "r": "${{parent.inputs.rate}}",
                "n": "${{parent.inputs.note}}",
            },
            outputs={"o": None},
        ),
        "second": step(
            "second",
            inputs={"o": "${{parent.jobs.first.outputs.o}}"},
            outputs={"m": {"type": "uri_file", "path": "${{parent.outputs.model}}"}},
        ),
        "idle": step("idle"),
    },
}

OUTER: dict[str, Any] = {
    "make": step(outputs={"o": None}),
    "sub": {"pipeline": INNER, "inputs": {"data": "${{parent.jobs.make.outputs.o}}"}},
    "use": step(inputs={"m": "${{parent.jobs.sub.outputs.model}}"}),
    "after": step(needs=["sub"]),
}


def test_the_steps_of_an_inner_pipeline_are_steps_of_the_run_behind_a_barrier() -> None:
    made = plan(OUTER)
    assert {one.name: one.needs for one in made.steps} == {
        "make": (),
        "sub--first": ("make",),
        "sub--second": ("make", "sub--first"),
        "sub--idle": ("make",),
        "use": ("sub--second",),
        "after": ("sub--first", "sub--idle", "sub--second"),
    }


def test_an_inner_step_reads_what_the_outer_pipeline_hands_in() -> None:
    assert the_step("sub--first", plan(OUTER)).inputs == {
        "d": Bound(type="uri_folder", step="make", output="o"),
        "r": Bound(value=0.5),
    }


def test_an_output_of_an_inner_pipeline_is_read_from_the_step_that_makes_it() -> None:
    made = plan(OUTER)
    assert the_step("use", made).inputs == {
        "m": Bound(type="uri_file", step="sub--second", output="m")
    }


def test_outputs_are_handed_out_through_every_border() -> None:
    middle = {
        "inputs": {"x": {"type": "uri_folder"}},
        "outputs": {"best": None},
        "steps": {
            "deep": {
                "pipeline": INNER,
                "inputs": {"data": "${{parent.inputs.x}}", "rate": 1},
                "outputs": {"model": "${{parent.outputs.best}}"},
            }
        },
    }
    made = plan(
        {
            "sub": {
                "pipeline": middle,
                "inputs": {"x": f"artifact:{DATA}"},
                "outputs": {"best": "${{parent.outputs.final}}"},
            }
        },
        outputs={"final": None},
    )
    assert [one.name for one in made.steps] == [
        "sub--deep--first",
        "sub--deep--idle",
        "sub--deep--second",
    ]
    assert made.head.outputs == {"final": ("sub--deep--second", "m")}
    assert the_step("sub--deep--first", made).inputs["d"] == Bound(type="uri_folder", artifact=DATA)


def test_a_long_name_is_cut_to_one_that_stays_the_same() -> None:
    inner = {"steps": {"i" * 50: step()}}
    names = [plan({"o" * 40: {"pipeline": inner}}).steps[0].name for _ in range(2)]
    assert names[0] == names[1]
    assert len(names[0]) == 63
    assert names[0].startswith("o" * 40 + "--iii")


def test_the_compute_of_a_step_that_is_a_pipeline_is_that_of_the_steps_in_it() -> None:
    made = plan(
        {"sub": {"pipeline": {"steps": {"a": step(), "b": step(compute="x")}}, "compute": "gpu"}}
    )
    assert {one.name: one.compute for one in made.steps} == {"sub--a": "gpu", "sub--b": "x"}


def nested(**sub: Any) -> dict[str, Any]:
    return {**OUTER, "sub": {"pipeline": INNER, "inputs": {"data": f"artifact:{DATA}"}, **sub}}


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        (nested(inputs={}), "E_MISSING_INPUT steps.sub.inputs.data: a uri_folder without a value"),
        (
            nested(inputs={"data": f"artifact:{DATA}", "rate": 2}),
            "E_RANGE steps.sub.inputs.rate: 2; allowed: at most 1",
        ),
        (
            nested(outputs={"modl": "${{parent.outputs.x}}"}),
            "E_REF steps.sub.outputs.modl: the pipeline has no output 'x'",
        ),
        (nested(command="x"), "E_TYPE steps.sub.command: a step that is a pipeline has no command"),
        (
            {"s": {"pipeline": {"steps": {"a": step(inputs={"x": "${{parent.inputs.y}}"})}}}},
            "E_REF steps.s.pipeline.steps.a.inputs.x: the pipeline has no input 'y'",
        ),
        (
            {
                "s": {"pipeline": {"steps": {"a": step()}, "outputs": {"o": None}}},
                "t": step(inputs={"x": "${{parent.jobs.s.outputs.o}}"}),
            },
            "E_REF steps.t.inputs.x: no step of 's' makes its output 'o'",
        ),
        (
            {"s--a": step(), "s": {"pipeline": {"steps": {"a": step()}}}},
            "E_ID steps.s.pipeline.steps.a: 's--a' is already the name of steps.s--a",
        ),
        ({"a": {"component": "azureml:nobody:1"}}, "E_REF steps.a.component: 'azureml:nobody:1' is"),
    ],
)  # fmt: skip
def test_what_is_wrong_inside_is_told_with_its_place(steps: dict[str, Any], words: str) -> None:
    error = refusal(steps)
    assert f"{error.code} {error.where}: {error.message}".startswith(words)


def test_a_cycle_through_a_border_is_a_cycle() -> None:
    steps = {
        "sub": {"pipeline": INNER, "inputs": {"data": "${{parent.jobs.back.outputs.o}}"}},
        "back": step(inputs={"m": "${{parent.jobs.sub.outputs.model}}"}, outputs={"o": None}),
    }
    assert refusal(steps).code == "E_CYCLE"


def test_pipelines_without_end_are_refused() -> None:
    body: dict[str, Any] = {"steps": {"a": step()}}
    for _ in range(20):
        body = {"steps": {"a": {"pipeline": body}}}
    with pytest.raises(Invalid, match="21 pipelines within one another"):
        plan(body["steps"])


def test_an_optional_input_that_nobody_gives_takes_the_default_of_its_reader() -> None:
    made = plan(
        {"a": step("x ${{inputs.n}}", inputs={"n": {"type": "integer", "default": 7, "value": "${{parent.inputs.n}}"}})},
        inputs={"n": {"type": "integer", "optional": True}},
    )  # fmt: skip
    assert the_step("a", made).inputs == {"n": Bound(value=7)}


def test_files_are_what_they_are_whatever_their_reader_declares() -> None:
    made = plan(
        {
            "a": step(outputs={"o": {"type": "uri_file"}, "p": None}),
            "b": step(
                inputs={
                    "o": {"type": "uri_folder", "path": "${{parent.jobs.a.outputs.o}}"},
                    "p": {"type": "mltable", "path": "${{parent.jobs.a.outputs.p}}"},
                }
            ),
        }
    )
    assert {key: bound.type for key, bound in the_step("b", made).inputs.items()} == {
        "o": "uri_file",
        "p": "mltable",
    }


def test_inputs_may_name_their_run_and_the_time_of_its_creation() -> None:
    made = plan(
        {
            "a": step(
                "x ${{inputs.n}} ${{inputs.t}}",
                inputs={
                    "n": "at_${{ parent.inputs.n }}",
                    "t": {"type": "string", "value": "${{creation_context.trigger_time}}"},
                },
            )
        },
        {"m": "of ${{name}}"},
        inputs={"n": "${{name}}", "m": "none"},
    )
    assert the_step("a", made).inputs == {
        "n": Bound(value="at_r1"),
        "t": Bound(value="1970-01-01T00:00:00Z"),
    }
    assert made.head.parameters == {"n": "r1", "m": "of r1"}
