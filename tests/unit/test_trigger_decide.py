"""What becomes of a due tick: catch-up, overlap, pause, change, deletion; whole states compared."""

import msgspec
import pytest

from penstock.contracts.events import TriggerEvent
from penstock.contracts.requests import CancelRequest, ErrorBody, RunAnswer, RunRequest
from penstock.contracts.schedules import Firing, Schedule, ScheduleState
from penstock_trigger.decide import asked, decided, next_wake, settled, told
from penstock_trigger.effects import Announce, Ask
from penstock_trigger.rules import timing_of
from penstock_trigger.state import PENDING_MAX, QUEUED_MAX, SKIPS_TOLD_MAX, Judgement

T0 = 1_800_000_000.0  # 2027-01-15T08:00:00Z
RUN = "0000000abcdefgh"


def schedule(**changes: object) -> Schedule:
    base = Schedule(name="s", pipeline="p", every=10, created_at=T0)
    return msgspec.structs.replace(base, **changes)


def key(due: float) -> str:
    minute, second = divmod(round(due - T0), 60)
    return f"2027-01-15T08:{minute:02d}:{second:02d}Z"


def fire(due: float, *, replace: bool = False) -> Firing:
    return Firing(what="fire", due=due, key=key(due), replace=replace)


def skip(due: float, reason: str) -> Firing:
    return Firing(what="skip", due=due, key=key(due), reason=reason)


def state_of(of: Schedule, **changes: object) -> ScheduleState:
    base = ScheduleState(name="s", revision=of.revision, last_due=T0)
    return msgspec.structs.replace(base, **changes)


def judged(
    of: Schedule,
    before: ScheduleState | None,
    now: float,
    *,
    missed_until: float = 0,
    running: bool = False,
) -> ScheduleState | None:
    judgement = Judgement(now=now, missed_until=missed_until, running=running)
    return decided(of, timing_of(of), before, judgement, "me")


def test_a_due_tick_fires_and_moves_the_cursor_in_one_step() -> None:
    of = schedule()
    assert judged(of, None, T0 + 9.9) is None
    assert judged(of, None, T0 + 10) == ScheduleState(
        name="s",
        revision=1,
        last_due=T0 + 10,
        pending=(fire(T0 + 10),),
        definition=of,
        by="me",
    )


def test_a_tick_behind_the_cursor_is_never_decided_again_even_when_the_clock_goes_back() -> None:
    of = schedule()
    before = state_of(of, last_due=T0 + 50)
    for now in (T0 - 1000, T0, T0 + 50, T0 + 59):
        assert judged(of, before, now) is None
    assert next_wake(of, timing_of(of), before) == T0 + 60


@pytest.mark.parametrize(
    ("catch_up", "most", "fired", "missed"),
    [("none", 10, [], 5), ("last", 10, [5], 4), ("all", 3, [3, 4, 5], 2), ("all", 9, [1, 2, 3, 4, 5], 0)],
)  # fmt: skip
def test_missed_ticks_follow_the_catch_up_policy_and_none_goes_unrecorded(
    catch_up: str, most: int, fired: list[int], missed: int
) -> None:
    of = schedule(catch_up=catch_up, catch_up_max=most)
    after = judged(of, None, T0 + 61, missed_until=T0 + 59)
    assert after is not None
    assert after.last_due == T0 + 60
    expected = [fire(T0 + 10 * n) for n in [*fired, 6]]
    if missed:
        last = T0 + 10 * missed
        reason = f"missed, {T0 + 61 - last:.0f} s ago or more; catch-up is {catch_up!r}"
        expected.insert(
            0,
            Firing(
                what="missed", due=last, key=key(last), after=T0, count=missed, reason=reason
            ),
        )  # fmt: skip
    assert list(after.pending) == expected


def test_missed_ticks_have_an_event_each_and_very_many_share_one_more() -> None:
    of = schedule(every=1)
    after = judged(of, None, T0 + 500, missed_until=T0 + 500)
    assert after is not None
    events = told(after, timing_of(of), None, T0 + 501)
    assert len(events) == SKIPS_TOLD_MAX + 1
    assert "400 firings before" in events[0].event.reason
    assert [e.event.due for e in events[1:]] == [T0 + n for n in range(401, 501)]
    assert {e.event.what for e in events} == {"skipped"}
    assert len({e.message_id for e in events}) == len(events)


