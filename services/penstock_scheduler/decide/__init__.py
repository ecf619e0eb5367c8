"""Pure decisions of the scheduler: messages in, facts and orders out.

A run:

    ARRIVING ──last part──▶ QUEUED ──first step begins──▶ RUNNING ──last step ended──▶ SUCCEEDED
                              │                              │                         FAILED
                              └──────── cancel ──────────────┴──── last step ended ──▶ CANCELLED

A step (⊗ = needs ended badly, another step broke the run, or the run is cancelled):

    WAITING ──needs met──▶ LOOKING ──equal work is done──────────────────────────▶ REUSED
       │                    │ ▲  │
       │                    │ │  └─equal work is in flight──▶ FOLLOWING
       │                    │ └───────── it landed ─────────────┘
       │      nothing equal,│claimed
       │                    ▼
       │                  QUEUED ──window has room──▶ OFFERED ──began──▶ RUNNING ──▶ SUCCEEDED
       │                    ▲                                              │
       │                    └──timer── RETRYING ◀──attempts left──failed───┤
       ▼                                                                   ▼
    SKIPPED, CANCELLED ◀── ⊗ from every state above but RUNNING ──       FAILED

What is not in the diagram changes nothing: news of another attempt, of a step that has ended, of a
run that has ended or that nobody knows. So redelivery and reordering are harmless. A start nobody
wants any more is answered with a stop order.

Retries: attempt n + 1 is due retry_delay_s · 2^(n-1) after attempt n failed, at most 300 s. An
attempt lost with its executor is begun by another one, without counting as a try. Whoever would be
the eleventh to begin it is told to stop, and it is E_LOST, which counts like any failure: a step
that has killed ten executors will kill the next.
"""

from collections.abc import Iterable
from typing import assert_never

from penstock.contracts.inbox import (
    CancelRun,
    FlightLanded,
    FollowFlight,
    Inbound,
    Reports,
    TimerDue,
    Wake,
)
from penstock.contracts.plans import PlanPart
from penstock.contracts.work import AttemptFailed, AttemptStarted, AttemptSucceeded
from penstock_scheduler.decide import attempts, cancelling, flights, planning, reuse, timers
from penstock_scheduler.decide.progress import break_off, breaks_off, conclude, offer, start
from penstock_scheduler.decide.reuse import LookedUp
from penstock_scheduler.decide.turn import Turn
from penstock_scheduler.state import RUN_ENDED, Partition, RunStatus, StepStatus

__all__ = ["Input", "LookedUp", "Resumed", "Turn", "decided", "handle", "offer"]


class Resumed:
    """A new owner has replayed the log: finish what the last one may have left half said."""


Input = Inbound | LookedUp | Resumed


def decided(partition: Partition, inputs: Iterable[Input], now: float) -> Turn:
    """Take in messages, in order; return the facts and orders. `partition` has already evolved."""
    turn = Turn(partition, now)
    for message in inputs:
        handle(turn, message)
    offer(turn)
    return turn


def handle(turn: Turn, message: Input) -> None:
    """Take in one message."""
    match message:
        case AttemptSucceeded():
            attempts.succeed(turn, message)
        case AttemptStarted():
            attempts.begin(turn, message)
        case AttemptFailed():
            attempts.fail(turn, message)
        case Reports(reports=reports):
            attempts.take_in(turn, reports)
        case LookedUp():
            reuse.answer(turn, message)
        case PlanPart():
            planning.record(turn, message)
        case CancelRun():
            cancelling.cancel(turn, message)
        case FollowFlight():
            flights.follow(turn, message)
        case FlightLanded():
            flights.look_again(turn, message)
        case TimerDue():
            timers.ring(turn, message)
        case Wake():
            pass
        case Resumed():
            resume(turn)
        case _:
            assert_never(message)


def resume(turn: Turn) -> None:
    """Go on from any prefix of the log: a commit may have been cut between two of its facts."""
    for run in list(turn.partition.runs.values()):
        if run.status is RunStatus.ARRIVING or run.status in RUN_ENDED:
            continue
        planning.check(turn, run)
        if run.status in RUN_ENDED:
            continue
        if run.cancelling is not None:
            cancelling.end_what_does_not_run(turn, run)
        elif breaks_off(run):
            break_off(turn, run)
        else:
            for step, state in enumerate(run.steps):
                if state.status is StepStatus.WAITING:
                    start(turn, run, step)
                elif state.status is StepStatus.QUEUED:
                    turn.touch(run.targets[step])
        conclude(turn, run)
