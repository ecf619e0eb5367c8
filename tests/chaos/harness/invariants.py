"""What must hold when the fire is out: I1 to I15 of the reliability notes, each over the evidence alone.

Each returns what it found wrong, in words; nothing means that it holds. They know nothing of how the
system works inside, only what it promises.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator

from tests.chaos.harness.evidence import BODY, LINK, Event, Evidence
from tests.chaos.harness.graphs import Graph

ENDS = ("succeeded", "failed", "cancelled")
RSS_MIB_MAX = 300.0
FDS_MAX = 256
THREADS_MAX = 64
LOST_MARK = b"penstock:"
TICK_S = 0.002


def i1_every_accepted_run_has_one_end(e: Evidence) -> Iterator[str]:
    """Each id that was answered has one terminal event, the one it must have, and keeps it."""
    for submission in e.submissions:
        for refusal in submission.refusals:
            if "E_ENDED" in refusal and submission.run in e.runs:
                continue  # it had ended before it could be cancelled, and that is the answer
            yield f"{submission.key} was refused: {refusal}"
        if len(submission.answers) > 1:
            yield f"key {submission.key} was answered with {sorted(submission.answers)}"
        if not submission.run:
            continue
        events = run_events(e, submission.run)
        ends = [x["what"] for x in events if "step" not in x and x["what"] in ENDS]
        wanted = {submission.graph.end} | ({"cancelled"} if submission.cancelled else set())
        if len(ends) != 1:
            yield f"run {submission.run} has the ends {ends}"
        elif ends[0] not in wanted:
            yield f"run {submission.run} ended {ends[0]}, not {wanted}: {reasons(e, submission.run)}"
        elif e.views.get(submission.run) != ends[0]:
            yield f"run {submission.run} ended {ends[0]} and shows {e.views.get(submission.run)}"
    keys = Counter(
        event["tags"]["key"]
        for events in e.runs.values()
        for event in events
        if event["what"] == "accepted" and "step" not in event and "key" in event.get("tags", {})
    )
    for key, count in keys.items():
        if count > 1:
            yield f"key {key} made {count} runs"
    for run, events in e.runs.items():
        if Counter(x["what"] for x in events if "step" not in x).keys().isdisjoint(ENDS):
            yield f"run {run} was accepted and has no end"


def i2_every_success_has_the_right_bytes(e: Evidence) -> Iterator[str]:
    """A step of a succeeded run ended well exactly once, and its output is what the graph says."""
    for submission in e.submissions:
        events = run_events(e, submission.run)
        wanted = submission.graph.outputs()
        done = [x for x in events if "step" in x and x["what"] in ("succeeded", "reused")]
        for name, count in Counter(x["step"] for x in done).items():
            if count > 1:
                yield f"step {name} of {submission.run} ended well {count} times"
        if any("step" not in x and x["what"] == "succeeded" for x in events):
            for name in wanted.keys() - {x["step"] for x in done}:
                yield f"run {submission.run} succeeded without step {name}"
        for event in done:
            digest = event["outputs"]["o"]["digest"]
            if e.trees[digest] != wanted[event["step"]]:
                kind = next(s.kind for s in submission.graph.steps if s.name == event["step"])
                yield (
                    f"output of {kind} {event['step']} of {submission.run} ({digest[:12]}) is "
                    f"{str(e.trees[digest])[:200]}, not {str(wanted[event['step']])[:200]}"
                )


def i3_every_success_was_executed(e: Evidence) -> Iterator[str]:
    """A step that succeeded (and was not reused) left at least one line in the ledger."""
    ran = {(x.run, x.step, x.attempt) for x in e.executions}
    for run, event in steps(e, "succeeded"):
        if (run, event["step"], event["attempt"]) not in ran:
            yield f"step {event['step']} of {run} succeeded in attempt {event['attempt']} and never ran"


def i4_no_step_starts_before_its_inputs(e: Evidence) -> Iterator[str]:
    """Neither queued nor started before everything it needs has succeeded."""
    for submission in e.submissions:
        needs = {step.name: set(step.needs) for step in submission.graph.steps}
        done: set[str] = set()
        for event in run_events(e, submission.run):
            if event["what"] in ("queued", "started", "reused") and "step" in event:
                for missing in needs[event["step"]] - done:
                    yield f"{event['step']} of {submission.run} {event['what']} before {missing}"
            if event["what"] in ("succeeded", "reused") and "step" in event:
                done.add(event["step"])


def i5_no_old_attempt_wins(e: Evidence) -> Iterator[str]:
    """After an attempt has been given up, nothing of it is recorded; after an end, nothing at all."""
    for run, events in e.runs.items():
        over: dict[str, int] = {}
        ended: dict[str, str] = {}
        for event in events:
            name, attempt = event.get("step", ""), event.get("attempt", 0)
            if name in ended:
                yield f"{name or 'run'} {run} {event['what']} after it had {ended[name]}"
            if name and attempt and attempt <= over.get(name, 0):
                yield f"{name} of {run}: {event['what']} of attempt {attempt}, which was given up"
            if event["what"] == "retrying":
                over[name] = attempt
            if event["what"] in (*ENDS, *(("reused", "skipped") if name else ())):
                ended[name] = event["what"]
        if "" in ended and events[-1].get("step"):
            yield f"run {run} has news of {events[-1]['step']} after its end"


def i6_the_event_log_has_no_holes(e: Evidence) -> Iterator[str]:
    """Per run: 1..n, no gap, no copy, and each event's link is made from the link before it."""
    for run, events in e.runs.items():
        numbers = [event["seq"] for event in events]
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"events of {run} are numbered {numbers}"
        link = ""
        for event in events:
            link = hashlib.sha256(link.encode() + event[BODY]).hexdigest()
            if event[LINK] != link:
                yield f"event {event['seq']} of {run} does not fit the chain"
                break


