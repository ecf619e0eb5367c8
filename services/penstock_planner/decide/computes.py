"""Which compute target a step goes to when nobody has made the one that it names.

A pipeline from Azure ML names clusters that nobody here has created. By default its steps go to the default target,
and a note says so; a workspace that wants it strictly says `unknown_compute = refuse`, one whose executors come
and go without being registered says `wait`.
"""

from collections.abc import Collection
from typing import Literal

import msgspec

from penstock.contracts.computes import DEFAULT, Compute
from penstock.contracts.resources import check_labels, size_of
from penstock.errors import Invalid
from penstock_planner.decide.plan import Plan
from penstock_planner.decide.problems import nearest

Rule = Literal["default", "refuse", "wait"]
SHOWN_MAX = 5


def named(plan: Plan) -> frozenset[str]:
    """Return the targets that a plan's steps go to."""
    return frozenset(step.compute for step in plan.steps if step.given is None)


def placed(plan: Plan, known: Collection[str], rule: Rule) -> Plan:
    """Return the plan with steps of unknown targets where `rule` sends them.

    Raises:
        Invalid: E_REF, there is no such target, and the rule is to refuse.
    """
    unknown = sorted(named(plan) - {DEFAULT, *known})
    if not unknown or rule == "wait":
        return plan
    if rule == "refuse":
        first = next(step.name for step in plan.steps if step.compute == unknown[0])
        raise Invalid(
            f"no compute target {unknown[0][:63]!r}",
            code="E_REF",
            where=f"steps.{first}.compute",
            hint=nearest(unknown[0], known) or f"penstock compute create {unknown[0][:63]}",
        )
    notes: list[str] = []
    for target in unknown[:SHOWN_MAX]:
        count = sum(step.compute == target for step in plan.steps)
        notes.append(
            f"there is no compute target {target!r}, so {count} of its steps go to {DEFAULT!r}; "
            f"make it with: penstock compute create {target}"
        )
    lost = frozenset(unknown)
    steps = tuple(
        msgspec.structs.replace(step, compute=DEFAULT) if step.compute in lost else step
        for step in plan.steps
    )
    return Plan(plan.head, steps, (*plan.notes, *notes))


def checked_compute(compute: Compute) -> Compute:
    """Return a compute target that is sound.

    Raises:
        Invalid: E_RANGE or E_LIMIT.
    """
    size_of(compute.memory, "request.compute.memory")
    check_labels(compute.labels, "request.compute.labels")
    for name, value in (("slots", compute.slots), ("cores", compute.cores)):
        if not 0 <= value <= 1024:  # noqa: PLR2004 - as the executor's own settings
            raise Invalid(
                f"{value}; allowed: 0 to 1,024", code="E_RANGE", where=f"request.compute.{name}"
            )
    return compute
