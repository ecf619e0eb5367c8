"""The scheduler's rules, one by one: facts and orders in, facts and orders out, as whole values."""

from typing import Any

import msgspec
import pytest

from penstock.contracts.artifacts import TreeRef
from penstock.contracts.events import RunEvent, StepEvent
from penstock.contracts.fingerprints import compared, fingerprint, parts_of
from penstock.contracts.inbox import (
    CancelRun,
    FlightLanded,
    FollowFlight,
    Reports,
    TimerDue,
    Wake,
)
from penstock.contracts.plans import Bound, Given, PlanHead, PlannedOutput, PlannedStep, PlanPart
from penstock.contracts.queries import LatestEntry, ReuseEntry
from penstock.contracts.requests import ErrorBody
from penstock.contracts.work import (
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    Failure,
    WorkInput,
    WorkItem,
)
from penstock_scheduler.decide import Input, LookedUp, Resumed, Turn, decided
from penstock_scheduler.decide.attempts import retry_delay_s
from penstock_scheduler.effects import (
    AskFlight,
    CancelTimers,
    Dispatch,
    Emit,
    LookUp,
    PutLatest,
    PutReuse,
    PutSummary,
    ReleaseFlight,
    SetTimer,
    Stop,
    TellFlight,
    Withdraw,
    dispatches,
    owed,
)
from penstock_scheduler.state import (
    STARTS_MAX,
    Follower,
    Partition,
    RunStatus,
    StepStatus,
    evolve,
    forget,
)
from penstock_scheduler.transitions import (
    AttemptBegan,
    AttemptOffered,
    Commit,
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
    StepQueued,
    StepReady,
    StepRetrying,
    StepReused,
    StepSkipped,
    StepSucceeded,
    Transition,
    commit_of,
    messages_of,
)

RUN = "6q9c8w0k3f7m2ax"
OTHER = "6q9c8w0k3f7m2bb"
TREE = TreeRef(digest="ab" * 32, size_bytes=7, files=1)
EXIT = Failure(code="E_EXIT", message="exit code 1", exit_code=1)
OFF = "reuse is off in this run"
NOW = 1_000.0


def step(name: str, *needs: str, **fields: Any) -> PlannedStep:
    return PlannedStep(name=name, command=f"do {name}", needs=needs, **fields)


def plan(*steps: PlannedStep, run: str = RUN, **head: Any) -> PlanPart:
    head = {"reuse": "off", **head}
    return PlanPart(head=PlanHead(run=run, pipeline="p", **head), steps=steps)


def began(name: str, attempt: int = 1, delivery: int = 1) -> AttemptStarted:
    return AttemptStarted(run=RUN, step=name, attempt=attempt, executor="x", delivery=delivery)


def ok(name: str, attempt: int = 1, **fields: Any) -> AttemptSucceeded:
    return AttemptSucceeded(run=RUN, step=name, attempt=attempt, executor="x", **fields)


def failed(name: str, attempt: int = 1, failure: Failure = EXIT, **fields: Any) -> AttemptFailed:
    return AttemptFailed(
        run=RUN, step=name, attempt=attempt, executor="x", failure=failure, **fields
    )


def after(*inputs: Input, partition: Partition | None = None, now: float = NOW) -> Partition:
    """Return the partition after messages that are not the point of the test."""
    partition = partition or Partition()
    for message in inputs:
        decided(partition, [message], now)
    return partition


def facts(partition: Partition, *inputs: Input, now: float = NOW) -> list[Transition]:
    return decided(partition, inputs, now).transitions


def orders(turn: Turn) -> list[object]:
    """Return what is asked for besides telling."""
    return [e for e in turn.effects if not isinstance(e, Emit | PutSummary | PutLatest)]


def statuses(partition: Partition, run: str = RUN) -> dict[str, str]:
    found = partition.runs[run]
    return {n: s.status.value for n, s in zip(found.names, found.steps, strict=True)}


# -- planning ------------------------------------------------------------------------------------
def test_a_plan_is_accepted_with_its_last_part_and_offers_what_needs_nothing() -> None:
    parts = [
        PlanPart(head=PlanHead(run=RUN, pipeline="p", reuse="off"), part=n, parts=2, steps=(s,))
        for n, s in enumerate([step("a"), step("b", "a")])
    ]
    partition = Partition()
    second_first = decided(partition, [parts[1]], NOW)
    assert (second_first.transitions, second_first.effects) == ([PlanRecorded(part=parts[1])], [])
    turn = decided(partition, [parts[0]], NOW)
    assert turn.transitions == [
        PlanRecorded(part=parts[0]),
        StepQueued(run=RUN, step=0, reason=OFF),
        AttemptOffered(run=RUN, step=0, attempt=1),
    ]
    assert orders(turn) == [
        SetTimer(RUN, "", 0, "deadline", NOW + 86_400),
        Dispatch(WorkItem(run=RUN, step="a", attempt=1, pipeline="p", command="do a")),
    ]
    accepted = turn.effects[0]
    assert accepted == Emit(
        RunEvent(
            seq=1,
            run=RUN,
            pipeline="p",
            what="accepted",
            at=NOW,
            steps=2,
            graph={"a": (), "b": ("a",)},
            reuse="off",
        )
    )


