"""A new run from an earlier one: what is taken over as it is, and what runs again."""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from penstock.contracts.fingerprints import parts_of as fingerprint_parts_of
from penstock.contracts.plans import Given, PlannedStep
from penstock.contracts.queries import StepView
from penstock.errors import Invalid
from penstock_planner.decide.graph import behind_each, closure
from penstock_planner.decide.plan import needs_of
from penstock_planner.decide.problems import Problems, shown

KEPT = ("succeeded", "reused")


def steps_named(from_: str | Sequence[str], steps: Sequence[PlannedStep]) -> tuple[str, ...]:
    """Return the steps a rerun names; none for "failed".

    Raises:
        Invalid: E_REF, a step that the run does not have; E_EMPTY, an empty list.
    """
    if from_ == "failed":
        return ()
    names = (from_,) if isinstance(from_, str) else tuple(from_)
    known = {step.name for step in steps}
    problems = Problems()
    for name in names:
        if name not in known:
            problems.add_unknown("E_REF", "request.from", f"no step {shown(name)}", name, known)
    problems.refuse()
    if not names:
        raise Invalid(
            "no steps; allowed: failed, start, or a list of steps",
            code="E_EMPTY",
            where="request.from",
        )
    return names


def steps_to_run(
    from_: str | Sequence[str],
    old: Sequence[PlannedStep],
    new: Sequence[PlannedStep],
    views: Mapping[str, StepView],
) -> set[str]:
    """Return the steps that run again: named or not ended well or changed, and all behind them.

    `old` and `new` are the plans with the earlier run's parameters and with the new ones.

    Raises:
        Invalid: as `steps_named`.
    """
    starts = set(steps_named(from_, new))
    before = {step.name: step for step in old}
    for step in new:
        view = views.get(step.name)
        ended_well = view is not None and view.state in KEPT
        complete = view is not None and not set(step.outputs) - set(view.outputs)
        same = step.name in before and _own_parts(before[step.name]) == _own_parts(step)
        if not (ended_well and complete and same):
            starts.add(step.name)
    return closure(starts, behind_each(needs_of(new)))


def with_given(
    steps: Sequence[PlannedStep],
    run: str,
    views: Mapping[str, StepView],
    rerun: set[str],
    named: Collection[str] = (),
) -> tuple[PlannedStep, ...]:
    """Return a plan in which everything not in `rerun` carries the results of the earlier run.

    `named`: what runs again although nothing may have changed.
    """
    return tuple(
        msgspec.structs.replace(step, fresh=step.name in named)
        if step.name in rerun
        else msgspec.structs.replace(step, given=_given(run, step, views[step.name]))
        for step in steps
    )


def _given(run: str, step: PlannedStep, view: StepView) -> Given:
    return Given(
        run=view.reused_from or run,
        outputs={name: view.outputs[name].digest for name in step.outputs},
        metrics=view.metrics,
        fingerprint=view.fingerprint,
        logs=view.logs.digest if view.logs else "",
    )


def _own_parts(step: PlannedStep) -> dict[str, str]:
    """Return the parts of a fingerprint that do not depend on what other steps made."""
    return fingerprint_parts_of(
        step, {name: f"{b.step}/{b.output}" for name, b in step.inputs.items() if b.step}
    )
