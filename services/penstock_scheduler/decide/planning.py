"""A plan arrives in parts; with the last one the run is accepted and its first steps start."""

from penstock.contracts.plans import PlanPart
from penstock.contracts.requests import ErrorBody
from penstock_scheduler.decide.cancelling import end_what_does_not_run
from penstock_scheduler.decide.progress import advance, conclude
from penstock_scheduler.decide.turn import Turn
from penstock_scheduler.state import RUN_ENDED, Run, RunStatus, missing_need
from penstock_scheduler.transitions import PlanRecorded, RunFailed


def record(turn: Turn, part: PlanPart) -> None:
    """Take in a part of a plan. Parts of a plan that is complete are late news."""
    name = part.head.run
    run = turn.partition.runs.get(name)
    if run is not None and (run.status is not RunStatus.ARRIVING or part.part in run.arrived):
        return
    turn.record(PlanRecorded(part=part))
    run = turn.partition.runs[name]
    if run.status is RunStatus.ARRIVING:
        return
    check(turn, run)
    if run.status in RUN_ENDED:
        return
    if run.cancelling is not None:
        end_what_does_not_run(turn, run)
    else:
        advance(turn, run, [step for step, count in enumerate(run.waiting) if count == 0])
    conclude(turn, run)


def check(turn: Turn, run: Run) -> None:
    """Fail a run whose plan can never end. A planner refuses such plans; this is the second lock."""
    why = missing_need(run)
    if why:
        error = ErrorBody(code="E_PLAN", message=why, where=f"run {run.head.run}")
        turn.record(RunFailed(run=run.head.run, error=error))