def test_a_part_that_comes_again_changes_nothing() -> None:
    part = plan(step("a"))
    partition = after(part)
    assert facts(partition, part) == []
    assert facts(partition, ok("a"), part)[-1] == RunSucceeded(run=RUN)


def test_an_empty_plan_succeeds_at_once() -> None:
    assert facts(Partition(), plan())[1:] == [RunSucceeded(run=RUN)]


@pytest.mark.parametrize(
    "steps",
    [
        (step("a", "b"), step("b", "a")),
        (step("a", "nobody"),),
        (step("a"), step("a")),
    ],
)
def test_a_plan_that_can_never_end_fails_at_once(steps: tuple[PlannedStep, ...]) -> None:
    last = facts(Partition(), plan(*steps))[-1]
    assert isinstance(last, RunFailed)
    assert last.error.code == "E_PLAN"


# -- attempts ------------------------------------------------------------------------------------
def test_a_chain_runs_step_by_step_and_the_run_ends_with_the_last() -> None:
    partition = after(plan(step("a"), step("b", "a")))
    assert facts(partition, began("a"), ok("a", seconds=2.5)) == [
        RunStarted(run=RUN),
        AttemptBegan(run=RUN, step=0, attempt=1, executor="x"),
        StepSucceeded(run=RUN, step=0, attempt=1, executor="x", seconds=2.5),
        StepQueued(run=RUN, step=1, reason=OFF),
        AttemptOffered(run=RUN, step=1, attempt=1),
    ]
    turn = decided(partition, [ok("b")], NOW + 5)
    assert turn.transitions == [
        AttemptBegan(run=RUN, step=1, attempt=1, executor="x"),
        StepSucceeded(run=RUN, step=1, attempt=1, executor="x"),
        RunSucceeded(run=RUN),
    ]
    assert orders(turn) == [CancelTimers(RUN)]
    assert [e.event.seq for e in turn.effects if isinstance(e, Emit)] == [7, 8, 9]
    last = next(e.summary for e in reversed(turn.effects) if isinstance(e, PutSummary))
    assert (last.state, last.seconds, last.counts) == ("succeeded", 5, {"succeeded": 2})


def test_a_result_reaches_the_step_behind_it_and_the_run_s_outputs() -> None:
    maker = step("a", outputs={"model": PlannedOutput()})
    user = step(
        "b",
        "a",
        inputs={"m": Bound(type="uri_folder", step="a", output="model"), "n": Bound(value=3)},
    )
    partition = after(plan(maker, user, outputs={"best": ("a", "model")}, parameters={"n": 3}))
    turn = decided(partition, [ok("a", outputs={"model": TREE})], NOW)
    assert orders(turn) == [
        Dispatch(
            WorkItem(
                run=RUN,
                step="b",
                attempt=1,
                pipeline="p",
                command="do b",
                inputs={
                    "m": WorkInput(type="uri_folder", artifact=TREE.digest),
                    "n": WorkInput(value=3),
                },
                parameters={"n": 3},
            )
        )
    ]
    ended = decided(partition, [ok("b")], NOW)
    told = [e.event for e in ended.effects if isinstance(e, Emit)][-1]
    assert isinstance(told, RunEvent)
    assert told.outputs == {"best": TREE}


def test_a_need_that_ended_without_the_output_fails_the_step_behind_it() -> None:
    maker = step("a", outputs={"model": PlannedOutput()})
    user = step("b", "a", inputs={"m": Bound(type="uri_folder", step="a", output="model")})
    partition = after(plan(maker, user))
    found = facts(partition, ok("a"))
    assert [type(f) for f in found[2:]] == [StepSucceeded, StepFailed, RunFailed]
    assert statuses(partition) == {"a": "succeeded", "b": "failed"}


@pytest.mark.parametrize(
    "late",
    [began("a"), ok("a"), failed("a"), began("a", 2), ok("a", 3), ok("nobody"), failed("nobody")],
)
def test_news_of_another_attempt_or_of_an_ended_step_changes_nothing(late: Input) -> None:
    partition = after(plan(step("a"), step("b", "a")), ok("a"))
    before = msgspec.json.encode(partition.runs[RUN].steps)
    assert facts(partition, late) == []
    assert msgspec.json.encode(partition.runs[RUN].steps) == before


