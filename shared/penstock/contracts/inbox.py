"""What a scheduler partition takes in: the union `Inbound` of its durable inbox stream.

Results come from executors, plans from planners, wishes from planners (for users) and triggers;
flights are partitions telling each other about equal work (single flight).
"""

from penstock.contracts.base import Message
from penstock.contracts.plans import PlanPart
from penstock.contracts.work import AttemptFailed, AttemptStarted, AttemptSucceeded

Report = AttemptStarted | AttemptSucceeded | AttemptFailed


class Reports(Message, tag="attempts.reported.v1"):
    """What executors report of one run while an earlier report is still on its way, in order."""

    run: str
    reports: tuple[Report, ...]


class CancelRun(Message, tag="run.cancel.v1"):
    """Somebody wants a run to stop."""

    run: str
    reason: str = ""
    who: str = ""


class FollowFlight(Message, tag="flight.follow.v1"):
    """A step waits for an equal step in flight: tell `follower_run` when `run`/`step` has ended."""

    run: str
    step: str
    fingerprint: str
    follower_run: str
    follower_step: str
    look: int = 0
    """Which look of the follower this is about; an answer to an earlier one is late news."""


class FlightLanded(Message, tag="flight.landed.v1"):
    """The equal step has ended (or never flew): look again."""

    run: str
    """The follower's run, to whose partition this goes."""
    step: str
    fingerprint: str
    leader_run: str
    leader_step: str
    look: int = 0
    """As asked in FollowFlight."""


class TimerDue(Message, tag="timer.due.v1"):
    """A scheduled message came due. `kind`: timeout · retry · deadline · stop · overdue."""

    run: str
    step: str = ""
    attempt: int = 0
    kind: str = ""


class Wake(Message, tag="partition.wake.v1"):
    """A partition has live runs: whoever takes this in owns it. Changes nothing by itself."""

    partition: int


Inbound = (
    PlanPart
    | AttemptStarted
    | AttemptSucceeded
    | AttemptFailed
    | Reports
    | CancelRun
    | FollowFlight
    | FlightLanded
    | TimerDue
    | Wake
)
