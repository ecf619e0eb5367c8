"""Random graphs, outcomes, repetitions and orders: what must hold whatever happens."""

import copy
import sys
from dataclasses import dataclass, field

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.contracts.artifacts import TreeRef
from penstock.contracts.events import StepEvent
from penstock.contracts.inbox import CancelRun, TimerDue
from penstock.contracts.plans import Bound, PlanHead, PlannedOutput, PlannedStep, PlanPart
from penstock.contracts.requests import Reuse
from penstock.contracts.work import (
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    Failure,
    WorkItem,
)
from penstock_scheduler.decide import Input, LookedUp, decided
from penstock_scheduler.effects import Dispatch, Effect, Emit, LookUp, SetTimer, Stop, owed
from penstock_scheduler.state import (
    ENDED,
    RUN_ENDED,
    WELL,
    Partition,
    StepStatus,
    anchor,
    evolve,
)
from penstock_scheduler.transitions import Commit, Transition, commit_of, messages_of

RUN = "6q9c8w0k3f7m2ax"


@dataclass(frozen=True)
class Script:
    """A graph, what each attempt comes to, and how the messages travel."""

    steps: tuple[PlannedStep, ...]
    outcomes: dict[str, tuple[bool, ...]]
    on: bool
    reuse: Reuse
    window: int
    seed: int
    cancel_after: int | None
    expire: bool = False
    """Deadlines of steps come due, at any moment."""


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    count = draw(st.integers(1, 9))
    steps = []
    for number in range(count):
        needs = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        steps.append(
            PlannedStep(
                name=f"s{number}",
                command=f"c{draw(st.integers(0, 2))}",
                needs=tuple(f"s{n}" for n in sorted(needs)),
                inputs={
                    f"i{n}": Bound(type="uri_folder", step=f"s{n}", output="o")
                    for n in sorted(needs)
                },
                outputs={"o": PlannedOutput()},
                attempts_max=draw(st.integers(1, 3)),
                retry_delay_s=draw(st.sampled_from([0.0, 1.0])),
                timeout_s=draw(st.sampled_from([0.0, 10.0])),
                deadline_s=draw(st.sampled_from([0.0, 3.0])),
                expected_s=draw(st.sampled_from([0.0, 2.0])),
                deterministic=draw(st.booleans()),
            )
        )
    outcome = st.lists(st.booleans(), min_size=3, max_size=3).map(tuple)
    return Script(
        steps=tuple(steps),
        outcomes={s.name: draw(outcome) for s in steps},
        on=draw(st.booleans()),
        reuse=draw(st.sampled_from(["use", "refresh", "off"])),
        window=draw(st.integers(1, 4)),
        seed=draw(st.integers(0, 2**32)),
        cancel_after=draw(st.none() | st.integers(0, 20)),
        expire=draw(st.booleans()),
    )


@dataclass
class Played:
    partition: Partition
    log: list[tuple[float, list[Transition]]] = field(default_factory=list)
    told: list[tuple[int, str, str]] = field(default_factory=list)
    overdue: list[tuple[str, int]] = field(default_factory=list)
    begun_with_open_needs: list[str] = field(default_factory=list)


def play(script: Script) -> Played:
    """Answer everything the scheduler asks for, twice and in any order, until nothing is left."""
    import random

    chance = random.Random(script.seed)
    partition = Partition(window=script.window)
    played = Played(partition)
    head = PlanHead(
        run=RUN,
        pipeline="p",
        reuse=script.reuse,
        continue_on_step_failure=script.on,
    )
    travelling: list[Input] = [PlanPart(head=head, steps=script.steps)]
    now, turns = 1_000.0, 0
    while travelling:
        turns += 1
        assert turns < 3_000, "the run does not come to an end"
        now += 1
        count = chance.randint(1, min(4, len(travelling)))
        batch = [travelling.pop(chance.randrange(len(travelling))) for _ in range(count)]
        if chance.random() < 0.2:
            travelling.extend(batch)  # delivered again later, when it is late news
        if turns == script.cancel_after:
            batch.append(CancelRun(run=RUN, reason="enough"))
        turn = decided(partition, batch, now)
        played.log.append((now, turn.transitions))
        for effect in turn.effects:
            travelling.extend(answers(played, script, effect))
    return played


