"""What a partition remembers, and the one function that changes it.

    log ──▶ evolve(partition, transition, at) ──▶ the same partition, one fact later

A partition is changed in place by its single owner; a step's state is a frozen value in a list, so
a step costs below 1 KiB and a fact costs what it changes, never what the run has. If a commit is
refused, the whole partition is thrown away and replayed: nothing here can be half done.

Plans are kept encoded (a quarter of the memory) and decoded when a step needs one.
"""

import heapq
from dataclasses import dataclass, field
from enum import Enum

import msgspec

from penstock.contracts.artifacts import TreeRef
from penstock.contracts.plans import PlanHead, PlannedStep
from penstock_scheduler.transitions import (
    AttemptBegan,
    AttemptOffered,
    FlightFollowed,
    PlanRecorded,
    RunCancelled,
    RunCancelling,
    RunFailed,
    RunStarted,
    RunSucceeded,
    StepCancelled,
    StepFailed,
    StepFollowing,
    StepOverdue,
    StepQueued,
    StepReady,
    StepRetrying,
    StepReused,
    StepSkipped,
    StepSucceeded,
    Transition,
    run_of,
)

WINDOW = 128
"""Attempts of one partition that may be out at one compute target: 16 times 128 stay below the 4,096
that a work consumer lends out, and ten thousand ready steps do not sit in the work stream."""

DEADLINE_S = 86_400.0
"""Seconds a run may take when neither the request nor a setting says otherwise."""

STARTS_MAX = 10
"""Executors that may begin one attempt. Five restarts of broker or machines in its life, and as many
neighbours that took their executor along, are bad luck and may cost it none of its tries. A step that
kills its executors has killed ten within some three minutes: each is missed after 15 s."""


class StepStatus(Enum):
    """Where a step is; the arrows are drawn in decide/__init__.py."""

    WAITING = "waiting"
    LOOKING = "looking"
    FOLLOWING = "following"
    QUEUED = "queued"
    OFFERED = "offered"
    RUNNING = "running"
    RETRYING = "retrying"
    REUSED = "reused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


WELL = frozenset({StepStatus.REUSED, StepStatus.SUCCEEDED})
ENDED = WELL | {StepStatus.FAILED, StepStatus.CANCELLED, StepStatus.SKIPPED}
OUT = frozenset({StepStatus.OFFERED, StepStatus.RUNNING})
TRYING = OUT | {StepStatus.QUEUED}
IN_FLIGHT = TRYING | {StepStatus.LOOKING, StepStatus.RETRYING}
"""Worth following: such a step will end by itself."""


class RunStatus(Enum):
    """Where a run is. `ARRIVING`: parts of its plan are missing."""

    ARRIVING = "arriving"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


RUN_ENDED = frozenset({RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED})


