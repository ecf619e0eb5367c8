"""How long an attempt is expected to run: declared by the pipeline, or learned from earlier runs.

What is learned is two numbers beside the step's last fingerprint (bucket `latest`): a typical run
time and how many successful attempts it was learned from. One that took ten times as long counts as
four times as long, so that one bad day moves what is typical by less than half; a lasting change is
followed within a few runs.

Declared, an attempt is overdue at once when it takes longer. Learned, only beyond OVERDUE_FACTOR
times the typical, beyond OVERDUE_S_MIN, and after SAMPLES_MIN successes: a word that is wrong is
worse than one that comes late. A step that never looks for equal work (`is_deterministic: false`,
`--reuse off`) has no such record; it is overdue only beyond what is declared.
"""

from penstock_scheduler.effects.orders import SetTimer
from penstock_scheduler.state import Run, StepStatus

SAMPLES_MIN = 3
SAMPLES_MAX = 8
OUTLIER_FACTOR = 4.0
OVERDUE_FACTOR = 3.0
OVERDUE_S_MIN = 60.0


def learned(typical_s: float, samples: int, seconds: float) -> tuple[float, int]:
    """Return what is typical after one more successful attempt of `seconds`."""
    if seconds <= 0:
        return typical_s, samples
    if not samples or typical_s <= 0:
        return seconds, 1
    counted = min(samples + 1, SAMPLES_MAX)
    bounded = min(max(seconds, typical_s / OUTLIER_FACTOR), typical_s * OUTLIER_FACTOR)
    return round(typical_s + (bounded - typical_s) / counted, 3), counted


def expected_s(run: Run, step: int) -> tuple[float, bool]:
    """Return the run time that is expected of an attempt (0: nobody knows), and whether it is declared."""
    declared = run.bounds(step).expected_s
    if declared:
        return declared, True
    state = run.steps[step]
    return (state.typical_s, False) if state.samples >= SAMPLES_MIN else (0, False)


def overdue_after_s(run: Run, step: int) -> float:
    """Return after how many seconds of run time an attempt is overdue; 0: never."""
    seconds, declared = expected_s(run, step)
    if declared or not seconds:
        return seconds
    return max(seconds * OVERDUE_FACTOR, OVERDUE_S_MIN)


def overdue_timer(run: Run, step: int) -> list[SetTimer]:
    """Return the timer that tells a running attempt as overdue, unless it was told."""
    state = run.steps[step]
    after_s = overdue_after_s(run, step)
    if not after_s or state.overdue == state.attempt or state.status is not StepStatus.RUNNING:
        return []
    due = state.at + after_s
    return [SetTimer(run.head.run, run.names[step], state.attempt, "overdue", due)]