def answers(played: Played, script: Script, effect: Effect) -> list[Input]:
    match effect:
        case Emit(event=event):
            played.told.append((event.seq, getattr(event, "step", ""), event.what))
            if isinstance(event, StepEvent) and event.what == "overdue":
                played.overdue.append((event.step, event.attempt))
            return []
        case LookUp():
            return [
                LookedUp(
                    run=effect.run,
                    step=effect.step,
                    look=effect.look,
                    fingerprint=effect.fingerprint,
                    claimed=effect.claim,
                )
            ]
        case Dispatch(item=item):
            check_needs(played, item)
            return reports(script, item)
        case SetTimer():
            expires = effect.kind == "deadline" and effect.step and script.expire
            if effect.kind in ("timeout", "deadline") and not expires:
                return []
            return [
                TimerDue(run=effect.run, step=effect.step, attempt=effect.attempt, kind=effect.kind)
            ]
        case Stop():
            failure = Failure(code="E_CANCELLED", message="stopped")
            return [
                AttemptFailed(
                    run=effect.run,
                    step=effect.step,
                    attempt=effect.attempt,
                    executor="x",
                    failure=failure,
                )
            ]
        case _:
            return []


def check_needs(played: Played, item: WorkItem) -> None:
    run = played.partition.runs[item.run]
    plan = run.plan(run.index[item.step])
    if any(run.steps[run.index[need]].status not in WELL for need in plan.needs):
        played.begun_with_open_needs.append(item.step)


def timeless(steps: tuple[PlannedStep, ...]) -> tuple[PlannedStep, ...]:
    """Return steps that have as long as they like."""
    return tuple(msgspec.structs.replace(step, deadline_s=0) for step in steps)


def reports(script: Script, item: WorkItem) -> list[Input]:
    about = {"run": item.run, "step": item.step, "attempt": item.attempt, "executor": "x"}
    well = script.outcomes[item.step][item.attempt - 1]
    outputs = {name: TreeRef(digest=f"{item.step}/{name}") for name in item.outputs}
    end: Input = (
        AttemptSucceeded(**about, outputs=outputs)  # type: ignore[arg-type]
        if well
        else AttemptFailed(**about, failure=Failure(code="E_EXIT", message="no"))  # type: ignore[arg-type]
    )
    return [AttemptStarted(**about), end]  # type: ignore[arg-type]


@settings(max_examples=300, deadline=None)
@given(scripts())
def test_every_run_ends_once_with_every_step_ended_and_every_event_told_once(
    script: Script,
) -> None:
    played = play(script)
    run = played.partition.runs[RUN]
    assert run.status in RUN_ENDED
    assert {state.status for state in run.steps} <= ENDED
    assert run.open == 0
    assert sum(run.counts.values()) == len(run.steps)
    assert [seq for seq, _, _ in played.told] == list(range(1, run.seq + 1))
    ends = [
        (step, what)
        for _, step, what in played.told
        if what in ("reused", "succeeded", "failed", "cancelled", "skipped")
    ]
    assert sorted(step for step, _ in ends) == sorted(["", *(s.name for s in script.steps)])
    assert ends[-1][0] == ""
    assert played.begun_with_open_needs == []
    assert len(played.overdue) == len(set(played.overdue)), "told twice as overdue"
    assert all(target.out == 0 for target in played.partition.targets.values())


@settings(max_examples=200, deadline=None)
@given(scripts())
def test_the_log_alone_gives_the_same_state(script: Script) -> None:
    played = play(script)
    again = Partition(window=script.window)
    for sequence, (at, transitions) in enumerate(played.log, 1):
        for message in messages_of(Commit(at=at, transitions=tuple(transitions)), 2_000):
            commit = commit_of(message)
            for transition in commit.transitions:
                evolve(again, transition, commit.at)
        anchor(again, sequence)
    live = copy.deepcopy(played.partition)
    for run in live.runs.values():
        run.first_sequence = again.runs[run.head.run].first_sequence
    assert again == live