def i7_every_tick_made_one_run(e: Evidence) -> Iterator[str]:
    """Each due moment of the schedule fired once, and its run was accepted once."""
    due = Counter(round(event["due"], 3) for event in e.fired if before_end(e, event["due"]))
    for tick in e.ticks:
        if due[tick] != 1:
            yield f"the tick at {tick} fired {due[tick]} times"
    for extra in due.keys() - set(e.ticks):
        yield f"a tick at {extra} fired that was not due"
    for event in e.skipped:
        if before_end(e, event["due"]):
            yield f"the tick at {event['due']} was skipped: {event['reason']}"
    for event in e.fired:
        accepted = [x for x in run_events(e, event["run"]) if x["what"] == "accepted"]
        if len(accepted) != 1:
            yield f"the run {event['run']} of the tick at {event['due']}: {len(accepted)} accepted"


def i8_nothing_is_left_behind(e: Evidence) -> Iterator[str]:
    """No process of a step, no folder of an attempt, no mount."""
    for kind, left in (("process", e.processes), ("folder", e.folders), ("mount", e.mounts)):
        for one in left:
            yield f"{kind} {one} is still there"


def i9_every_queue_is_empty(e: Evidence) -> Iterator[str]:
    """Nothing waits, nothing is on loan, nothing was set aside.

    After a power cut of the broker a message may lie in its stream that no consumer owes anybody: the
    server syncs what it stores before it answers, and not what it deletes.
    """
    cut = any(kind == "power" for kind, _ in e.landed.faults)
    for queue in e.queues:
        orphans = cut and not queue.pending and not queue.on_loan
        if (queue.messages and not orphans) or queue.pending or queue.on_loan:
            yield f"the queue {queue}"
    for subject, count in Counter(e.dead).items():
        yield f"{count} messages were set aside under {subject}"


def i10_everything_committed_can_be_read(e: Evidence) -> Iterator[str]:
    """Every output and archive that any event names is there, with the bytes of its digest."""
    for kind, trees in (("output", e.trees), ("log", e.logs)):
        for digest, files in trees.items():
            if isinstance(files, str):
                yield f"{kind} {digest[:12]} cannot be read: {files}"


def i11_logs_hold_what_steps_wrote(e: Evidence) -> Iterator[str]:
    """The archive of a successful attempt holds its output whole, or says that something is missing."""
    graphs = {submission.run: submission.graph for submission in e.submissions}
    for run, event in steps(e, "succeeded"):
        graph: Graph | None = graphs.get(run)
        archive = e.logs.get((event.get("logs") or {}).get("digest", ""))
        if graph is None or isinstance(archive, str):
            continue
        if archive is None:
            yield f"step {event['step']} of {run} has no archive of its logs"
            continue
        text = archive.get("stdout.txt", b"")
        if text != graph.stdout(event["step"]) and LOST_MARK not in b"".join(archive.values()):
            yield f"log of {event['step']} of {run}: {len(text)} bytes, begins {text[:60]!r}"


