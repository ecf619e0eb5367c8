"""Promises that are checked at every durable fact, with the facts folded once more beside the system.

I2  a step has one result: what its graph makes, stored and verified before it counts
I4  nothing runs before what it needs is committed
I5  only the current attempt changes anything, and nothing changes after its end
I7  a cursor never goes back
I11 a log is what was written, or says what is missing
and: work is delivered twice only for a reason; what is said to be whole is whole
"""

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.simulation.world.model import Expected, interpreted
from tests.simulation.world.wishes import Submission

from penstock.contracts.artifacts import TreeRef, layout_of, tree_key
from penstock.contracts.requests import RunAnswer
from penstock.contracts.schedules import ScheduleState
from penstock.contracts.work import WorkItem
from penstock_artifact.decide import read_tree
from penstock_artifact.state import Tree
from penstock_planner.decide.plan import Plan
from penstock_scheduler import state, transitions
from penstock_scheduler.effects import PutLatest, PutReuse
from penstock_scheduler.effects.kept import kept
from penstock_scheduler.state import ENDED, RUN_ENDED, WELL, Partition, Run, RunStatus
from penstock_scheduler.transitions import (
    AttemptBegan,
    AttemptOffered,
    PlanRecorded,
    StepEnd,
    StepFailed,
    StepQueued,
    StepReady,
    StepRetrying,
    StepReused,
    StepSucceeded,
    Transition,
)

if TYPE_CHECKING:
    from tests.simulation.world.play import World
    from tests.simulation.world.server import Entry, Queue


class Violation(AssertionError):
    """A promise was broken."""


def promise(kept: object, what: str, about: str = "") -> None:
    """Raise unless a promise is kept."""
    if not kept:
        raise Violation(f"{about}: {what}" if about else what)


