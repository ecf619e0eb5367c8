"""From spec and request to plan: what is planned, what is refused, and with which words."""

import json
from itertools import pairwise
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.contracts.plans import (
    PART_BYTES_MAX,
    PART_STEPS_MAX,
    Bound,
    PlanHead,
    PlannedOutput,
    PlannedStep,
)
from penstock.contracts.requests import RunRequest
from penstock.contracts.spec import GitInfo
from penstock.errors import Invalid
from penstock_planner.decide.plan import Origin, Plan, checked, parts_of, planned
from penstock_planner.decide.reading import digest_and_bytes, spec_of

DATA = "a" * 64
CODE = "c" * 64


def step(command: str = "true", **fields: Any) -> dict[str, Any]:
    return {"command": command, **fields}


def plan(
    steps: dict[str, Any] | None = None,
    parameters: dict[str, Any] | None = None,
    *,
    request: dict[str, Any] | None = None,
    **spec: Any,
) -> Plan:
    body = {"name": "digits", "steps": {"a": step()} if steps is None else steps, **spec}
    asked = msgspec.convert({"parameters": parameters or {}, **(request or {})}, RunRequest)
    return planned(
        spec_of(json.dumps(body).encode(), stored=True), asked, Origin(run="r1", spec="s1")
    )


def refusal(*arguments: Any, **spec: Any) -> Invalid:
    with pytest.raises(Invalid) as caught:
        plan(*arguments, **spec)
    return caught.value


def the_step(name: str, made: Plan) -> PlannedStep:
    return next(step for step in made.steps if step.name == name)


# -- what is planned -------------------------------------------------------------------------------


def test_a_whole_pipeline_becomes_this_plan() -> None:
    made = plan(
        {
            "train": step(
                "train ${{ inputs.data }} ${{inputs.lr}} ${{outputs.model.path}}",
                code=f"artifact:{CODE}",
                inputs={
                    "data": {"path": "${{parent.jobs.prepare.outputs.clean}}", "mode": "RO_Mount"},
                    "lr": "${{parent.inputs.lr}}",
                    "title": "run_${{parent.inputs.lr}}_${{ inputs.n }}",
                },
                outputs={"model": "${{parent.outputs.model}}"},
                environment_variables={"LR": "${{parent.inputs.lr}}", "D": "${{inputs.data}}"},
                compute="${{parent.inputs.target}}",
                limits={"timeout": 60, "retries": 2, "retry_delay": 5},
                needs=["notify"],
                is_deterministic=False,
            ),
            "prepare": step(
                "prepare ${{inputs.raw}}",
                inputs={"raw": "${{parent.inputs.raw}}"},
                outputs={"clean": None, "report": {"type": "uri_file", "path": "x/y/report.html"}},
                hash_digest="b" * 64,
            ),
            "notify": step(),
        },
        {"lr": 0.5},
        request={"tags": {"b": "2"}, "experiment": "e", "who": "trigger/nightly", "priority": 7},
        tags={"a": "1", "b": "1"},
        inputs={
            "raw": {"type": "uri_folder", "path": f"artifact:{DATA}"},
            "lr": {"type": "number", "default": 0.1},
            "n": 3,
            "target": "gpu",
            "unset": {"type": "string", "optional": True},
        },
        outputs={"model": {"type": "mlflow_model"}, "best": None},
        settings={"default_compute": "azureml:cpu", "deadline": 3600},
        git={"commit": "abc"},
    )
    assert made == Plan(
        head=PlanHead(
            run="r1",
            pipeline="digits",
            spec="s1",
            experiment="e",
            tags={"a": "1", "b": "2"},
            parameters={"raw": f"artifact:{DATA}", "lr": 0.5, "n": 3, "target": "gpu"},
            outputs={"model": ("train", "model")},
            priority=7,
            deadline_s=3600,
            who="trigger/nightly",
            trigger="nightly",
            git=GitInfo(commit="abc"),
        ),
        steps=(
            PlannedStep(name="notify", command="true", compute="cpu"),
            PlannedStep(
                name="prepare",
                command="prepare ${{inputs.raw}}",
                code_digest="b" * 64,
                inputs={"raw": Bound(type="uri_folder", artifact=DATA)},
                outputs={
                    "clean": PlannedOutput(),
                    "report": PlannedOutput(type="uri_file", file="report.html"),
                },
                compute="cpu",
            ),
            PlannedStep(
                name="train",
                command="train ${{inputs.data}} ${{inputs.lr}} ${{outputs.model}}",
                code=CODE,
                code_digest=CODE,
                inputs={
                    "data": Bound(type="uri_folder", step="prepare", output="clean"),
                    "lr": Bound(value=0.5),
                    "title": Bound(value="run_0.5_3"),
                },
                outputs={"model": PlannedOutput(type="mlflow_model")},
                needs=("notify", "prepare"),
                environment_variables={"LR": "0.5", "D": "${{inputs.data}}"},
                compute="gpu",
                timeout_s=60,
                attempts_max=3,
                retry_delay_s=5,
                deterministic=False,
            ),
        ),
        notes=("outputs.best: no step makes it",),
    )


