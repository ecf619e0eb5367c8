"""Runs as people see them: events in, one view out."""

from penstock.contracts.artifacts import TreeRef
from penstock.contracts.events import Part, RunEvent, StepEvent
from penstock.contracts.queries import RunView, StepView, WhyAnswer
from penstock.contracts.requests import ErrorBody
from penstock.contracts.work import Failure
from penstock_scheduler.views import Folded, fold, view_of, why_of

RUN = "6q9c8w0k3f7m2ax"
TREE = TreeRef(digest="ab" * 32, size_bytes=7, files=1)
PARTS = (Part(part="command", changed=True, old="a", new="b"),)
NO = Failure(code="E_EXIT", message="no")


def run_event(seq: int, what: str, **fields: object) -> RunEvent:
    return RunEvent(seq=seq, run=RUN, pipeline="p", what=what, at=100.0 + seq, **fields)  # type: ignore[arg-type]


def step_event(seq: int, step: str, what: str, **fields: object) -> StepEvent:
    return StepEvent(
        seq=seq,
        run=RUN,
        pipeline="p",
        step=step,
        what=what,  # type: ignore[arg-type]
        at=100.0 + seq,
        **fields,  # type: ignore[arg-type]
    )


EVENTS: list[RunEvent | StepEvent] = [
    run_event(1, "accepted", steps=2, graph={"a": (), "b": ("a",)}, parameters={"c": 1}, who="me"),
    step_event(2, "a", "queued", attempt=1, target="gpu", fingerprint="f", reason="command changed",
               compared_with="r0", parts=PARTS),
    run_event(3, "started"),
    step_event(4, "a", "started", attempt=1, executor="x"),
    step_event(5, "a", "retrying", attempt=1, failure=NO, seconds=3, retry_at=9),
    step_event(6, "a", "queued", attempt=2),
    step_event(7, "a", "started", attempt=2, executor="y"),
    step_event(8, "a", "succeeded", attempt=2, executor="y", seconds=4, outputs={"o": TREE},
               metrics={"m": 1, "only": 2}),
    step_event(9, "b", "reused", reused_from="r0", reason="same as run r0", metrics={"m": 5}),
    run_event(10, "succeeded", seconds=9, outputs={"best": TREE}),
]  # fmt: skip


def folded(events: list[RunEvent | StepEvent]) -> Folded:
    view = Folded(RUN)
    for sequence, event in enumerate(events, 50):
        fold(view, event, sequence)
    return view


def test_a_whole_story_becomes_one_view() -> None:
    assert view_of(folded(EVENTS), limit=10) == RunView(
        run=RUN,
        pipeline="p",
        state="succeeded",
        seconds=9,
        parameters={"c": 1},
        metrics={"a.m": 1, "only": 2, "b.m": 5},
        outputs={"best": TREE},
        steps=(
            StepView(
                step="a",
                state="succeeded",
                attempts=2,
                seconds=4,
                outputs={"o": TREE},
                metrics={"m": 1, "only": 2},
                fingerprint="f",
                reason="command changed",
                compared_with="r0",
                parts=PARTS,
                executor="y",
                target="gpu",
                queued_at=106,
                started_at=107,
                ended_at=108,
            ),
            StepView(
                step="b",
                state="reused",
                reused_from="r0",
                reason="same as run r0",
                metrics={"m": 5},
                needs=("a",),
                ended_at=109,
            ),
        ),
        steps_total=2,
        who="me",
        accepted_at=101,
        ended_at=110,
        last_seq=10,
    )


def test_events_that_come_again_change_nothing() -> None:
    again = folded([*EVENTS[:5], *EVENTS[2:5], *EVENTS[5:]])
    assert view_of(again, limit=10) == view_of(folded(EVENTS), limit=10)


def test_states_follow_the_story() -> None:
    states = []
    view = Folded(RUN)
    for sequence, event in enumerate(EVENTS):
        fold(view, event, sequence)
        states.append((view.state, [step.state for step in view.steps.values()]))
    assert states == [
        ("queued", ["waiting", "waiting"]),
        ("queued", ["queued", "waiting"]),
        ("running", ["queued", "waiting"]),
        ("running", ["running", "waiting"]),
        ("running", ["ready", "waiting"]),
        ("running", ["queued", "waiting"]),
        ("running", ["running", "waiting"]),
        ("running", ["succeeded", "waiting"]),
        ("running", ["succeeded", "reused"]),
        ("succeeded", ["succeeded", "reused"]),
    ]


def test_a_page_holds_the_steps_asked_for() -> None:
    view = folded(EVENTS)
    assert [s.step for s in view_of(view, first=1, limit=1).steps] == ["b"]
    assert view_of(view).steps == ()
    assert view_of(view).steps_total == 2


def test_a_refused_run_has_failed_and_says_why() -> None:
    error = ErrorBody(code="E_REF", message="no such step")
    view = view_of(folded([run_event(1, "refused", error=error)]))
    assert (view.state, view.reason, view.ended_at) == ("failed", "no such step", 101)


def test_why_tells_the_first_decision_also_after_a_retry() -> None:
    view = folded(EVENTS[:7])
    assert why_of(view, view.steps["a"]) == WhyAnswer(
        run=RUN,
        step="a",
        reused=False,
        reason="command changed",
        compared_with="r0",
        parts=PARTS,
        fingerprint="f",
    )
    assert why_of(view, view.steps["b"]).reason == "not decided yet: the step waits for its needs"
