"""What can happen to a run: the facts a partition's log is made of. Nothing here decides.

One log message is one `Commit`: the moment, the inbox messages it answers, and transitions in the
order they hold. Steps are named by their place in the plan, which makes a fact of ten thousand
steps ten thousand small numbers. Facts are kept for ever, so a new field has a default and any
other change is a new version beside the old one; a version nobody knows is refused, never guessed.
"""

import msgspec

from penstock.contracts.artifacts import TreeRef
from penstock.contracts.base import Message
from penstock.contracts.events import Part
from penstock.contracts.plans import PlanPart
from penstock.contracts.requests import ErrorBody
from penstock.contracts.work import Failure
from penstock.errors import Corrupt
from penstock.units import KIB

COMMIT_BYTES_MAX = 700 * KIB
"""Above this a commit is split; NATS takes 1 MiB, and one transition may hold 64 KiB of metrics."""


class PlanRecorded(Message, tag="plan.recorded.v1"):
    """A part of a plan is here; the run is accepted with the last one."""

    part: PlanPart


class RunStarted(Message, tag="run.started.v1"):
    """The first step has begun or was reused."""

    run: str


class RunCancelling(Message, tag="run.cancelling.v1"):
    """No step starts any more; what runs is told to stop."""

    run: str
    reason: str = ""
    who: str = ""
    overdue: bool = False
    """The deadline did it: the run will have failed, not been cancelled."""


class RunSucceeded(Message, tag="run.succeeded.v1"):
    """Every step ended well."""

    run: str


class RunFailed(Message, tag="run.failed.v1"):
    """Every step has ended, and not all of them well."""

    run: str
    error: ErrorBody


class RunCancelled(Message, tag="run.cancelled.v1"):
    """Every step has ended after a cancel that ended at least one of them."""

    run: str
    reason: str = ""


class StepReady(Message, tag="step.ready.v1"):
    """Its inputs are known. Look number `look` asks whether an equal step has done the work.

    `stale_run`/`stale_step` held a claim on the fingerprint and said that they no longer do.
    """

    run: str
    step: int
    fingerprint: str
    look: int = 1
    stale_run: str = ""
    stale_step: str = ""


class StepFollowing(Message, tag="step.following.v1"):
    """An equal step is in flight: wait for it instead of doing the same work beside it."""

    run: str
    step: int
    leader_run: str
    leader_step: str


class FlightFollowed(Message, tag="flight.followed.v1"):
    """Somebody waits for this step."""

    run: str
    step: int
    follower_run: str
    follower_step: str
    look: int = 0


class StepReused(Message, tag="step.reused.v1"):
    """Somebody has done the work before; these are the results."""

    run: str
    step: int
    reused_from: str
    outputs: dict[str, TreeRef] = {}
    metrics: dict[str, object] = {}
    logs: TreeRef | None = None
    fingerprint: str = ""
    reason: str = ""
    compared_with: str = ""
    parts: tuple[Part, ...] = ()
    typical_s: float = 0
    samples: int = 0
    """As in StepQueued, for the next run to know."""


class StepQueued(Message, tag="step.queued.v1"):
    """Attempt `attempt` waits for its turn at the compute target.

    `holds`: the step holds the claim on its fingerprint, and equal steps may follow it.
    """

    run: str
    step: int
    attempt: int = 1
    holds: bool = False
    reason: str = ""
    compared_with: str = ""
    parts: tuple[Part, ...] = ()
    typical_s: float = 0
    """What earlier attempts of the step took, learned from `samples` of them."""
    samples: int = 0


class AttemptOffered(Message, tag="attempt.offered.v1"):
    """The attempt goes to the work queue of its compute target."""

    run: str
    step: int
    attempt: int


class AttemptBegan(Message, tag="attempt.began.v1"):
    """An executor runs it. A higher `delivery` of the same attempt took it over from a dead one."""

    run: str
    step: int
    attempt: int
    executor: str = ""
    delivery: int = 1


class StepOverdue(Message, tag="step.overdue.v1"):
    """The attempt runs for longer than was expected, and goes on."""

    run: str
    step: int
    attempt: int
    expected_s: float
    declared: bool = False
    """The pipeline says what is expected; else earlier runs do."""


