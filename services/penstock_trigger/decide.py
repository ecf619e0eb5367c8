"""Pure decisions of the trigger: what a due tick becomes, and what a decision asks for.

    tick due ──┬─ missed (nobody was there, or too late) ─ catch-up ─┬─ made good ──┐
               │                                                     └─▶ MISSED     │
               └─ in time ──────────────────────────────────────────────────────────┤
                                                                                    ▼
                      the run before is running?   no ───────────────────────────▶ FIRE
                                                   yes: allow ───────────────────▶ FIRE
                                                        replace ─ cancel it ─────▶ FIRE
                                                        skip ────────────────────▶ SKIP
                                                        queue ─▶ queued ─ it ends ▶ FIRE

`decided` moves the cursor and records decisions; `asked` and `told` say what a recorded decision
does; `settled` takes it off. A replica that decides from an old state loses the compare-and-set.
"""

from dataclasses import dataclass, field

import msgspec

from penstock.contracts.events import TriggerEvent
from penstock.contracts.requests import CancelRequest, RunAnswer, RunRequest
from penstock.contracts.schedules import Firing, Schedule, ScheduleState
from penstock.contracts.spec import Scalar
from penstock_trigger.effects import Announce, Ask
from penstock_trigger.state import (
    PENDING_MAX,
    QUEUED_MAX,
    SKIPS_TOLD_MAX,
    Judgement,
    active_from,
    fresh,
    idempotency_key,
)
from penstock_trigger.ticks import Tick, Timing, key_of, next_ticks, rfc3339, span, ticks

TRIGGER_TIME = "${{creation_context.trigger_time}}"
"""Azure ML's expression for the time of the firing, allowed in parameters."""


def decided(
    schedule: Schedule | None,
    timing: Timing | None,
    state: ScheduleState | None,
    judgement: Judgement,
    me: str,
) -> ScheduleState | None:
    """Return the state after everything due is decided, or None when there is nothing to decide.

    `schedule` None: it was deleted. `timing` None: it is broken and never due.
    """
    if schedule is None:
        return None if state is None else _emptied(state, "the schedule was deleted", me)
    before = state if state is not None else fresh(schedule)
    if before.revision > schedule.revision:
        return None  # our copy of the schedule is old; the new one is on its way
    if before.revision < schedule.revision:
        if before.pending:
            return None  # what was decided under the old definition goes out first
        if before.queued:
            return _emptied(before, f"the schedule was changed (revision {schedule.revision})", me)
    if schedule.paused:
        return _emptied(before, "the schedule was paused", me)
    if timing is None:
        return None
    desk = _Desk(schedule, timing, before, busy=judgement.running or _firing(before))
    desk.release()
    desk.take(judgement)
    if not desk.changed:
        return None
    return ScheduleState(
        name=schedule.name,
        revision=schedule.revision,
        last_due=desk.last_due,
        last_run=before.last_run,
        queued=tuple(desk.queued),
        pending=tuple(desk.pending),
        definition=schedule if desk.pending or desk.queued else None,
        by=me,
    )


def next_wake(
    schedule: Schedule | None, timing: Timing | None, state: ScheduleState | None
) -> float | None:
    """Return when the next tick falls due that nobody has decided yet."""
    if schedule is None or timing is None or schedule.paused:
        return None
    after = max(active_from(schedule), state.last_due if state else 0)
    coming = next_ticks(timing, after, 1)
    return coming[0].due if coming else None


def asked(state: ScheduleState) -> Ask | None:
    """Return the request of the oldest decision, or None when it only has something to tell."""
    head, definition = state.pending[0], state.definition
    assert definition is not None, state
    if head.what != "fire":
        return None
    cancel = None
    if head.replace and state.last_run:
        cancel = CancelRequest(
            run=state.last_run,
            reason=f"replaced by the firing due {rfc3339(head.due)}",
            who=f"trigger/{definition.name}",
        )
    return Ask(request_of(definition, head.due, head.key), cancel)


