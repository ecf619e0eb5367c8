"""A run is to stop: what has not begun ends at once, what runs is told to stop until it reports."""

from penstock.contracts.inbox import CancelRun
from penstock_scheduler.decide.progress import conclude
from penstock_scheduler.decide.turn import Turn
from penstock_scheduler.state import ENDED, OUT, RUN_ENDED, Run, RunStatus, StepStatus
from penstock_scheduler.transitions import RunCancelling, StepCancelled


def cancel(turn: Turn, message: CancelRun) -> None:
    """Take in that somebody wants the run to stop."""
    run = turn.partition.runs.get(message.run)
    if run is None or run.status in RUN_ENDED or run.cancelling is not None:
        return
    by = f"cancelled by {message.who}" if message.who else "cancelled"
    reason = f"{by}: {message.reason}" if message.reason else by
    stop(turn, run, RunCancelling(run=message.run, reason=reason, who=message.who))


def stop(turn: Turn, run: Run, why: RunCancelling) -> None:
    """Stop a run for a reason."""
    turn.record(why)
    if run.status is not RunStatus.ARRIVING:
        end_what_does_not_run(turn, run)
        conclude(turn, run)


def end_what_does_not_run(turn: Turn, run: Run) -> None:
    """Cancel every step that has not begun, retries and followers included."""
    why = run.cancelling
    assert why is not None  # noqa: S101 - the callers have recorded it
    for step, state in enumerate(run.steps):
        if state.status in ENDED or state.status is StepStatus.RUNNING:
            continue
        out = state.attempt if state.status in OUT else 0
        turn.record(StepCancelled(run=run.head.run, step=step, attempt=out, reason=why.reason))
        turn.touch(run.targets[step])
