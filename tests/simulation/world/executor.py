"""An executor, as its shell.py, attempt.py, preparing.py and storing.py have it.

    work taken ─▶ inputs fetched, checked ─▶ started told ─▶ user code ─▶ outputs committed
               ─▶ result told, durably ─▶ ack            never in another order

What an end means, whether another attempt may do better and which bytes of a log are kept are the
real decisions. User code is `wishes.content_of`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from tests.simulation.world.artifact import fetched_tree, stored_tree
from tests.simulation.world.clockwork import NEVER, Process, Task, Wait, Work, call
from tests.simulation.world.server import Entry
from tests.simulation.world.wishes import EXIT_OK, KILLED, content_of, manifest_of

from penstock.contracts.artifacts import TreeRef, tree_digest
from penstock.contracts.codec import decoded, encoded
from penstock.contracts.inbox import Reports
from penstock.contracts.work import (
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    Failure,
    StopAttempt,
    WorkItem,
)
from penstock.errors import Corrupt, PenstockError, Transient
from penstock_executor.attempt import failed
from penstock_executor.decide import layout, outcome
from penstock_executor.decide.keeping import Budget, Keeping
from penstock_executor.shell import checked, item_of

T = TypeVar("T")
Key = tuple[str, str, int]
Result = AttemptSucceeded | AttemptFailed
STORE_PATIENCE_S = 600.0
TOGETHER_SHARE = 0.5
LOG_BYTES = 64
TAIL_BYTES = 16


class Stopped(Exception):
    """The attempt was told to end."""


class Lacking(Exception):
    """Carries a failure to where the result is made."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@dataclass(slots=True, eq=False)
class Loan:
    """An attempt that is on loan."""

    item: WorkItem
    entry: Entry
    delivery: int
    phase: str = "preparing"
    stop: outcome.Stop | None = None
    ended: int | None = None
    """How user code ends, as wait(2) gives it, when somebody outside decides that it ends now."""
    started: Task | None = None
    is_started: bool = False
    fenced: bool = False


