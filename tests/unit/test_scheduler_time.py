"""Deadlines of steps, and attempts that take longer than expected: rule by rule."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.contracts.fingerprints import fingerprint, parts_of
from penstock.contracts.inbox import CancelRun, TimerDue
from penstock.contracts.plans import PlanHead, PlannedStep, PlanPart
from penstock.contracts.queries import LatestEntry, ReuseEntry
from penstock.contracts.work import AttemptFailed, AttemptStarted, AttemptSucceeded, Failure
from penstock_scheduler.decide import Input, LookedUp, Turn, decided
from penstock_scheduler.effects import Emit, PutLatest, SetTimer, Stop, Withdraw, owed
from penstock_scheduler.effects.expecting import (
    OUTLIER_FACTOR,
    OVERDUE_FACTOR,
    OVERDUE_S_MIN,
    SAMPLES_MAX,
    learned,
)
from penstock_scheduler.state import Partition, StepStatus
from penstock_scheduler.transitions import RunFailed, StepFailed, StepOverdue, StepRetrying

RUN = "6q9c8w0k3f7m2ax"
OTHER = "6q9c8w0k3f7m2bb"
NOW = 1_000.0
EXIT = Failure(code="E_EXIT", message="exit code 1", exit_code=1)
STOPPED = Failure(code="E_TIMEOUT", message="its time limit of run time used up", log_tail="bye")
EXPIRED = TimerDue(run=RUN, step="a", kind="deadline")
LATE = TimerDue(run=RUN, step="a", attempt=1, kind="overdue")
STARTED = AttemptStarted(run=RUN, step="a", attempt=1, executor="x")
SUCCEEDED = AttemptSucceeded(run=RUN, step="a", attempt=1, executor="x", seconds=20)


def a(**fields: Any) -> PlannedStep:
    return PlannedStep(name="a", command="do a", **fields)


def plan(*steps: PlannedStep, reuse: Any = "off", **head: Any) -> PlanPart:
    return PlanPart(head=PlanHead(run=RUN, pipeline="p", reuse=reuse, **head), steps=steps)


def after(*inputs: Input, now: float = NOW) -> Partition:
    partition = Partition()
    for message in inputs:
        decided(partition, [message], now)
    return partition


def failure(failure: Failure, attempt: int = 1) -> AttemptFailed:
    return AttemptFailed(run=RUN, step="a", attempt=attempt, executor="x", failure=failure)


def looked(step: PlannedStep, **fields: Any) -> LookedUp:
    key = fingerprint(parts_of(step, {}))
    return LookedUp(run=RUN, step="a", look=1, fingerprint=key, **fields)


def status(partition: Partition) -> StepStatus:
    return partition.runs[RUN].steps[0].status


def failed_with(turn: Turn) -> StepFailed:
    (found,) = [fact for fact in turn.transitions if isinstance(fact, StepFailed)]
    return found


# -- the deadline of a step ----------------------------------------------------------------------
def test_a_step_s_deadline_counts_from_the_moment_its_needs_are_met() -> None:
    second = PlannedStep(name="b", command="do b", needs=("a",), deadline_s=60)
    partition = Partition()
    first = decided(partition, [plan(a(), second)], NOW)
    assert not [e for e in first.effects if isinstance(e, SetTimer) and e.step]
    turn = decided(partition, [SUCCEEDED], NOW + 500)
    assert SetTimer(RUN, "b", 0, "deadline", NOW + 560) in turn.effects


def test_a_step_that_nobody_takes_fails_at_its_deadline_and_is_called_back() -> None:
    partition = after(plan(a(deadline_s=60, attempts_max=9)))
    turn = decided(partition, [EXPIRED], NOW + 60)
    found = failed_with(turn)
    assert (found.failure.code, found.attempt) == ("E_DEADLINE", 1)
    assert "it was offered" in found.failure.message
    assert Withdraw(RUN, "default", "a", 1) in turn.effects
    assert isinstance(turn.transitions[-1], RunFailed)
    assert decided(partition, [STARTED], NOW + 61).effects == [Stop(RUN, "a", 1, "superseded")]


@pytest.mark.parametrize("waits", ["looking", "following", "retrying"])
def test_whatever_a_step_waits_for_its_deadline_ends_it(waits: str) -> None:
    step = a(deadline_s=60, attempts_max=9, retry_delay_s=30)
    partition = after(plan(step, reuse="use"))
    if waits == "following":
        decided(partition, [looked(step, entry=ReuseEntry(run=OTHER, step="z"))], NOW)
    elif waits == "retrying":
        decided(partition, [looked(step, claimed=True)], NOW)
        decided(partition, [STARTED, failure(EXIT)], NOW)
    assert status(partition).value == waits
    turn = decided(partition, [EXPIRED], NOW + 60)
    assert failed_with(turn).failure.code == "E_DEADLINE"
    late = looked(step, claimed=True)
    released = [type(e).__name__ for e in decided(partition, [late], NOW + 61).effects]
    assert "ReleaseFlight" in released


def test_a_step_that_runs_at_its_deadline_is_stopped_and_what_it_logged_is_kept() -> None:
    partition = after(plan(a(deadline_s=60, attempts_max=9)), STARTED)
    turn = decided(partition, [EXPIRED], NOW + 60)
    assert (turn.transitions, turn.effects) == (
        [],
        [Stop(RUN, "a", 1, "timeout"), SetTimer(RUN, "a", 0, "deadline", NOW + 65)],
    )
    found = failed_with(decided(partition, [failure(STOPPED)], NOW + 61))
    assert (found.failure.code, found.failure.log_tail) == ("E_DEADLINE", "bye")
    assert found.executor == "x"
    assert decided(partition, [EXPIRED], NOW + 65).effects == []


def test_a_step_that_is_stopped_and_never_reports_fails_all_the_same() -> None:
    partition = after(plan(a(deadline_s=60)), STARTED)
    for seconds in (60, 65, 100):
        assert decided(partition, [EXPIRED], NOW + seconds).transitions == []
    assert failed_with(decided(partition, [EXPIRED], NOW + 105)).failure.code == "E_DEADLINE"


def test_a_result_that_beats_the_deadline_counts() -> None:
    partition = after(plan(a(deadline_s=60)), STARTED, EXPIRED, now=NOW + 60)
    decided(partition, [SUCCEEDED], NOW + 61)
    assert status(partition) is StepStatus.SUCCEEDED


def test_no_attempt_is_planned_for_after_the_deadline() -> None:
    partition = after(plan(a(deadline_s=60, attempts_max=9, retry_delay_s=30)))
    assert isinstance(decided(partition, [failure(EXIT)], NOW + 29).transitions[-1], StepRetrying)
    decided(partition, [TimerDue(run=RUN, step="a", attempt=1, kind="retry")], NOW + 59)
    found = failed_with(decided(partition, [failure(EXIT, 2)], NOW + 59.5))
    assert (found.attempt, found.failure) == (2, EXIT)


def test_a_cancelled_run_has_no_deadlines_of_steps_any_more() -> None:
    partition = after(plan(a(deadline_s=60)), STARTED, CancelRun(run=RUN))
    assert decided(partition, [EXPIRED], NOW + 60).transitions == []


def test_a_new_owner_sets_the_deadline_and_the_overdue_timer_again() -> None:
    partition = after(plan(a(deadline_s=60, expected_s=10)))
    decided(partition, [STARTED], NOW + 5)
    timers = {e for e in owed(partition) if isinstance(e, SetTimer) and e.step}
    assert timers == {
        SetTimer(RUN, "a", 0, "deadline", NOW + 60),
        SetTimer(RUN, "a", 1, "overdue", NOW + 15),
    }
    decided(partition, [LATE], NOW + 15)
    timers = {e for e in owed(partition) if isinstance(e, SetTimer) and e.step}
    assert timers == {SetTimer(RUN, "a", 0, "deadline", NOW + 60)}


# -- overdue -------------------------------------------------------------------------------------
def test_an_attempt_that_takes_longer_than_declared_is_told_once_and_goes_on() -> None:
    partition = after(plan(a(expected_s=10)))
    turn = decided(partition, [STARTED], NOW)
    assert SetTimer(RUN, "a", 1, "overdue", NOW + 10) in turn.effects
    told = decided(partition, [LATE, LATE], NOW + 10)
    assert told.transitions == [
        StepOverdue(run=RUN, step=0, attempt=1, expected_s=10, declared=True)
    ]
    (emit,) = told.effects
    assert isinstance(emit, Emit)
    assert emit.event.what == "overdue"
    assert emit.event.reason == "runs for 10 s; expected: 10 s, declared"
    assert status(partition) is StepStatus.RUNNING
    assert decided(partition, [LATE], NOW + 20).effects == []
    assert decided(partition, [SUCCEEDED], NOW + 30).transitions


def test_each_attempt_may_be_overdue() -> None:
    partition = after(plan(a(expected_s=10, attempts_max=2, retry_delay_s=0)), STARTED, LATE)
    second = AttemptStarted(run=RUN, step="a", attempt=2, executor="x")
    decided(partition, [failure(EXIT)], NOW)
    turn = decided(partition, [second], NOW + 1)
    assert SetTimer(RUN, "a", 2, "overdue", NOW + 11) in turn.effects
    assert decided(partition, [LATE], NOW + 12).transitions == []
    again = TimerDue(run=RUN, step="a", attempt=2, kind="overdue")
    assert len(decided(partition, [again], NOW + 12).transitions) == 1


@pytest.mark.parametrize("ended", [SUCCEEDED, CancelRun(run=RUN), failure(EXIT)])
def test_what_has_ended_or_is_told_to_end_is_not_overdue(ended: Input) -> None:
    partition = after(plan(a(expected_s=10)), STARTED, ended)
    assert decided(partition, [LATE], NOW + 10).transitions == []


def test_what_is_typical_is_learned_from_the_last_run_and_told_to_the_next() -> None:
    step = a()
    latest = LatestEntry(run=OTHER, fingerprint="ff" * 32, typical_s=100, samples=3)
    partition = after(plan(step, reuse="use"), looked(step, claimed=True, latest=latest))
    turn = decided(partition, [STARTED], NOW)
    assert SetTimer(RUN, "a", 1, "overdue", NOW + 100 * OVERDUE_FACTOR) in turn.effects
    told = decided(partition, [LATE], NOW + 300)
    assert told.transitions == [StepOverdue(run=RUN, step=0, attempt=1, expected_s=100)]
    done = decided(partition, [SUCCEEDED], NOW + 301)
    (kept,) = [e.entry for e in done.effects if isinstance(e, PutLatest)]
    assert (kept.typical_s, kept.samples) == learned(100, 3, 20) == (81.25, 4)


def test_a_reused_step_keeps_what_was_learned() -> None:
    step = a()
    latest = LatestEntry(run=OTHER, fingerprint="ff" * 32, typical_s=100, samples=3)
    entry = ReuseEntry(run=OTHER, step="a", ended_at=5)
    partition = after(plan(step, reuse="use"))
    turn = decided(partition, [looked(step, entry=entry, exists=True, latest=latest)], NOW)
    (kept,) = [e.entry for e in turn.effects if isinstance(e, PutLatest)]
    assert (kept.typical_s, kept.samples) == (100, 3)


@pytest.mark.parametrize(
    ("typical_s", "samples", "after_s"),
    [(100, 2, 0), (100, 3, 100 * OVERDUE_FACTOR), (1, 8, OVERDUE_S_MIN)],
)
def test_a_few_runs_teach_nothing_and_a_quick_step_is_not_hurried(
    typical_s: float, samples: int, after_s: float
) -> None:
    step = a()
    latest = LatestEntry(run=OTHER, fingerprint="ff" * 32, typical_s=typical_s, samples=samples)
    partition = after(plan(step, reuse="use"), looked(step, claimed=True, latest=latest))
    turn = decided(partition, [STARTED], NOW)
    due = [e.at - NOW for e in turn.effects if isinstance(e, SetTimer) and e.kind == "overdue"]
    assert due == ([after_s] if after_s else [])


@given(st.lists(st.floats(10, 20), min_size=12, max_size=40), st.floats(0.001, 1e6))
def test_one_strange_day_moves_what_is_typical_by_less_than_half(
    usual: list[float], strange: float
) -> None:
    typical_s, samples = 0.0, 0
    for seconds in usual:
        typical_s, samples = learned(typical_s, samples, seconds)
    assert samples == SAMPLES_MAX
    moved, _ = learned(typical_s, samples, strange)
    change = abs(moved - typical_s) / typical_s
    assert change <= (OUTLIER_FACTOR - 1) / SAMPLES_MAX + 1e-3


def test_a_lasting_change_is_learned_within_a_few_runs() -> None:
    typical_s, samples = 10.0, SAMPLES_MAX
    for _ in range(20):
        typical_s, samples = learned(typical_s, samples, 100.0)
    assert 80 < typical_s <= 100
