"""What everybody is told: events of runs and steps, and a run's line in the list."""

from typing import Any

from penstock.contracts.events import RunEvent, RunWhat, StepEvent, StepWhat
from penstock.contracts.queries import RunState as RunStateName
from penstock.contracts.queries import RunSummary
from penstock_scheduler.effects.orders import Emit, PutSummary
from penstock_scheduler.effects.results import outputs_of
from penstock_scheduler.state import RUN_ENDED, Run, RunStatus
from penstock_scheduler.transitions import (
    RunCancelled,
    RunEnd,
    RunFailed,
    RunSucceeded,
    StepOverdue,
)

GRAPH_STEPS_MAX = 2_000
GRAPH_NEEDS_MAX = 10_000
"""Above either, `run.accepted` tells no graph: an event stays below 1 MiB."""


def told(run: Run, step: int, what: StepWhat, at: float, **fields: Any) -> Emit:
    """Return an event of a step; its number is the run's newest."""
    head = run.head
    event = StepEvent(
        seq=run.seq,
        run=head.run,
        pipeline=head.pipeline,
        step=run.names[step],
        what=what,
        at=at,
        **fields,
    )
    return Emit(event, head.traceparent)


def overdue(run: Run, fact: StepOverdue, at: float) -> Emit:
    """Return the event of an attempt that takes longer than expected."""
    step, state = fact.step, run.steps[fact.step]
    seconds = round(at - state.at, 3)
    source = "declared" if fact.declared else "learned from earlier runs"
    return told(
        run,
        step,
        "overdue",
        at,
        attempt=fact.attempt,
        target=run.targets[step],
        seconds=seconds,
        expected_s=fact.expected_s,
        reason=f"runs for {seconds:.0f} s; expected: {fact.expected_s:g} s, {source}",
    )


def run_event(run: Run, what: RunWhat, at: float, **fields: Any) -> Emit:
    """Return an event of a run; its number is the run's newest."""
    head = run.head
    event = RunEvent(
        seq=run.seq,
        run=head.run,
        pipeline=head.pipeline,
        what=what,
        at=at,
        version=head.version,
        experiment=head.experiment,
        **fields,
    )
    return Emit(event, head.traceparent)


def accepted(run: Run, at: float) -> Emit:
    """Return the event that tells everything about a run that is known at its beginning."""
    head = run.head
    needs = [run.plan(step).needs for step in range(min(len(run.names), GRAPH_STEPS_MAX + 1))]
    tellable = len(needs) <= GRAPH_STEPS_MAX and sum(map(len, needs)) <= GRAPH_NEEDS_MAX
    return run_event(
        run,
        "accepted",
        at,
        spec=head.spec,
        display_name=head.display_name,
        tags=head.tags,
        parameters=head.parameters,
        steps=len(run.names),
        graph=dict(zip(run.names, needs, strict=True)) if tellable else {},
        who=head.who,
        trigger=head.trigger,
        rerun_of=head.rerun_of,
        git=head.git,
        reuse=head.reuse,
    )


def ended(run: Run, end: RunEnd, at: float) -> Emit:
    """Return the last event of a run."""
    fields = {"seconds": at - run.accepted_at, "counts": dict(run.counts)}
    match end:
        case RunSucceeded():
            return run_event(run, "succeeded", at, **fields, outputs=outputs_of(run))
        case RunFailed(error=error):
            return run_event(run, "failed", at, **fields, error=error, reason=error.message)
        case RunCancelled(reason=reason):
            return run_event(run, "cancelled", at, **fields, reason=reason)


_SUMMARY_STATES: dict[RunStatus, RunStateName] = {
    RunStatus.ARRIVING: "queued",
    RunStatus.QUEUED: "queued",
    RunStatus.RUNNING: "running",
    RunStatus.SUCCEEDED: "succeeded",
    RunStatus.FAILED: "failed",
    RunStatus.CANCELLED: "cancelled",
}


def summary(run: Run) -> PutSummary:
    """Return the run's line as it is now."""
    head, over = run.head, run.status in RUN_ENDED
    return PutSummary(
        RunSummary(
            run=head.run,
            pipeline=head.pipeline,
            state=_SUMMARY_STATES[run.status],
            version=head.version,
            spec=head.spec,
            experiment=head.experiment,
            display_name=head.display_name,
            tags=head.tags,
            parameters=head.parameters,
            who=head.who,
            trigger=head.trigger,
            rerun_of=head.rerun_of,
            reuse=head.reuse,
            git=head.git,
            accepted_at=run.accepted_at,
            ended_at=run.ended_at,
            seconds=run.ended_at - run.accepted_at if over else 0,
            steps=len(run.names),
            counts=dict(run.counts) if over else {},
        )
    )