def test_a_start_nobody_wants_is_answered_with_a_stop() -> None:
    partition = after(plan(step("a"), step("b", "a")), ok("a"))
    stop = [Stop(RUN, "a", 1, "superseded")]
    assert decided(partition, [began("a", delivery=2)], NOW).effects == stop
    assert decided(Partition(), [began("a")], NOW).effects == stop


def test_a_second_delivery_is_told_as_a_new_start_of_the_same_attempt() -> None:
    partition = after(plan(step("a")), began("a"))
    assert facts(partition, began("a", delivery=2)) == [
        AttemptBegan(run=RUN, step=0, attempt=1, executor="x", delivery=2)
    ]
    assert facts(partition, began("a"), began("a", delivery=2)) == []


def test_who_is_overtaken_by_a_second_delivery_is_told_to_end_and_again_when_it_wakes() -> None:
    partition = after(plan(step("a")), began("a"))
    fence = Stop(RUN, "a", 1, "superseded", before=2)
    assert orders(decided(partition, [began("a", delivery=2)], NOW)) == [fence]
    woken = decided(partition, [msgspec.structs.replace(began("a"), asking=True)], NOW)
    assert (woken.transitions, woken.effects) == ([], [fence])
    assert decided(partition, [began("a", delivery=2)], NOW).effects == []
    # A work queue that was lost and filled again counts from 1: such a start is not an old one.
    assert decided(partition, [began("a", delivery=1)], NOW).effects == []


# -- retries -------------------------------------------------------------------------------------
def test_an_attempt_that_ten_executors_began_and_none_reported_is_lost_and_the_next_is_stopped() -> (
    None
):
    begun = [began("a", delivery=n) for n in range(1, STARTS_MAX + 1)]
    partition = after(plan(step("a", attempts_max=2, retry_delay_s=0)), *begun)
    assert statuses(partition) == {"a": "running"}
    assert facts(partition, began("a", delivery=STARTS_MAX)) == []  # told twice
    turn = decided(partition, [began("a", delivery=STARTS_MAX + 1)], NOW)
    retrying, queued, *_ = turn.transitions
    assert isinstance(retrying, StepRetrying)
    assert isinstance(queued, StepQueued)
    assert retrying.failure.code == "E_LOST"
    assert retrying.failure.message == "10 executors began the attempt and none reported it"
    asked = orders(turn)
    assert Withdraw(RUN, "default", "a", 1) in asked
    assert Stop(RUN, "a", 1, "timeout") in asked
    again = after(began("a", attempt=2), partition=partition)
    assert again.runs[RUN].steps[0].starts == 1  # every attempt has its own


def test_a_start_too_many_that_comes_together_with_its_result_is_no_loss() -> None:
    partition = after(plan(step("a")), *[began("a", delivery=n) for n in range(1, STARTS_MAX + 1)])
    late = STARTS_MAX + 1
    both = Reports(run=RUN, reports=(began("a", delivery=late), ok("a", delivery=late)))
    found = facts(partition, both)
    assert StepSucceeded in {type(fact) for fact in found}
    assert not {type(fact) for fact in found} & {StepFailed, AttemptBegan}


def test_a_failed_attempt_is_tried_again_when_its_timer_is_due() -> None:
    partition = after(plan(step("a", attempts_max=2, retry_delay_s=3)), began("a"))
    turn = decided(partition, [failed("a", seconds=1)], NOW)
    assert turn.transitions == [
        StepRetrying(
            run=RUN, step=0, attempt=1, failure=EXIT, retry_at=NOW + 3, executor="x", seconds=1
        )
    ]
    assert orders(turn) == [SetTimer(RUN, "a", 1, "retry", NOW + 3)]
    due = TimerDue(run=RUN, step="a", attempt=1, kind="retry")
    again = decided(partition, [due, due], NOW + 3)
    assert again.transitions == [
        StepQueued(run=RUN, step=0, attempt=2),
        AttemptOffered(run=RUN, step=0, attempt=2),
    ]
    assert facts(partition, failed("a", 2)) == [
        AttemptBegan(run=RUN, step=0, attempt=2, executor="x"),
        StepFailed(run=RUN, step=0, attempt=2, failure=EXIT, executor="x"),
        RunFailed(
            run=RUN,
            error=ErrorBody(
                code="E_STEP",
                message="step a failed",
                where=f"run {RUN}, step a",
                hint=f"penstock run logs {RUN} a",
            ),
        ),
    ]


