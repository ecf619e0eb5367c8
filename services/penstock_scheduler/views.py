"""Runs as people see them, folded from their events alone. Pure, and the same on every replica."""

from dataclasses import dataclass, field

import msgspec

from penstock.contracts.events import RunEvent, StepEvent
from penstock.contracts.queries import (
    RunState,
    RunView,
    StepState,
    StepView,
    WhyAnswer,
)

_RUN_STATES: dict[str, RunState] = {
    "accepted": "queued",
    "refused": "failed",
    "started": "running",
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
}
_STEP_STATES: dict[str, StepState] = {
    "reused": "reused",
    "queued": "queued",
    "started": "running",
    "retrying": "ready",
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
    "skipped": "skipped",
}


@dataclass(slots=True)
class Folded:
    """A run so far. `sequence` is the last event's place in its stream."""

    run: str
    head: RunEvent | None = None
    """run.accepted, or run.refused."""
    state: RunState = "queued"
    end: RunEvent | None = None
    steps: dict[str, StepView] = field(default_factory=dict)
    seq: int = 0
    sequence: int = 0
    last_at: float = 0


def fold(folded: Folded, event: RunEvent | StepEvent, sequence: int) -> None:
    """Take in the next event. One that has been taken in before changes nothing."""
    folded.sequence = sequence
    if event.seq <= folded.seq:
        return
    folded.seq = event.seq
    folded.last_at = event.at
    if isinstance(event, StepEvent):
        before = folded.steps.get(event.step) or StepView(step=event.step)
        folded.steps[event.step] = _step(before, event)
        return
    folded.state = _RUN_STATES.get(event.what, folded.state)
    if event.what in ("accepted", "refused"):
        folded.head = event
        for step, needs in event.graph.items():
            folded.steps[step] = StepView(step=step, needs=needs)
    if event.what in ("refused", "succeeded", "failed", "cancelled"):
        folded.end = event


def view_of(folded: Folded, *, first: int = 0, limit: int = 0) -> RunView:
    """Return the run with `limit` of its steps from the `first` on."""
    head = folded.head or RunEvent(
        seq=0, run=folded.run, pipeline="", what="accepted", at=folded.last_at
    )
    end = folded.end
    seconds = end.seconds if end is not None else max(0.0, folded.last_at - head.at)
    steps = tuple(folded.steps.values())
    return RunView(
        run=folded.run,
        pipeline=head.pipeline,
        state=folded.state,
        seconds=seconds,
        parameters=head.parameters,
        metrics=metrics_of(folded),
        outputs=end.outputs if end is not None else {},
        steps=steps[first : first + limit] if limit else (),
        steps_total=max(head.steps, len(steps)),
        version=head.version,
        spec=head.spec,
        experiment=head.experiment,
        display_name=head.display_name,
        tags=head.tags,
        who=head.who,
        trigger=head.trigger,
        rerun_of=head.rerun_of,
        reuse=head.reuse,
        git=head.git,
        reason=_reason(end),
        accepted_at=head.at,
        ended_at=end.at if end is not None else 0,
        last_seq=folded.seq,
    )


def metrics_of(folded: Folded) -> dict[str, object]:
    """Return all steps' metrics; a name that two steps use is prefixed with its step."""
    uses: dict[str, int] = {}
    for step in folded.steps.values():
        for name in step.metrics:
            uses[name] = uses.get(name, 0) + 1
    return {
        name if uses[name] == 1 else f"{step.step}.{name}": value
        for step in folded.steps.values()
        for name, value in step.metrics.items()
    }


def why_of(folded: Folded, step: StepView) -> WhyAnswer:
    """Return why a step was reused, or why not."""
    return WhyAnswer(
        run=folded.run,
        step=step.step,
        reused=step.state == "reused",
        reason=step.reason or _NOT_DECIDED.get(step.state, ""),
        compared_with=step.compared_with,
        parts=step.parts,
        fingerprint=step.fingerprint,
        reused_from=step.reused_from or "",
    )


_NOT_DECIDED = {
    "waiting": "not decided yet: the step waits for its needs",
    "cancelled": "never decided: the run was cancelled before",
}


def _reason(end: RunEvent | None) -> str:
    if end is None:
        return ""
    if end.reason:
        return end.reason
    return end.error.message if end.error is not None else ""


def _step(view: StepView, event: StepEvent) -> StepView:
    """Return the step one event later."""
    state = _STEP_STATES.get(event.what, view.state)
    match event.what:
        case "queued":
            # Only the first attempt's event says why the step was not reused.
            first = event.attempt <= 1
            return msgspec.structs.replace(
                view,
                state=state,
                target=event.target or view.target,
                fingerprint=event.fingerprint or view.fingerprint,
                reason=event.reason if first else view.reason,
                compared_with=event.compared_with if first else view.compared_with,
                parts=event.parts if first else view.parts,
                queued_at=event.at,
            )
        case "started":
            return msgspec.structs.replace(
                view,
                state=state,
                attempts=max(view.attempts, event.attempt),
                executor=event.executor,
                target=event.target or view.target,
                started_at=event.at,
                overdue_at=0,
                expected_s=0,
            )
        case "overdue":
            return msgspec.structs.replace(view, overdue_at=event.at, expected_s=event.expected_s)
        case "reused":
            return msgspec.structs.replace(
                view,
                state=state,
                fingerprint=event.fingerprint,
                reason=event.reason,
                compared_with=event.compared_with,
                parts=event.parts,
                reused_from=event.reused_from,
                outputs=event.outputs,
                logs=event.logs,
                metrics=event.metrics,
                ended_at=event.at,
            )
        case "retrying":
            return msgspec.structs.replace(
                view,
                state=state,
                attempts=max(view.attempts, event.attempt),
                seconds=event.seconds,
                error=event.failure,
                logs=event.logs or view.logs,
                metrics=event.metrics or view.metrics,
            )
        case "succeeded" | "failed" | "cancelled" | "skipped":
            return msgspec.structs.replace(
                view,
                state=state,
                attempts=max(view.attempts, event.attempt),
                seconds=event.seconds,
                error=event.failure,
                reason=event.reason or view.reason,
                outputs=event.outputs,
                logs=event.logs or view.logs,
                metrics=event.metrics or view.metrics,
                tags=event.tags,
                executor=event.executor or view.executor,
                ended_at=event.at,
            )
        case _:
            return view