def test_overlap_skip_tells_which_run_was_in_the_way() -> None:
    of = schedule(overlap="skip")
    before = state_of(of, last_run=RUN)
    after = judged(of, before, T0 + 10, running=True)
    assert after is not None
    assert after.pending == (skip(T0 + 10, f"run {RUN} has not ended; overlap is 'skip'"),)
    freed = judged(of, before, T0 + 10, running=False)
    assert freed is not None
    assert freed.pending == (fire(T0 + 10),)


def test_overlap_skip_lets_only_the_first_of_two_due_ticks_through() -> None:
    after = judged(schedule(overlap="skip"), None, T0 + 20)
    assert after is not None
    reason = "the firing before has not ended; overlap is 'skip'"
    assert after.pending == (fire(T0 + 10), skip(T0 + 20, reason))


def test_overlap_queue_waits_in_order_and_fires_one_when_the_run_before_has_ended() -> None:
    of = schedule(overlap="queue")
    before = state_of(of, last_run=RUN)
    waiting = judged(of, before, T0 + 20, running=True)
    assert waiting is not None
    assert (waiting.queued, waiting.pending) == ((T0 + 10, T0 + 20), ())
    assert judged(of, waiting, T0 + 20, running=True) is None
    released = judged(of, waiting, T0 + 25, running=False)
    assert released is not None
    assert (released.queued, released.pending) == ((T0 + 20,), (fire(T0 + 10),))
    assert released.last_due == T0 + 20


def test_overlap_queue_is_bounded_and_says_what_it_drops() -> None:
    of = schedule(overlap="queue")
    queued = tuple(T0 - 10 * n for n in range(QUEUED_MAX, 0, -1))
    after = judged(of, state_of(of, queued=queued, last_run=RUN), T0 + 10, running=True)
    assert after is not None
    assert after.queued == queued
    assert [f.what for f in after.pending] == ["skip"]
    assert "wait already" in after.pending[0].reason


def test_overlap_replace_cancels_the_run_before_and_then_asks() -> None:
    of = schedule(overlap="replace", parameters={"x": 1}, experiment="e", tags={"a": "b"})
    after = judged(of, state_of(of, last_run=RUN), T0 + 10, running=True)
    assert after is not None
    assert after.pending == (fire(T0 + 10, replace=True),)
    assert asked(after) == Ask(
        RunRequest(
            pipeline="p",
            parameters={"x": 1},
            experiment="e",
            tags={"a": "b"},
            idempotency_key=f"schedule/s/1/{key(T0 + 10)}",
            who="trigger/s",
        ),
        CancelRequest(
            run=RUN, reason="replaced by the firing due 2027-01-15T08:00:10Z", who="trigger/s"
        ),
    )


def test_the_time_of_the_firing_may_be_a_parameter() -> None:
    of = schedule(parameters={"at": "day ${{creation_context.trigger_time}}", "n": 3})
    after = judged(of, None, T0 + 10)
    assert after is not None
    ask = asked(after)
    assert ask is not None
    assert ask.request.parameters == {"at": "day 2027-01-15T08:00:10Z", "n": 3}


def test_a_full_outbox_stops_the_cursor_and_loses_nothing() -> None:
    of = schedule(every=1)
    state, now = None, T0 + PENDING_MAX + 50
    while (after := judged(of, state, now)) is not None:
        state = after
    assert state is not None
    assert (len(state.pending), state.last_due) == (PENDING_MAX, T0 + PENDING_MAX)
    freed = settled(state, state.pending[0], RUN, "me")
    assert freed is not None
    again = judged(of, freed, now)
    assert again is not None
    assert again.last_due == T0 + PENDING_MAX + 1