def test_a_pause_doubles_up_to_five_minutes() -> None:
    assert [retry_delay_s(10, n) for n in (1, 2, 3, 6, 2_000)] == [10, 20, 40, 300, 300]
    assert retry_delay_s(0, 9) == 0


def test_a_failure_that_no_attempt_can_mend_ends_the_step() -> None:
    partition = after(plan(step("a", attempts_max=9)))
    assert facts(partition, failed("a", retriable=False))[2:3] == [
        StepFailed(run=RUN, step=0, attempt=1, failure=EXIT, executor="x")
    ]


def test_a_retry_without_a_pause_is_queued_at_once() -> None:
    partition = after(plan(step("a", attempts_max=2, retry_delay_s=0)))
    turn = decided(partition, [failed("a")], NOW)
    assert [type(f) for f in turn.transitions[-3:]] == [StepRetrying, StepQueued, AttemptOffered]
    assert not [e for e in turn.effects if isinstance(e, SetTimer)]


# -- time ----------------------------------------------------------------------------------------
def test_an_attempt_that_its_executor_does_not_end_is_ended_by_the_scheduler() -> None:
    partition = after(plan(step("a", timeout_s=60)))
    turn = decided(partition, [began("a")], NOW)
    assert orders(turn) == [SetTimer(RUN, "a", 1, "timeout", NOW + 90)]
    due = TimerDue(run=RUN, step="a", attempt=1, kind="timeout")
    late = decided(partition, [due], NOW + 90)
    found = late.transitions[0]
    assert isinstance(found, StepFailed)
    assert (found.failure.code, found.executor) == ("E_TIMEOUT", "")
    assert orders(late)[:2] == [
        Withdraw(RUN, "default", "a", 1),
        Stop(RUN, "a", 1, "timeout"),
    ]
    assert facts(partition, ok("a")) == []


def test_a_run_beyond_its_deadline_is_stopped_and_has_failed() -> None:
    partition = after(plan(step("a"), step("b", "a"), deadline_s=10), began("a"))
    due = TimerDue(run=RUN, kind="deadline")
    turn = decided(partition, [due], NOW + 10)
    assert [type(f) for f in turn.transitions] == [RunCancelling, StepCancelled]
    assert statuses(partition) == {"a": "running", "b": "cancelled"}
    last = facts(partition, failed("a", failure=Failure(code="E_CANCELLED", message="stopped")))[-1]
    assert isinstance(last, RunFailed)
    assert last.error.code == "E_DEADLINE"


# -- failures and what stands behind them -----------------------------------------------------------
def test_after_a_failure_nothing_more_starts_and_what_runs_may_finish() -> None:
    partition = Partition(window=2)
    steps = [step(n) for n in "abc"] + [step("d", "a"), step("e", "b")]
    after(plan(*steps), began("a"), began("b"), partition=partition)
    turn = decided(partition, [failed("a")], NOW)
    assert turn.transitions[1:] == [
        StepSkipped(run=RUN, step=2, reason="step a failed"),
        StepSkipped(run=RUN, step=3, reason="step a failed"),
        StepSkipped(run=RUN, step=4, reason="step a failed"),
    ]
    assert [type(f) for f in facts(partition, ok("b"))] == [StepSucceeded, RunFailed]
    assert statuses(partition) == {
        "a": "failed",
        "b": "succeeded",
        "c": "skipped",
        "d": "skipped",
        "e": "skipped",
    }


def test_an_attempt_that_is_out_but_has_not_begun_is_called_back() -> None:
    partition = after(plan(step("a"), step("b")), began("a"))
    turn = decided(partition, [failed("a")], NOW)
    assert turn.transitions[1] == StepSkipped(run=RUN, step=1, attempt=1, reason="step a failed")
    assert orders(turn)[:2] == [
        Withdraw(RUN, "default", "b", 1),
        Stop(RUN, "b", 1, "superseded"),
    ]
    assert partition.targets["default"].out == 0


def test_independent_branches_go_on_when_the_run_says_so() -> None:
    steps = (step("a"), step("b"), step("c", "a"), step("d", "c"), step("e", "b"))
    partition = after(plan(*steps, continue_on_step_failure=True), began("a"), began("b"))
    assert facts(partition, failed("a"))[1:] == [
        StepSkipped(run=RUN, step=2, reason="step a failed"),
        StepSkipped(run=RUN, step=3, reason="step c was skipped"),
    ]
    assert [type(f) for f in facts(partition, ok("b"))] == [
        StepSucceeded,
        StepQueued,
        AttemptOffered,
    ]
    assert isinstance(facts(partition, ok("e"))[-1], RunFailed)


