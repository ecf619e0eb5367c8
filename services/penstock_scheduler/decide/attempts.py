"""Executors report: an attempt began, succeeded or failed.

The first terminal report of the current attempt counts, whichever delivery made it; everything
after it is late news.
"""

from collections.abc import Sequence
from typing import assert_never

from msgspec.structs import replace

from penstock.contracts.inbox import Report
from penstock.contracts.work import AttemptFailed, AttemptStarted, AttemptSucceeded, Failure
from penstock_scheduler.decide.progress import begin_run, breaks_off, current, step_ended
from penstock_scheduler.decide.turn import Turn
from penstock_scheduler.effects import Stop, deadline_at
from penstock_scheduler.state import RUN_ENDED, Run, RunStatus, StepStatus
from penstock_scheduler.transitions import (
    AttemptBegan,
    StepCancelled,
    StepFailed,
    StepQueued,
    StepRetrying,
    StepSucceeded,
)

RETRY_DELAY_MAX_S = 300.0


def take_in(turn: Turn, reports: Sequence[Report]) -> None:
    """Take in what executors report of one run, in order."""
    ended = {(r.step, r.attempt) for r in reports if not isinstance(r, AttemptStarted)}
    for report in reports:
        match report:
            case AttemptStarted():
                begin(turn, report, ended=(report.step, report.attempt) in ended)
            case AttemptSucceeded():
                succeed(turn, report)
            case AttemptFailed():
                fail(turn, report)
            case _:
                assert_never(report)


def begin(turn: Turn, message: AttemptStarted, *, ended: bool = False) -> None:
    """Take in that user code is about to run; answer with a stop if nobody wants it any more.

    So is one start too many of an attempt that nobody reports, unless it has `ended` by now.
    """
    found = step_of(turn, message.run, message.step)
    if found is None or not current(*found, message.attempt):
        turn.ask(Stop(message.run, message.step, message.attempt, "superseded"))
        return
    run, step = found
    state = run.steps[step]
    delivery = state.delivery
    if message.asking and message.delivery < delivery:  # another executor runs this by now
        turn.ask(Stop(message.run, message.step, message.attempt, "superseded", before=delivery))
        return
    if message.delivery > delivery and state.starts >= turn.partition.starts_max:
        if not ended:  # else its result stands behind this in the inbox, and ends the attempt
            give_up(turn, run, step, nobody_s(run, step, _lost(run, step)))
        return
    _began(turn, run, step, message)


def succeed(turn: Turn, message: AttemptSucceeded) -> None:
    """Take in a result."""
    found = step_of(turn, message.run, message.step)
    if found is None or not current(*found, message.attempt):
        return
    run, step = found
    _began(turn, run, step, message)
    turn.record(
        StepSucceeded(
            run=message.run,
            step=step,
            attempt=message.attempt,
            executor=message.executor,
            outputs=message.outputs,
            logs=message.logs,
            metrics=message.metrics,
            tags=message.tags,
            seconds=message.seconds,
        )
    )
    step_ended(turn, run, step)


def fail(turn: Turn, message: AttemptFailed) -> None:
    """Take in a failure: another attempt, or the end of the step."""
    found = step_of(turn, message.run, message.step)
    if found is None or not current(*found, message.attempt):
        return
    run, step = found
    if message.executor:
        _began(turn, run, step, message)
    give_up(turn, run, step, message)


