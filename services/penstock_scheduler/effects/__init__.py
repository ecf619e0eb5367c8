"""What the scheduler's decisions ask for, and how it follows from facts alone.

    effects_of   what one fact asks for, right after it has become true
    owed         what a partition's state asks for, whatever was lost: done again after a takeover

Nothing is done that the log does not say: an effect is lost with its process and asked for again
by the next owner, so each is harmless when done twice (message ids, one message per work subject,
newer-wins puts).
"""

from collections.abc import Iterator
from typing import Any, Literal

from penstock.contracts.inbox import FlightLanded, FollowFlight
from penstock_scheduler.effects.expecting import expected_s, overdue_timer
from penstock_scheduler.effects.kept import kept
from penstock_scheduler.effects.orders import (
    AskFlight,
    CancelTimers,
    Dispatch,
    Effect,
    Emit,
    LookUp,
    PutLatest,
    PutReuse,
    PutSummary,
    ReleaseFlight,
    SetTimer,
    Stop,
    TellFlight,
    TimerKind,
    Withdraw,
)
from penstock_scheduler.effects.results import latest_key, work_item
from penstock_scheduler.effects.sending import sent
from penstock_scheduler.effects.timing import (
    STOP_AGAIN_S,
    deadline_at,
    run_deadline,
    step_deadline,
    stop_timer,
    timeout_timer,
)
from penstock_scheduler.effects.told import accepted, ended, overdue, run_event, summary, told
from penstock_scheduler.state import (
    ENDED,
    IN_FLIGHT,
    RUN_ENDED,
    Partition,
    Run,
    RunStatus,
    StepStatus,
)
from penstock_scheduler.transitions import (
    AttemptBegan,
    AttemptOffered,
    PlanRecorded,
    RunCancelled,
    RunCancelling,
    RunFailed,
    RunStarted,
    RunSucceeded,
    StepCancelled,
    StepFailed,
    StepFollowing,
    StepOverdue,
    StepQueued,
    StepReady,
    StepRetrying,
    StepReused,
    StepSkipped,
    StepSucceeded,
    Transition,
    run_of,
)

__all__ = [
    "STOP_AGAIN_S",
    "AskFlight",
    "CancelTimers",
    "Dispatch",
    "Effect",
    "Emit",
    "LookUp",
    "PutLatest",
    "PutReuse",
    "PutSummary",
    "ReleaseFlight",
    "SetTimer",
    "Stop",
    "TellFlight",
    "TimerKind",
    "Withdraw",
    "deadline_at",
    "dispatches",
    "effects_of",
    "expected_s",
    "landed",
    "owed",
    "sent",
    "stops",
]


def effects_of(partition: Partition, transition: Transition, at: float) -> list[Effect]:
    """Return what a fact asks for; `partition` is the state right after it."""
    run = partition.runs.get(run_of(transition))
    if run is None or run.status is RunStatus.ARRIVING:
        return []
    match transition:
        case PlanRecorded():
            return [accepted(run, at), summary(run), run_deadline(partition, run)]
        case RunStarted():
            return [run_event(run, "started", at), summary(run)]
        case RunCancelling():
            timer = [stop_timer(run, at)] if run.running else []
            return [Withdraw(run.head.run), *stops(run), *timer]
        case RunSucceeded() | RunFailed() | RunCancelled():
            return [ended(run, transition, at), summary(run), CancelTimers(run.head.run)]
        case StepReady(step=step):
            return [_look_up(run, step), *step_deadline(run, step)]
        case StepFollowing(step=step):
            return [_ask(run, step), *landed(run, step)]
        case AttemptOffered(step=step):
            return [Dispatch(work_item(run, step))]
        case _:
            return _step_effects(run, transition, at)


def owed(partition: Partition) -> Iterator[Effect]:
    """Iterate over everything that the state asks for and that may have been lost."""
    for run in partition.runs.values():
        for step in run.followers:
            if run.steps[step].status not in IN_FLIGHT:
                yield from landed(run, step)
        if run.status in RUN_ENDED:
            yield CancelTimers(run.head.run)
        elif run.status is not RunStatus.ARRIVING:
            yield run_deadline(partition, run)
            yield from _owed_to_steps(run)


def _owed_to_steps(run: Run) -> Iterator[Effect]:
    if run.cancelling is not None:
        yield Withdraw(run.head.run)
        yield from stops(run)
        yield stop_timer(run, run.cancelling_at)
    for step, state in enumerate(run.steps):
        if state.since and state.status not in ENDED:
            yield from step_deadline(run, step)
        match state.status:
            case StepStatus.LOOKING:
                yield _look_up(run, step)
            case StepStatus.FOLLOWING:
                yield _ask(run, step)
            case StepStatus.OFFERED:
                yield Dispatch(work_item(run, step))
            case StepStatus.RUNNING:
                if run.cancelling is None:
                    yield Dispatch(work_item(run, step))
                yield from timeout_timer(run, step)
                yield from overdue_timer(run, step)
            case StepStatus.RETRYING:
                yield SetTimer(run.head.run, run.names[step], state.attempt, "retry", state.at)
            case _:
                pass


def dispatches(partition: Partition) -> list[Effect]:
    """Return the attempts that must be on a work queue: those of `owed` only."""
    return [
        Dispatch(work_item(run, step))
        for run in partition.runs.values()
        if run.status not in RUN_ENDED and run.cancelling is None
        for step, state in enumerate(run.steps)
        if state.status in (StepStatus.OFFERED, StepStatus.RUNNING)
    ]