def test_a_failing_step_with_attempts_left_is_not_tried_again_in_a_broken_run() -> None:
    steps = (step("a"), step("b", attempts_max=5))
    partition = after(plan(*steps), began("a"), began("b"), failed("a"))
    assert [type(f) for f in facts(partition, failed("b"))] == [StepFailed, RunFailed]


# -- cancelling ------------------------------------------------------------------------------------
def test_a_cancel_ends_what_has_not_begun_and_stops_what_runs() -> None:
    partition = Partition(window=2)
    steps = (step("a"), step("b"), step("c"), step("d", "a"))
    after(plan(*steps), began("a"), partition=partition)
    turn = decided(partition, [CancelRun(run=RUN, who="me", reason="enough")], NOW)
    why = "cancelled by me: enough"
    assert turn.transitions == [
        RunCancelling(run=RUN, reason=why, who="me"),
        StepCancelled(run=RUN, step=1, attempt=1, reason=why),
        StepCancelled(run=RUN, step=2, reason=why),
        StepCancelled(run=RUN, step=3, reason=why),
    ]
    assert orders(turn) == [
        Withdraw(RUN),
        Stop(RUN, "a", 1, "cancelled"),
        SetTimer(RUN, "", 0, "stop", NOW + 5),
        Withdraw(RUN, "default", "b", 1),
        Stop(RUN, "b", 1, "cancelled"),
    ]
    assert facts(partition, CancelRun(run=RUN)) == []
    stopped = Failure(code="E_CANCELLED", message="stopped")
    assert facts(partition, failed("a", failure=stopped)) == [
        StepCancelled(run=RUN, step=0, attempt=1, reason=why, failure=stopped, executor="x"),
        RunCancelled(run=RUN, reason=why),
    ]


def test_a_stop_is_repeated_until_it_is_reported_and_given_up_in_the_end() -> None:
    partition = after(plan(step("a")), began("a"), CancelRun(run=RUN))
    due = TimerDue(run=RUN, kind="stop")
    turn = decided(partition, [due], NOW + 5)
    assert (turn.transitions, turn.effects) == (
        [],
        [Stop(RUN, "a", 1, "cancelled"), SetTimer(RUN, "", 0, "stop", NOW + 10)],
    )
    found = facts(partition, due, now=NOW + 60)
    assert [type(f) for f in found] == [StepCancelled, RunCancelled]
    assert isinstance(found[0], StepCancelled)
    assert found[0].failure is not None
    assert found[0].failure.code == "E_LOST"
    assert decided(partition, [due], NOW + 65).effects == []


def test_a_result_that_beats_the_stop_counts() -> None:
    partition = after(plan(step("a")), began("a"), CancelRun(run=RUN))
    assert [type(f) for f in facts(partition, ok("a"))] == [StepSucceeded, RunSucceeded]


def test_a_cancel_takes_retries_and_followers_along() -> None:
    partition = after(plan(step("a", attempts_max=3)), failed("a"))
    assert partition.runs[RUN].steps[0].status is StepStatus.RETRYING
    assert [type(f) for f in facts(partition, CancelRun(run=RUN))] == [
        RunCancelling,
        StepCancelled,
        RunCancelled,
    ]


def test_a_cancel_that_overtakes_a_part_of_the_plan_is_not_lost() -> None:
    head = PlanHead(run=RUN, pipeline="p", reuse="off")
    partition = after(PlanPart(head=head, part=0, parts=2, steps=(step("a"),)))
    assert [type(f) for f in facts(partition, CancelRun(run=RUN))] == [RunCancelling]
    last = PlanPart(head=head, part=1, parts=2, steps=(step("b"),))
    assert [type(f) for f in facts(partition, last)] == [
        PlanRecorded,
        StepCancelled,
        StepCancelled,
        RunCancelled,
    ]


# -- reuse -----------------------------------------------------------------------------------------
A = step("a", outputs={"o": PlannedOutput()})
PARTS = parts_of(A, {})
KEY = fingerprint(PARTS)
DONE = ReuseEntry(run=OTHER, step="a", outputs={"o": TREE}, metrics={"m": 1}, ended_at=5)
LATEST = LatestEntry(run=OTHER, fingerprint="ff" * 32, parts={**PARTS, "command": "do less"})


def looked(**fields: Any) -> LookedUp:
    return LookedUp(run=RUN, step="a", look=1, fingerprint=KEY, **fields)


def test_a_ready_step_asks_whether_equal_work_is_done() -> None:
    turn = decided(Partition(), [plan(A, reuse="use")], NOW)
    assert turn.transitions[1:] == [StepReady(run=RUN, step=0, fingerprint=KEY)]
    assert orders(turn)[1:] == [LookUp(RUN, "a", 1, KEY, "p.a", claim=True)]


