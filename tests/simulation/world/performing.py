"""Doing what was decided, as performer.py and projection.py have it.

Effects go on the wire in order, beside the next decision; one that fails is tried again after those
behind it. A message is acknowledged when its effects are done; a run is forgotten when it was told.
"""

import contextlib
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, assert_never

from tests.simulation.world.clockwork import Wait, Work, call, said_once
from tests.simulation.world.looks import look_up

from penstock.contracts import chain
from penstock.contracts.codec import encoded
from penstock.contracts.inbox import TimerDue
from penstock.contracts.queries import RUN_STATES_FINAL, RunSummary
from penstock.contracts.work import StopAttempt
from penstock.errors import Conflict
from penstock_scheduler import effects, state
from penstock_scheduler.effects import Effect, Emit, PutLatest, PutReuse

if TYPE_CHECKING:
    from tests.simulation.world.term import Held, Term


TOGETHER_MIN = 2
"""Fewer than in the bus package: worlds are small."""

BY_WIRE = (
    effects.Dispatch,
    effects.SetTimer,
    effects.PutReuse,
    effects.PutLatest,
    effects.ReleaseFlight,
    effects.AskFlight,
    effects.TellFlight,
    effects.Withdraw,
    effects.CancelTimers,
)
"""Effects that are a word to the bus by themselves; events and lines have a queue of their own."""


@dataclass(slots=True)
class Job:
    """Effects of one decision, what to acknowledge after them, and which runs it ended."""

    effects: list[Effect]
    batch: "list[Held]"
    ended: list[str]
    mark: object
    """What the term owes until everything is done."""


