"""Following a run: events fold into progress, progress into a picture, chunks into lines."""

import io
import random

import msgspec
import pytest
from rich.console import Console

from penstock.bus import Stored
from penstock.cli.live_view import GLYPHS, Frame, folded
from penstock.contracts.codec import encoded
from penstock.contracts.events import RunEvent, StepEvent
from penstock.contracts.logs import DELIVERY, OFFSET
from penstock.contracts.subjects import Subjects
from penstock.contracts.work import ExecutorPresence, Failure, Waiting
from penstock.sdk.events import Seen, seen_of
from penstock.sdk.executors import reason_to_wait, unserved, waits_of
from penstock.sdk.log_lines import Chunk, Lines, chunk_of
from penstock.sdk.progress import Progress, StepProgress
from penstock.sdk.wording import event_line, waiting_line

NAMES = Subjects("w")
RUN = "000000000000000"


def run_event(seq: int, what: str, **more: object) -> Seen:
    event = RunEvent(seq=seq, run=RUN, pipeline="p", what=what, at=100.0 + seq, **more)  # type: ignore[arg-type]
    subject = NAMES.run_event("p", RUN, what)
    return seen_of(Stored(subject, encoded(event), sequence=seq, at=0))


def step_event(seq: int, step: str, what: str, **more: object) -> Seen:
    at = 100.0 + seq
    event = StepEvent(seq=seq, run=RUN, pipeline="p", step=step, what=what, at=at, **more)  # type: ignore[arg-type]
    subject = NAMES.step_event("p", RUN, step, what)
    return seen_of(Stored(subject, encoded(event), sequence=seq, at=0))


HISTORY = [
    run_event(1, "accepted", steps=4, graph={"d": ("c",), "a": (), "b": ("a",), "c": ("b",)}),
    run_event(2, "started"),
    step_event(3, "a", "reused", reason="same as run x"),
    step_event(4, "b", "queued", attempt=1, reason="parameter:n changed: 3 → 4"),
    step_event(5, "b", "started", attempt=1),
    step_event(
        6, "b", "retrying", attempt=1, retry_at=110.0, failure=Failure(code="E_EXIT", message="no")
    ),
    step_event(7, "b", "started", attempt=2),
    step_event(8, "b", "overdue"),
    step_event(
        9, "b", "failed", attempt=2, seconds=2.5, failure=Failure(code="E_EXIT", message="no")
    ),
    step_event(10, "c", "skipped", reason="step b failed"),
    step_event(11, "d", "skipped", reason="step b failed"),
    run_event(12, "failed", seconds=11.0, counts={"failed": 1, "skipped": 2, "reused": 1}),
]


def progress_at(count: int) -> Progress:
    progress = Progress(RUN)
    for seen in HISTORY[:count]:
        progress.take(seen)
    return progress


def test_events_fold_into_the_runs_state() -> None:
    progress = progress_at(len(HISTORY))
    assert (progress.state, progress.seconds, progress.total, progress.done) == ("failed", 11, 4, 4)
    assert progress.counts() == {"reused": 1, "failed": 1, "skipped": 2}
    assert progress.steps["b"] == StepProgress(
        name="b",
        state="failed",
        attempt=2,
        started_at=107.0,
        queued_at=104.0,
        ended_at=109.0,
        seconds=2.5,
        reason="parameter:n changed: 3 → 4",
        failure={"code": "E_EXIT", "message": "no"},
        overdue=True,
    )


def executor(
    *targets: str, slots: int = 2, busy: int = 0, draining: bool = False
) -> ExecutorPresence:
    return ExecutorPresence(
        executor=f"e-{targets}-{busy}", targets=targets, slots=slots, busy=busy, draining=draining
    )


