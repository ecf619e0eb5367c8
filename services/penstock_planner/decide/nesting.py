"""Pipelines within a pipeline: their steps become steps of the run, behind a barrier.

As in Azure ML a step in it starts only when everything that makes an input of the inner pipeline is
there, whether its own body uses that input or not. Data goes straight from the step that makes it to the
step that reads it; the border between two pipelines costs nothing.
"""

from collections.abc import Iterator

from penstock.contracts.components import filled_inputs
from penstock.contracts.plans import PlannedStep
from penstock.contracts.spec import StepSpec
from penstock_planner.decide.draft import Draft
from penstock_planner.decide.steps import (
    bound_inputs,
    bound_step,
    compute_of,
    named_needs,
)


def bound_steps(
    draft: Draft, compute: str, before: frozenset[str] = frozenset()
) -> Iterator[PlannedStep]:
    """Iterate over the steps of the run that a pipeline consists of; all of them need those `before`."""
    for name, step in draft.spec.steps.items():
        inner = draft.inner.get(name)
        if inner is None:
            yield bound_step(name, step, draft, compute, before)
        else:
            where = f"{draft.place}steps.{name}"
            border = before | _opened(name, step, inner, draft)
            yield from bound_steps(inner, compute_of(step, where, draft) or compute, border)


def _opened(name: str, step: StepSpec, inner: Draft, draft: Draft) -> frozenset[str]:
    """Give an inner pipeline its inputs; return the steps of the run that it waits for."""
    where = f"{draft.place}steps.{name}"
    for field in ("command", "component", "code"):
        if getattr(step, field):
            draft.problems.add(
                "E_TYPE", f"{where}.{field}", f"a step that is a pipeline has no {field}"
            )
    inputs = bound_inputs(filled_inputs(inner.spec.inputs, step.inputs), where, draft)
    inner.given.values.update(
        (key, bound) for key, bound in inputs.items() if key in inner.spec.inputs
    )
    feeding = {bound.step for bound in inputs.values() if bound is not None and bound.step}
    return frozenset(feeding | named_needs(step, where, draft))
