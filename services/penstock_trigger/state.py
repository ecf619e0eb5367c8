"""What the trigger remembers of a schedule is `ScheduleState` (contracts/schedules.py).

    due ──decided──▶ pending ──carried out──▶ gone        one compare-and-set per arrow
           │           ▲
           └─▶ queued ─┘  the run before has ended        (overlap: queue)

Here are its limits and the few things that follow from a schedule alone.
"""

from dataclasses import dataclass

from penstock.contracts.schedules import Schedule, ScheduleState

PENDING_MAX = 200
"""Decided firings that wait for a planner; what falls due beyond is judged when there is room."""
QUEUED_MAX = 100
"""Firings that wait for the run before them; beyond it they are skipped, and said so."""
SKIPS_TOLD_MAX = 100
"""Missed firings with an event of their own; older ones share one."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a replica knows at the moment it decides.

    A tick due at `missed_until` or earlier is missed: nobody was there, or it is too late for it.
    """

    now: float
    missed_until: float
    running: bool = False
    """The schedule's last run has not ended."""


def active_from(schedule: Schedule) -> float:
    """Return the moment up to which nothing is due: creation, or the end of the last pause."""
    return max(schedule.created_at, schedule.resumed_at)


def fresh(schedule: Schedule) -> ScheduleState:
    """Return the state of a schedule that never fired."""
    return ScheduleState(
        name=schedule.name, revision=schedule.revision, last_due=active_from(schedule)
    )


def idempotency_key(name: str, revision: int, key: str) -> str:
    """Return what makes a tick one run: the planner derives the run's id from it."""
    return f"schedule/{name}/{revision}/{key}"