def test_jobs_is_another_word_for_steps() -> None:
    spec = spec_of(json.dumps({"jobs": {"a": step()}}).encode())
    assert list(spec.steps) == ["a"]


@pytest.mark.parametrize(
    ("declared", "given_", "value"),
    [
        ({"type": "integer"}, "20", 20),
        ({"type": "integer"}, 1.5, 1.5),
        ({"type": "number"}, "1e-3", 0.001),
        ({"type": "number"}, "2", 2),
        ({"type": "boolean"}, "True", True),
        ({"type": "boolean"}, "no", False),
        ({"type": "boolean"}, 1, True),
        ({"type": "string"}, 3, "3"),
        ({"type": "string"}, True, "True"),
        ({"type": "integer", "enum": [1, 2]}, "2", 2),
        ({"type": "number", "min": 0, "max": 1}, 1, 1),
        (3, "anything", "anything"),
        ({"default": 3}, 4, 4),
    ],
    ids=str,
)
def test_a_parameter_is_read_as_its_type_where_nothing_is_lost(
    declared: Any, given_: Any, value: Any
) -> None:
    made = plan(None, {"p": given_}, inputs={"p": declared})
    assert made.head.parameters == {"p": value}
    assert type(made.head.parameters["p"]) is type(value)


def test_a_whole_value_keeps_its_type_and_a_text_is_what_azure_writes() -> None:
    made = plan(
        {
            "a": step(
                inputs={
                    "whole": "${{parent.inputs.flag}}",
                    "text": "x_${{parent.inputs.flag}}",
                    "small": "${{parent.inputs.small}}!",
                }
            )
        },
        inputs={"flag": True, "small": {"type": "number", "default": "1e-3"}},
    )
    assert made.steps[0].inputs == {
        "whole": Bound(value=True),
        "text": Bound(value="x_True"),
        "small": Bound(value="0.001!"),
    }


def test_an_optional_input_without_a_value_is_left_out() -> None:
    made = plan(
        {
            "a": step(
                "run $[[--a ${{inputs.a}}]] $[[--b ${{inputs.b}}]] $[[--c ${{inputs.c}}]]",
                inputs={
                    "a": {"type": "string", "optional": True},
                    "b": None,
                    "c": "${{parent.inputs.c}}",
                },
            )
        },
        inputs={"c": {"type": "uri_file", "optional": True}},
    )
    assert made.steps[0].inputs == {}


def test_legacy_expressions_mean_their_modern_forms() -> None:
    made = plan(
        {
            "a": step(outputs={"o": {}}),
            "b": step(inputs={"x": "${{jobs.a.outputs.o}}", "y": "${{inputs.p}}"}),
        },
        inputs={"p": 1},
    )
    assert the_step("b", made).inputs == {
        "x": Bound(type="uri_folder", step="a", output="o"),
        "y": Bound(value=1),
    }


def test_a_pipeline_output_may_name_its_maker() -> None:
    made = plan(
        {"a": step(outputs={"o": {}})},
        outputs={"best": {"path": "${{parent.jobs.a.outputs.o}}"}, "far": {"path": "azureml://x"}},
    )
    assert made.head.outputs == {"best": ("a", "o")}
    assert made.notes == ("outputs.far: no step makes it",)


def test_force_rerun_refreshes_unless_reuse_is_off() -> None:
    forced = {"force_rerun": True}
    assert plan(settings=forced).head.reuse == "refresh"
    assert plan(request={"reuse": "off"}, settings=forced).head.reuse == "off"
    assert plan().head.reuse == "use"


def test_the_request_s_target_goes_before_the_pipeline_s_and_a_step_s_before_both() -> None:
    made = plan(
        {"a": step(), "b": step(compute="local"), "c": step(compute="azureml:c")},
        request={"compute": "mine"},
        settings={"default_compute": "cpu"},
    )
    assert [s.compute for s in made.steps] == ["mine", "default", "c"]


