"""What would be reused, and what a rerun takes over."""

from typing import Any

import pytest

from penstock.contracts.artifacts import TreeRef
from penstock.contracts.plans import Bound, Given, PlannedOutput, PlannedStep
from penstock.contracts.queries import LatestEntry, ReuseEntry, StepView
from penstock.contracts.requests import Reuse
from penstock.errors import Invalid
from penstock_planner.decide.forecast import Found, asked, completed, foresee, outlook_of
from penstock_planner.decide.rerun import steps_to_run, with_given

CLEAN, MODEL = "1" * 64, "2" * 64


def chain(**changes: dict[str, Any]) -> tuple[PlannedStep, ...]:
    """Return prepare → train → report, and `other` beside them."""

    def one(name: str, needs: tuple[str, ...] = (), **fields: Any) -> PlannedStep:
        known: dict[str, Any] = {
            "command": name,
            "outputs": {"o": PlannedOutput()},
            "needs": needs,
            "inputs": {n: Bound(type="uri_folder", step=n, output="o") for n in needs},
        }
        return PlannedStep(name=name, **(known | fields | changes.get(name, {})))

    return (
        one("other"),
        one("prepare"),
        one("train", ("prepare",)),
        one("report", ("train",)),
    )


def done(run: str, digest: str) -> ReuseEntry:
    return ReuseEntry(run=run, step="x", outputs={"o": TreeRef(digest=digest)}, ended_at=1)


def forecast(
    steps: tuple[PlannedStep, ...], answers: dict[str, Found], reuse: Reuse = "use"
) -> list[tuple[str, str, str]]:
    outlook = outlook_of(steps, reuse)
    nearer = list(outlook.steps)
    while questions := asked(nearer, outlook):
        found = [(question, answers.get(question.step, Found())) for question in questions]
        nearer = foresee(outlook, found)
    return [(f.step, f.decision, f.reason) for f in completed(outlook)]


def test_what_is_known_is_reused_and_what_waits_for_a_run_is_unknown() -> None:
    parts = {"code": "none", "command": "traim", "environment": "none", "kind": "command/1"}
    parts |= {"input:prepare": CLEAN, "output:o": "uri_folder"}
    latest = LatestEntry(run="r0", fingerprint="f", parts=parts)
    answers = {"prepare": Found(entry=done("r1", CLEAN)), "train": Found(latest=latest)}
    assert forecast(chain(), answers) == [
        ("other", "run", "first run of this step"),
        ("prepare", "reuse", "same as run r1"),
        ("train", "run", "command changed: traim → train"),
        ("report", "unknown", "depends on what train will make"),
    ]


def test_everything_is_reused_when_everything_is_known() -> None:
    answers = {
        name: Found(entry=done("r1", CLEAN)) for name in ("prepare", "train", "report", "other")
    }
    assert {decision for _, decision, _ in forecast(chain(), answers)} == {"reuse"}


def test_a_long_chain_is_foreseen_step_by_step_without_looking_back() -> None:
    steps = tuple(
        PlannedStep(
            name=f"s{n}",
            command="x",
            outputs={"o": PlannedOutput()},
            inputs={"i": Bound(type="uri_folder", step=f"s{n - 1}", output="o")} if n else {},
        )
        for n in range(3000)
    )
    known = {step.name: Found(entry=done("r1", CLEAN)) for step in steps}
    assert len(forecast(steps, known)) == 3000


@pytest.mark.parametrize(
    ("changes", "reuse", "found", "expected"),
    [
        ({}, "off", Found(entry=done("r1", CLEAN)), ("run", "reuse is off in this run")),
        ({}, "refresh", Found(entry=done("r1", CLEAN)), ("run", "this run refreshes results")),
        ({"prepare": {"deterministic": False}}, "use", Found(entry=done("r1", CLEAN)), ("run", "the step is not deterministic")),
        ({}, "use", Found(gone=True, latest=LatestEntry(run="r1", fingerprint="")), ("run", "same as run r1, but its outputs no longer exist")),
        ({}, "use", Found(entry=ReuseEntry(run="r9", step="prepare")), ("unknown", "an equal step is running in run r9")),
    ],
)  # fmt: skip
def test_a_step_that_is_not_reused_says_why(
    changes: Any, reuse: Reuse, found: Found, expected: tuple[str, str]
) -> None:
    told = {s: (d, r) for s, d, r in forecast(chain(**changes), {"prepare": found}, reuse)}
    assert told["prepare"] == expected
    assert told["train"][0] == "unknown"


def views(**states: str) -> dict[str, StepView]:
    return {
        name: StepView(
            step=name,
            state=state,  # type: ignore[arg-type]
            outputs={"o": TreeRef(digest=CLEAN)} if state in ("succeeded", "reused") else {},
            metrics={"m": 1},
            fingerprint="f",
            logs=TreeRef(digest=MODEL),
            reused_from="r0" if state == "reused" else None,
        )
        for name, state in states.items()
    }


ENDED = {"other": "succeeded", "prepare": "reused", "train": "failed", "report": "skipped"}


def test_from_failed_keeps_what_ended_well() -> None:
    steps = chain()
    rerun = steps_to_run("failed", steps, steps, views(**ENDED))
    assert rerun == {"train", "report"}
    given = {s.name: s.given for s in with_given(steps, "r1", views(**ENDED), rerun)}
    assert given == {
        "other": Given(run="r1", outputs={"o": CLEAN}, metrics={"m": 1}, fingerprint="f", logs=MODEL),
        "prepare": Given(run="r0", outputs={"o": CLEAN}, metrics={"m": 1}, fingerprint="f", logs=MODEL),
        "train": None,
        "report": None,
    }  # fmt: skip


ALL = {"other": "succeeded", "prepare": "succeeded", "train": "succeeded", "report": "succeeded"}


def test_from_named_steps_runs_them_and_everything_behind() -> None:
    steps = chain()
    assert steps_to_run(("prepare",), steps, steps, views(**ALL)) == {"prepare", "train", "report"}
    assert steps_to_run("report", steps, steps, views(**ALL)) == {"report"}


def test_only_the_named_steps_run_whatever_was_done_before() -> None:
    steps = chain()
    rerun = steps_to_run(("prepare",), steps, steps, views(**ALL))
    plan = with_given(steps, "r1", views(**ALL), rerun, ("prepare",))
    assert {s.name: (s.fresh, s.given is None) for s in plan} == {
        "other": (False, False),
        "prepare": (True, True),
        "train": (False, True),
        "report": (False, True),
    }


def test_from_failed_with_nothing_failed_runs_nothing() -> None:
    assert steps_to_run("failed", chain(), chain(), views(**ALL)) == set()


def test_a_changed_parameter_runs_what_it_reaches_and_everything_behind() -> None:
    new = chain(train={"environment_variables": {"LR": "0.2"}})
    assert steps_to_run("failed", chain(), new, views(**ALL)) == {"train", "report"}


def test_a_step_whose_outputs_are_gone_runs_again() -> None:
    known = views(**ALL)
    del known["train"]
    assert steps_to_run("failed", chain(), chain(), known) == {"train", "report"}


def test_a_step_that_does_not_exist_is_refused() -> None:
    with pytest.raises(Invalid) as caught:
        steps_to_run(("trian",), chain(), chain(), views(**ALL))
    assert str(caught.value) == "E_REF request.from: no step 'trian' (did you mean 'train'?)"
    with pytest.raises(Invalid, match="no steps"):
        steps_to_run((), chain(), chain(), views(**ALL))