def request_of(schedule: Schedule, due: float, key: str) -> RunRequest:
    """Return the request of a tick: the same bytes whoever sends it, and however often."""
    return RunRequest(
        pipeline=schedule.pipeline,
        parameters={name: _filled(value, due) for name, value in schedule.parameters.items()},
        experiment=schedule.experiment,
        tags=schedule.tags,
        idempotency_key=idempotency_key(schedule.name, schedule.revision, key),
        reuse=schedule.reuse,
        priority=schedule.priority,
        who=f"trigger/{schedule.name}",
    )


def told(
    state: ScheduleState, timing: Timing, answer: RunAnswer | None, now: float
) -> list[Announce]:
    """Return the events of the oldest decision, given the planner's answer if it asked for a run."""
    head, definition = state.pending[0], state.definition
    assert definition is not None, state
    match head.what:
        case "fire":
            assert answer is not None, head
            if answer.error is None:
                return [_event(definition, "fired", head, now, run=answer.run)]
            error = answer.error
            place = f" {error.where}" if error.where else ""
            hint = f" ({error.hint})" if error.hint else ""
            reason = f"refused: {error.code}{place}: {error.message}{hint}"
            refused = msgspec.structs.replace(head, reason=reason)
            return [_event(definition, "skipped", refused, now)]
        case "skip":
            return [_event(definition, "skipped", head, now)]
        case "missed":
            return _missed_events(definition, timing, head, now)


def settled(state: ScheduleState, head: Firing, run: str, me: str) -> ScheduleState | None:
    """Return the state without its oldest decision, or None when somebody else took it off."""
    if state.pending[:1] != (head,):
        return None
    rest = state.pending[1:]
    return msgspec.structs.replace(
        state,
        pending=rest,
        last_run=run or state.last_run,
        definition=state.definition if rest or state.queued else None,
        by=me,
    )


def changed_event(schedule: Schedule, what: str, sequence: int, now: float, who: str) -> Announce:
    """Return the event of a command; `sequence` is where the command's change is stored."""
    event = TriggerEvent(
        trigger=schedule.name,
        what=what,  # type: ignore[arg-type]
        at=now,
        pipeline=schedule.pipeline,
        reason=f"by {who}" if who else "",
    )
    return Announce(event, f"schedule/{schedule.name}/{sequence}/{what}")


