"""A planner, as its intake.py and runs.py have it.

    spec kept ─▶ key claimed ─▶ parts in the inbox ─▶ key marked planned ─▶ answer ─▶ ack

What a request says, whether it is a pipeline, what its plan and its parts are, what a rerun takes
over: all real. Everything before the ack may happen twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import msgspec
from tests.simulation.world.artifact import asked
from tests.simulation.world.clockwork import Process, Task, Wait, Work, call
from tests.simulation.world.server import Entry

from penstock.contracts import chain
from penstock.contracts.artifacts import ExistAnswer, ExistRequest
from penstock.contracts.codec import encoded, error_body
from penstock.contracts.events import RunEvent
from penstock.contracts.inbox import CancelRun
from penstock.contracts.queries import RUN_STATES_FINAL, RunSummary
from penstock.contracts.requests import (
    CancelRequest,
    ErrorBody,
    RerunRequest,
    Reuse,
    RunAnswer,
    RunRequest,
)
from penstock.contracts.spec import PipelineSpec
from penstock.errors import Conflict, Invalid, NotFound, Refused, Transient
from penstock.ids import derived_id, run_id
from penstock.units import Seconds
from penstock_planner.decide.plan import Origin, Plan, parts_of, planned
from penstock_planner.decide.reading import (
    Wish,
    content_of,
    digest_and_bytes,
    pairing_of,
    spec_of,
    wish_of,
)
from penstock_planner.decide.rerun import steps_named, steps_to_run, with_given
from penstock_planner.state import KeyEntry
from penstock_scheduler.views import Folded, fold

DELIVERIES_MAX = 5
DELAYS_S = (1.0, 5.0, 30.0, 120.0)
CONCURRENCY = 3
BEAT_S = 3.0
WORKSPACE = "penstock"


@dataclass(frozen=True)
class Resolved:
    """A spec, and under which digest it is kept."""

    spec: PipelineSpec
    digest: str


@dataclass(eq=False)
class Planner(Process):
    """One copy. In memory it keeps nothing that a restart would miss."""

    in_hand: dict[int, tuple[Entry, Task]] = field(default_factory=dict)
    beat_at: float = 0

    def boot(self) -> None:
        """Begin to take requests in."""
        self.in_hand = {}
        self.spawn(self._pull(), "pull")

    def beat(self) -> None:
        """Say of everything in hand that it is being worked on, when that is due."""
        world = self.world
        if world.now >= self.beat_at and self.is_reachable():
            self.beat_at = world.now + BEAT_S
            for entry, _ in self.in_hand.values():
                world.server.requests.extend(entry)

    def _pull(self) -> Work[None]:
        queue = self.world.server.requests
        wait = Wait(
            lambda: len(self.in_hand) < CONCURRENCY and self.is_reachable() and queue.has_free()
        )
        while True:
            yield wait
            if wait.ready():
                entry = queue.take(self)
                if entry is not None:
                    task = self.spawn(self._handle(entry, entry.deliveries), "request")
                    self.in_hand[entry.sequence] = (entry, task)

    def _handle(self, entry: Entry, delivery: int) -> Work[None]:
        queue = self.world.server.requests
        try:
            answer = yield from self._answer(entry, delivery)
        except Transient as error:
            if self.world.trace is not None:
                self.world.say(self, f"delivery {delivery} of {entry.subject}: {error}")
            if delivery >= DELIVERIES_MAX:
                yield from self._set_aside(entry, str(error))
            else:
                delay = DELAYS_S[min(delivery, len(DELAYS_S)) - 1]
                yield from call(self, lambda: queue.nak(entry, delay))
            self.in_hand.pop(entry.sequence, None)
            return
        if self.world.trace is not None:
            self.world.say(self, f"answers {entry.subject} {entry.sequence}: {answer}")
        if answer is not None:
            yield from self._give(entry, answer)
            yield from call(self, lambda: queue.ack(entry))
        self.in_hand.pop(entry.sequence, None)

    def _give(self, entry: Entry, answer: RunAnswer) -> Work[None]:
        """Hand the answer to one caller of an equal request: never certain to arrive."""
        yield None
        lost = self.world.happens("lost_reply") or not self.is_reachable()
        self.world.answer(pairing_of(entry.subject, entry.data, {}), answer, lost=lost)

    def _answer(self, entry: Entry, delivery: int) -> Work[RunAnswer | None]:
        if delivery > DELIVERIES_MAX:
            yield from self._set_aside(entry, "delivered too often")
            return None
        kind = entry.subject.rpartition(".")[2]
        try:
            wish = wish_of(kind, entry.data, {})
            return (yield from self._fulfilled(wish, entry, again=delivery > 1))
        except Refused as error:
            if kind in ("run", "rerun"):
                yield from self._tell_refused(entry, error)
            return RunAnswer(error=error_body(error))

    def _tell_refused(self, entry: Entry, error: Refused) -> Work[None]:
        event = RunEvent(
            seq=1,
            run=self._run_of(None, entry),
            pipeline="unknown",
            what="refused",
            at=entry.at,
            error=error_body(error),
        )
        link = chain.link(chain.START, encoded(event))
        yield from call(self, lambda: self.world.server.tell(event, link))

    def _set_aside(self, entry: Entry, reason: str) -> Work[None]:
        server = self.world.server
        name = f"dead.{entry.sequence}"
        yield from call(self, lambda: server.keep_dead("requests", name, entry.data))
        error = ErrorBody(code="E_INTERNAL", message=reason)
        yield from self._give(entry, RunAnswer(error=error))
        yield from call(self, lambda: server.requests.ack(entry))

    def _fulfilled(self, wish: Wish, entry: Entry, *, again: bool) -> Work[RunAnswer]:
        match wish.request:
            case RunRequest():
                return (yield from self._run(wish, wish.request, entry, again=again))
            case CancelRequest():
                return (yield from self._cancel(wish.request, entry))
            case RerunRequest():
                return (yield from self._rerun(wish, wish.request, entry, again=again))

    # -- run -------------------------------------------------------------------------------------
    def _run(
        self, wish: Wish, request: RunRequest, entry: Entry, *, again: bool
    ) -> Work[RunAnswer]:
        known = yield from self._entry(request.idempotency_key, wish)
        if known is not None and known.planned:
            return (yield from self._as_it_is(known.run))
        spec = self.world.registered if request.pipeline else spec_of(bytes(request.spec))
        digest, _ = digest_and_bytes(spec)
        resolved = Resolved(spec, digest)
        plan = planned(spec, request, self._origin(wish, entry, known, digest))
        return (yield from self._submitted(wish, plan, entry, known, resolved, again=again))

    def _origin(
        self, wish: Wish, entry: Entry, known: KeyEntry | None, spec: str, rerun_of: str = ""
    ) -> Origin:
        return Origin(
            run=known.run if known else self._run_of(wish.request, entry),
            spec=spec,
            requested_at=known.at if known else entry.at,
            rerun_of=rerun_of,
        )

    def _run_of(self, request: object, entry: Entry) -> str:
        at, key = Seconds(entry.at), getattr(request, "idempotency_key", "")
        if key:
            return run_id(at, WORKSPACE, "key", key)
        return run_id(at, WORKSPACE, "sequence", str(entry.sequence), repr(entry.at))

    def _submitted(
        self,
        wish: Wish,
        plan: Plan,
        entry: Entry,
        known: KeyEntry | None,
        resolved: Resolved,
        *,
        again: bool,
    ) -> Work[RunAnswer]:
        server, key = self.world.server, getattr(wish.request, "idempotency_key", "")
        parts_of(plan.head, plan.steps)
        yield from call(self, lambda: server.put_value("specs", resolved.digest, resolved.spec))
        if key and known is None:
            known = KeyEntry(key=key, run=plan.head.run, content=content_of(wish), at=entry.at)
            try:
                yield from call(self, lambda: server.put_value("keys", _key(key), known, 0))
            except Conflict:
                known = yield from self._entry(key, wish)
                if known is None:
                    raise
                if known.planned:
                    return (yield from self._as_it_is(known.run))
                again = True
                head = msgspec.structs.replace(plan.head, run=known.run, requested_at=known.at)
                plan = Plan(head, plan.steps, plan.notes)
        self.world.audit.planned(plan)
        yield from self._append(plan, again=again)
        if known is not None:
            done = msgspec.structs.replace(known, planned=True)
            yield from call(self, lambda: server.put_value("keys", _key(key), done))
        return RunAnswer(run=plan.head.run, state="queued", notes=plan.notes)

    def _append(self, plan: Plan, *, again: bool) -> Work[None]:
        server, run = self.world.server, plan.head.run
        parts = parts_of(plan.head, plan.steps)
        missing: Sequence[int] = range(len(parts))
        if again:
            inbox = server.inbox[server.partition_of(run)]
            stored = yield from call(
                self, lambda: {entry.subject for entry in inbox.entries.values()}
            )
            found = yield from call(self, lambda: server.value("runs", run)[1])
            if found is not None:
                return
            missing = [n for n in missing if f"inbox.{run}.plan{n}" not in stored]
        for number in missing:
            part, name = parts[number], f"{run}.plan.{number}"
            yield from call(self, server.put, run, f"plan{number}", part, name)

    def _entry(self, key: str, wish: Wish) -> Work[KeyEntry | None]:
        if not key:
            return None
        found = yield from call(self, lambda: self.world.server.value("keys", _key(key))[1])
        if found is not None and found.content != content_of(wish):
            raise Invalid(
                f"another request has used this key; it became run {found.run}",
                code="E_IDEMPOTENCY_CONFLICT",
                where="request.idempotency_key",
            )
        return found  # type: ignore[no-any-return]

    def _as_it_is(self, run: str) -> Work[RunAnswer]:
        line = yield from call(self, lambda: self.world.server.value("runs", run)[1])
        return RunAnswer(run=run, state=line.state if line else "queued")

    # -- cancel ----------------------------------------------------------------------------------
    def _cancel(self, request: CancelRequest, entry: Entry) -> Work[RunAnswer]:
        line = yield from self._found(request.run)
        state = line.state if line else "queued"
        if state == "cancelled":
            return RunAnswer(run=request.run, state=state)
        if state in RUN_STATES_FINAL:
            error = ErrorBody(code="E_ENDED", message=f"the run has {state}")
            return RunAnswer(run=request.run, state=state, error=error)
        cancel = CancelRun(run=request.run, reason=request.reason, who=request.who)
        name = f"{request.run}.cancel.{entry.sequence}"
        yield from call(self, lambda: self.world.server.put(request.run, "cancel", cancel, name))
        return RunAnswer(run=request.run, state=state)

    def _found(self, run: str) -> Work[RunSummary | None]:
        server = self.world.server
        line = yield from call(self, lambda: server.value("runs", run)[1])
        if line is not None:
            return line  # type: ignore[no-any-return]
        prefix, inbox = f"inbox.{run}.plan", server.inbox[server.partition_of(run)]
        waits = yield from call(
            self, lambda: any(e.subject.startswith(prefix) for e in inbox.entries.values())
        )
        if waits:
            return None
        line = yield from call(self, lambda: server.value("runs", run)[1])
        if line is None:
            raise NotFound(f"no run {run}", where="request.run")
        return line  # type: ignore[no-any-return]

    # -- rerun -----------------------------------------------------------------------------------
    def _rerun(
        self, wish: Wish, request: RerunRequest, entry: Entry, *, again: bool
    ) -> Work[RunAnswer]:
        server = self.world.server
        known = yield from self._entry(request.idempotency_key, wish)
        if known is not None and known.planned:
            return (yield from self._as_it_is(known.run))
        line = yield from self._found(request.run)
        if line is None or (request.from_ != "start" and line.state not in RUN_STATES_FINAL):
            raise Refused("the run has not ended", code="E_NOT_ENDED", where="request.run")
        spec = yield from call(self, lambda: server.value("specs", line.spec)[1])
        resolved = Resolved(spec, line.spec)
        origin = self._origin(wish, entry, known, line.spec, rerun_of=request.run)
        plan = planned(spec, RunRequest(reuse=cast(Reuse, line.reuse or "use")), origin)
        if request.from_ != "start":
            plan = yield from self._taking_over(request, plan)
        return (yield from self._submitted(wish, plan, entry, known, resolved, again=again))

    def _taking_over(self, request: RerunRequest, plan: Plan) -> Work[Plan]:
        events = yield from call(self, lambda: list(self.world.server.events.get(request.run, [])))
        folded = Folded(request.run)
        for event in events:
            fold(folded, event, event.seq)
        views = folded.steps
        wanted = sorted({tree.digest for view in views.values() for tree in view.outputs.values()})
        answer = yield from asked(self, "exist", ExistRequest(digests=tuple(wanted)), 2.0)
        assert isinstance(answer, ExistAnswer)
        views = {
            name: view
            for name, view in views.items()
            if all(tree.digest in answer.digests for tree in view.outputs.values())
        }
        rerun = steps_to_run(request.from_, plan.steps, plan.steps, views)
        named = steps_named(request.from_, plan.steps)
        steps = with_given(plan.steps, request.run, views, rerun, named)
        return Plan(plan.head, steps, plan.notes)


def _key(key: str) -> str:
    return derived_id("key", key)


def subject_and_data(kind: str, request: object) -> tuple[str, bytes]:
    """Return how a request travels."""
    data = request if isinstance(request, bytes) else encoded(request)
    return f"{WORKSPACE}.request.{kind}", data
