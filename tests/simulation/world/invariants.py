"""Promises that must hold when everything is over.

I1  every accepted run has one end        I9  every queue is empty, every stranger set aside
I2  results are those of the model        I10 what is committed can be read
I3  what succeeded has been executed      I12 no loan, no slot, no attempt is left
I6  events 1..n, told as they were        I14 what is offered for reuse is a verified success
I7  one outcome per tick
"""

from collections import Counter
from typing import TYPE_CHECKING

from tests.simulation.world.auditor import Auditor, promise

from penstock.contracts import chain
from penstock.contracts.codec import encoded
from penstock.contracts.events import RunEvent, StepEvent
from penstock.contracts.queries import RUN_STATES_FINAL
from penstock_scheduler import effects, state, transitions
from penstock_scheduler.effects import Emit
from penstock_scheduler.state import WELL, Partition, Run, RunStatus, StepStatus
from penstock_trigger.rules import timing_of
from penstock_trigger.ticks import span

if TYPE_CHECKING:
    from tests.simulation.world.play import World

INTERFERED = frozenset(
    {
        "E_BUS",
        "E_DEADLINE",
        "E_LOST",
        "E_TIMEOUT",
        "E_STORE",
        "E_INPUT",
        "E_DIGEST",
        "E_INTERNAL",
        "E_SIGNAL",
        "E_INCOMPLETE",
    }
)
"""Codes of failures that the world's misfortunes may give a step that would have ended well."""
STEP_ENDS = ("reused", "succeeded", "failed", "cancelled", "skipped")
Events = list[RunEvent | StepEvent]


def check(world: "World") -> None:
    """Check everything.

    Raises:
        Violation: with the invariant's number and what broke it.
    """
    audit = world.audit
    runs = {name: run for shadow in audit.shadow.values() for name, run in shadow.runs.items()}
    for name in audit.accepted:
        promise(name in runs, "I1 accepted, and nobody knows it", name)
    for _, entry in world.server.buckets.get("keys", {}).values():
        promise(
            not entry.planned or entry.run in runs, "I1 planned, and nobody knows it", entry.run
        )
    for name, run in runs.items():
        if run.status is not RunStatus.ARRIVING or name in audit.accepted:
            _check_run(world, run)
    for number, messages in world.server.history.items():
        _check_history(world, number, messages)
    _check_queues(world)
    _check_reuse(world, runs)
    if world.schedule is not None:
        _check_ticks(world)


# -- one run ----------------------------------------------------------------------------------------
def _check_run(world: "World", run: Run) -> None:
    name = run.head.run
    events = world.server.events.get(name, [])
    numbers = [event.seq for event in events]
    promise(numbers == list(range(1, len(numbers) + 1)), f"I6 events {numbers}", name)
    ends = [e for e in events if isinstance(e, RunEvent) and e.what in RUN_STATES_FINAL]
    promise(len(ends) == 1 and events[-1] is ends[0], f"I1 ends: {[e.what for e in ends]}", name)
    steps = [e for e in events if isinstance(e, StepEvent) and e.what in STEP_ENDS]
    ended = sorted(event.step for event in steps)
    promise(ended == sorted(run.names), f"I1 ends of steps: {ended}", name)
    link = chain.START
    for event, told in zip(events, world.server.links[name], strict=True):
        link = chain.link(link, encoded(event))
        promise(link == told, f"I6 event {event.seq} does not fit into the chain", name)
    line = world.server.value("runs", name)[1]
    promise(line is not None and line.state == ends[0].what, "I1 the list says otherwise", name)
    _check_attempts(events, run)
    _check_model(world.audit, run, {e.step: e for e in steps}, ends[0])
    for step in (e.step for e in steps if e.what == "succeeded"):
        promise(
            world.audit.executions[name, step], "I3 succeeded and never executed", f"{name} {step}"
        )


def _check_attempts(events: Events, run: Run) -> None:
    """Attempts follow each other 1, 2, 3 …, and each ends once, by its own report."""
    attempts: dict[str, tuple[int, bool]] = {}
    for event in events:
        if not isinstance(event, StepEvent):
            continue
        attempt, out = attempts.get(event.step, (0, False))
        about = f"{event.run} {event.step}: {event.what} {event.attempt} after attempt {attempt}"
        match event.what:
            case "queued":
                promise(not out and event.attempt == attempt + 1, "I5", about)
                attempts[event.step] = (event.attempt, True)
            case "started":
                promise(out and event.attempt == attempt, "I5", about)
            case "retrying":
                promise(out and event.attempt == attempt, "I5", about)
                attempts[event.step] = (attempt, False)
            case "succeeded" | "failed" if event.attempt:
                # A deadline may end a step between two attempts.
                late = event.failure is not None and event.failure.code == "E_DEADLINE"
                promise((out or late) and event.attempt == attempt, "I5", about)