def test_a_target_that_nobody_serves_is_named_with_what_to_type() -> None:
    assert unserved("gpu", [executor("default"), executor("big", "default")]) == (
        "no executor serves 'gpu' (served: big, default); "
        "start one: penstock serve executor --targets gpu"
    )
    assert unserved("gpu", [executor("gpu", draining=True)]).startswith("no executor is running")
    assert unserved("gpu", [executor("gpu", busy=2)]) == ""


def test_a_queued_step_waits_for_a_free_slot_of_its_target_alone() -> None:
    full = [executor("gpu", busy=2), executor("gpu", slots=3, busy=3), executor("default")]
    assert reason_to_wait("gpu", full) == "all 5 slots of 'gpu' are busy"
    assert reason_to_wait("default", full) == ""
    assert reason_to_wait("gpu", [executor("gpu", slots=1, busy=1)]) == (
        "the one slot of 'gpu' is busy"
    )
    assert reason_to_wait("none", full) == unserved("none", full)


def test_a_step_waits_for_nothing_more_once_it_has_started() -> None:
    progress = progress_at(4)
    step = progress.steps["b"]
    assert progress.unchanged_since(104.5) == [step]
    assert progress.unchanged_since(104.0) == []
    step.waits_for = "no executor"
    assert waiting_line(step, 4)[8:] == "  b     waiting    no executor"
    progress.take(HISTORY[4])
    assert step.waits_for == ""
    assert progress.unchanged_since(step.started_at) == []
    assert progress.unchanged_since(200.0) == [step], "it runs, and may wait for the store"


def test_an_attempt_that_waits_for_what_is_away_says_since_when() -> None:
    waiting = Waiting(run="r1", step="a", since=0, code="E_STORE", message="connection refused")
    busy = msgspec.structs.replace(executor("default"), waiting=(waiting,))
    text = waits_of("r1", "a", [executor("gpu"), busy])
    assert text.startswith("waits for the store since ")
    assert text.endswith(": E_STORE: connection refused")
    assert waits_of("r1", "b", [busy]) == waits_of("r2", "a", [busy]) == ""
    full = msgspec.structs.replace(busy, waiting=(msgspec.structs.replace(waiting, code="E_DISK"),))
    assert waits_of("r1", "a", [full]).startswith("waits for disk space")


def test_steps_are_shown_after_what_they_need() -> None:
    assert list(progress_at(1).steps) == ["a", "b", "c", "d"]


def test_events_seen_twice_change_nothing() -> None:
    twice = Progress(RUN)
    for seen in HISTORY:
        twice.take(seen)
        twice.take(HISTORY[0])
        twice.take(seen)
    assert twice == progress_at(len(HISTORY))


def test_each_event_is_one_line() -> None:
    progress = Progress(RUN)
    lines = []
    for seen in HISTORY:
        progress.take(seen)
        lines.append(event_line(seen, progress)[10:])
    assert lines == [
        "run  accepted   p, 4 steps",
        "run  started",
        "a    reused     same as run x",
        "b    queued     parameter:n changed: 3 → 4",
        "b    started",
        "b    retrying   after E_EXIT: no",
        "b    started    attempt 2",
        "b    overdue",
        "b    failed     E_EXIT: no",
        "c    skipped    step b failed",
        "d    skipped    step b failed",
        "run  failed     11 s, 1 failed, 2 skipped, 1 reused",
    ]


def drawn(progress: Progress, now: float, width: int = 60, height: int = 24) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None)
    console.print(Frame(progress, now, GLYPHS))
    file = console.file
    assert isinstance(file, io.StringIO)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_the_picture_says_what_is_worth_knowing_of_each_step() -> None:
    assert drawn(progress_at(6), now=107.0) == [
        "p  000000000000000  running  1/4  6.0 s",
        "♻ a     reused               same as run x",
        "↻ b     retrying             again in 3.0 s: no",
        "· c     waiting",
        "· d     waiting",
    ]
    progress = progress_at(7)
    progress.hear("b", "epoch 3")
    assert drawn(progress, now=108.5)[2] == "● b     running       1.5 s  attempt 2  epoch 3"
    assert drawn(progress_at(12), now=999)[0] == "p  000000000000000  failed  4/4  11 s"