class StepState(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One step, as it is now."""

    status: StepStatus = StepStatus.WAITING
    attempt: int = 0
    delivery: int = 0
    """Which delivery of the attempt runs."""
    starts: int = 0
    """How often executors have begun the attempt."""
    look: int = 0
    """How often the step has asked for equal work; an answer to an earlier look is late news."""
    fingerprint: str = ""
    holds: bool = False
    """It holds the claim on its fingerprint, or held it to its end."""
    leader: tuple[str, str] | None = None
    """FOLLOWING: run and step it waits for. LOOKING: whose claim is known to be stale."""
    outputs: dict[str, TreeRef] | None = None
    at: float = 0
    """When it came here, seconds since 1970. RETRYING: when the next attempt is due."""
    since: float = 0
    """When its needs were met; 0: they are not."""
    typical_s: float = 0
    samples: int = 0
    """What earlier attempts took, see effects/expecting.py; known once the step has looked."""
    overdue: int = 0
    """The attempt that has been told as overdue."""


_WAITING = StepState()
"""Shared by all steps that have not moved yet."""


class Follower(msgspec.Struct, frozen=True, gc=False):
    """A step somewhere that waits for one of ours."""

    run: str
    step: str
    look: int


class Bounds(msgspec.Struct, frozen=True, gc=False):
    """What bounds a step in time, beside its run: seconds, 0: nothing."""

    timeout_s: float = 0
    deadline_s: float = 0
    expected_s: float = 0


_UNBOUNDED = Bounds()


@dataclass(slots=True)
class Run:
    """One run. Lists are indexed by the step's place in the plan."""

    head: PlanHead
    parts: int
    arrived: dict[int, tuple[PlannedStep, ...]] = field(default_factory=dict)
    """Parts of the plan, until all are here."""
    status: RunStatus = RunStatus.ARRIVING
    names: list[str] = field(default_factory=list)
    index: dict[str, int] = field(default_factory=dict)
    plans: list[bytes] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    bounded: dict[int, Bounds] = field(default_factory=dict)
    """Only of the steps that declare any: asked for at every move, so not decoded every time."""
    fresh: frozenset[int] = frozenset()
    """Steps that run whatever was done before."""
    steps: list[StepState] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    """Needs that have not ended well yet."""
    dependents: list[tuple[int, ...]] = field(default_factory=list)
    open: int = 0
    """Steps that have not ended."""
    counts: dict[str, int] = field(default_factory=dict)
    """Ended steps by status."""
    running: dict[int, None] = field(default_factory=dict)
    """Steps that run, in the order they began."""
    seq: int = 0
    """Events told so far."""
    broken: str = ""
    """First step that failed, or empty."""
    cancelling: RunCancelling | None = None
    cancelling_at: float = 0
    followers: dict[int, tuple[Follower, ...]] = field(default_factory=dict)
    accepted_at: float = 0
    ended_at: float = 0
    first_sequence: int = 0
    """Log message that holds the run's first fact; 0: not stored yet."""

    def plan(self, step: int) -> PlannedStep:
        """Return the plan of a step."""
        return _plan.decode(self.plans[step])

    def bounds(self, step: int) -> Bounds:
        """Return what bounds a step in time."""
        return self.bounded.get(step, _UNBOUNDED)


_plan: msgspec.json.Decoder[PlannedStep] = msgspec.json.Decoder(PlannedStep)


@dataclass(slots=True)
class Target:
    """A compute target, as one partition sees it."""

    out: int = 0
    """Attempts on the work queue or running."""
    queue: list[tuple[int, int, str, int, int]] = field(default_factory=list)
    """Heap of (-priority, arrival, run, step, attempt). The first entry is true; others may be old."""


@dataclass(slots=True)
class Partition:
    """All runs of one partition of the run log."""

    number: int = 0
    window: int = WINDOW
    deadline_s: float = DEADLINE_S
    starts_max: int = STARTS_MAX
    runs: dict[str, Run] = field(default_factory=dict)
    targets: dict[str, Target] = field(default_factory=dict)
    arrivals: int = 0


def evolve(partition: Partition, transition: Transition, at: float) -> None:  # noqa: PLR0915 - one arm per fact
    """Change `partition` by one fact of the moment `at`.

    A fact about a run that is not here changes nothing: its beginning has been compacted away. So
    has that of a run of which something is told before its plan is whole.
    """
    if isinstance(transition, PlanRecorded):
        _record_plan(partition, transition, at)
        return
    run = partition.runs.get(run_of(transition))
    if run is None:
        return
    if run.status is RunStatus.ARRIVING and not isinstance(transition, RunCancelling):
        del partition.runs[
            run.head.run
        ]  # it ended before the log was cut in the middle of its plan
        return
    match transition:
        case RunStarted():
            run.status = RunStatus.RUNNING
            run.seq += 1
        case RunCancelling():
            run.cancelling, run.cancelling_at = transition, at
        case RunSucceeded():
            _end_run(run, RunStatus.SUCCEEDED, at)
        case RunFailed():
            _end_run(run, RunStatus.FAILED, at)
        case RunCancelled():
            _end_run(run, RunStatus.CANCELLED, at)
        case StepReady(step=step):
            stale = (transition.stale_run, transition.stale_step) if transition.stale_run else None
            run.steps[step] = StepState(
                status=StepStatus.LOOKING,
                look=transition.look,
                fingerprint=transition.fingerprint,
                leader=stale,
                at=at,
                since=run.steps[step].since or at,
            )
        case StepFollowing(step=step):
            run.steps[step] = msgspec.structs.replace(
                run.steps[step],
                status=StepStatus.FOLLOWING,
                leader=(transition.leader_run, transition.leader_step),
                at=at,
            )
        case FlightFollowed(step=step):
            follower = Follower(transition.follower_run, transition.follower_step, transition.look)
            run.followers[step] = (*run.followers.get(step, ()), follower)
        case StepQueued(step=step):
            before = run.steps[step]
            run.steps[step] = StepState(
                status=StepStatus.QUEUED,
                attempt=transition.attempt,
                look=before.look,
                fingerprint=before.fingerprint,
                holds=before.holds or transition.holds,
                at=at,
                since=before.since or at,
                typical_s=transition.typical_s or before.typical_s,
                samples=transition.samples or before.samples,
            )
            run.seq += 1
            partition.arrivals += 1
            entry = (
                -run.head.priority,
                partition.arrivals,
                run.head.run,
                step,
                transition.attempt,
            )
            heapq.heappush(_target(partition, run, step).queue, entry)
        case AttemptOffered(step=step):
            _move(partition, run, step, StepStatus.OFFERED, at)
        case AttemptBegan(step=step):
            _begin(partition, run, step, at, transition.delivery)
            run.seq += 1
        case StepOverdue(step=step):
            run.steps[step] = msgspec.structs.replace(run.steps[step], overdue=transition.attempt)
            run.seq += 1
        case StepRetrying(step=step):
            _move(partition, run, step, StepStatus.RETRYING, transition.retry_at)
            run.seq += 1
        case StepReused(step=step):
            run.steps[step] = msgspec.structs.replace(
                run.steps[step], typical_s=transition.typical_s, samples=transition.samples
            )
            _move(partition, run, step, StepStatus.REUSED, at, outputs=transition.outputs or None)
            _meet_needs(run, step)
        case StepSucceeded(step=step):
            outputs = transition.outputs or None
            _move(partition, run, step, StepStatus.SUCCEEDED, at, outputs=outputs)
            _meet_needs(run, step)
        case StepFailed(step=step):
            run.broken = run.broken or run.names[step]
            _move(partition, run, step, StepStatus.FAILED, at)
        case StepCancelled(step=step):
            _move(partition, run, step, StepStatus.CANCELLED, at)
        case StepSkipped(step=step):
            _move(partition, run, step, StepStatus.SKIPPED, at)


def offerable(partition: Partition, target: str) -> tuple[Run, int] | None:
    """Return the queued step that goes out next at a target, None if none or the window is full."""
    here = partition.targets.get(target)
    if here is None or not here.queue or here.out >= partition.window:
        return None
    _, _, name, step, _ = here.queue[0]
    return partition.runs[name], step


def anchor(partition: Partition, sequence: int) -> None:
    """Note under which sequence of the log the youngest runs began."""
    for run in reversed(partition.runs.values()):
        if run.first_sequence:
            return
        run.first_sequence = sequence


def needed_from(partition: Partition) -> int:
    """Return the first sequence of the log that a replay still needs; 0: none.

    A run whose first fact is on its way has no sequence yet: it must not make the others' look
    unneeded.
    """
    anchored = (run.first_sequence for run in partition.runs.values() if run.first_sequence)
    return min(anchored, default=0)


def forget(partition: Partition, name: str) -> None:
    """Drop a run that has ended and whose last effects are done: housekeeping, not a fact."""
    run = partition.runs.get(name)
    if run is not None and run.status in RUN_ENDED:
        del partition.runs[name]


def missing_need(run: Run) -> str:
    """Return why a plan can never end (a need that is no step, a circle), or an empty text."""
    if len(run.index) != len(run.names):
        return "two steps have one name"
    left = list(run.waiting)
    ready = [step for step, count in enumerate(left) if count == 0]
    seen = 0
    while ready:
        seen += 1
        for dependent in run.dependents[ready.pop()]:
            left[dependent] -= 1
            if left[dependent] == 0:
                ready.append(dependent)
    if seen == len(run.names):
        return ""
    stuck = next((run.names[step] for step, count in enumerate(left) if count > 0), "")
    return f"step {stuck!r} waits for ever: its needs are no steps of this plan, or a circle"


def _record_plan(partition: Partition, transition: PlanRecorded, at: float) -> None:
    part = transition.part
    run = partition.runs.get(part.head.run)
    if run is None:
        run = partition.runs[part.head.run] = Run(head=part.head, parts=part.parts)
    run.arrived[part.part] = part.steps
    if len(run.arrived) < run.parts:
        return
    planned = [step for number in range(run.parts) for step in run.arrived[number]]
    run.arrived = {}
    run.status = RunStatus.QUEUED
    run.accepted_at = at
    run.seq += 1
    run.names = [step.name for step in planned]
    run.index = {name: number for number, name in enumerate(run.names)}
    run.plans = [msgspec.json.encode(step) for step in planned]
    run.bounded = {
        number: Bounds(step.timeout_s, step.deadline_s, step.expected_s)
        for number, step in enumerate(planned)
        if step.timeout_s or step.deadline_s or step.expected_s
    }
    run.fresh = frozenset(number for number, step in enumerate(planned) if step.fresh)
    known: dict[str, str] = {}
    run.targets = [known.setdefault(step.compute, step.compute) for step in planned]
    run.steps = [_WAITING] * len(planned)
    run.open = len(planned)
    run.waiting = [len(set(step.needs)) for step in planned]
    dependents: list[list[int]] = [[] for _ in planned]
    for number, step in enumerate(planned):
        for need in dict.fromkeys(step.needs):
            if need in run.index:
                dependents[run.index[need]].append(number)
    run.dependents = [tuple(numbers) for numbers in dependents]


def _begin(partition: Partition, run: Run, step: int, at: float, delivery: int) -> None:
    before = run.steps[step]
    starts = before.starts + 1 if before.status is StepStatus.RUNNING else 1
    _move(partition, run, step, StepStatus.RUNNING, at, delivery=delivery, starts=starts)


def _move(
    partition: Partition,
    run: Run,
    step: int,
    status: StepStatus,
    at: float,
    *,
    delivery: int = 0,
    starts: int = 0,
    outputs: dict[str, TreeRef] | None = None,
) -> None:
    before = run.steps[step]
    was_out, is_out = before.status in OUT, status in OUT
    if was_out != is_out:
        _target(partition, run, step).out += 1 if is_out else -1
    if status is StepStatus.RUNNING:
        run.running[step] = None
    elif before.status is StepStatus.RUNNING:
        del run.running[step]
    if status in ENDED:
        run.seq += 1
        run.open -= 1
        run.counts[status.value] = run.counts.get(status.value, 0) + 1
    run.steps[step] = StepState(
        status=status,
        attempt=before.attempt,
        delivery=delivery,
        starts=starts,
        look=before.look,
        fingerprint=before.fingerprint,
        holds=before.holds,
        outputs=outputs,
        at=at,
        since=before.since,
        typical_s=before.typical_s,
        samples=before.samples,
        overdue=before.overdue,
    )
    if before.status is StepStatus.QUEUED:
        _prune(partition, _target(partition, run, step))


def _prune(partition: Partition, target: Target) -> None:
    """Drop entries that are no longer true from the head of a target's queue."""
    queue = target.queue
    while queue:
        _, _, name, step, attempt = queue[0]
        run = partition.runs.get(name)
        if run is not None:
            state = run.steps[step]
            if state.status is StepStatus.QUEUED and state.attempt == attempt:
                return
        heapq.heappop(queue)


def _meet_needs(run: Run, step: int) -> None:
    for dependent in run.dependents[step]:
        run.waiting[dependent] -= 1


def _end_run(run: Run, status: RunStatus, at: float) -> None:
    run.status = status
    run.ended_at = at
    run.seq += 1


def _target(partition: Partition, run: Run, step: int) -> Target:
    name = run.targets[step]
    target = partition.targets.get(name)
    if target is None:
        target = partition.targets[name] = Target()
    return target