def test_registering_needs_no_values_and_finds_everything_else() -> None:
    spec = {
        "name": "digits",
        "inputs": {"data": {"type": "uri_folder"}, "n": {"type": "integer", "min": 5}},
        "steps": {"a": step("x ${{inputs.d}}", inputs={"d": "${{parent.inputs.data}}"})},
    }
    assert checked(spec_of(json.dumps(spec).encode())) == ()
    spec["steps"]["a"]["needs"] = ["b"]  # type: ignore[index]
    with pytest.raises(Invalid, match="no step 'b'"):
        checked(spec_of(json.dumps(spec).encode()))


# -- what is refused -------------------------------------------------------------------------------

DATA_INPUT = {"d": {"type": "uri_folder", "path": f"artifact:{DATA}"}}
NOT_A_NAME = (
    "is not a name; allowed: letters, digits, '_' and '-', at most 63, not beginning with '-'"
)
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("S09 cycle", {"steps": {"a": step(needs=["b"]), "b": step(needs=["a"])}}, "E_CYCLE steps: a -> b -> a (steps cannot wait for each other)"),
    ("S10 self", {"steps": {"a": step(needs=["a"])}}, "E_REF steps.a: a step cannot need itself"),
    ("S10 unknown", {"steps": {"train": step(), "b": step(needs=["trian"])}}, "E_REF steps.b.needs: no step 'trian' (did you mean 'train'?)"),
    ("edge to no step", {"steps": {"prep": step(), "b": step(inputs={"x": "${{parent.jobs.perp.outputs.o}}"})}}, "E_REF steps.b.inputs.x: no step 'perp' (did you mean 'prep'?)"),
    ("edge to no output", {"steps": {"a": step(outputs={"model": {}}), "b": step(inputs={"x": "${{parent.jobs.a.outputs.Model}}"})}}, "E_REF steps.b.inputs.x: step 'a' has no output 'Model' (did you mean 'model'?)"),
    ("no pipeline input", {"steps": {"a": step(inputs={"x": "${{parent.inputs.lrr}}"})}, "inputs": {"lr": 1}}, "E_REF steps.a.inputs.x: the pipeline has no input 'lrr' (did you mean 'lr'?)"),
    ("no step input", {"steps": {"a": step("${{inputs.dta}}", inputs={"data": 1})}}, "E_REF steps.a.command: the step has no input 'dta' (did you mean 'data'?)"),
    ("no step output", {"steps": {"a": step("${{outputs.modle}}", outputs={"model": {}})}}, "E_REF steps.a.command: the step has no output 'modle' (did you mean 'model'?)"),
    ("no pipeline output", {"steps": {"a": step(outputs={"o": "${{parent.outputs.y}}"})}, "outputs": {"x": {}}}, "E_REF steps.a.outputs.o: the pipeline has no output 'y' (known: x)"),
    ("S11 clash", {"steps": {"a": step(outputs={"o": "${{parent.outputs.m}}"}), "b": step(outputs={"o": "${{parent.outputs.m}}"})}, "outputs": {"m": {}}}, "E_OUTPUT_CLASH steps.b.outputs.o: pipeline output 'm' is already made by steps.a.outputs.o (declare a second pipeline output)"),
    ("S12 empty", {"steps": {}}, "E_EMPTY steps: no steps (a pipeline has at least one)"),
    ("S21 name", {"steps": {"a": step(environment_variables={"A=B": "1"})}}, "E_ENV steps.a.environment_variables.A=B: 'A=B' cannot name a variable; allowed: letters, digits and '_', not beginning with a digit"),
    ("S21 preload", {"steps": {"a": step(environment_variables={"LD_PRELOAD": "x"})}}, "E_ENV steps.a.environment_variables.LD_PRELOAD: LD_PRELOAD cannot be set by a step"),
    ("S21 ours", {"steps": {"a": step(environment_variables={"PENSTOCK_RUN_ID": "x"})}}, "E_ENV steps.a.environment_variables.PENSTOCK_RUN_ID: PENSTOCK_RUN_ID cannot be set by a step"),
    ("S23 default", {"inputs": {"p": {"type": "integer", "default": "many"}}}, "E_TYPE inputs.p: 'many' is no integer (write digits, such as 20)"),
    ("S24 look-alike", {"steps": {"tr\u0430in": step()}}, "E_ID steps.tr\u0430in: 'tr\u0430in' is not a name; allowed: letters, digits, '_' and '-', at most 63, not beginning with '-'"),
    ("name with dot", {"name": "a.b"}, "E_ID name: 'a.b' is not a name; allowed: letters, digits, '_' and '-', at most 63, not beginning with '-'"),
    ("missing", {"inputs": {"p": {"type": "number"}}}, "E_MISSING_INPUT inputs.p: required, and neither a value nor a default; allowed: a number (set it with -p p=…)"),
    ("missing data", {"inputs": {"p": {"type": "uri_file"}}}, "E_MISSING_INPUT inputs.p: required, and neither a value nor a default; allowed: artifact:<digest> (set it with -p p=…)"),
    ("local path", {"inputs": {"p": {"type": "uri_file", "path": "./data"}}}, "E_PATH inputs.p.path: './data' is not stored; allowed: artifact:<64 hexadecimal digits>, https:, azureml://datastores/D/paths/P (the command line and the SDK upload local paths at submission)"),
    ("local code", {"steps": {"a": step(code="./src")}}, "E_PATH steps.a.code: './src' is not stored; allowed: artifact:<64 hexadecimal digits> (the command line and the SDK upload source folders at submission)"),
    ("environment", {"steps": {"a": step(environment="azureml:env:1")}}, "E_ENVIRONMENT steps.a.environment: no environment 'azureml:env:1'; allowed: a registered one, a curated name, or its content: image, conda, pip, python (register it with: penstock environment create --file FILE; or leave it out, which is the executor's own interpreter)"),
    ("retries", {"steps": {"a": step(limits={"retries": 101})}}, "E_RANGE steps.a.limits.retries: 101; allowed: 0 to 100"),
    ("timeout", {"steps": {"a": step(limits={"timeout": -1})}}, "E_RANGE steps.a.limits.timeout: -1.0; allowed: 0 or more"),
    ("priority", {"request": {"priority": 101}}, "E_RANGE priority: 101; allowed: -100 to 100"),
    ("mode", {"steps": {"a": step(inputs={"x": {"path": f"artifact:{DATA}", "mode": "rw_mount"}})}}, "E_TYPE steps.a.inputs.x.mode: unknown mode 'rw_mount' (did you mean 'ro_mount'?)"),
    ("unknown expression", {"steps": {"a": step(inputs={"x": "${{foo.bar}}"})}}, "E_EXPRESSION steps.a.inputs.x: unknown expression ${{foo.bar}}; allowed: inputs.x, outputs.y, parent.inputs.x, parent.outputs.y, parent.jobs.n.outputs.y"),
    ("open braces", {"steps": {"a": step("echo ${{inputs.x")}}, "E_EXPRESSION steps.a.command: '${{' is never closed: ${{inputs.x (close it with '}}')"),
    ("open brackets", {"steps": {"a": step("echo $[[ x")}}, "E_EXPRESSION steps.a.command: '$[[' is never closed: $[[ x (close it with ']]')"),
    ("sweep", {"steps": {"a": step("${{search_space.lr}}")}}, "E_EXPRESSION steps.a.command: ${{search_space.lr}}: only the trial of a sweep has a search space"),
    ("data in text", {"steps": {"a": step(inputs={"x": "p/${{parent.inputs.d}}"})}, "inputs": DATA_INPUT}, "E_TYPE steps.a.inputs.x: ${{parent.inputs.d}} is files, not a text (hand it over as the whole value of an input and write ${{inputs.<name>}})"),
    ("output in text", {"steps": {"b": step(outputs={"o": {}}), "a": step(inputs={"x": "p/${{parent.jobs.b.outputs.o}}"})}}, "E_EXPRESSION steps.a.inputs.x: ${{parent.jobs.b.outputs.o}} cannot be part of a text; allowed there: literals of the pipeline (files are handed over as the whole value of an input)"),
    ("edge in command", {"steps": {"b": step(outputs={"o": {}}), "a": step("x ${{parent.jobs.b.outputs.o}}")}}, "E_EXPRESSION steps.a.command: ${{parent.jobs.b.outputs.o}} has no value here; allowed: ${{inputs.x}}, ${{outputs.y}} (declare an input or output of the step and name that)"),
    ("expression as value", {"steps": {"a": step("x ${{parent.inputs.p}}")}, "inputs": {"p": "${{inputs.secret}}"}}, "E_EXPRESSION steps.a.command: the value of ${{parent.inputs.p}} is an expression itself"),
    ("null input used", {"steps": {"a": step("x ${{inputs.p}}", inputs={"p": None})}}, "E_MISSING_INPUT steps.a.command: input 'p' has no value (give it one, or write $[[… ${{inputs.p}} …]] to leave the words out)"),
    ("output bound to nothing", {"steps": {"a": step(outputs={"o": "plain"})}}, "E_EXPRESSION steps.a.outputs.o: 'plain' binds nothing; allowed: ${{parent.outputs.<name>}} or nothing"),
    ("no command", {"steps": {"a": step(" ")}}, "E_EMPTY steps.a.command: no command (write what a shell would run)"),
    ("NUL", {"steps": {"a": step("x\x00y")}}, "E_TEXT steps.a.command: a NUL character (leave it out)"),
    ("long command", {"steps": {"a": step("x" * 100_000)}}, "E_TOO_LARGE steps.a.command: 100,000 bytes; allowed: 98,304 (put it into a script in the step's code)"),
    ("target", {"steps": {"a": step(compute="a.b")}}, "E_ID steps.a.compute: 'a.b' is not a name; allowed: letters, digits, '_' and '-', at most 63, not beginning with '-'"),
    ("long experiment", {"request": {"experiment": "x" * 300}}, "E_LIMIT experiment: 300 characters; allowed: 256"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "said"),
    [(fields, said) for _, fields, said in REFUSED],
    ids=[name for name, _, _ in REFUSED],
)
def test_a_bad_spec_is_refused_in_these_words(fields: dict[str, Any], said: str) -> None:
    assert str(refusal(**fields)) == said