def test_an_answer_with_a_run_is_told_as_fired_and_a_refusal_as_skipped() -> None:
    after = judged(schedule(), None, T0 + 10)
    assert after is not None
    timing = timing_of(schedule())
    due, tick = T0 + 10, f"schedule/s/1/{key(T0 + 10)}"
    assert told(after, timing, RunAnswer(run=RUN, state="queued"), T0 + 11) == [
        Announce(
            TriggerEvent(
                trigger="s", what="fired", at=T0 + 11, due=due, run=RUN, pipeline="p"
            ),
            f"{tick}/fired",
        )
    ]  # fmt: skip
    body = ErrorBody(code="E_NOT_FOUND", message="no pipeline 'p'", where="pipeline", hint="hm")
    reason = "refused: E_NOT_FOUND pipeline: no pipeline 'p' (hm)"
    assert told(after, timing, RunAnswer(error=body), T0 + 11) == [
        Announce(
            TriggerEvent(
                trigger="s", what="skipped", at=T0 + 11, due=due, pipeline="p", reason=reason
            ),
            f"{tick}/skipped",
        )
    ]  # fmt: skip


def test_settling_takes_off_what_was_carried_out_and_only_once() -> None:
    of = schedule()
    after = judged(of, None, T0 + 20)
    assert after is not None
    head = after.pending[0]
    once = settled(after, head, RUN, "me")
    assert once is not None
    assert (once.pending, once.last_run, once.definition) == ((fire(T0 + 20),), RUN, of)
    assert settled(once, head, "other", "me") is None
    refused = settled(once, once.pending[0], "", "me")
    assert refused is not None
    assert (refused.pending, refused.last_run, refused.definition) == ((), RUN, None)


def test_what_was_decided_under_the_old_definition_goes_out_before_the_new_one_decides() -> None:
    old = schedule()
    before = judged(old, None, T0 + 10)
    assert before is not None
    new = schedule(every=7, revision=2, created_at=T0 + 11)
    assert judged(new, before, T0 + 60) is None
    ask = asked(before)
    assert ask is not None
    assert ask.request.idempotency_key.startswith("schedule/s/1/")
    drained = settled(before, before.pending[0], RUN, "me")
    after = judged(new, drained, T0 + 60)
    assert after is not None
    assert [f.due for f in after.pending] == [T0 + 18 + 7 * n for n in range(7)]
    assert (after.revision, after.definition) == (2, new)


def test_a_replica_with_an_old_definition_decides_nothing() -> None:
    new = schedule(revision=2)
    assert judged(schedule(), state_of(new), T0 + 100) is None


@pytest.mark.parametrize(
    ("now_is", "reason"),
    [
        (None, "the schedule was deleted"),
        (schedule(overlap="queue", paused=True), "the schedule was paused"),
        (schedule(overlap="queue", revision=2), "the schedule was changed (revision 2)"),
    ],
)
def test_what_waits_for_the_run_before_is_dropped_aloud_when_the_schedule_goes(
    now_is: Schedule | None, reason: str
) -> None:
    of = schedule(overlap="queue")
    before = state_of(of, queued=(T0 + 10, T0 + 20), last_run=RUN, definition=of)
    timing = timing_of(now_is) if now_is is not None else None
    judgement = Judgement(now=T0 + 25, missed_until=0, running=True)
    after = decided(now_is, timing, before, judgement, "me")
    assert after is not None
    assert after.queued == ()
    assert [(f.what, f.due, f.reason) for f in after.pending] == [
        ("skip", T0 + 10, reason),
        ("skip", T0 + 20, reason),
    ]
    assert [e.event.what for e in told(after, timing_of(of), None, T0 + 26)] == ["skipped"]


def test_a_paused_schedule_is_not_due_and_the_paused_time_is_never_made_good() -> None:
    paused = schedule(paused=True, catch_up="all")
    assert judged(paused, state_of(paused), T0 + 100) is None
    assert next_wake(paused, timing_of(paused), None) is None
    resumed = schedule(catch_up="all", resumed_at=T0 + 95)
    after = judged(resumed, state_of(resumed), T0 + 101, missed_until=T0 + 101)
    assert after is not None
    assert after.pending == (fire(T0 + 100),)
