"""The keeper of one schedule on one replica: decides what is due, and carries decisions out.

Two loops, so that a planner that is away does not stop the clock: `_decide` moves the cursor when
the alarm rings, `_carry_out` works off what was decided. Whatever fails here is this schedule's
alone: it is logged, and tried again after a pause that grows.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from structlog.typing import FilteringBoundLogger

from penstock.bus import Stored
from penstock.bus.buckets import Bucket
from penstock.clock import Clock
from penstock.contracts.schedules import Schedule, ScheduleState
from penstock.errors import Conflict, Corrupt, PenstockError, Transient
from penstock.runtime.crash import Crash, never
from penstock_trigger.alarms import Alarms
from penstock_trigger.decide import asked, decided, next_wake, settled, told
from penstock_trigger.outside import Outside
from penstock_trigger.rules import timing_of
from penstock_trigger.state import Judgement
from penstock_trigger.ticks import Timing

PAUSE_MIN_S = 0.2
PAUSE_MAX_S = 30.0
COURTESY_S = 0.25
"""How long the replica that wrote a cursor last is given to decide first: it will, if it lives."""
SILENCE_S = 60.0
"""A replica that wrote no cursor for this long is not waited for."""
PATIENCE = 10
"""Decisions of a replica that shows life elsewhere are left to it this many times longer."""
DEDUPLICATED_S = 3600.0
"""Up to this age the event stream surely knows the ids of a decision's events (it keeps two hours)."""


@dataclass(frozen=True, slots=True)
class Duty:
    """What all keepers of a replica share."""

    me: str
    outside: Outside
    cursors: Bucket[ScheduleState]
    alarms: Alarms
    clock: Clock
    log: FilteringBoundLogger
    late_s: float
    takeover_s: float
    alone_since: float
    """When this replica came up, if no other was there; 0 if one was."""
    crash: Crash = never
    heard_at: dict[str, float] = field(default_factory=dict)
    """Replica → when it last wrote any cursor, on our monotonic clock."""

    def heard_s(self, replica: str) -> float:
        """Return how long ago a replica wrote a cursor."""
        return self.clock.monotonic() - self.heard_at.get(replica, float("-inf"))