@pytest.mark.parametrize(
    ("declared", "value", "said"),
    [
        ({"type": "integer"}, "x", "E_TYPE parameters.p: 'x' is no integer (write digits, such as 20)"),
        ({"type": "number"}, True, "E_TYPE parameters.p: True is no number (write a number, such as 0.001)"),
        ({"type": "number"}, "1e999", "E_TYPE parameters.p: '1e999' is no number (write a number, such as 0.001)"),
        ({"type": "boolean"}, 2, "E_TYPE parameters.p: 2 is no boolean (write true or false)"),
        ({"type": "integer", "min": 1}, 0, "E_RANGE parameters.p: 0; allowed: at least 1"),
        ({"type": "number", "max": 0.5}, "0.6", "E_RANGE parameters.p: 0.6; allowed: at most 0.5"),
        ({"type": "string", "enum": ["a", "b"]}, "c", "E_RANGE parameters.p: 'c'; allowed: a, b"),
        ({"type": "uri_folder"}, "./x", "E_PATH parameters.p: './x' is not stored; allowed: artifact:<64 hexadecimal digits>, https:, azureml://datastores/D/paths/P (the command line and the SDK upload local paths at submission)"),
    ],
)  # fmt: skip
def test_a_bad_parameter_is_refused_in_these_words(declared: Any, value: Any, said: str) -> None:
    assert str(refusal(None, {"p": value}, inputs={"p": declared})) == said