def i12_every_slot_is_free(e: Evidence) -> Iterator[str]:
    """All executors answer, and none is busy."""
    names = {name for name in e.landed.births if name.startswith("executor")}
    for name in names - e.busy.keys():
        yield f"{name} does not answer"
    for name, count in e.busy.items():
        if count:
            yield f"{name} holds {count} slots"


def i13_services_stay_small(e: Evidence) -> Iterator[str]:
    """Memory, file descriptors and threads of each service are within bounds."""
    for name, v in e.vitals.items():
        if v.rss_mib > RSS_MIB_MAX or v.fds > FDS_MAX or v.threads > THREADS_MAX:
            yield f"{name} has {v}"


def i14_what_may_be_reused_is_there(e: Evidence) -> Iterator[str]:
    """Every finished entry of the reuse table names outputs that a successful step committed."""
    good = {t["digest"] for _, x in steps(e, "succeeded") for t in x.get("outputs", {}).values()}
    for fingerprint, entry in e.reuse.items():
        if not entry.get("ended_at"):
            continue
        for tree in entry.get("outputs", {}).values():
            if tree["digest"] not in good:
                yield f"{fingerprint[:12]} names {tree['digest'][:12]}, which no step committed"


def i15_the_faults_landed(e: Evidence) -> Iterator[str]:
    """Every kill ended a process that was there, and another took its place; work was redone."""
    for kill in e.landed.kills:
        births = e.landed.births.get(kill.name, [])
        if kill.component != "step" and (kill.pid not in births or births[-1] == kill.pid):
            yield f"the kill of {kill.name} ({kill.pid}) has no successor: {births[-3:]}"
    executors = sum(kill.component == "executor" for kill in e.landed.kills)
    again = redeliveries(e)
    if executors and not again:
        yield f"{executors} executors were killed and no attempt was delivered again"
    if not any(True for _ in steps(e, "retrying")):
        yield "nothing was retried, though steps were made to fail"


INVARIANTS: tuple[Callable[[Evidence], Iterator[str]], ...] = (
    i1_every_accepted_run_has_one_end,
    i2_every_success_has_the_right_bytes,
    i3_every_success_was_executed,
    i4_no_step_starts_before_its_inputs,
    i5_no_old_attempt_wins,
    i6_the_event_log_has_no_holes,
    i7_every_tick_made_one_run,
    i8_nothing_is_left_behind,
    i9_every_queue_is_empty,
    i10_everything_committed_can_be_read,
    i11_logs_hold_what_steps_wrote,
    i12_every_slot_is_free,
    i13_services_stay_small,
    i14_what_may_be_reused_is_there,
    i15_the_faults_landed,
)


def violations(e: Evidence) -> dict[str, list[str]]:
    """Return what each broken invariant says."""
    told = {invariant.__name__: list(invariant(e)) for invariant in INVARIANTS}
    return {name: found for name, found in told.items() if found}


# -- reading the evidence ---------------------------------------------------------------------------
def run_events(e: Evidence, run: str) -> list[Event]:
    """Return the events of a run, in order."""
    return e.runs.get(run, [])


def steps(e: Evidence, what: str) -> Iterator[tuple[str, Event]]:
    """Return every event of this kind about a step, with its run."""
    for run, events in e.runs.items():
        for event in events:
            if event["what"] == what and "step" in event:
                yield run, event


def reasons(e: Evidence, run: str) -> str:
    """Return why a run did not succeed, shortly."""
    told = [
        f"{x['step']} attempt {x.get('attempt')}: {x.get('failure')}"
        for x in run_events(e, run)
        if x["what"] == "failed" and "step" in x
    ]
    ends = [x for x in run_events(e, run) if "step" not in x][-1:]
    return f"{told[:3]} {ends}"[:1500]


def before_end(e: Evidence, due: float) -> bool:
    """Say whether a moment lies before the schedule was taken away."""
    return bool(e.ticks) and due <= e.ticks[-1] + TICK_S


def redeliveries(e: Evidence) -> int:
    """Return how many attempts began more than once: delivered again after their executor died."""
    began = Counter((run, x["step"], x["attempt"]) for run, x in steps(e, "started"))
    executed = Counter((x.run, x.step, x.attempt) for x in e.executions)
    return sum(began[key] > 1 or executed[key] > 1 for key in began | executed)


def duplicates(e: Evidence) -> int:
    """Return how many executions there were beyond one for each attempt."""
    executed = Counter((x.run, x.step, x.attempt) for x in e.executions)
    return sum(count - 1 for count in executed.values())