def stops(run: Run) -> list[Effect]:
    """Return a stop order for every step that still runs."""
    return [
        Stop(run.head.run, run.names[step], run.steps[step].attempt, "cancelled")
        for step in run.running
    ]


def landed(run: Run, step: int) -> list[Effect]:
    """Return the word to those who wait for a step: it has ended or does not fly, look again."""
    return [
        TellFlight(
            FlightLanded(
                run=follower.run,
                step=follower.step,
                fingerprint=run.steps[step].fingerprint,
                leader_run=run.head.run,
                leader_step=run.names[step],
                look=follower.look,
            )
        )
        for follower in run.followers.get(step, ())
    ]


def _step_effects(run: Run, transition: Transition, at: float) -> list[Effect]:
    """Return the effects of facts about a step that everybody hears of."""
    match transition:
        case StepQueued(step=step):
            event = told(
                run,
                step,
                "queued",
                at,
                attempt=transition.attempt,
                target=run.targets[step],
                fingerprint=run.steps[step].fingerprint,
                reason=transition.reason,
                compared_with=transition.compared_with,
                parts=transition.parts,
            )
            first = transition.attempt == 1 and not run.steps[step].look  # else it is set already
            return [event, *(step_deadline(run, step) if first else [])]
        case AttemptBegan(step=step):
            event = told(
                run,
                step,
                "started",
                at,
                attempt=transition.attempt,
                target=run.targets[step],
                executor=transition.executor,
            )
            return [event, *timeout_timer(run, step), *overdue_timer(run, step)]
        case StepOverdue(step=step):
            return [overdue(run, transition, at)]
        case StepReused(step=step):
            event = told(
                run,
                step,
                "reused",
                at,
                fingerprint=transition.fingerprint,
                reason=transition.reason,
                compared_with=transition.compared_with,
                parts=transition.parts,
                reused_from=transition.reused_from,
                outputs=transition.outputs,
                logs=transition.logs,
                metrics=transition.metrics,
            )
            return [event, *kept(run, transition, at), *landed(run, step)]
        case StepSucceeded(step=step):
            event = told(
                run,
                step,
                "succeeded",
                at,
                **_result(run, transition),
                fingerprint=run.steps[step].fingerprint,
                outputs=transition.outputs,
            )
            return [event, *kept(run, transition, at), *landed(run, step)]
        case StepRetrying(step=step, attempt=attempt):
            event = told(
                run,
                step,
                "retrying",
                at,
                **_result(run, transition),
                failure=transition.failure,
                retry_at=transition.retry_at,
            )
            due = transition.retry_at
            timer = [SetTimer(run.head.run, run.names[step], attempt, "retry", due)]
            unreported = [] if transition.executor else _called_back(run, step, attempt, "timeout")
            return [event, *(timer if due > at else []), *unreported]
        case StepFailed(step=step, attempt=attempt):
            event = told(
                run, step, "failed", at, **_result(run, transition), failure=transition.failure
            )
            out = attempt and not transition.executor
            unreported = _called_back(run, step, attempt, "timeout") if out else []
            return [event, *unreported, *_given_up(run, step)]
        case StepCancelled(step=step, attempt=attempt):
            event = told(
                run,
                step,
                "cancelled",
                at,
                **_result(run, transition),
                reason=transition.reason,
                failure=transition.failure,
            )
            out = attempt and not transition.executor
            unreported = _called_back(run, step, attempt, "cancelled") if out else []
            return [event, *unreported, *_given_up(run, step)]
        case StepSkipped(step=step, attempt=attempt):
            event = told(run, step, "skipped", at, reason=transition.reason)
            unreported = _called_back(run, step, attempt, "superseded") if attempt else []
            return [event, *unreported, *_given_up(run, step)]
        case _:
            return []


def _result(
    run: Run, transition: StepRetrying | StepSucceeded | StepFailed | StepCancelled
) -> dict[str, Any]:
    return {
        "attempt": transition.attempt,
        "target": run.targets[transition.step],
        "executor": transition.executor,
        "seconds": transition.seconds,
        "logs": transition.logs,
        "metrics": transition.metrics,
        "tags": transition.tags,
    }


def _called_back(
    run: Run, step: int, attempt: int, reason: Literal["cancelled", "timeout", "superseded"]
) -> list[Effect]:
    """Return what ends an attempt that nobody has reported: it may still be out."""
    name = run.names[step]
    return [
        Withdraw(run.head.run, run.targets[step], name, attempt),
        Stop(run.head.run, name, attempt, reason),
    ]


def _given_up(run: Run, step: int) -> list[Effect]:
    """Return what a step owes to equal ones when it ends without a result."""
    state = run.steps[step]
    released: list[Effect] = (
        [ReleaseFlight(state.fingerprint, run.head.run, run.names[step])] if state.holds else []
    )
    return [*released, *landed(run, step)]


def _look_up(run: Run, step: int) -> LookUp:
    state = run.steps[step]
    return LookUp(
        run=run.head.run,
        step=run.names[step],
        look=state.look,
        fingerprint=state.fingerprint,
        latest=latest_key(run, step),
        claim=run.head.reuse == "use" and step not in run.fresh,
        stale=state.leader,
    )


def _ask(run: Run, step: int) -> AskFlight:
    state = run.steps[step]
    leader_run, leader_step = state.leader or ("", "")
    return AskFlight(
        FollowFlight(
            run=leader_run,
            step=leader_step,
            fingerprint=state.fingerprint,
            follower_run=run.head.run,
            follower_step=run.names[step],
            look=state.look,
        )
    )
