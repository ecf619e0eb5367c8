"""A timer came due. One that is no longer wanted changes nothing."""

from penstock.contracts.inbox import TimerDue
from penstock.contracts.work import Failure
from penstock_scheduler.decide.attempts import give_up, nobody_s, step_of
from penstock_scheduler.decide.cancelling import stop
from penstock_scheduler.decide.turn import Turn
from penstock_scheduler.effects import STOP_AGAIN_S, SetTimer, stops
from penstock_scheduler.state import RUN_ENDED, Run, RunStatus, StepStatus
from penstock_scheduler.transitions import RunCancelling, StepQueued

STOP_MAX_S = 60.0
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
        case "deadline":
            _overdue(turn, run)
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
    limit = run.plan(step).timeout_s
    failure = Failure(
        code="E_TIMEOUT",
        message=f"no report of an attempt that may take {limit:g} s",
        where=f"steps.{message.step}",
        hint="is its executor alive? it should have ended the attempt itself",
    )
    give_up(turn, run, step, nobody_s(run, step, failure))


def _overdue(turn: Turn, run: Run) -> None:
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