@dataclass
class _Desk:
    """Where the ticks of one schedule are judged, one after the other."""

    schedule: Schedule
    timing: Timing
    before: ScheduleState
    busy: bool
    changed: bool = False
    last_due: float = 0
    pending: list[Firing] = field(default_factory=list)
    queued: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.last_due = max(self.before.last_due, active_from(self.schedule))
        self.pending = list(self.before.pending)
        self.queued = list(self.before.queued)

    def release(self) -> None:
        """Fire the oldest queued tick when nothing runs any more."""
        if self.queued and not self.busy:
            self.fire(Tick(self.queued[0], key_of(self.timing, self.queued[0])))
            del self.queued[0]

    def take(self, judgement: Judgement) -> None:
        """Judge everything due, as far as there is room."""
        limit = {"none": 0, "last": 1, "all": self.schedule.catch_up_max}[self.schedule.catch_up]
        until = min(judgement.missed_until, judgement.now)
        late = span(self.timing, self.last_due, until, limit + 1)
        good = late.newest[-limit:] if limit else ()
        if late.count and len(self.pending) + len(good) >= PENDING_MAX:
            return
        if late.count > len(good):
            self.miss(late.newest[-len(good) - 1], late.count - len(good), judgement.now)
        for tick in good:
            self.judge(tick)
        for tick in ticks(self.timing, max(self.last_due, until)):
            if tick.due > judgement.now or len(self.pending) >= PENDING_MAX:
                return
            self.judge(tick)

    def miss(self, last: Tick, count: int, now: float) -> None:
        """Record that ticks after the cursor, `last` the newest of them, are not made good."""
        self.pending.append(
            Firing(
                what="missed",
                due=last.due,
                key=last.key,
                after=self.last_due,
                count=count,
                reason=f"missed, {now - last.due:.0f} s ago or more; catch-up is "
                f"{self.schedule.catch_up!r}",
            )
        )
        self.passed(last)

    def judge(self, tick: Tick) -> None:
        """Decide what becomes of one tick."""
        overlap = self.schedule.overlap
        if overlap == "queue" and (self.busy or self.queued):
            if len(self.queued) < QUEUED_MAX:
                self.queued.append(tick.due)
            else:
                self.skip(tick, f"{QUEUED_MAX} firings wait already; overlap is 'queue'")
        elif overlap == "skip" and self.busy:
            self.skip(tick, f"{self.earlier()} has not ended; overlap is 'skip'")
        else:
            self.fire(tick)
        self.passed(tick)

    def earlier(self) -> str:
        """Return how to call the run before."""
        fires = any(firing.what == "fire" for firing in self.pending)
        return "the firing before" if fires else f"run {self.before.last_run}"

    def fire(self, tick: Tick) -> None:
        """Decide that a tick makes a run."""
        replace = self.schedule.overlap == "replace"
        self.pending.append(Firing(what="fire", due=tick.due, key=tick.key, replace=replace))
        self.busy = self.changed = True

    def skip(self, tick: Tick, reason: str) -> None:
        """Decide that a tick makes none."""
        self.pending.append(Firing(what="skip", due=tick.due, key=tick.key, reason=reason))

    def passed(self, tick: Tick) -> None:
        """Move the cursor."""
        self.last_due, self.changed = tick.due, True


def _firing(state: ScheduleState) -> bool:
    return any(firing.what == "fire" for firing in state.pending)


def _emptied(state: ScheduleState, reason: str, me: str) -> ScheduleState | None:
    """Return the state with its queue turned into skips, or None when nothing is queued."""
    room = PENDING_MAX - len(state.pending)
    if not state.queued or room <= 0:
        return None
    return msgspec.structs.replace(
        state,
        queued=state.queued[room:],
        pending=(
            *state.pending,
            *(
                Firing(what="skip", due=due, key=f"queued/{rfc3339(due)}", reason=reason)
                for due in state.queued[:room]
            ),
        ),
        by=me,
    )


def _missed_events(
    definition: Schedule, timing: Timing, head: Firing, now: float
) -> list[Announce]:
    missed = span(timing, head.after, head.due, SKIPS_TOLD_MAX)
    events = []
    if head.count > len(missed.newest):
        hidden = head.count - len(missed.newest)
        first = missed.newest[0]
        events.append(
            _event(
                definition,
                "skipped",
                Firing(
                    what="missed",
                    due=head.after,
                    key=f"before/{first.key}",
                    reason=f"{hidden:,} firings before {rfc3339(first.due)}: {head.reason}",
                ),
                now,
            )
        )
    events.extend(
        _event(
            definition,
            "skipped",
            Firing(what="missed", due=tick.due, key=tick.key, reason=head.reason),
            now,
        )
        for tick in missed.newest
    )
    return events


def _event(schedule: Schedule, what: str, firing: Firing, now: float, run: str = "") -> Announce:
    """Return the event of a firing; its id is the tick's, so that it is told once."""
    event = TriggerEvent(
        trigger=schedule.name,
        what=what,  # type: ignore[arg-type]
        at=now,
        due=firing.due,
        run=run,
        pipeline=schedule.pipeline,
        reason=firing.reason,
    )
    return Announce(
        event, f"{idempotency_key(schedule.name, schedule.revision, firing.key)}/{what}"
    )


def _filled(value: Scalar, due: float) -> Scalar:
    return value.replace(TRIGGER_TIME, rfc3339(due)) if isinstance(value, str) else value
