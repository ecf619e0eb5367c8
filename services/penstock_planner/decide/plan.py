"""From a spec and a request to a plan, or to one refusal that tells everything that is wrong."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from penstock.contracts.components import NESTING_MAX, depth_of
from penstock.contracts.plans import (
    PART_BYTES_MAX,
    PART_STEPS_MAX,
    PlanHead,
    PlannedStep,
    PlanPart,
)
from penstock.contracts.requests import Reuse, RunRequest
from penstock.contracts.spec import STEPS_MAX, GitInfo, PipelineSpec
from penstock.errors import Invalid
from penstock.units import KIB
from penstock_planner.decide.creation import filled_in, filled_in_values
from penstock_planner.decide.draft import Draft, declare
from penstock_planner.decide.environments import Environments
from penstock_planner.decide.graph import cycle_of, cycle_text, order_of
from penstock_planner.decide.nesting import bound_steps
from penstock_planner.decide.parameters import check_name, given
from penstock_planner.decide.places import ANYWHERE, Places
from penstock_planner.decide.problems import Problems, shown
from penstock_planner.decide.steps import DEFAULT_TARGET, target_of
from penstock_planner.decide.transfers import datastore_of, with_transfers

PRIORITY_MAX = 100
TEXT_MAX = 256
"""Characters of a display name, an experiment, or a word about who asked."""
HEAD_BYTES_MAX = 128 * KIB
"""Every part of a plan carries the head, so the head stays small."""
NAME_DEFAULT = "unnamed"

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Origin:
    """What is known of a run besides its spec and its request."""

    run: str
    spec: str = ""
    """Digest of the spec."""
    version: str = ""
    requested_at: float = 0
    rerun_of: str = ""
    traceparent: str = ""
    git: GitInfo | None = None
    """Of a registered pipeline; None: the spec's own."""
    places: Places = ANYWHERE
    """The workspace's datastores."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A run, planned: steps come after what they need; `notes` are warnings."""

    head: PlanHead
    steps: tuple[PlannedStep, ...]
    notes: tuple[str, ...] = ()


def planned(
    spec: PipelineSpec,
    request: RunRequest,
    origin: Origin,
    environments: Environments | None = None,
) -> Plan:
    """Return the plan of a run; `environments` is what names of environments mean.

    Raises:
        Invalid: the first thing that is wrong; its message lists everything else that is.
    """
    return _planned(spec, request, origin, environments or Environments(), complete=True)


def checked(
    spec: PipelineSpec, environments: Environments | None = None, places: Places = ANYWHERE
) -> tuple[str, ...]:
    """Return warnings about a spec that is to be registered; inputs need no values yet.

    Raises:
        Invalid: as `planned`.
    """
    origin = Origin(run="", places=places)
    plan = _planned(spec, RunRequest(), origin, environments or Environments(), complete=False)
    return plan.notes


def parts_of(head: PlanHead, steps: Sequence[PlannedStep]) -> tuple[PlanPart, ...]:
    """Return a plan in parts of at most PART_STEPS_MAX steps and PART_BYTES_MAX bytes.

    Raises:
        Invalid: E_TOO_LARGE, when the head or a single step does not fit.
    """
    head_bytes = len(msgspec.json.encode(head))
    if head_bytes > HEAD_BYTES_MAX:
        raise Invalid(
            f"parameters, tags and names of {head_bytes:,} bytes; allowed: {HEAD_BYTES_MAX:,}",
            code="E_TOO_LARGE",
            where="parameters",
            hint="store large values as artifacts and hand over artifact:<digest>",
        )
    room = PART_BYTES_MAX - head_bytes - KIB  # a little for what stands around head and steps
    groups: list[list[PlannedStep]] = [[]]
    used = 0
    for step in steps:
        size = len(msgspec.json.encode(step)) + 1
        if size > room:
            raise Invalid(
                f"{size:,} bytes; allowed: {room:,}",
                code="E_TOO_LARGE",
                where=f"steps.{step.name}",
                hint="hand large values over as artifacts, not as text",
            )
        if groups[-1] and (used + size > room or len(groups[-1]) >= PART_STEPS_MAX):
            groups.append([])
            used = 0
        groups[-1].append(step)
        used += size
    return tuple(
        PlanPart(head=head, part=number, parts=len(groups), steps=tuple(group))
        for number, group in enumerate(groups)
    )