@pytest.mark.parametrize("width", [20, 44, 60, 200])
@pytest.mark.parametrize("height", [4, 10, 30])
def test_the_picture_fits_the_terminal(width: int, height: int) -> None:
    progress = Progress(RUN)
    graph = {f"step-number-{n}": () for n in range(50)}
    progress.take(run_event(1, "accepted", steps=50, graph=graph))
    lines = drawn(progress, 200, width, height)
    assert len(lines) <= height - 1
    assert max(map(len, lines)) <= width


def test_what_is_urgent_is_shown_when_not_all_fits() -> None:
    chance = random.Random(7)
    states = ["succeeded"] * 40 + ["waiting"] * 40 + ["failed", "running", "retrying"]
    chance.shuffle(states)
    steps = [StepProgress(f"s{n}", state) for n, state in enumerate(states)]
    shown, hidden = folded(steps, 6)
    assert len(shown) == 5
    assert {"failed", "running", "retrying"} <= {step.state for step in shown}
    assert [step for step in steps if step in shown] == shown
    assert len(shown) + len(hidden) == len(steps)


def chunk(data: bytes, offset: int = 0, delivery: int = 1, stream: str = "stdout") -> Chunk:
    headers = {OFFSET: str(offset), DELIVERY: str(delivery)}
    subject = NAMES.log(RUN, "s", 1, stream)
    return chunk_of(Stored(subject, data, sequence=1, at=1.0, headers=headers))


def test_chunks_are_put_together_into_lines() -> None:
    lines = Lines()
    assert [x.text for x in lines.taken(chunk(b"one\ntw"))] == ["one"]
    assert [x.text for x in lines.taken(chunk(b"o\n\xff\n", 6))] == ["two", "\\xff"]
    assert lines.taken(chunk(b"10%\r50%", 10)) == []
    assert lines.unfinished(chunk(b"", 17)) == "50%"
    assert [x.text for x in lines.taken(chunk(b"", 0, stream="end"))] == ["50%"]


def test_bytes_that_came_twice_are_taken_once() -> None:
    lines = Lines()
    lines.taken(chunk(b"abc\n"))
    assert lines.taken(chunk(b"abc\n")) == []
    assert [x.text for x in lines.taken(chunk(b"c\nd\n", 2))] == ["d"]


def test_a_repeated_delivery_starts_anew_and_the_old_one_is_not_heard_any_more() -> None:
    lines = Lines()
    lines.taken(chunk(b"old li"))
    again = lines.taken(chunk(b"new\n", 0, delivery=2))
    assert [x.text for x in again] == ["old li", "--- attempt 1 starts again ---", "new"]
    assert lines.taken(chunk(b"ne\n", 6, delivery=1)) == []


def test_events_are_chosen_by_kind() -> None:
    failed = step_event(1, "a", "failed")
    for pattern in (
        "step.failed",
        "step.*",
        "failed",
        "step",
        "penstock.step.failed.v1",
        "*.failed",
    ):
        assert failed.is_kind(pattern), pattern
    for pattern in ("run.failed", "step.f", "succeeded", "run"):
        assert not failed.is_kind(pattern), pattern


def test_a_narrow_picture_has_room_for_what_to_type_when_nobody_serves_a_target() -> None:
    progress = progress_at(4)
    progress.steps["b"].waits_for = unserved("far-away", [executor("default")])
    lines = [line.plain for line in Frame(progress, 120.0, GLYPHS).lines(80, 24)]
    assert "  start one: penstock serve executor --targets far-away" in lines
    assert any("no executor serves 'far-away' (served: default)" in line[:80] for line in lines)
    assert len(Frame(progress, 120.0, GLYPHS).lines(80, 5)) <= 5