def _check_model(audit: Auditor, run: Run, ends: dict[str, StepEvent], end: RunEvent) -> None:
    """Compare with the naive interpreter; what a misfortune explains is allowed, nothing else."""
    name, expected = run.head.run, audit.expectations(run)
    excused = name in audit.cancelled or (end.error is not None and end.error.code == "E_DEADLINE")
    if end.error is not None and end.error.code == "E_DEADLINE":
        promise(run.head.deadline_s, "I1 a run without a deadline met one", name)
    for step, event in ends.items():
        about, wanted = f"{name} {step} {event.what}", expected[step]
        if event.what in ("succeeded", "reused"):
            promise(wanted.well, "I2 the model says that it cannot end well", about)
            promise(
                event.outputs["o"].digest == wanted.digest, "I2 not what the graph makes", about
            )
        elif event.what == "failed" and wanted.well:
            code = event.failure.code if event.failure else ""
            # A run that breaks off gives a step that fails meanwhile no further attempt.
            broken = not run.head.continue_on_step_failure and run.broken != step
            late = run.bounds(run.index[step]).deadline_s  # nor does a deadline that is over
            excusable = code in INTERFERED or broken or late
            promise(excusable, f"I2 the model says that it ends well, not {code}", about)
            excused = True
        elif event.what == "cancelled":
            promise(excused, "I2 nobody cancelled", about)
    well = all(event.what in ("succeeded", "reused") for event in ends.values())
    promise(well == (end.what == "succeeded"), f"I1 {end.what} is not what its steps say", name)
    if excused:
        audit.excused_runs.add(name)
        return
    promise(well == all(e.well for e in expected.values()), f"I2 {end.what}, says no model", name)
    for step, event in ends.items():
        wanted = expected[step]
        model = "well" if wanted.well else "failed" if wanted.reached else "skipped"
        found = "well" if event.what in ("succeeded", "reused") else event.what
        allowed = {model} if well or run.head.continue_on_step_failure else {model, "skipped"}
        promise(found in allowed, f"I2 {found}, the model says {model}", f"{name} {step}")


# -- everything else --------------------------------------------------------------------------------
def _check_history(world: "World", number: int, messages: list[bytes]) -> None:
    """The log, read from its beginning, tells exactly what was told."""
    partition = Partition(number)
    told: dict[str, Events] = {}
    for data in messages:
        commit = transitions.commit_of(data)
        for transition in commit.transitions:
            state.evolve(partition, transition, commit.at)
            for effect in effects.effects_of(partition, transition, commit.at):
                if isinstance(effect, Emit):
                    told.setdefault(effect.event.run, []).append(effect.event)
    for run, events in told.items():
        promise(events == world.server.events[run], "I6 what was told is not what is logged", run)
    for target in partition.targets.values():
        promise(target.out == 0, f"I12 {target.out} slots of the window are taken", str(number))


def _check_queues(world: "World") -> None:
    server = world.server
    queues = {"requests": server.requests, "work": server.work}
    queues |= {f"inbox.{number}": queue for number, queue in server.inbox.items()}
    for name, queue in queues.items():
        left = [entry.subject for entry in queue.entries.values()]
        promise(not left, f"I9 left: {left}", name)
    for executor in world.executors:
        promise(not executor.loans, f"I12 loans: {list(executor.loans)}", executor.name)
    dead = server.dead.get("inbox", {})
    for data in world.garbage:
        promise(data in dead.values(), "I9 a stranger's bytes were not set aside", repr(data))
    ours = [name for name, data in dead.items() if data not in world.garbage]
    promise(not ours, f"I9 set aside: {ours}", "dead.inbox")


def _check_reuse(world: "World", runs: dict[str, Run]) -> None:
    for key, (_, entry) in world.server.buckets.get("reuse", {}).items():
        if entry is None or not entry.ended_at:
            continue
        run = runs.get(entry.run)
        promise(run is not None, "I14 of a run nobody knows", key)
        assert run is not None
        number = run.index[entry.step]
        about = f"{entry.run} {entry.step}"
        promise(run.steps[number].status is StepStatus.SUCCEEDED, "I14 reuse of a failure", about)
        wanted = world.audit.expectations(run)[entry.step].digest
        promise({t.digest for t in entry.outputs.values()} == {wanted}, "I14 other outputs", about)
        promise(world.audit.is_whole(wanted), "I10 its bytes cannot be read", about)
    for run in runs.values():
        for number, step in enumerate(run.steps):
            if step.status in WELL and step.outputs:
                for tree in step.outputs.values():
                    about = f"{run.head.run} {run.names[number]}"
                    promise(world.audit.is_whole(tree.digest), "I10 cannot be read", about)


def _check_ticks(world: "World") -> None:
    """Each tick up to the cursor has one outcome, told once; the fired ones are the runs there are."""
    assert world.schedule is not None
    timing = timing_of(world.schedule)
    cursor = world.server.value("cursors", "s")[1]
    promise(cursor is not None, "I7 no tick was ever judged")
    due = [t.due for t in span(timing, world.schedule.created_at, cursor.last_due, 1_000).newest]
    told = [event for story in world.server.told.values() for _, event in story]
    outcomes = Counter(event.due for event in told)
    promise(all(outcomes[tick] == 1 for tick in due), f"I7 outcomes {outcomes} of {due}")
    promise(set(outcomes) == set(due), f"I7 outcomes {outcomes} of {due}")
    fired = {event.run for event in told if event.what == "fired"}
    mine = {
        run
        for shadow in world.audit.shadow.values()
        for run, found in shadow.runs.items()
        if found.head.trigger
    }
    promise(fired == mine, f"I7 fired {sorted(fired)}, but the runs are {sorted(mine)}")