def test_a_result_that_still_exists_is_reused() -> None:
    partition = after(plan(A, reuse="use"))
    turn = decided(partition, [looked(entry=DONE, exists=True)], NOW)
    parts = compared(PARTS, None)
    assert turn.transitions == [
        RunStarted(run=RUN),
        StepReused(
            run=RUN,
            step=0,
            reused_from=OTHER,
            outputs={"o": TREE},
            metrics={"m": 1},
            fingerprint=KEY,
            reason=f"same as run {OTHER}",
            parts=parts,
        ),
        RunSucceeded(run=RUN),
    ]


def test_a_result_whose_outputs_are_gone_is_made_again() -> None:
    partition = after(plan(A, reuse="use"))
    found = facts(partition, looked(entry=DONE, claimed=True))
    assert found == [
        StepQueued(
            run=RUN,
            step=0,
            holds=True,
            reason=f"same as run {OTHER}, but its outputs no longer exist",
            parts=compared(PARTS, None),
        ),
        AttemptOffered(run=RUN, step=0, attempt=1),
    ]


def test_a_step_that_runs_says_what_differs_from_the_last_time() -> None:
    partition = after(plan(A, reuse="use"))
    found = facts(partition, looked(claimed=True, latest=LATEST))[0]
    assert found == StepQueued(
        run=RUN,
        step=0,
        holds=True,
        reason="command changed: do less → do a",
        compared_with=OTHER,
        parts=compared(PARTS, LATEST.parts),
    )


def test_a_success_is_offered_to_equals_and_kept_for_comparison() -> None:
    partition = after(plan(A, reuse="use"), looked(claimed=True))
    turn = decided(partition, [ok("a", outputs={"o": TREE}, metrics={"m": 2}, seconds=3)], NOW)
    assert [e for e in turn.effects if isinstance(e, PutReuse | PutLatest)] == [
        PutReuse(
            KEY,
            ReuseEntry(
                run=RUN, step="a", outputs={"o": TREE}, metrics={"m": 2}, seconds=3, ended_at=NOW
            ),
        ),
        PutLatest(
            "p.a",
            LatestEntry(run=RUN, fingerprint=KEY, parts=PARTS, at=NOW, typical_s=3, samples=1),
        ),
    ]


def test_a_failure_never_enters_the_reuse_bucket_and_gives_its_claim_back() -> None:
    partition = after(plan(A, reuse="use"), looked(claimed=True), began("a"))
    assert orders(decided(partition, [failed("a")], NOW)) == [
        ReleaseFlight(KEY, RUN, "a"),
        CancelTimers(RUN),
    ]


def test_a_refreshing_run_claims_nothing_and_overwrites_the_entry() -> None:
    partition = Partition()
    turn = decided(partition, [plan(A, reuse="refresh")], NOW)
    assert orders(turn)[1:] == [LookUp(RUN, "a", 1, KEY, "p.a", claim=False)]
    found = facts(partition, looked(latest=LATEST))[0]
    assert isinstance(found, StepQueued)
    assert (found.holds, found.reason) == (False, "this run refreshes results")
    turn = decided(partition, [ok("a")], NOW)
    assert [e.fingerprint for e in turn.effects if isinstance(e, PutReuse)] == [KEY]


@pytest.mark.parametrize(
    ("head", "fields", "reason"),
    [
        ({"reuse": "off"}, {}, OFF),
        ({"reuse": "use"}, {"deterministic": False}, "the step is not deterministic"),
    ],
)
def test_a_step_that_may_not_be_reused_neither_reads_nor_writes(
    head: dict[str, Any], fields: dict[str, Any], reason: str
) -> None:
    partition = Partition()
    found = facts(partition, plan(step("a", **fields), **head))
    assert found[1] == StepQueued(run=RUN, step=0, reason=reason)
    turn = decided(partition, [ok("a")], NOW)
    assert not [e for e in turn.effects if isinstance(e, PutReuse | PutLatest | ReleaseFlight)]


def test_a_step_that_a_rerun_names_runs_whatever_was_done_before() -> None:
    named = msgspec.structs.replace(A, fresh=True)
    turn = decided(partition := Partition(), [plan(named, reuse="use")], NOW)
    assert orders(turn)[1:] == [LookUp(RUN, "a", 1, KEY, "p.a", claim=False)]
    found = decided(partition, [looked(latest=LATEST)], NOW).transitions[0]
    assert isinstance(found, StepQueued)
    assert (found.reason, found.holds) == ("the rerun names this step", False)
    kept = decided(partition, [ok("a", outputs={"o": TREE})], NOW).effects
    assert [type(e) for e in kept if isinstance(e, PutReuse)] == [PutReuse]