@dataclass
class Auditor:
    """What happened, as an observer with no part in it sees it."""

    world: "World"
    shadow: dict[int, Partition] = field(default_factory=dict)
    plans: dict[str, Plan] = field(default_factory=dict)
    expected: dict[str, dict[str, Expected]] = field(default_factory=dict)
    accepted: dict[str, str] = field(default_factory=dict)
    """Answered runs, and how they were asked for."""
    by_key: dict[str, str] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    executions: Counter[tuple[str, str]] = field(default_factory=Counter)
    reasons: set[int] = field(default_factory=set)
    """Messages that may be delivered again: their ack was lost, or they were given back."""
    seen: set[str] = field(default_factory=set)
    excused_runs: set[str] = field(default_factory=set)
    """Runs that a misfortune, a cancel or a deadline made end otherwise than the model says."""
    last_due: float = 0
    unsettled: dict[int, deque[tuple[int, list[PutReuse | PutLatest]]]] = field(
        default_factory=dict
    )
    """Results of each partition's log that no commit has called settled yet."""

    # -- the log ---------------------------------------------------------------------------------
    def committed(self, number: int, message_id: str, data: bytes, sequence: int) -> None:
        """Take in a message of the log; copies are passed over by whoever reads it."""
        if message_id in self.seen:
            return
        self.seen.add(message_id)
        shadow = self.shadow.setdefault(number, Partition(number))
        commit = transitions.commit_of(data)
        self._settled(number, commit.settled)
        for transition in commit.transitions:
            self._check(shadow, transition)
            state.evolve(shadow, transition, commit.at)
            self._owe(number, sequence, shadow, transition, commit.at)
            if self.world.trace is not None:
                self.world.note(f"log {number}", _shown(shadow, transition))

    def _owe(
        self, number: int, sequence: int, shadow: Partition, fact: transitions.Transition, at: float
    ) -> None:
        if isinstance(fact, transitions.StepReused | transitions.StepSucceeded):
            run = shadow.runs[fact.run]
            if run.status is not RunStatus.ARRIVING:
                self.unsettled.setdefault(number, deque()).append((sequence, kept(run, fact, at)))

    def _settled(self, number: int, up_to: int) -> None:
        """Take in that results are said to be in the tables: they are, or newer ones were put later."""
        waiting = self.unsettled.setdefault(number, deque())
        while waiting and waiting[0][0] <= up_to:
            sequence, results = waiting.popleft()
            for result in results:
                if isinstance(result, PutReuse):
                    table, key, at = "reuse", result.fingerprint, result.entry.ended_at
                else:
                    table, key, at = "latest", result.key, result.entry.at
                put, value = self.world.server.value(table, key)
                now = 0 if value is None else value.ended_at if table == "reuse" else value.at
                promise(put > sequence or now >= at, "I14 called settled before it was put", key)

    def compacted(self, number: int, data: bytes) -> None:
        """Take in that the log has dropped a message: no run that goes on may need it."""
        shadow = self.shadow[number]
        for transition in transitions.commit_of(data).transitions:
            run = shadow.runs[transitions.run_of(transition)]
            about = f"{type(transition).__name__} of {run.head.run}"
            promise(run.status in RUN_ENDED, "I6 compacted away and still needed", about)

    def run(self, name: str) -> Run | None:
        """Return a run as the log has it."""
        shadow = self.shadow.get(self.world.server.partition_of(name))
        return shadow.runs.get(name) if shadow else None

    def _check(self, shadow: Partition, transition: Transition) -> None:
        run = shadow.runs.get(transitions.run_of(transition))
        about = f"{type(transition).__name__} of {transitions.run_of(transition)}"
        if isinstance(transition, PlanRecorded):
            fresh = run is None or run.status is RunStatus.ARRIVING
            promise(fresh, "I2 a plan is recorded a second time", about)
            return
        promise(run is not None, "I6 a fact about a run that nobody planned", about)
        assert run is not None
        promise(run.status not in RUN_ENDED, "I5 a fact after the run's end", about)
        number = getattr(transition, "step", None)
        if number is None or run.status is RunStatus.ARRIVING:
            return
        before, name = run.steps[number], run.names[number]
        about = f"{about} {name}"
        if isinstance(transition, transitions.FlightFollowed):
            return
        promise(before.status not in ENDED, "I5 a fact after the step's end", about)
        attempt = getattr(transition, "attempt", before.attempt)
        match transition:
            case StepQueued():
                promise(attempt == before.attempt + 1, f"I5 attempt {attempt}", about)
                limit = run.plan(number).attempts_max
                promise(attempt <= limit, f"I3 attempt {attempt} of {limit}", about)
            case (
                AttemptOffered() | AttemptBegan() | StepRetrying() | StepSucceeded() | StepFailed()
            ):
                current = attempt == before.attempt
                promise(current, f"I5 attempt {attempt}, but {before.attempt} is current", about)
        if isinstance(transition, StepRetrying | StepFailed) and transition.failure is not None:
            lost = transition.failure.code == "E_LOST" and not transition.executor
            self.world.landed["given up after its starts"] += lost and run.cancelling is None
        if isinstance(transition, AttemptBegan):
            starts, limit = before.starts + 1, self.world.shape.starts_max
            promise(starts <= limit, f"I12 begun {starts} times of {limit}", about)
        if isinstance(transition, StepQueued | StepReady | StepReused | StepSucceeded):
            self._check_needs(run, number, about)
        if isinstance(transition, StepSucceeded):
            told = transition.metrics.get("attempt")
            promise(told == attempt, f"I5 the result of attempt {told} for {attempt}", about)
            self._check_outputs(run, name, transition.outputs, about, stored=True)
        if isinstance(transition, StepReused):
            self._check_outputs(run, name, transition.outputs, about, stored=False)

    def _check_needs(self, run: Run, number: int, about: str) -> None:
        for need in run.plan(number).needs:
            well = run.steps[run.index[need]].status in WELL
            promise(well, f"I4 before its need {need} is committed", about)

    def _check_outputs(
        self, run: Run, name: str, outputs: dict[str, TreeRef], about: str, *, stored: bool
    ) -> None:
        digest = self.expectations(run)[name].digest
        promise(set(outputs) == {"o"}, f"I2 outputs {sorted(outputs)}", about)
        promise(outputs["o"].digest == digest, "I2 not what the graph makes", about)
        if stored:
            promise(self.is_whole(digest), "I2 its bytes are not stored", about)

    def expectations(self, run: Run) -> dict[str, Expected]:
        """Return what the model makes of a run's plan."""
        found = self.expected.get(run.head.run)
        if found is None:
            steps = tuple(run.plan(number) for number in range(len(run.names)))
            found = interpreted(steps, self.world.wishes.behaviours)
            self.expected[run.head.run] = found
        return found

    # -- the store -------------------------------------------------------------------------------
    def is_whole(self, digest: str) -> bool:
        """Say whether a tree is stored, every byte of it, or was and the store has lost it."""
        store, key = self.world.store, tree_key(digest)
        data = store.objects.get(key)
        if data is None:
            return key in store.lost_at
        tree = read_tree(data, digest)
        return all(self._is_right(tree, ref.key) for ref in tree.objects)

    def _is_right(self, tree: Tree, key: str) -> bool:
        store = self.world.store
        data = store.objects.get(key)
        return key in store.lost_at if data is None else _holds(tree, key, data)

    def said_whole(self, tree: Tree, since: float) -> None:
        """Take in that a copy of the artifact service calls a tree whole, as it was at `since`."""
        store = self.world.store
        for key in (tree_key(tree.digest), *(ref.key for ref in tree.objects)):
            gone = key not in store.objects and store.lost_at.get(key, since) < since
            promise(not gone, "I14 called whole long after its bytes were lost", key)

    def manifest_stored(self, key: str, data: bytes) -> None:
        """Take in that a tree is committed from now on."""
        self.world.landed["committed a tree"] += 1

    # -- executors -------------------------------------------------------------------------------
    def executed(self, item: WorkItem, delivery: int) -> None:
        """Take in that user code runs: the side ledger."""
        self.executions[item.run, item.step] += 1
        run, about = self.run(item.run), f"{item.run} {item.step} attempt {item.attempt}"
        promise(run is not None, "I4 runs without a plan", about)
        assert run is not None
        number = run.index[item.step]
        promise(item.attempt <= run.steps[number].attempt, "I5 runs before it is queued", about)
        self._check_needs(run, number, about)
        expected = self.expectations(run)
        for name, given in item.inputs.items():
            maker = run.plan(number).inputs[name].step
            right = given.artifact == expected[maker].digest
            promise(right, f"I4 input {name} is not what {maker} made", about)

    def kept_log(self, written: bytes, kept: bytes, tail_bytes: int) -> None:
        """Take in what is left of an attempt's log."""
        marked = b"[penstock: " in kept and kept.endswith(written[-tail_bytes:])
        promise(kept == written or marked, "I11 a log has a hole and no mark")

    def excused(self, entry: "Entry") -> None:
        """Note that a message may be delivered again."""
        self.reasons.add(entry.sequence)

    def redelivered(self, queue: "Queue", entry: "Entry") -> None:
        """Take in that a message is lent once more: whoever had it must have been in trouble."""
        world, holder = self.world, entry.holder
        if queue is not world.server.work or entry.sequence in self.reasons or holder is None:
            return
        lapsed = entry.until <= world.now
        since = entry.until - queue.ack_wait_s
        healthy = entry.life == holder.life and world.troubled_at(holder) < since
        about = f"{entry.subject} of {holder.name}, delivery {entry.deliveries}"
        promise(not (lapsed and healthy), "I12 a loan has lapsed in healthy hands", about)

    # -- callers ---------------------------------------------------------------------------------
    def planned(self, plan: Plan) -> None:
        """Take in what a planner makes of a request; two of them must make the same of it."""
        known = self.plans.setdefault(plan.head.run, plan)
        if not plan.head.rerun_of:
            promise(known.steps == plan.steps, "I1 two plans of one run", plan.head.run)

    def answered(self, wish: Submission, answer: RunAnswer | None) -> None:
        """Take in what a caller was told."""
        if answer is None:
            return
        if answer.error is not None:
            conflict = answer.error.code == "E_IDEMPOTENCY_CONFLICT"
            twins = [w for w in self.world.wishes.submissions if wish.key and w.key == wish.key]
            promise(
                conflict and any(twin != wish for twin in twins),
                f"I1 a sound request was refused: {answer.error}",
                wish.key,
            )
            return
        self.accepted[answer.run] = wish.key
        if wish.key:
            run = self.by_key.setdefault(wish.key, answer.run)
            promise(run == answer.run, f"I1 two runs of one key: {run}", answer.run)

    def answered_again(
        self, wish: Submission, first: RunAnswer | None, second: RunAnswer | None
    ) -> None:
        """Take in what a caller was told who asked the same once more."""
        if first is not None and second is not None and first.run and second.run:
            promise(first.run == second.run, "I1 the same wish is another run", wish.key)

    def reran(self, run: str, answer: RunAnswer | None) -> None:
        """Take in what a rerun has become."""
        if answer is not None and answer.error is None:
            promise(answer.run != run, "I1 a rerun is the run itself", run)
            self.accepted[answer.run] = f"rerun of {run}"

    def cursor_moved(self, after: ScheduleState) -> None:
        """Take in a new cursor."""
        promise(after.last_due >= self.last_due, "I7 the cursor went back", after.name)
        self.last_due = after.last_due


def _holds(tree: Tree, key: str, data: bytes) -> bool:
    from penstock.ids import digest_of

    places = layout_of(tree.manifest, tree.digest).places
    return all(
        digest_of(data[place.offset : place.offset + place.size]) == digest
        for digest, place in places.items()
        if place.key == key
    )


def _shown(shadow: Partition, transition: Transition) -> str:
    name = transitions.run_of(transition)
    run, number = shadow.runs.get(name), getattr(transition, "step", None)
    step = f" {run.names[number]}" if run is not None and number is not None else ""
    attempt = getattr(transition, "attempt", 0)
    tried = f" attempt {attempt}" if attempt else ""
    return f"{type(transition).__name__} {name}{step}{tried}"


__all__ = ["Auditor", "StepEnd", "Violation", "promise"]