@settings(max_examples=200, deadline=None)
@given(scripts())
def test_what_can_happen_without_failures_or_a_cancel_is_a_success(script: Script) -> None:
    script = Script(
        steps=timeless(script.steps),
        outcomes=dict.fromkeys(script.outcomes, (True, True, True)),
        on=script.on,
        reuse=script.reuse,
        window=script.window,
        seed=script.seed,
        cancel_after=None,
    )
    run = play(script).partition.runs[RUN]
    assert {state.status for state in run.steps} == {StepStatus.SUCCEEDED}


@settings(max_examples=200, deadline=None)
@given(scripts())
def test_without_a_cancel_the_steps_end_as_a_naive_reading_of_the_graph_says(
    script: Script,
) -> None:
    """Only runs that go on after a failure: otherwise the order of events decides who was first."""
    script = Script(
        steps=timeless(script.steps),
        outcomes=script.outcomes,
        on=True,
        reuse=script.reuse,
        window=script.window,
        seed=script.seed,
        cancel_after=None,
    )
    expected: dict[str, StepStatus] = {}
    for step in script.steps:
        tries = script.outcomes[step.name][: step.attempts_max]
        if any(expected[need] not in WELL for need in step.needs):
            expected[step.name] = StepStatus.SKIPPED
        else:
            expected[step.name] = StepStatus.SUCCEEDED if any(tries) else StepStatus.FAILED
    run = play(script).partition.runs[RUN]
    assert {n: s.status for n, s in zip(run.names, run.steps, strict=True)} == expected


def test_nothing_is_owed_to_a_run_that_has_ended_but_its_timers() -> None:
    played = play(
        Script((PlannedStep(name="a", command="c"),), {"a": (True,)}, False, "off", 1, 1, None)
    )
    assert [type(effect).__name__ for effect in owed(played.partition)] == ["CancelTimers"]


def test_a_step_costs_less_than_one_kibibyte() -> None:
    count = 5_000
    steps = tuple(
        PlannedStep(
            name=f"s{n:05}",
            command="python train.py --fold ${{inputs.fold}}",
            code="ab" * 32,
            code_digest="ab" * 32,
            inputs={"fold": Bound(value=n)},
            outputs={"model": PlannedOutput()},
            needs=(f"s{n - 1:05}",) if n else (),
        )
        for n in range(count)
    )
    part = msgspec.json.encode(PlanPart(head=PlanHead(run=RUN, pipeline="p"), steps=steps))
    del steps
    partition = Partition()
    decided(partition, [msgspec.json.decode(part, type=PlanPart)], 1.0)
    for n in range(count // 2):
        name = f"s{n:05}"
        key = partition.runs[RUN].steps[n].fingerprint
        look = LookedUp(run=RUN, step=name, look=1, fingerprint=key, claimed=True)
        tree = TreeRef(digest=f"{n:064}")
        ok = AttemptSucceeded(run=RUN, step=name, attempt=1, executor="x", outputs={"model": tree})
        decided(partition, [look, ok], 2.0)
    assert deep_size(partition) / count < 1024


def deep_size(thing: object, seen: set[int] | None = None) -> int:
    """Return the bytes of everything reachable, each object once."""
    seen = set() if seen is None else seen
    work, size = [thing], 0
    while work:
        item = work.pop()
        if id(item) in seen or isinstance(item, type):
            continue
        seen.add(id(item))
        size += sys.getsizeof(item)
        if isinstance(item, dict):
            work += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple | set | frozenset):
            work += item
        elif isinstance(item, msgspec.Struct):
            work += [getattr(item, name) for name in item.__struct_fields__]
        elif hasattr(item, "__slots__"):
            work += [getattr(item, name) for name in item.__slots__ if hasattr(item, name)]
    return size