def test_given_results_are_taken_over_without_a_look() -> None:
    given = Given(run=OTHER, outputs={"o": TREE.digest}, metrics={"m": 1}, logs="cd" * 32)
    partition = Partition()
    steps = [step("a", outputs={"o": PlannedOutput()}, given=given), step("b", "a")]
    assert facts(partition, plan(*steps, reuse="off"))[1:4] == [
        RunStarted(run=RUN),
        StepReused(
            run=RUN,
            step=0,
            reused_from=OTHER,
            outputs={"o": TreeRef(digest=TREE.digest)},
            metrics={"m": 1},
            logs=TreeRef(digest="cd" * 32),
            reason=f"kept from run {OTHER}",
        ),
        StepQueued(run=RUN, step=1, reason=OFF),
    ]


def test_equal_outputs_cut_off_what_stands_behind_them() -> None:
    user = step("b", "a", inputs={"x": Bound(type="uri_folder", step="a", output="o")})
    keys = []
    for command in ("do a", "do a otherwise"):
        maker = msgspec.structs.replace(A, command=command)
        partition = after(plan(maker, user, reuse="use"))
        key = partition.runs[RUN].steps[0].fingerprint
        after(
            LookedUp(run=RUN, step="a", look=1, fingerprint=key, claimed=True), partition=partition
        )
        found = facts(partition, ok("a", outputs={"o": TREE}))
        keys.append(next(f.fingerprint for f in found if isinstance(f, StepReady)))
    assert keys[0] == keys[1]


def test_an_answer_to_an_earlier_look_gives_its_claim_back() -> None:
    partition = after(plan(A, reuse="use"), CancelRun(run=RUN))
    assert decided(partition, [looked(claimed=True)], NOW).effects == [ReleaseFlight(KEY, RUN, "a")]
    assert decided(partition, [looked()], NOW).effects == []


# -- single flight -----------------------------------------------------------------------------------
FOLLOW = FollowFlight(
    run=RUN, step="a", fingerprint=KEY, follower_run=OTHER, follower_step="b", look=1
)
LANDED = FlightLanded(run=OTHER, step="b", fingerprint=KEY, leader_run=RUN, leader_step="a", look=1)


def test_a_step_follows_an_equal_one_in_flight() -> None:
    partition = after(plan(A, reuse="use"))
    turn = decided(partition, [looked(entry=ReuseEntry(run=OTHER, step="b"))], NOW)
    assert turn.transitions == [StepFollowing(run=RUN, step=0, leader_run=OTHER, leader_step="b")]
    assert turn.effects == [
        AskFlight(
            FollowFlight(
                run=OTHER, step="b", fingerprint=KEY, follower_run=RUN, follower_step="a", look=1
            )
        )
    ]
    landed = FlightLanded(
        run=RUN, step="a", fingerprint=KEY, leader_run=OTHER, leader_step="b", look=1
    )
    turn = decided(partition, [landed, landed], NOW)
    assert turn.transitions == [
        StepReady(run=RUN, step=0, fingerprint=KEY, look=2, stale_run=OTHER, stale_step="b")
    ]
    assert turn.effects == [LookUp(RUN, "a", 2, KEY, "p.a", claim=True, stale=(OTHER, "b"))]


def test_followers_are_told_when_the_leader_has_ended() -> None:
    partition = after(plan(A, reuse="use"), looked(claimed=True))
    assert facts(partition, FOLLOW, FOLLOW) == [
        FlightFollowed(run=RUN, step=0, follower_run=OTHER, follower_step="b", look=1)
    ]
    assert partition.runs[RUN].followers == {0: (Follower(OTHER, "b", 1),)}
    assert TellFlight(LANDED) in decided(partition, [ok("a")], NOW).effects


@pytest.mark.parametrize(
    "partition",
    [
        Partition(),
        after(plan(A, reuse="use"), looked(claimed=True), ok("a")),
        after(plan(A, reuse="off")),
        after(plan(A, reuse="use"), looked(entry=ReuseEntry(run=OTHER, step="z"))),
    ],
    ids=["unknown run", "ended", "other fingerprint", "follows itself"],
)
def test_who_follows_a_step_that_does_not_fly_is_told_at_once(partition: Partition) -> None:
    turn = decided(partition, [FOLLOW], NOW)
    assert (turn.transitions, turn.effects) == ([], [TellFlight(LANDED)])