@dataclass
class Keeper:
    """One schedule: its definition, its cursor, and two tasks."""

    name: str
    duty: Duty
    on_idle: Callable[[str], None]
    schedule: Schedule | None = None
    timing: Timing | None = None
    state: ScheduleState | None = None
    revision: int = 0
    """Sequence of the cursor's last message."""
    turned: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once everything that was due at the start is decided (or failed to be)."""
    _head_at: float = 0
    """When the oldest decision was first seen as such, on our monotonic clock."""
    _due: asyncio.Event = field(default_factory=asyncio.Event)
    _decided: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self) -> None:
        """Begin."""
        self.wake()
        self._tasks = [
            asyncio.create_task(self._looped(self._due, self._decide), name=f"decide {self.name}"),
            asyncio.create_task(
                self._looped(self._decided, self._carry_out), name=f"carry out {self.name}"
            ),
        ]

    async def stop(self) -> None:
        """End; what is undone is done by another replica, or after the restart."""
        self.duty.alarms.set(self.name, None)
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def wake(self) -> None:
        """Look again at what is due and at what is decided."""
        self._due.set()
        self._decided.set()

    def define(self, schedule: Schedule | None) -> None:
        """Take in the schedule's new definition; None: it was deleted."""
        self.schedule, self.timing = schedule, None
        if schedule is not None:
            try:
                self.timing = timing_of(schedule)
            except PenstockError as error:
                # Somebody wrote past our checks; this schedule rests, the others go on.
                self.duty.log.error("broken schedule", schedule=self.name, error=str(error))
        self.wake()

    def note(self, state: ScheduleState | None, revision: int, *, live: bool = True) -> None:
        """Take in the cursor's new state, unless a newer one is known.

        `live`: it was written just now, so whoever wrote it lives.
        """
        if revision <= self.revision:
            return
        if state is None or self.state is None or state.pending[:1] != self.state.pending[:1]:
            self._head_at = self.duty.clock.monotonic()
        self.state, self.revision = state, revision
        if state is not None and live:
            self.duty.heard_at[state.by] = self.duty.clock.monotonic()
        self.wake()

    async def _looped(self, signal: asyncio.Event, work: Callable[[], Awaitable[None]]) -> None:
        pause_s = PAUSE_MIN_S
        while True:
            await signal.wait()
            signal.clear()
            try:
                await work()
                pause_s = PAUSE_MIN_S
            except Exception as error:  # one broken schedule never stops others
                self.turned.set()
                expected = isinstance(error, Transient)
                self.duty.log.warning(
                    "trying again",
                    schedule=self.name,
                    pause_s=pause_s,
                    error=str(error),
                    exc_info=not expected,
                )
                await asyncio.sleep(pause_s)
                pause_s = min(PAUSE_MAX_S, 2 * pause_s)
                with contextlib.suppress(Transient):
                    await self._refresh()
                signal.set()

    # -- deciding -----------------------------------------------------------------------------------

    async def _decide(self) -> None:
        """Decide all that is due, then set the alarm for what comes next."""
        while True:
            judgement = await self._judgement()
            if await self._left_to_another(judgement.now):
                continue
            after = decided(self.schedule, self.timing, self.state, judgement, self.duty.me)
            if after is None or not await self._saved(after):
                if after is None:
                    break
                continue
            self.duty.crash("trigger.after-decide")
        due = next_wake(self.schedule, self.timing, self.state)
        # A tick that is due and yet undecided waits for room, which settling makes.
        late = due is not None and due <= judgement.now
        self.duty.alarms.set(self.name, None if late else due)
        self.turned.set()
        if self.schedule is None and (self.state is None or not self.state.pending):
            self.on_idle(self.name)

    async def _judgement(self) -> Judgement:
        now = self.duty.clock.now()
        running = False
        schedule, state = self.schedule, self.state
        if schedule is not None and state is not None and state.last_run:
            due = next_wake(schedule, self.timing, state)
            matters = bool(state.queued) or (due is not None and due <= now)
            if matters and schedule.overlap in ("skip", "queue"):
                running = not await self.duty.outside.ended(state.last_run)
        missed_until = max(now - self.duty.late_s, self.duty.alone_since)
        return Judgement(now=now, missed_until=missed_until, running=running)

    async def _left_to_another(self, now: float) -> bool:
        """Wait a little when a tick falls due for which another replica is responsible."""
        due = next_wake(self.schedule, self.timing, self.state)
        if self.state is None or self.state.by in ("", self.duty.me) or due is None:
            return False
        wait_s = due + COURTESY_S - now
        if not 0 < wait_s <= COURTESY_S or self.duty.heard_s(self.state.by) > SILENCE_S:
            return False
        await asyncio.sleep(wait_s)
        return True

    # -- carrying out -------------------------------------------------------------------------------

    async def _carry_out(self) -> None:
        """Work off what is decided; leave it a while to the replica that decided it."""
        while self.state is not None and self.state.pending:
            if self.state.by != self.duty.me:
                wait_s = self._takeover_in_s(self.state.by)
                if wait_s > 0:
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(self._decided.wait(), wait_s)
                    self._decided.clear()
                    continue
                self.duty.log.info(
                    "carrying out another's decision", schedule=self.name, by=self.state.by
                )
            await self._carry_out_head(self.state)

    def _takeover_in_s(self, replica: str) -> float:
        """Return how long the oldest decision is still left to the replica that wrote it."""
        waited_s = self.duty.clock.monotonic() - self._head_at
        takeover_s = self.duty.takeover_s
        silent_s = min(self.duty.heard_s(replica), waited_s)
        return min(takeover_s - silent_s, PATIENCE * takeover_s - waited_s)

    async def _carry_out_head(self, state: ScheduleState) -> None:
        head, definition = state.pending[0], state.definition
        assert definition is not None, state  # noqa: S101

        def wanted() -> bool:
            return self.state is not None and self.state.pending[:1] == (head,)

        answer = None
        ask = asked(state)
        if ask is not None:
            if ask.cancel is not None and not await self.duty.outside.ended(ask.cancel.run):
                await self.duty.outside.cancel(ask.cancel)
            answer = await self.duty.outside.run_for(ask.request, wanted)
            if answer is None:
                return
        self.duty.crash("trigger.after-request")
        now = self.duty.clock.now()
        events = told(state, timing_of(definition), answer, now)
        recent = now - head.due < DEDUPLICATED_S
        await self.duty.outside.announce(events, recent=recent)
        self.duty.crash("trigger.after-event")
        run = answer.run if answer is not None else ""
        while self.state is not None:
            after = settled(self.state, head, run, self.duty.me)
            if after is None or await self._saved(after):
                break
        self._due.set()

    # -- the cursor ---------------------------------------------------------------------------------

    async def _saved(self, after: ScheduleState) -> bool:
        """Save the cursor by compare-and-set; False when another was first: look again."""
        try:
            appended = await self.duty.cursors.update(self.name, after, self.revision)
        except Conflict:
            await self._refresh()
            return False
        self.note(after, appended.sequence)
        return True

    async def _refresh(self) -> None:
        bucket = self.duty.cursors
        stored = await bucket.bus.last(bucket.stream, bucket.subject(self.name))
        if stored is not None:
            self.note(state_in(bucket, stored, self.duty.log), stored.sequence)


def state_in(
    bucket: Bucket[ScheduleState], stored: Stored, log: FilteringBoundLogger
) -> ScheduleState | None:
    """Return the cursor that is stored; None for one that is deleted, or that nobody can read."""
    try:
        value = bucket.value_of(stored)
    except Corrupt as error:
        log.error("broken cursor; starting anew", subject=stored.subject, error=str(error))
        return None
    return value.value if value is not None else None