class StepRetrying(Message, tag="step.retrying.v1"):
    """The attempt failed; the next one is due at `retry_at`."""

    run: str
    step: int
    attempt: int
    failure: Failure
    retry_at: float
    executor: str = ""
    seconds: float = 0
    logs: TreeRef | None = None
    metrics: dict[str, object] = {}
    tags: dict[str, str] = {}


class StepSucceeded(Message, tag="step.succeeded.v1"):
    """The attempt's outputs are committed: this is the step's one result."""

    run: str
    step: int
    attempt: int
    executor: str = ""
    outputs: dict[str, TreeRef] = {}
    logs: TreeRef | None = None
    metrics: dict[str, object] = {}
    tags: dict[str, str] = {}
    seconds: float = 0


class StepFailed(Message, tag="step.failed.v1"):
    """No attempt is left, or none could do better."""

    run: str
    step: int
    attempt: int
    failure: Failure
    executor: str = ""
    seconds: float = 0
    logs: TreeRef | None = None
    metrics: dict[str, object] = {}
    tags: dict[str, str] = {}


class StepCancelled(Message, tag="step.cancelled.v1"):
    """The run was cancelled before or while the step ran. `attempt`: the one that was out, or 0."""

    run: str
    step: int
    attempt: int = 0
    reason: str = ""
    failure: Failure | None = None
    executor: str = ""
    seconds: float = 0
    logs: TreeRef | None = None
    metrics: dict[str, object] = {}
    tags: dict[str, str] = {}


class StepSkipped(Message, tag="step.skipped.v1"):
    """It will not run; `reason` names the step that did it. `attempt`: the one that was out, or 0."""

    run: str
    step: int
    attempt: int = 0
    reason: str = ""


Transition = (
    PlanRecorded
    | RunStarted
    | RunCancelling
    | RunSucceeded
    | RunFailed
    | RunCancelled
    | StepReady
    | StepFollowing
    | FlightFollowed
    | StepReused
    | StepQueued
    | AttemptOffered
    | AttemptBegan
    | StepOverdue
    | StepRetrying
    | StepSucceeded
    | StepFailed
    | StepCancelled
    | StepSkipped
)

StepEnd = StepReused | StepSucceeded | StepFailed | StepCancelled | StepSkipped
RunEnd = RunSucceeded | RunFailed | RunCancelled


class Commit(Message, tag="commit.v1"):
    """One message of the log."""

    at: float
    """Seconds since 1970, the owner's clock when it decided."""
    inputs: tuple[int, ...] = ()
    """Sequences in the inbox stream of what was taken in."""
    transitions: tuple[Transition, ...] = ()
    live: int = 0
    """Runs that the partition still has to care for after this commit."""
    settled: int = 0
    """Results in commits up to this sequence of the log are in the tables: nobody need put them again."""


_commit: msgspec.json.Decoder[Commit] = msgspec.json.Decoder(Commit)


def run_of(transition: Transition) -> str:
    """Return the run that a transition belongs to."""
    return transition.part.head.run if isinstance(transition, PlanRecorded) else transition.run


def commit_of(data: bytes) -> Commit:
    """Return a message of the log.

    Raises:
        Corrupt: E_CORRUPT, when a newer version wrote it, or nobody did.
    """
    try:
        return _commit.decode(data)
    except msgspec.MsgspecError as error:
        raise Corrupt(str(error), where="runlog") from error


def messages_of(commit: Commit, bytes_max: int = COMMIT_BYTES_MAX) -> list[bytes]:
    """Return a commit as the fewest halves of halves that fit into messages, in order.

    Every prefix of the transitions is a state that the next owner can go on from, so a cut between
    two messages is as good as a crash between them.
    """
    data = msgspec.json.encode(commit)
    if len(data) <= bytes_max or len(commit.transitions) <= 1:
        return [data]
    middle = len(commit.transitions) // 2
    first = msgspec.structs.replace(commit, transitions=commit.transitions[:middle])
    second = msgspec.structs.replace(commit, transitions=commit.transitions[middle:], inputs=())
    return messages_of(first, bytes_max) + messages_of(second, bytes_max)