def test_an_unknown_parameter_names_the_nearest_one() -> None:
    error = refusal(None, {"learing_rate": 1}, inputs={"learning_rate": 1, "other": 2})
    assert str(error) == (
        "E_PARAM parameters.learing_rate: no such input (did you mean 'learning_rate'?)"
    )


def test_everything_that_is_wrong_is_told_at_once() -> None:
    error = refusal({"a": step(needs=["b"]), "c": step("", compute="x.y")}, {"p": 1})
    assert (error.code, error.where, error.hint) == (
        "E_PARAM",
        "parameters.p",
        "4 problems in all",
    )
    assert error.message.splitlines()[1:] == [
        "also:",
        "  E_REF steps.a.needs: no step 'b' (known: a, c)",
        "  E_EMPTY steps.c.command: no command (write what a shell would run)",
        f"  E_ID steps.c.compute: 'x.y' {NOT_A_NAME}",
    ]


def test_a_thousand_problems_make_a_short_message() -> None:
    error = refusal({f"s{n}": step(needs=[f"x{n}"]) for n in range(1000)})
    assert error.hint == "1,000 problems in all"
    assert len(error.message) < 4000
    assert error.message.endswith("and 980 more")


def test_large_parameters_are_refused_with_the_way_out() -> None:
    made = plan(None, {"p": "x" * 200_000}, inputs={"p": ""})
    with pytest.raises(Invalid) as caught:
        parts_of(made.head, made.steps)
    assert caught.value.code == "E_TOO_LARGE"
    assert "artifact:<digest>" in caught.value.hint