def _planned(
    spec: PipelineSpec,
    request: RunRequest,
    origin: Origin,
    environments: Environments,
    *,
    complete: bool,
) -> Plan:
    problems = Problems()
    _check_size(spec, problems)
    problems.refuse()
    _check_request(spec, request, problems)
    spec = filled_in(spec, origin.run, origin.requested_at)
    parameters = filled_in_values(request.parameters, origin.run)
    draft = Draft(
        spec=spec,
        given=given(spec, parameters, problems, complete=complete, places=origin.places),
        problems=problems,
        environments=environments,
        places=origin.places,
        run=origin.run,
        datastore=datastore_of(spec, problems),
    )
    declare(draft)
    compute = _default_compute(spec, request, draft)
    steps = with_transfers({step.name: step for step in bound_steps(draft, compute)}, draft)
    needs = {name: step.needs for name, step in steps.items()}
    cycle = cycle_of(needs)
    if cycle:
        problems.add("E_CYCLE", "steps", cycle_text(cycle), "steps cannot wait for each other")
    problems.refuse()
    head = _head(spec, request, origin, draft)
    return Plan(head, tuple(steps[name] for name in order_of(needs)), tuple(_notes(draft)))


def _head(spec: PipelineSpec, request: RunRequest, origin: Origin, draft: Draft) -> PlanHead:
    return PlanHead(
        run=origin.run,
        pipeline=spec.name,
        version=origin.version,
        spec=origin.spec,
        experiment=request.experiment or spec.experiment,
        display_name=request.name or spec.display_name,
        tags={**spec.tags, **request.tags},
        parameters=draft.given.scalars(),
        outputs=draft.bound_outputs,
        reuse=reuse_of(spec, request),
        priority=request.priority,
        continue_on_step_failure=spec.settings.continue_on_step_failure,
        deadline_s=request.deadline or spec.settings.deadline,
        requested_at=origin.requested_at,
        who=request.who,
        git=spec.git if origin.git is None else origin.git,
        rerun_of=origin.rerun_of,
        traceparent=origin.traceparent,
        trigger=request.who.removeprefix("trigger/") if request.who.startswith("trigger/") else "",
    )


def reuse_of(spec: PipelineSpec, request: RunRequest) -> Reuse:
    """Return how a run reuses: as requested; Azure's `force_rerun` turns "use" into "refresh"."""
    return "refresh" if spec.settings.force_rerun and request.reuse == "use" else request.reuse


def _check_size(spec: PipelineSpec, problems: Problems) -> None:
    if not spec.steps:
        problems.add("E_EMPTY", "steps", "no steps", "a pipeline has at least one")
    depth = depth_of(spec)
    if depth > NESTING_MAX:
        problems.add(
            "E_LIMIT",
            "steps",
            f"{depth:,} pipelines within one another; allowed: {NESTING_MAX}",
            "does a component contain itself?",
        )
        return
    count = _count_of(spec)
    if count > STEPS_MAX:
        problems.add("E_LIMIT", "steps", f"{count:,}; allowed: {STEPS_MAX:,}")


def _count_of(spec: PipelineSpec) -> int:
    return sum(
        1 if step.pipeline is None else _count_of(step.pipeline) for step in spec.steps.values()
    )


def _check_request(spec: PipelineSpec, request: RunRequest, problems: Problems) -> None:
    check_name(spec.name, "name", problems)
    if not -PRIORITY_MAX <= request.priority <= PRIORITY_MAX:
        problems.add(
            "E_RANGE",
            "priority",
            f"{request.priority}; allowed: -{PRIORITY_MAX} to {PRIORITY_MAX}",
        )
    deadlines = {"settings.deadline": spec.settings.deadline, "deadline": request.deadline}
    for where, deadline in deadlines.items():
        if not (deadline >= 0 and math.isfinite(deadline)):
            problems.add("E_RANGE", where, f"{deadline}; allowed: 0 or more")
    texts: Mapping[str, str] = {
        "experiment": request.experiment or spec.experiment,
        "display_name": request.name or spec.display_name,
        "who": request.who,
    }
    for where, text in texts.items():
        if len(text) > TEXT_MAX:
            problems.add("E_LIMIT", where, f"{len(text):,} characters; allowed: {TEXT_MAX}")
        elif _CONTROL.search(text):
            problems.add("E_TEXT", where, f"control characters in {shown(text)}")
    for key, value in {**spec.tags, **request.tags}.items():
        if "\x00" in key or "\x00" in value:
            problems.add("E_TEXT", "tags", f"a NUL character in {shown(key)}")


def _default_compute(spec: PipelineSpec, request: RunRequest, draft: Draft) -> str:
    asked = target_of(request.compute, "compute", draft.problems)
    own = target_of(spec.settings.default_compute, "settings.default_compute", draft.problems)
    return asked or own or DEFAULT_TARGET


def _notes(draft: Draft) -> list[str]:
    unmade = [name for name in draft.spec.outputs if name not in draft.bound_outputs]
    few = 10
    notes = draft.notes[:few]
    notes += [f"outputs.{name}: no step makes it" for name in unmade[:few]]
    return notes


def needs_of(steps: Sequence[PlannedStep]) -> dict[str, tuple[str, ...]]:
    """Return the graph of a plan: step → what it needs."""
    return {step.name: step.needs for step in steps}
