"""When the scheduler wants to be called: deadlines, timeouts, and whether a stop was heard.

Every timer follows from the state, so a new owner sets it again; one that rings twice, or for what
has ended, changes nothing.
"""

from penstock_scheduler.effects.orders import SetTimer
from penstock_scheduler.state import Partition, Run

TIMEOUT_SLACK_S = 30.0
"""The executor enforces a step's timeout; this much later the scheduler believes it dead."""
STOP_AGAIN_S = 5.0
"""A stop order is core NATS and may be lost: it is repeated until the attempt is reported."""


def run_deadline(partition: Partition, run: Run) -> SetTimer:
    """Return the timer of a run's deadline, which counts from its acceptance."""
    seconds = run.head.deadline_s or partition.deadline_s
    return SetTimer(run.head.run, "", 0, "deadline", run.accepted_at + seconds)


def deadline_at(run: Run, step: int) -> float:
    """Return when a step that has its needs must have ended; 0: whenever the run must."""
    seconds, since = run.bounds(step).deadline_s, run.steps[step].since
    return since + seconds if seconds and since else 0


def step_deadline(run: Run, step: int) -> list[SetTimer]:
    """Return the timer of a step's own deadline, if it has one."""
    at = deadline_at(run, step)
    return [SetTimer(run.head.run, run.names[step], 0, "deadline", at)] if at else []


def stop_timer(run: Run, at: float) -> SetTimer:
    """Return the timer that looks whether a cancelled run's attempts have ended."""
    return SetTimer(run.head.run, "", 0, "stop", at + STOP_AGAIN_S)


def timeout_timer(run: Run, step: int) -> list[SetTimer]:
    """Return the timer behind the executor's own; a step without a timeout has the run's deadline."""
    seconds = run.bounds(step).timeout_s
    if not seconds:
        return []
    state = run.steps[step]
    due = state.at + seconds + TIMEOUT_SLACK_S
    return [SetTimer(run.head.run, run.names[step], state.attempt, "timeout", due)]