# -- dispatch ----------------------------------------------------------------------------------------
def test_the_window_lets_out_the_most_urgent_first_and_then_by_arrival() -> None:
    partition = Partition(window=1)
    after(plan(step("a"), step("b")), partition=partition)
    after(plan(step("c"), run=OTHER, priority=5), partition=partition)
    assert statuses(partition) == {"a": "offered", "b": "queued"}
    turn = decided(partition, [ok("a")], NOW)
    assert turn.transitions[-1] == AttemptOffered(run=OTHER, step=0, attempt=1)
    found = facts(partition, AttemptSucceeded(run=OTHER, step="c", attempt=1, executor="x"))
    assert found[-1] == AttemptOffered(run=RUN, step=1, attempt=1)
    assert partition.targets["default"].out == 1


def test_every_target_has_a_window_of_its_own() -> None:
    partition = Partition(window=1)
    after(plan(step("a"), step("b", compute="gpu"), step("c", compute="gpu")), partition=partition)
    assert statuses(partition) == {"a": "offered", "b": "offered", "c": "queued"}


# -- after a takeover ----------------------------------------------------------------------------------
def test_the_state_owes_everything_that_may_have_been_lost() -> None:
    partition = Partition()
    steps = (
        step("a", timeout_s=10),
        step("b"),
        step("c", attempts_max=2, retry_delay_s=7),
        step("d", "a"),
    )
    after(plan(*steps), began("a"), failed("c"), partition=partition)
    items = [
        Dispatch(
            WorkItem(run=RUN, step=n, attempt=1, pipeline="p", command=f"do {n}", timeout_s=timeout)
        )
        for n, timeout in (("a", 10), ("b", 0))
    ]
    assert list(owed(partition)) == [
        SetTimer(RUN, "", 0, "deadline", NOW + 86_400),
        items[0],
        SetTimer(RUN, "a", 1, "timeout", NOW + 40),
        items[1],
        SetTimer(RUN, "c", 1, "retry", NOW + 7),
    ]
    assert dispatches(partition) == items


def test_a_log_that_was_cut_anywhere_is_finished_by_the_next_owner() -> None:
    steps = [step("a"), step("b", "a"), step("c", "b")]
    whole = Partition()
    inputs: list[Input] = [plan(*steps, reuse="off"), began("a"), failed("a")]
    log = [fact for message in inputs for fact in decided(whole, [message], NOW).transitions]
    assert whole.runs[RUN].status is RunStatus.FAILED
    for cut in range(1, len(log) + 1):
        partition = Partition()
        for fact in log[:cut]:
            evolve(partition, fact, NOW)
        after(Resumed(), *inputs, partition=partition)
        assert partition.runs[RUN].status is RunStatus.FAILED, f"cut after {cut}"
        assert statuses(partition) == statuses(whole)


def test_a_commit_is_cut_into_messages_that_fit_and_lose_nothing() -> None:
    facts_ = tuple(StepSkipped(run=RUN, step=n, reason="x" * 100) for n in range(1_000))
    commit = Commit(at=NOW, inputs=(1, 2), transitions=facts_, live=1)
    messages = messages_of(commit, 20_000)
    assert max(map(len, messages)) <= 20_000
    commits = [commit_of(message) for message in messages]
    assert tuple(fact for one in commits for fact in one.transitions) == facts_
    assert [one.inputs for one in commits if one.inputs] == [(1, 2)]


def test_only_a_run_that_has_ended_is_forgotten() -> None:
    partition = after(plan(step("a")))
    forget(partition, RUN)
    assert RUN in partition.runs
    after(ok("a"), partition=partition)
    forget(partition, RUN)
    forget(partition, RUN)
    assert partition.runs == {}
    assert facts(partition, ok("a"), Wake(partition=3), CancelRun(run=RUN)) == []


def test_the_events_of_a_step_tell_what_happened() -> None:
    partition = after(plan(step("a", compute="gpu")))
    turn = decided(partition, [began("a"), ok("a", outputs={"o": TREE}, metrics={"m": 1})], NOW)
    told = [e.event for e in turn.effects if isinstance(e, Emit)]
    assert told[1:3] == [
        StepEvent(
            seq=4,
            run=RUN,
            pipeline="p",
            step="a",
            what="started",
            at=NOW,
            attempt=1,
            target="gpu",
            executor="x",
        ),
        StepEvent(
            seq=5,
            run=RUN,
            pipeline="p",
            step="a",
            what="succeeded",
            at=NOW,
            attempt=1,
            target="gpu",
            executor="x",
            outputs={"o": TREE},
            metrics={"m": 1},
        ),
    ]


def test_reports_that_came_together_are_taken_in_one_after_the_other() -> None:
    one, two = after(plan(step("a"), step("b"))), after(plan(step("a"), step("b")))
    said = (began("a"), ok("a"), began("b"), failed("b"))
    together = facts(one, Reports(run=RUN, reports=said))
    assert together == facts(two, *said)
    assert statuses(one) == statuses(two)
