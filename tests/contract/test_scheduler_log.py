"""The run log outlives every version: kept bytes still decode, and kept histories still replay.

After a deliberate addition: `PENSTOCK_GOLDEN=write pytest tests/contract/test_scheduler_log.py`, and
read the diff. A line that disappears or changes breaks the runs of everybody who upgrades.
"""

import os
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from penstock.contracts.artifacts import TreeRef
from penstock.contracts.events import Part
from penstock.contracts.inbox import CancelRun
from penstock.contracts.plans import Bound, PlanHead, PlannedOutput, PlannedStep, PlanPart
from penstock.contracts.requests import ErrorBody
from penstock.contracts.work import AttemptFailed, AttemptStarted, AttemptSucceeded, Failure
from penstock.errors import Corrupt
from penstock_scheduler import transitions as t
from penstock_scheduler.decide import Input, LookedUp, decided
from penstock_scheduler.state import Partition, RunStatus, evolve

FOLDER = Path(__file__).with_name("golden_log")
RUN, OTHER = "6q9c8w0k3f7m2ax", "6q9c8w0k3f7m2bb"
TREE = TreeRef(digest="ab" * 32, size_bytes=7, files=1)
FAILURE = Failure(code="E_EXIT", message="exit code 3", exit_code=3)
PARTS = (Part(part="command", changed=True, old="a", new="b"),)
STEP = PlannedStep(name="a", command="do a", outputs={"o": PlannedOutput()})
RESULT = {
    "executor": "x-1",
    "seconds": 1.5,
    "logs": TREE,
    "metrics": {"accuracy": 0.9},
    "tags": {"k": "v"},
}
FACTS: tuple[t.Transition, ...] = (
    t.PlanRecorded(part=PlanPart(head=PlanHead(run=RUN, pipeline="p"), steps=(STEP,))),
    t.RunStarted(run=RUN),
    t.RunCancelling(run=RUN, reason="enough", who="me", overdue=True),
    t.RunSucceeded(run=RUN),
    t.RunFailed(run=RUN, error=ErrorBody(code="E_STEP", message="m", where="w", hint="h")),
    t.RunCancelled(run=RUN, reason="enough"),
    t.StepReady(run=RUN, step=1, fingerprint="cd" * 32, look=2, stale_run=OTHER, stale_step="b"),
    t.StepFollowing(run=RUN, step=1, leader_run=OTHER, leader_step="b"),
    t.FlightFollowed(run=RUN, step=1, follower_run=OTHER, follower_step="b", look=3),
    t.StepReused(
        run=RUN,
        step=1,
        reused_from=OTHER,
        outputs={"o": TREE},
        metrics={"accuracy": 0.9},
        logs=TREE,
        fingerprint="cd" * 32,
        reason="same",
        compared_with=OTHER,
        parts=PARTS,
        typical_s=1.5,
        samples=3,
    ),
    t.StepQueued(
        run=RUN,
        step=1,
        attempt=2,
        holds=True,
        reason="new",
        compared_with=OTHER,
        parts=PARTS,
        typical_s=1.5,
        samples=3,
    ),
    t.AttemptOffered(run=RUN, step=1, attempt=2),
    t.AttemptBegan(run=RUN, step=1, attempt=2, executor="x-1", delivery=3),
    t.StepOverdue(run=RUN, step=1, attempt=2, expected_s=1.5, declared=True),
    t.StepRetrying(run=RUN, step=1, attempt=2, failure=FAILURE, retry_at=9.5, **RESULT),  # type: ignore[arg-type]
    t.StepSucceeded(run=RUN, step=1, attempt=2, outputs={"o": TREE}, **RESULT),  # type: ignore[arg-type]
    t.StepFailed(run=RUN, step=1, attempt=2, failure=FAILURE, **RESULT),  # type: ignore[arg-type]
    t.StepCancelled(run=RUN, step=1, attempt=2, reason="enough", failure=FAILURE, **RESULT),  # type: ignore[arg-type]
    t.StepSkipped(run=RUN, step=1, attempt=2, reason="step b failed"),
)
COMMIT = t.Commit(at=1_795_228_800.5, inputs=(7, 9), transitions=FACTS, live=2)