def give_up(turn: Turn, run: Run, step: int, message: AttemptFailed) -> None:
    """Record the end of the current attempt and what comes after it."""
    name, attempt, plan = run.head.run, run.steps[step].attempt, run.plan(step)
    turn.touch(run.targets[step])
    if run.cancelling is not None:
        turn.record(
            StepCancelled(
                run=name,
                step=step,
                attempt=attempt,
                reason=run.cancelling.reason,
                failure=message.failure,
                executor=message.executor,
                seconds=message.seconds,
                logs=message.logs,
                metrics=message.metrics,
                tags=message.tags,
            )
        )
        step_ended(turn, run, step)
        return
    delay = retry_delay_s(plan.retry_delay_s, attempt)
    until = deadline_at(run, step) or float("inf")
    again = message.retriable and attempt < plan.attempts_max and turn.now + delay < until
    if again and not breaks_off(run):
        turn.record(
            StepRetrying(
                run=name,
                step=step,
                attempt=attempt,
                failure=message.failure,
                retry_at=turn.now + delay,
                executor=message.executor,
                seconds=message.seconds,
                logs=message.logs,
                metrics=message.metrics,
                tags=message.tags,
            )
        )
        if delay == 0:
            turn.record(StepQueued(run=name, step=step, attempt=attempt + 1))
        return
    turn.record(
        StepFailed(
            run=name,
            step=step,
            attempt=attempt,
            failure=_told(turn, run, step, message.failure),
            executor=message.executor,
            seconds=message.seconds,
            logs=message.logs,
            metrics=message.metrics,
            tags=message.tags,
        )
    )
    step_ended(turn, run, step)


def nobody_s(run: Run, step: int, failure: Failure) -> AttemptFailed:
    """Return the report that no executor will make."""
    return AttemptFailed(
        run=run.head.run,
        step=run.names[step],
        attempt=run.steps[step].attempt,
        executor="",
        failure=failure,
    )


def deadline_failure(run: Run, step: int) -> Failure:
    """Return the failure of a step that took too long, whatever it waited for."""
    state, seconds = run.steps[step], run.bounds(step).deadline_s
    return Failure(
        code="E_DEADLINE",
        message=f"not ended {seconds:g} s after its needs were met; it was {state.status.value}",
        where=f"steps.{run.names[step]}",
        hint="raise limits.deadline, or see what it waited for: penstock run show",
    )


def _lost(run: Run, step: int) -> Failure:
    return Failure(
        code="E_LOST",
        message=f"{run.steps[step].starts} executors began the attempt and none reported it",
        where=f"steps.{run.names[step]}",
        hint="does it use more memory than its machine has? look at the executors' logs",
    )


def _told(turn: Turn, run: Run, step: int, failure: Failure) -> Failure:
    """Return a failure as the step's: an attempt that was stopped at the step's deadline says so."""
    until = deadline_at(run, step)
    if not until or turn.now < until or failure.code not in ("E_TIMEOUT", "E_CANCELLED"):
        return failure
    return replace(deadline_failure(run, step), log_tail=failure.log_tail)


def retry_delay_s(first_s: float, attempt: int) -> float:
    """Return the pause after a failed attempt: doubled each time, at most RETRY_DELAY_MAX_S."""
    return min(first_s * 2.0 ** min(attempt - 1, 60), RETRY_DELAY_MAX_S)


def step_of(turn: Turn, name: str, step: str) -> tuple[Run, int] | None:
    """Return a live run and the place of its step, or None."""
    run = turn.partition.runs.get(name)
    if run is None or run.status in RUN_ENDED or run.status is RunStatus.ARRIVING:
        return None
    number = run.index.get(step)
    return None if number is None else (run, number)


def _began(
    turn: Turn, run: Run, step: int, message: AttemptStarted | AttemptSucceeded | AttemptFailed
) -> None:
    """Record who runs the attempt, unless that is known: a result may overtake its start."""
    state = run.steps[step]
    if state.status is StepStatus.RUNNING and (
        message.delivery <= state.delivery or not isinstance(message, AttemptStarted)
    ):
        return
    begin_run(turn, run)
    if state.status is StepStatus.RUNNING:  # whoever had it before may only be slow to die
        turn.ask(
            Stop(message.run, message.step, message.attempt, "superseded", before=message.delivery)
        )
    turn.record(
        AttemptBegan(
            run=run.head.run,
            step=step,
            attempt=message.attempt,
            executor=message.executor,
            delivery=message.delivery,
        )
    )
