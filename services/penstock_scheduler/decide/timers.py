"""A timer came due. One that is no longer wanted changes nothing."""

from penstock.contracts.inbox import TimerDue
from penstock.contracts.work import Failure
from penstock_scheduler.decide.attempts import deadline_failure, give_up, nobody_s, step_of
from penstock_scheduler.decide.cancelling import stop
from penstock_scheduler.decide.progress import step_ended
from penstock_scheduler.decide.turn import Turn
from penstock_scheduler.effects import (
    STOP_AGAIN_S,
    SetTimer,
    Stop,
    deadline_at,
    expected_s,
    stops,
)
from penstock_scheduler.state import ENDED, RUN_ENDED, Run, RunStatus, StepStatus
from penstock_scheduler.transitions import RunCancelling, StepFailed, StepOverdue, StepQueued

STOP_MAX_S = 45.0
"""After this long a step that was told to stop and did not report is given up as lost."""


def ring(turn: Turn, message: TimerDue) -> None:
    """Take in a timer."""
    run = turn.partition.runs.get(message.run)
    if run is None or run.status in RUN_ENDED or run.status is RunStatus.ARRIVING:
        return
    match message.kind:
        case "retry":
            _retry(turn, message)
        case "timeout":
            _time_out(turn, message)
        case "deadline" if message.step:
            _expire(turn, message)
        case "deadline":
            _run_out(turn, run)
        case "overdue":
            _overdue(turn, message)
        case "stop":
            _stop_again(turn, run)
        case _:
            pass  # of a version that knew more kinds


def _retry(turn: Turn, message: TimerDue) -> None:
    found = step_of(turn, message.run, message.step)
    if found is None:
        return
    run, step = found
    state = run.steps[step]
    if state.status is StepStatus.RETRYING and state.attempt == message.attempt:
        turn.record(StepQueued(run=message.run, step=step, attempt=state.attempt + 1))
        turn.touch(run.targets[step])


def _time_out(turn: Turn, message: TimerDue) -> None:
    found = step_of(turn, message.run, message.step)
    if found is None:
        return
    run, step = found
    state = run.steps[step]
    if state.status is not StepStatus.RUNNING or state.attempt != message.attempt:
        return
    limit = run.bounds(step).timeout_s
    failure = Failure(
        code="E_TIMEOUT",
        message=f"no report of an attempt that may take {limit:g} s",
        where=f"steps.{message.step}",
        hint="is its executor alive? it should have ended the attempt itself",
    )
    give_up(turn, run, step, nobody_s(run, step, failure))


def _overdue(turn: Turn, message: TimerDue) -> None:
    """Tell once per attempt that it takes longer than expected; it goes on."""
    found = step_of(turn, message.run, message.step)
    if found is None:
        return
    run, step = found
    state = run.steps[step]
    runs = state.status is StepStatus.RUNNING and state.attempt == message.attempt
    if not runs or state.overdue == state.attempt or run.cancelling is not None:
        return
    seconds, declared = expected_s(run, step)
    turn.record(
        StepOverdue(
            run=message.run,
            step=step,
            attempt=state.attempt,
            expected_s=seconds,
            declared=declared,
        )
    )


def _expire(turn: Turn, message: TimerDue) -> None:
    """A step's deadline: end what waits; have what runs stopped, so that its logs are kept."""
    found = step_of(turn, message.run, message.step)
    if found is None:
        return
    run, step = found
    state, until = run.steps[step], deadline_at(run, step)
    if state.status in ENDED or run.cancelling is not None or not until:
        return
    if state.status is StepStatus.RUNNING and turn.now - until < STOP_MAX_S:
        # No attempt follows once the deadline is over, whatever this one reports.
        again = SetTimer(message.run, message.step, 0, "deadline", turn.now + STOP_AGAIN_S)
        turn.ask(Stop(message.run, message.step, state.attempt, "timeout"), again)
        return
    failure = deadline_failure(run, step)
    turn.record(StepFailed(run=message.run, step=step, attempt=state.attempt, failure=failure))
    turn.touch(run.targets[step])
    step_ended(turn, run, step)


def _run_out(turn: Turn, run: Run) -> None:
    if run.cancelling is not None:
        return
    seconds = run.head.deadline_s or turn.partition.deadline_s
    reason = f"the run took longer than its deadline of {seconds:g} s"
    stop(turn, run, RunCancelling(run=run.head.run, reason=reason, overdue=True))


def _stop_again(turn: Turn, run: Run) -> None:
    if run.cancelling is None or not run.running:
        return
    if turn.now - run.cancelling_at < STOP_MAX_S:
        due = turn.now + STOP_AGAIN_S
        turn.ask(*stops(run), SetTimer(run.head.run, "", 0, "stop", due))
        return
    for step in list(run.running):
        failure = Failure(
            code="E_LOST",
            message=f"no report within {STOP_MAX_S:g} s of the order to stop",
            where=f"steps.{run.names[step]}",
            hint="look at its executor: the process may still run there",
        )
        give_up(turn, run, step, nobody_s(run, step, failure))