@dataclass
class Performer:
    """The effects of one term."""

    term: "Term"
    jobs: deque[Job] = field(default_factory=deque)
    emits: deque[Emit] = field(default_factory=deque)
    lines: dict[str, RunSummary] = field(default_factory=dict)
    told: int = 0
    to_tell: int = 0
    listed: int = 0
    to_list: int = 0
    revisions: dict[str, int] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    """The link of each run's last event."""

    def __post_init__(self) -> None:
        self.process = self.term.process
        self.world = self.term.world
        self.server = self.world.server

    def take(self, effects: list[Effect], batch: "list[Held]", ended: list[str]) -> None:
        """Take over the effects of a decision."""
        self.jobs.append(Job(effects, batch, ended, self.term.owe()))

    def work(self) -> Work[None]:
        """Perform jobs in order; settle each beside the next."""
        wait = Wait(lambda: self.jobs)
        while True:
            yield wait
            if not self.jobs:
                continue
            job = self.jobs.popleft()
            again: list[Effect] = []
            for effect in job.effects:
                if isinstance(effect, BY_WIRE) and self.world.happens("wire_again"):
                    again.append(effect)
                else:
                    yield from self._do(effect)
            self.term.spawn(self._settle(job, again), "settle")

    def _settle(self, job: Job, again: list[Effect]) -> Work[None]:
        told, listed = self.to_tell, self.to_list
        for effect in again:
            yield from self._do(effect)
        if self.listed < listed:
            yield Wait(lambda: self.listed >= listed)
        del self.term.owing[job.mark]
        yield from self.acknowledge(job.batch)
        if job.ended:
            if self.told < told:
                yield Wait(lambda: self.told >= told)
            for run in job.ended:
                state.forget(self.term.state, run)
            self.term.uncompacted = True

    def acknowledge(self, batch: "list[Held]") -> Work[None]:
        """Take messages off their queues."""
        for held in batch:
            if held.queue is not None and held.entry is not None:
                self.term.in_hand.pop(held.entry.sequence, None)
                yield from call(self.process, held.queue.ack, held.entry)

    # -- events and lines ------------------------------------------------------------------------
    def tell(self) -> Work[None]:
        """Send events, in order, each once."""
        wait = Wait(lambda: self.emits)
        while True:
            yield wait
            if len(self.emits) >= TOGETHER_MIN and (yield from self._told_together()):
                continue
            if self.emits:
                event = self.emits[0].event
                link = chain.link(self.links.get(event.run, chain.START), encoded(event))
                yield from call(self.process, self.server.tell, event, link)
                self.links[event.run] = link
                self.emits.popleft()
                self.told += 1

    def _told_together(self) -> Work[bool]:
        """Send events as one; when that fails, or nobody says that it did not, they go one by one."""
        chunk = [emit.event for emit in self.emits]
        links = dict(self.links)
        letters = []
        for event in chunk:
            links[event.run] = chain.link(links.get(event.run, chain.START), encoded(event))
            letters.append((event, links[event.run]))
        stored = yield from said_once(self.process, self.server.tell_together, letters)
        if not stored:
            return False
        self.world.landed["told together"] += 1
        self.links = links
        for _ in chunk:
            self.emits.popleft()
        self.told += len(chunk)
        return True

    def list_runs(self) -> Work[None]:
        """Write the runs' lines: the newest wins, and a final one is final."""
        wait = Wait(lambda: self.lines)
        while True:
            yield wait
            lines, self.lines, given = self.lines, {}, self.to_list
            for run, line in lines.items():
                yield from self._list(run, line)
            self.listed = given

    def _list(self, run: str, line: RunSummary) -> Work[None]:
        while True:
            revision = self.revisions.get(run, 0)
            try:
                self.revisions[run] = yield from call(
                    self.process, self.server.put_value, "runs", run, line, revision
                )
                return
            except Conflict:
                found = yield from call(self.process, lambda: self.server.value("runs", run))
                if found[1] is not None and found[1].state in RUN_STATES_FINAL:
                    return
                self.revisions[run] = found[0]

    # -- one effect ------------------------------------------------------------------------------
    def _do(self, effect: Effect) -> Work[None]:
        server, process = self.server, self.process
        match effect:
            case Emit():
                self.emits.append(effect)
                self.to_tell += 1
            case effects.PutSummary(summary=summary):
                self.lines[summary.run] = summary
                self.to_list += 1
            case effects.LookUp():
                self.term.spawn(look_up(self.term, effect), "look")
            case effects.Dispatch(item=item):
                subject = f"work.{item.target}.{item.run}.{item.step}.{item.attempt}"
                name = f"{item.run}.{item.step}.{item.attempt}"
                data = encoded(item)
                with contextlib.suppress(Conflict):  # the attempt is on its queue already
                    yield from call(process, server.dispatch, subject, data, name)
            case effects.Withdraw():
                prefix = f"work.{effect.target}.{effect.run}.{effect.step}.{effect.attempt}"
                if not effect.attempt:
                    prefix = f"work.default.{effect.run}"
                yield from call(process, lambda: server.withdraw(prefix))
            case effects.Stop():
                yield None
                order = StopAttempt(
                    run=effect.run,
                    step=effect.step,
                    attempt=effect.attempt,
                    reason=effect.reason,
                    before=effect.before,
                )
                self.world.publish_stop(process, order)
            case effects.SetTimer():
                yield from call(process, lambda: self._set(effect))
            case effects.CancelTimers(run=run):
                yield from call(process, lambda: self._cancel_timers(run))
            case effects.PutReuse():
                value = (effect.fingerprint, effect.entry)
                yield from call(process, lambda: server.put_value("reuse", *value))
            case effects.PutLatest():
                yield from call(
                    process, lambda: server.put_value("latest", effect.key, effect.entry)
                )
            case effects.ReleaseFlight():
                yield from self._release(effect)
            case effects.AskFlight(message=asked):
                name = f"{asked.follower_run}.{asked.follower_step}.{asked.look}"
                name = f"{asked.run}.{asked.step}.follow.{name}"
                yield from call(process, lambda: server.put(asked.run, "follow", asked, name))
            case effects.TellFlight(message=landed):
                name = f"{landed.leader_run}.{landed.leader_step}.{landed.look}"
                name = f"{landed.run}.{landed.step}.landed.{name}"
                yield from call(process, lambda: server.put(landed.run, "landed", landed, name))
            case _:
                assert_never(effect)

    def _set(self, timer: effects.SetTimer) -> None:
        due = TimerDue(run=timer.run, step=timer.step, attempt=timer.attempt, kind=timer.kind)
        kind = f"{timer.kind}-{timer.attempt}" if timer.attempt else timer.kind
        self.server.timers[timer.run, timer.step, kind] = (timer.at, encoded(due))

    def _cancel_timers(self, run: str) -> None:
        for key in [key for key in self.server.timers if key[0] == run]:
            del self.server.timers[key]

    def _release(self, flight: effects.ReleaseFlight) -> Work[None]:
        server = self.server
        revision, entry = yield from call(
            self.process, lambda: server.value("reuse", flight.fingerprint)
        )
        if entry is None or entry.ended_at:
            return
        if (entry.run, entry.step) == (flight.run, flight.step):
            gone = (flight.fingerprint, None, revision)
            with contextlib.suppress(Conflict):  # somebody else's claim stands
                yield from call(self.process, server.put_value, "reuse", *gone)

    def put_back(self, records: list[PutReuse | PutLatest]) -> Work[None]:
        """Offer results again that a dead owner may not have offered; newer ones stay."""
        server = self.server
        reuse = {e.fingerprint: e.entry for e in records if isinstance(e, PutReuse)}
        latest = {e.key: e.entry for e in records if isinstance(e, PutLatest)}
        for key, entry in reuse.items():
            found = yield from call(self.process, server.value, "reuse", key)
            if found[1] is None or found[1].ended_at < entry.ended_at:
                yield from self._put_if("reuse", key, entry, found[0] if found[1] else None)
        for name, line in latest.items():
            kept = yield from call(self.process, server.value, "latest", name)
            if kept[1] is None or kept[1].at < line.at:
                yield from self._put_if("latest", name, line, kept[0] if kept[1] else None)

    def _put_if(self, bucket: str, key: str, value: object, revision: int | None) -> Work[None]:
        with contextlib.suppress(Conflict):  # somebody else did meanwhile: they know better
            yield from call(self.process, self.server.put_value, bucket, key, value, revision)