@dataclass(eq=False)
class Executor(Process):
    """Runs at most `slots` attempts at a time. `cache` is on disk: it survives a crash."""

    loans: dict[Key, Loan] = field(default_factory=dict)
    finished: set[Key] = field(default_factory=set)
    cache: dict[str, bytes] = field(default_factory=dict)
    beat_at: float = 0

    def boot(self) -> None:
        """Sweep what a dead one has left; begin to take work."""
        self.loans, self.finished = {}, set()
        self.beat_at = self._beat_clock()
        self.spawn(self._pull(), "pull")

    def beat(self) -> None:
        """Say of everything in hand that it is being worked on, when that is due."""
        world = self.world
        if self._beat_clock() < self.beat_at or not self.is_reachable():
            return
        self.beat_at = self._beat_clock() + world.shape.ack_wait_s / 3
        for loan in self.loans.values():
            world.server.work.extend(loan.entry)

    def _beat_clock(self) -> float:
        return self.wall() if self.world.mutant == "lease_by_local_clock" else self.world.now

    def hear(self, order: StopAttempt) -> None:
        """Take in a stop order; the first one counts."""
        loan = self.loans.get((order.run, order.step, order.attempt))
        if loan is not None and order.before:
            if loan.delivery < order.before:  # another executor has it: end without a word
                loan.fenced, loan.stop = True, outcome.Stop(order.reason, loan.phase)
        elif loan is not None and loan.stop is None:
            loan.stop = outcome.Stop(order.reason, loan.phase)

    # -- taking in -------------------------------------------------------------------------------
    def _pull(self) -> Work[None]:
        queue, slots = self.world.server.work, self.world.shape.slots
        wait = Wait(lambda: len(self.loans) < slots and self.is_reachable() and queue.has_free())
        while True:
            yield wait
            if wait.ready():
                entry = queue.take(self)
                if entry is not None:
                    yield from self._take_in(entry)

    def _take_in(self, entry: Entry) -> Work[None]:
        queue = self.world.server.work
        try:
            item = checked(decoded(entry.data, WorkItem), f"w.{entry.subject}")
        except Corrupt as error:
            self.world.audit.excused(entry)
            failure = Failure(code="E_INTERNAL", message=error.message)
            yield from self._set_aside(entry, failure)
            return
        key = (item.run, item.step, item.attempt)
        if key in self.finished:
            self.world.audit.excused(entry)  # nobody says that it is being worked on
            yield from call(self, lambda: queue.ack(entry))
            return
        if key in self.loans:
            self.loans[key].entry = entry
            return
        if entry.deliveries > self.world.shape.deliveries_max:
            self.world.audit.excused(entry)
            self.world.landed["given up unbegun"] += 1
            yield from self._set_aside(entry, Failure(code="E_LOST", message="none reported it"))
            return
        loan = self.loans[key] = Loan(item, entry, entry.deliveries)
        self.spawn(self._run(key, loan), f"{item.step}.{item.attempt}")

    def _set_aside(self, entry: Entry, failure: Failure) -> Work[None]:
        """Keep what cannot be run under dead.work, and fail the attempt it stands for."""
        server = self.world.server
        name = f"work.{entry.sequence}"
        yield from call(self, lambda: server.keep_dead("work", name, entry.data))
        item = item_of(f"w.{entry.subject}")
        if item is not None:
            yield from self._report(failed(item, self.name, entry.deliveries, failure))
        yield from call(self, lambda: server.work.ack(entry))

    # -- one attempt -----------------------------------------------------------------------------
    def _run(self, key: Key, loan: Loan) -> Work[None]:
        queue = self.world.server.work
        if self.world.mutant == "executor_acks_first":
            yield from call(self, lambda: queue.ack(loan.entry))
        result = yield from self._result(loan)
        if loan.started is not None and not loan.is_started:
            together = not loan.fenced and self.world.chance.random() < TOGETHER_SHARE
            if together:
                loan.started.dead = True
                yield from self._report_together(loan, result)
                yield from self._done(key, loan)
                return
            yield Wait(lambda: loan.is_started)
        if loan.fenced:
            self.world.audit.excused(loan.entry)  # neither reported nor given back
            self.loans.pop(key, None)
            return
        yield from self._report(result)
        yield from self._done(key, loan)

    def _done(self, key: Key, loan: Loan) -> Work[None]:
        queue = self.world.server.work
        self.finished.add(key)
        yield from call(self, lambda: queue.ack(loan.entry))
        self.loans.pop(key, None)

    def _result(self, loan: Loan) -> Work[Result]:
        item, where = loan.item, f"{loan.item.step} attempt {loan.item.attempt}"
        failure: Failure | None = None
        outputs: dict[str, TreeRef] = {}
        try:
            outputs = yield from self._worked(loan)
        except Lacking as error:
            failure = error.failure
        except PenstockError as error:
            failure = outcome.error_failure(error, where)
        except Stopped:
            pass
        if loan.stop is not None:
            failure = outcome.stop_failure(loan.stop, where)
        if failure is not None:
            return failed(item, self.name, loan.delivery, failure)
        return AttemptSucceeded(
            run=item.run,
            step=item.step,
            attempt=item.attempt,
            executor=self.name,
            delivery=loan.delivery,
            outputs=outputs,
            metrics={"attempt": item.attempt},
        )

    def _worked(self, loan: Loan) -> Work[dict[str, TreeRef]]:
        item, world = loan.item, self.world
        layout.checked_item(item)
        inputs: dict[str, str] = {}
        for name, given in item.inputs.items():
            yield from self._fetched(loan, name, given.artifact)
            inputs[name] = given.artifact
        self._check(loan)
        loan.started = self.spawn(self._say_started(loan), "started")
        loan.phase = "running"
        status = yield from self._user_code(loan)
        self._check(loan)
        loan.phase = "storing outputs"
        where = f"{item.step} attempt {item.attempt}"
        failure = outcome.ended_failure(outcome.Ended(status, 1.0), where)
        if failure is not None:
            raise Lacking(failure)
        content = content_of(item.command, inputs)
        manifest = manifest_of(content)
        outputs: dict[str, TreeRef] = {}
        for name in sorted(item.outputs):
            owner = f"run/{item.run}/{item.step}/{item.attempt}"
            store = partial(stored_tree, self, manifest, content, owner)
            if world.mutant == "commit_before_upload":
                yield from self._told_too_early(loan, name, content)
            ref = yield from self._patiently(loan, store)
            outputs[name] = ref
            if world.shape.cache:
                self.cache[ref.digest] = content
        return outputs

    def _told_too_early(self, loan: Loan, name: str, content: bytes) -> Work[None]:
        """A bug, put in on purpose: success is reported before the bytes are stored."""
        item, ref = loan.item, TreeRef(digest=tree_digest(manifest_of(content)))
        yield from self._report(
            AttemptSucceeded(
                run=item.run,
                step=item.step,
                attempt=item.attempt,
                executor=self.name,
                delivery=loan.delivery,
                outputs={name: ref},
                metrics={"attempt": item.attempt},
            )
        )

    def _fetched(self, loan: Loan, name: str, digest: str) -> Work[bytes]:
        if digest in self.cache:
            return self.cache[digest]
        try:
            content = yield from self._patiently(loan, lambda: fetched_tree(self, digest))
        except PenstockError as error:
            code = outcome.input_code(error, "E_INPUT")
            where = f"{loan.item.step}: input {name}"
            raise Lacking(outcome.error_failure(error, where, code)) from error
        if self.world.shape.cache:
            self.cache[digest] = content
        return content

    def _patiently(self, loan: Loan, work: Callable[[], Work[T]]) -> Work[T]:
        """Try again while the store or the artifact service is away."""
        until = self.world.now + STORE_PATIENCE_S
        while True:
            self._check(loan)
            try:
                return (yield from work())
            except Transient:
                if self.world.now + 1 > until:
                    raise
            yield self.world.now + 1

    def _say_started(self, loan: Loan) -> Work[None]:
        yield from self._report(self._start_of(loan))
        loan.is_started = True

    def _start_of(self, loan: Loan) -> AttemptStarted:
        item = loan.item
        return AttemptStarted(
            run=item.run,
            step=item.step,
            attempt=item.attempt,
            executor=self.name,
            delivery=loan.delivery,
        )

    def _user_code(self, loan: Loan) -> Work[int]:
        """Run the step; return how it ended, as wait(2) gives it."""
        item, world = loan.item, self.world
        yield None
        behaviour = world.wishes.behaviours[item.command]
        world.audit.executed(item, loan.delivery)
        if world.trace is not None:
            world.say(self, f"runs {item.run} {item.step} attempt {item.attempt}/{loan.delivery}")
        began = world.now
        ends_at = began + behaviour.seconds * world.chance.choice([0.5, 1, 1, 4])
        limit_at = began + item.timeout_s if item.timeout_s else NEVER
        yield Wait(lambda: loan.stop or loan.ended is not None, min(ends_at, limit_at))
        if limit_at <= world.now < ends_at and loan.stop is None and loan.ended is None:
            loan.stop = outcome.Stop("timeout", loan.phase, item.timeout_s)
        keep_log(item, behaviour.log_bytes, world.audit.kept_log)
        if loan.ended == KILLED or world.happens("user_kill"):
            return KILLED
        return behaviour.status if item.attempt <= behaviour.fails else EXIT_OK

    def _check(self, loan: Loan) -> None:
        if loan.stop is not None:
            raise Stopped

    def _report_together(self, loan: Loan, result: Result) -> Work[None]:
        """Tell start and end in one message, as runtime/reports.py does with what gathers."""
        reports = Reports(run=result.run, reports=(self._start_of(loan), result))
        name = f"{result.run}.{result.step}.{result.attempt}.{result.delivery}.together"
        data = encoded(reports)
        yield from call(self, self.world.server.put, result.run, "reports", data, name)
        self.world.landed["reported together"] += 1

    def _report(self, report: AttemptStarted | Result) -> Work[None]:
        kind = {AttemptStarted: "started", AttemptSucceeded: "succeeded", AttemptFailed: "failed"}
        what = kind[type(report)]
        name = f"{report.run}.{report.step}.{report.attempt}.{report.delivery}.{what}"
        data = encoded(report)
        yield from call(self, lambda: self.world.server.put(report.run, what, data, name))


def keep_log(item: WorkItem, size: int, check: object) -> None:
    """Write a log through the real keeping, with small limits, and have it checked."""
    written = (f"{item.run}{item.step}{item.attempt}." * (size // 10 + 1)).encode()[:size]
    keeping = Keeping(Budget(left=LOG_BYTES), tail_bytes=TAIL_BYTES)
    kept = b"".join(keeping.taken(written[at : at + 7]) for at in range(0, size, 7))
    check(written, kept + keeping.ended(), TAIL_BYTES)  # type: ignore[operator]