def kept(name: str, lines: list[bytes]) -> list[bytes]:
    file = FOLDER / name
    if os.environ.get("PENSTOCK_GOLDEN") == "write":
        file.write_bytes(b"\n".join(lines) + b"\n")
    return file.read_bytes().splitlines()


def test_every_fact_has_kept_bytes() -> None:
    assert {type(fact) for fact in FACTS} == set(get_args(t.Transition))


def test_facts_have_the_bytes_they_always_had() -> None:
    lines = [msgspec.json.encode(fact) for fact in FACTS]
    found = kept("facts.jsonl", [*lines, msgspec.json.encode(COMMIT)])
    assert found[:-1] == lines
    assert (
        t.commit_of(found[-1]) == COMMIT
    )  # it says nothing about `settled`: it was not known then


def test_a_commit_says_what_is_settled() -> None:
    data = msgspec.json.encode(t.Commit(at=1.5, live=1, settled=41))
    assert data == b'{"type":"commit.v1","at":1.5,"live":1,"settled":41}'


def test_a_fact_of_a_newer_version_is_refused_and_never_guessed() -> None:
    newer = b'{"type":"commit.v1","at":1,"transitions":[{"type":"step.ready.v2","run":"r"}]}'
    with pytest.raises(Corrupt):
        t.commit_of(newer)
    assert t.commit_of(b'{"type":"commit.v1","at":1,"new_field":true}') == t.Commit(at=1)


def history() -> list[bytes]:
    """Return the log of two runs in which nearly everything happens."""
    partition = Partition(window=2)
    maker = PlannedStep(
        name="a", command="do a", outputs={"o": PlannedOutput()}, attempts_max=2, retry_delay_s=0.0
    )
    user = PlannedStep(
        name="b",
        command="do b",
        needs=("a",),
        inputs={"x": Bound(type="uri_folder", step="a", output="o")},
    )
    plans = [
        PlanPart(head=PlanHead(run=run, pipeline="p"), steps=(maker, user)) for run in (RUN, OTHER)
    ]
    log: list[bytes] = []

    def happen(*inputs: Input) -> None:
        turn = decided(partition, inputs, 1_000.0 + len(log))
        commit = t.Commit(at=turn.now, transitions=tuple(turn.transitions), live=2)
        log.append(msgspec.json.encode(commit))

    def key(step: int, run: str = RUN) -> str:
        return partition.runs[run].steps[step].fingerprint

    about = {"run": RUN, "step": "a", "executor": "x"}
    happen(*plans)
    happen(LookedUp(run=RUN, step="a", look=1, fingerprint=key(0), claimed=True))
    happen(AttemptStarted(attempt=1, **about), AttemptFailed(attempt=1, failure=FAILURE, **about))  # type: ignore[arg-type]
    happen(AttemptSucceeded(attempt=2, outputs={"o": TREE}, **about))  # type: ignore[arg-type]
    happen(LookedUp(run=RUN, step="b", look=1, fingerprint=key(1), claimed=True))
    happen(CancelRun(run=OTHER, reason="enough"))
    happen(AttemptSucceeded(run=RUN, step="b", attempt=1, executor="x"))
    return log


def test_a_history_written_by_an_earlier_version_still_replays() -> None:
    partition = Partition()
    for line in kept("history.jsonl", history()):
        commit = t.commit_of(line)
        for transition in commit.transitions:
            evolve(partition, transition, commit.at)
    runs = {name: run.status for name, run in partition.runs.items()}
    assert runs == {RUN: RunStatus.SUCCEEDED, OTHER: RunStatus.CANCELLED}
    assert partition.runs[RUN].steps[0].outputs == {"o": TREE}
    assert [run.seq for run in partition.runs.values()] == [12, 4]
