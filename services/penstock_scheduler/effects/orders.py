"""The orders themselves, as values. What each asks of the bus is in performer.py."""

from dataclasses import dataclass
from typing import Literal

from penstock.contracts.events import RunEvent, StepEvent
from penstock.contracts.inbox import FlightLanded, FollowFlight
from penstock.contracts.queries import LatestEntry, ReuseEntry, RunSummary
from penstock.contracts.work import WorkItem

TimerKind = Literal["timeout", "retry", "deadline", "stop", "overdue"]


@dataclass(frozen=True, slots=True)
class LookUp:
    """Ask whether equal work is done or in flight; with `claim`, claim it if it is neither."""

    run: str
    step: str
    look: int
    fingerprint: str
    latest: str
    """Key in the bucket `latest`: what to compare the fingerprint's parts with."""
    claim: bool
    stale: tuple[str, str] | None = None
    """A claim by this run and step counts as none."""


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Put an attempt on its work queue; one that is there already stays."""

    item: WorkItem


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Take an attempt off its work queue; attempt 0: everything of the run."""

    run: str
    target: str = ""
    step: str = ""
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Stop:
    """Tell executors to end an attempt. Never the last word: a timer says it again."""

    run: str
    step: str
    attempt: int
    reason: Literal["cancelled", "timeout", "superseded"]
    before: int = 0
    """Only deliveries older than this one; 0: any."""


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Be told at `at`. One timer per run, step, attempt and kind: setting it again moves it."""

    run: str
    step: str
    attempt: int
    kind: TimerKind
    at: float


@dataclass(frozen=True, slots=True)
class CancelTimers:
    """Drop all timers of a run that has ended: hygiene, since a late timer changes nothing."""

    run: str


@dataclass(frozen=True, slots=True)
class Emit:
    """Tell everybody, in the order of `event.seq`, once."""

    event: RunEvent | StepEvent
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class PutSummary:
    """Keep the run's line in the list of runs."""

    summary: RunSummary


@dataclass(frozen=True, slots=True)
class PutReuse:
    """Offer a result to equal steps."""

    fingerprint: str
    entry: ReuseEntry


@dataclass(frozen=True, slots=True)
class PutLatest:
    """Keep what the step was made of, for the next comparison."""

    key: str
    entry: LatestEntry


@dataclass(frozen=True, slots=True)
class ReleaseFlight:
    """Give up the claim on a fingerprint, if it still is ours."""

    fingerprint: str
    run: str
    step: str


@dataclass(frozen=True, slots=True)
class AskFlight:
    """Ask the leader's partition to tell us when its step has ended."""

    message: FollowFlight


@dataclass(frozen=True, slots=True)
class TellFlight:
    """Tell a follower's partition to look again."""

    message: FlightLanded


Effect = (
    LookUp
    | Dispatch
    | Withdraw
    | Stop
    | SetTimer
    | CancelTimers
    | Emit
    | PutSummary
    | PutReuse
    | PutLatest
    | ReleaseFlight
    | AskFlight
    | TellFlight
)
