"""A replica of the trigger, as its keeper.py and outside.py have it, for one schedule.

Two loops: one moves the cursor by compare-and-set, the other works off what was decided: ask, tell,
settle. All replicas do both at any time; waiting for each other is only courtesy. Wall clocks lie.
"""

from dataclasses import dataclass
from functools import partial

import msgspec
from tests.simulation.world.client import requested
from tests.simulation.world.clockwork import NEVER, Process, Wait, Work, call
from tests.simulation.world.server import WINDOW_LONG_S

from penstock.contracts.events import RUN_ENDS, RunEvent, TriggerEvent
from penstock.contracts.schedules import Schedule, ScheduleState
from penstock.errors import Conflict
from penstock_trigger.decide import asked, decided, next_wake, settled, told
from penstock_trigger.effects import Announce, Ask
from penstock_trigger.rules import timing_of
from penstock_trigger.state import Judgement

DEDUPLICATED_S = 3_600.0
LATE_S = 30.0
TAKEOVER_S = 5.0


@dataclass(eq=False)
class Trigger(Process):
    """One replica and its view of the cursor, which may be old."""

    state: ScheduleState | None = None
    revision: int = 0

    def boot(self) -> None:
        """Begin with what is stored."""
        self.state, self.revision = None, 0
        schedule = self.world.schedule
        if schedule is not None:
            self.timing = timing_of(schedule)
            self.spawn(self._follow(), "follow")
            self.spawn(self._decide(schedule), "decide")
            self.spawn(self._carry_out(), "carry out")

    # -- the cursor ------------------------------------------------------------------------------
    def _follow(self) -> Work[None]:
        """Take in the newest cursor, some time after it was written."""
        server = self.world.server
        wait = Wait(lambda: server.value("cursors", "s")[0] > self.revision)
        while True:
            yield wait
            yield from self._refresh()

    def _refresh(self) -> Work[None]:
        revision, state = yield from call(self, lambda: self.world.server.value("cursors", "s"))
        self._note(state, revision)

    def _note(self, state: ScheduleState | None, revision: int) -> None:
        if revision > self.revision:
            self.state, self.revision = state, revision

    def _saved(self, after: ScheduleState) -> Work[bool]:
        server, revision = self.world.server, self.revision
        try:
            new = yield from call(self, lambda: server.put_value("cursors", "s", after, revision))
        except Conflict:
            self.world.landed["lost a cursor's race"] += 1
            yield from self._refresh()
            return False
        self.world.audit.cursor_moved(after)
        self._note(after, new)
        return True

    # -- deciding --------------------------------------------------------------------------------
    def _is_due(self, schedule: Schedule) -> bool:
        if self.state is not None and self.state.queued:
            return True
        due = next_wake(schedule, self.timing, self.state)
        return due is not None and due <= self.wall()

    def _has_changed(self, revision: int, offset: float | None = None) -> bool:
        return self.revision != revision or offset not in (None, self.offset)

    def _has_news(self, revision: int, offset: float) -> bool:
        """Say whether to look again: another cursor, another clock, or the run before has ended."""
        if self._has_changed(revision, offset):
            return True
        waits = self.state is not None and self.state.queued
        return bool(waits) and self._told_end(self.state.last_run)  # type: ignore[union-attr]

    def _told_end(self, run: str) -> bool:
        events = self.world.server.events.get(run, [])
        last = next((e for e in reversed(events) if isinstance(e, RunEvent)), None)
        return last is not None and last.what in RUN_ENDS

    def _decide(self, schedule: Schedule) -> Work[None]:
        world = self.world
        while True:
            due = next_wake(schedule, self.timing, self.state)
            at = NEVER if due is None else max(due - self.offset, world.now)
            seen, offset = self.revision, self.offset
            yield Wait(partial(self._has_news, seen, offset), at)
            if not self._is_due(schedule):
                continue
            now, running, state = self.wall(), False, self.state
            if state is not None and state.last_run and schedule.overlap in ("skip", "queue"):
                running = not (yield from self._ended(state.last_run))
            judgement = Judgement(now=now, missed_until=now - LATE_S, running=running)
            after = decided(schedule, self.timing, self.state, judgement, self.name)
            if after is not None:
                yield from self._saved(after)
            else:
                yield world.now + 1.0  # a run that is waited for, or no room: look again

    def _ended(self, run: str) -> Work[bool]:
        return (yield from call(self, self._told_end, run))

    # -- carrying out ----------------------------------------------------------------------------
    def _carry_out(self) -> Work[None]:
        wait = Wait(lambda: self.state is not None and self.state.pending)
        while True:
            yield wait
            state = self.state
            if state is None or not state.pending:
                continue
            if state.by != self.name:
                seen = self.revision
                yield Wait(partial(self._has_changed, seen), self.world.now + TAKEOVER_S)
                if self.revision != seen:
                    continue
                self.world.landed["carried out another's decision"] += 1
            yield from self._carry_out_head(state)

    def _carry_out_head(self, state: ScheduleState) -> Work[None]:
        head, answer = state.pending[0], None
        ask = asked(state) if self.world.mutant != "tick_by_local_time" else self._asked_now(state)
        if ask is not None:
            if ask.cancel is not None and not (yield from self._ended(ask.cancel.run)):
                self.world.audit.cancelled.add(ask.cancel.run)
                yield from requested(self, "cancel", ask.cancel, repeat=False)
            while answer is None:
                if self.state is None or self.state.pending[:1] != (head,):
                    return
                answer = yield from requested(self, "run", ask.request, repeat=False)
        now = self.wall()
        events = told(state, self.timing, answer, now)
        for event in events:
            yield from self._announce(event, recent=now - head.due < DEDUPLICATED_S)
        run = answer.run if answer is not None else ""
        while self.state is not None:
            after = settled(self.state, head, run, self.name)
            if after is None or (yield from self._saved(after)):
                break

    def _asked_now(self, state: ScheduleState) -> Ask | None:
        """A bug, put in on purpose: the run is named after the local clock, not after the tick."""
        ask = asked(state)
        if ask is None:
            return None
        named = msgspec.structs.replace(ask.request, idempotency_key=f"s/{self.wall():.0f}")
        return Ask(named, ask.cancel)

    def _announce(self, announce: Announce, *, recent: bool) -> Work[None]:
        server = self.world.server
        subject, name = announce.event.what, announce.message_id
        while True:
            story = server.told.setdefault(subject, [])
            if not recent:
                length, known = yield from call(self, _known, story, name)
                if known:
                    return

            def act(length: int = 0 if recent else length) -> None:
                story = server.told[subject]
                if not server.is_copy(f"trigger.{name}", WINDOW_LONG_S):
                    if not recent and len(story) != length:
                        raise Conflict("another replica tells the same")
                    story.append((name, announce.event))

            try:
                yield from call(self, act)
            except Conflict:
                continue
            return


def _known(story: list[tuple[str, TriggerEvent]], name: str) -> tuple[int, bool]:
    return len(story), any(told == name for told, _ in story)