def test_a_chain_of_5000_steps_is_planned_and_its_cycle_is_found() -> None:
    chain = {f"s{n:04}": step(needs=[f"s{n - 1:04}"] if n else []) for n in range(5000)}
    assert [s.name for s in plan(chain).steps] == sorted(chain)
    chain["s0000"]["needs"] = ["s4999"]
    error = refusal(chain)
    assert error.code == "E_CYCLE"
    assert error.message.startswith("s0000 -> s0001 -> ")
    assert error.message.endswith(" -> s4999 -> s0000")
    assert len(error.message) < 200


def test_a_step_more_than_allowed_is_refused() -> None:
    error = refusal({f"s{n}": step() for n in range(100_001)})
    assert str(error) == "E_LIMIT steps: 100,001; allowed: 100,000"


def test_the_digest_of_a_spec_does_not_depend_on_git_or_the_order_of_keys() -> None:
    one = spec_of(b'{"name":"x","steps":{"a":{"command":"1"},"b":{"command":"2"}}}')
    two = spec_of(
        b'{"git":{"commit":"c"},"steps":{"b":{"command":"2"},"a":{"command":"1"}},"name":"x"}'
    )
    assert digest_and_bytes(one) == digest_and_bytes(two)


# -- parts -----------------------------------------------------------------------------------------


def test_parts_are_cut_by_number_and_by_bytes_and_keep_every_step() -> None:
    many = plan({f"s{n:04}": step() for n in range(1201)})
    parts = parts_of(many.head, many.steps)
    assert [len(part.steps) for part in parts] == [500, 500, 201]
    heavy = plan({f"s{n:02}": step("x" * 90_000) for n in range(20)})
    parts = parts_of(heavy.head, heavy.steps)
    assert sum((part.steps for part in parts), ()) == heavy.steps
    assert all(len(msgspec.json.encode(part)) <= PART_BYTES_MAX for part in parts)
    assert all(len(part.steps) <= PART_STEPS_MAX for part in parts)
    assert [part.part for part in parts] == list(range(len(parts)))
    assert {part.parts for part in parts} == {len(parts)}


# -- for any graph ---------------------------------------------------------------------------------


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a pipeline whose steps need only steps drawn before, by data or by order."""
    names = draw(
        st.lists(
            st.from_regex(r"[a-z_][a-z0-9_-]{0,8}", fullmatch=True),
            unique=True,
            min_size=1,
            max_size=12,
        )
    )
    steps: dict[str, Any] = {}
    for at, name in enumerate(names):
        before = st.lists(st.sampled_from(names[:at]), unique=True) if at else st.just([])
        steps[name] = step(
            f"do {name}",
            outputs={"o": {}},
            needs=draw(before),
            inputs={f"i_{n}": f"${{{{parent.jobs.{n}.outputs.o}}}}" for n in draw(before)},
        )
    return steps


@given(graphs())
@settings(max_examples=150, deadline=None)
def test_every_step_comes_after_its_needs(steps: dict[str, Any]) -> None:
    made = plan(steps)
    seen: set[str] = set()
    for one in made.steps:
        assert set(one.needs) <= seen
        assert {b.step for b in one.inputs.values()} <= set(one.needs)
        seen.add(one.name)
    assert seen == set(steps)


@given(graphs(), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_a_plan_does_not_depend_on_the_order_of_mappings(
    steps: dict[str, Any], random: Random
) -> None:
    shuffled = list(steps.items())
    random.shuffle(shuffled)
    assert plan(dict(shuffled)) == plan(steps)


@given(graphs(), st.data())
@settings(max_examples=100, deadline=None)
def test_an_edge_back_makes_a_cycle_that_is_one(steps: dict[str, Any], data: st.DataObject) -> None:
    last = data.draw(st.sampled_from(sorted(steps)))
    first = data.draw(st.sampled_from(sorted(steps)))
    steps[first]["needs"] = [*steps[first]["needs"], last]
    steps[last]["needs"] = [*steps[last]["needs"], first]
    error = refusal(steps)
    if first == last:
        assert error.code == "E_REF"
        return
    assert error.code == "E_CYCLE"
    if "more)" not in error.message:
        walk = error.message.split(" -> ")
        assert walk[0] == walk[-1]
        for earlier, later in pairwise(walk):
            made_by = {f"${{{{parent.jobs.{earlier}.outputs.o}}}}"}
            assert earlier in steps[later]["needs"] or made_by & set(
                steps[later]["inputs"].values()
            )
