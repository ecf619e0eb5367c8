"""What the scheduler's decisions ask for, and how it follows from facts alone.

    effects_of   what one fact asks for, right after it has become true
    owed         what a partition's state asks for, whatever was lost: done again after a takeover

Nothing is done that the log does not say: an effect is lost with its process and asked for again
by the next owner, so each is harmless when done twice (message ids, one message per work subject,
newer-wins puts).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from penstock.contracts.artifacts import TreeRef
from penstock.contracts.events import RunEvent, RunWhat, StepEvent, StepWhat
from penstock.contracts.fingerprints import parts_of
from penstock.contracts.inbox import FlightLanded, FollowFlight
from penstock.contracts.plans import PlannedStep
from penstock.contracts.queries import LatestEntry, ReuseEntry, RunSummary
from penstock.contracts.queries import RunState as RunStateName
from penstock.contracts.work import WorkInput, WorkItem
from penstock_scheduler.state import (
    IN_FLIGHT,
    RUN_ENDED,
    Partition,
    Run,
    RunStatus,
    StepStatus,
)
from penstock_scheduler.transitions import (
    AttemptBegan,
    AttemptOffered,
    PlanRecorded,
    RunCancelled,
    RunCancelling,
    RunEnd,
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
    run_of,
)

TIMEOUT_SLACK_S = 30.0
"""The executor enforces a step's timeout; this much later the scheduler believes it dead."""
STOP_AGAIN_S = 5.0
"""A stop order is core NATS and may be lost: it is repeated until the attempt is reported."""
GRAPH_STEPS_MAX = 2_000
GRAPH_NEEDS_MAX = 10_000
"""Above either, `run.accepted` tells no graph: an event stays below 1 MiB."""

TimerKind = Literal["timeout", "retry", "deadline", "stop"]


@dataclass(frozen=True, slots=True)
class LookUp:
    """Ask whether equal work is done or in flight; with `claim`, claim it if it is neither."""

    run: str
    step: str
    look: int
    fingerprint: str
    latest: str
    """Key in the bucket `latest`: what to compare the fingerprint's parts with."""
    claim: bool
    stale: tuple[str, str] | None = None
    """A claim by this run and step counts as none."""


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Put an attempt on its work queue; one that is there already stays."""

    item: WorkItem


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Take an attempt off its work queue; attempt 0: everything of the run."""

    run: str
    target: str = ""
    step: str = ""
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Stop:
    """Tell executors to end an attempt. Never the last word: a timer says it again."""

    run: str
    step: str
    attempt: int
    reason: Literal["cancelled", "timeout", "superseded"]


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Be told at `at`. One timer per run, step, attempt and kind: setting it again moves it."""

    run: str
    step: str
    attempt: int
    kind: TimerKind
    at: float


@dataclass(frozen=True, slots=True)
class CancelTimers:
    """Drop all timers of a run that has ended: hygiene, since a late timer changes nothing."""

    run: str


@dataclass(frozen=True, slots=True)
class Emit:
    """Tell everybody, in the order of `event.seq`, once."""

    event: RunEvent | StepEvent
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class PutSummary:
    """Keep the run's line in the list of runs."""

    summary: RunSummary


@dataclass(frozen=True, slots=True)
class PutReuse:
    """Offer a result to equal steps."""

    fingerprint: str
    entry: ReuseEntry


@dataclass(frozen=True, slots=True)
class PutLatest:
    """Keep what the step was made of, for the next comparison."""

    key: str
    entry: LatestEntry


@dataclass(frozen=True, slots=True)
class ReleaseFlight:
    """Give up the claim on a fingerprint, if it still is ours."""

    fingerprint: str
    run: str
    step: str


@dataclass(frozen=True, slots=True)
class AskFlight:
    """Ask the leader's partition to tell us when its step has ended."""

    message: FollowFlight


@dataclass(frozen=True, slots=True)
class TellFlight:
    """Tell a follower's partition to look again."""

    message: FlightLanded


Effect = (
    LookUp
    | Dispatch
    | Withdraw
    | Stop
    | SetTimer
    | CancelTimers
    | Emit
    | PutSummary
    | PutReuse
    | PutLatest
    | ReleaseFlight
    | AskFlight
    | TellFlight
)

RECORDS = (Emit, PutSummary, PutReuse, PutLatest)
"""Effects that only a fact can give back, not the state: a replay asks for them again."""


def effects_of(partition: Partition, transition: Transition, at: float) -> list[Effect]:
    """Return what a fact asks for; `partition` is the state right after it."""
    run = partition.runs.get(run_of(transition))
    if run is None or run.status is RunStatus.ARRIVING:
        return []
    match transition:
        case PlanRecorded():
            return [_accepted(run, at), _summary(run), _deadline(partition, run)]
        case RunStarted():
            return [_run_event(run, "started", at), _summary(run)]
        case RunCancelling():
            timer = [_stop_timer(run, at)] if run.running else []
            return [Withdraw(run.head.run), *stops(run), *timer]
        case RunSucceeded() | RunFailed() | RunCancelled():
            return [_ended(run, transition, at), _summary(run), CancelTimers(run.head.run)]
        case StepReady(step=step):
            return [_look_up(run, step)]
        case StepFollowing(step=step):
            return [_ask(run, step), *landed(run, step)]
        case AttemptOffered(step=step):
            return [Dispatch(work_item(run, step))]
        case _:
            return _step_effects(run, transition, at)


def owed(partition: Partition) -> Iterator[Effect]:
    """Iterate over everything that the state asks for and that may have been lost."""
    for run in partition.runs.values():
        for step in run.followers:
            if run.steps[step].status not in IN_FLIGHT:
                yield from landed(run, step)
        if run.status in RUN_ENDED:
            yield CancelTimers(run.head.run)
        elif run.status is not RunStatus.ARRIVING:
            yield _deadline(partition, run)
            yield from _owed_to_steps(run)


def _owed_to_steps(run: Run) -> Iterator[Effect]:
    if run.cancelling is not None:
        yield Withdraw(run.head.run)
        yield from stops(run)
        yield _stop_timer(run, run.cancelling_at)
    for step, state in enumerate(run.steps):
        match state.status:
            case StepStatus.LOOKING:
                yield _look_up(run, step)
            case StepStatus.FOLLOWING:
                yield _ask(run, step)
            case StepStatus.OFFERED:
                yield Dispatch(work_item(run, step))
            case StepStatus.RUNNING:
                if run.cancelling is None:
                    yield Dispatch(work_item(run, step))
                yield from _timeout(run, step)
            case StepStatus.RETRYING:
                yield SetTimer(run.head.run, run.names[step], state.attempt, "retry", state.at)
            case _:
                pass


def dispatches(partition: Partition) -> list[Effect]:
    """Return the attempts that must be on a work queue: those of `owed` only."""
    return [
        Dispatch(work_item(run, step))
        for run in partition.runs.values()
        if run.status not in RUN_ENDED and run.cancelling is None
        for step, state in enumerate(run.steps)
        if state.status in (StepStatus.OFFERED, StepStatus.RUNNING)
    ]


def stops(run: Run) -> list[Effect]:
    """Return a stop order for every step that still runs."""
    return [
        Stop(run.head.run, run.names[step], run.steps[step].attempt, "cancelled")
        for step in run.running
    ]


def landed(run: Run, step: int) -> list[Effect]:
    """Return the word to those who wait for a step: it has ended or does not fly, look again."""
    return [
        TellFlight(
            FlightLanded(
                run=follower.run,
                step=follower.step,
                fingerprint=run.steps[step].fingerprint,
                leader_run=run.head.run,
                leader_step=run.names[step],
                look=follower.look,
            )
        )
        for follower in run.followers.get(step, ())
    ]


def work_item(run: Run, step: int) -> WorkItem:
    """Return everything an executor needs for the current attempt of a step."""
    plan, head = run.plan(step), run.head
    digests = digests_of(run, plan)
    return WorkItem(
        run=head.run,
        step=plan.name,
        attempt=run.steps[step].attempt,
        pipeline=head.pipeline,
        experiment=head.experiment,
        target=plan.compute,
        command=plan.command,
        code=plan.code,
        inputs={
            name: WorkInput(type=bound.type, value=bound.value)
            if not bound.step and not bound.artifact
            else WorkInput(type=bound.type, artifact=digests[name])
            for name, bound in plan.inputs.items()
        },
        outputs=plan.outputs,
        environment=plan.environment,
        environment_variables=plan.environment_variables,
        timeout_s=plan.timeout_s,
        # Its own literal inputs only: what the fingerprint does not know, a step must not see.
        parameters={
            name: bound.value
            for name, bound in plan.inputs.items()
            if bound.value is not None and not bound.step and not bound.artifact
        },
        tags=head.tags,
        traceparent=head.traceparent,
    )


def digests_of(run: Run, plan: PlannedStep) -> dict[str, str]:
    """Return the content digests of a step's data inputs; one that its maker lacks is left out."""
    digests: dict[str, str] = {}
    for name, bound in plan.inputs.items():
        if bound.step:
            outputs = run.steps[run.index[bound.step]].outputs or {}
            if bound.output in outputs:
                digests[name] = outputs[bound.output].digest
        elif bound.artifact:
            digests[name] = bound.artifact
    return digests


def latest_key(run: Run, step: int) -> str:
    """Return the key of a step in the bucket `latest`."""
    return f"{run.head.pipeline}.{run.names[step]}"


def outputs_of(run: Run) -> dict[str, TreeRef]:
    """Return the run's own outputs, as far as the steps that make them have ended well."""
    outputs: dict[str, TreeRef] = {}
    for name, (step, output) in run.head.outputs.items():
        number = run.index.get(step)
        made = run.steps[number].outputs if number is not None else None
        if made is not None and output in made:
            outputs[name] = made[output]
    return outputs


def _step_effects(run: Run, transition: Transition, at: float) -> list[Effect]:
    """Return the effects of facts about a step that everybody hears of."""
    match transition:
        case StepQueued(step=step):
            return [
                _told(
                    run,
                    step,
                    "queued",
                    at,
                    attempt=transition.attempt,
                    target=run.targets[step],
                    fingerprint=run.steps[step].fingerprint,
                    reason=transition.reason,
                    compared_with=transition.compared_with,
                    parts=transition.parts,
                )
            ]
        case AttemptBegan(step=step):
            told = _told(
                run,
                step,
                "started",
                at,
                attempt=transition.attempt,
                target=run.targets[step],
                executor=transition.executor,
            )
            return [told, *_timeout(run, step)]
        case StepReused(step=step):
            told = _told(
                run,
                step,
                "reused",
                at,
                fingerprint=transition.fingerprint,
                reason=transition.reason,
                compared_with=transition.compared_with,
                parts=transition.parts,
                reused_from=transition.reused_from,
                outputs=transition.outputs,
                logs=transition.logs,
                metrics=transition.metrics,
            )
            return [told, *_kept_for_comparison(run, step, at), *landed(run, step)]
        case StepSucceeded(step=step):
            told = _told(
                run,
                step,
                "succeeded",
                at,
                **_result(run, transition),
                fingerprint=run.steps[step].fingerprint,
                outputs=transition.outputs,
            )
            kept = _kept_for_comparison(run, step, at)
            return [told, *_kept_for_equals(run, transition, at), *kept, *landed(run, step)]
        case StepRetrying(step=step, attempt=attempt):
            told = _told(
                run,
                step,
                "retrying",
                at,
                **_result(run, transition),
                failure=transition.failure,
                retry_at=transition.retry_at,
            )
            due = transition.retry_at
            timer = [SetTimer(run.head.run, run.names[step], attempt, "retry", due)]
            unreported = [] if transition.executor else _called_back(run, step, attempt, "timeout")
            return [told, *(timer if due > at else []), *unreported]
        case StepFailed(step=step, attempt=attempt):
            told = _told(
                run, step, "failed", at, **_result(run, transition), failure=transition.failure
            )
            out = attempt and not transition.executor
            unreported = _called_back(run, step, attempt, "timeout") if out else []
            return [told, *unreported, *_given_up(run, step)]
        case StepCancelled(step=step, attempt=attempt):
            told = _told(
                run,
                step,
                "cancelled",
                at,
                **_result(run, transition),
                reason=transition.reason,
                failure=transition.failure,
            )
            out = attempt and not transition.executor
            unreported = _called_back(run, step, attempt, "cancelled") if out else []
            return [told, *unreported, *_given_up(run, step)]
        case StepSkipped(step=step, attempt=attempt):
            told = _told(run, step, "skipped", at, reason=transition.reason)
            unreported = _called_back(run, step, attempt, "superseded") if attempt else []
            return [told, *unreported, *_given_up(run, step)]
        case _:
            return []


def _told(run: Run, step: int, what: StepWhat, at: float, **fields: Any) -> Emit:
    head = run.head
    event = StepEvent(
        seq=run.seq,
        run=head.run,
        pipeline=head.pipeline,
        step=run.names[step],
        what=what,
        at=at,
        **fields,
    )
    return Emit(event, head.traceparent)


def _result(
    run: Run, transition: StepRetrying | StepSucceeded | StepFailed | StepCancelled
) -> dict[str, Any]:
    return {
        "attempt": transition.attempt,
        "target": run.targets[transition.step],
        "executor": transition.executor,
        "seconds": transition.seconds,
        "logs": transition.logs,
        "metrics": transition.metrics,
        "tags": transition.tags,
    }


def _called_back(
    run: Run, step: int, attempt: int, reason: Literal["cancelled", "timeout", "superseded"]
) -> list[Effect]:
    """Return what ends an attempt that nobody has reported: it may still be out."""
    name = run.names[step]
    return [
        Withdraw(run.head.run, run.targets[step], name, attempt),
        Stop(run.head.run, name, attempt, reason),
    ]


def _given_up(run: Run, step: int) -> list[Effect]:
    """Return what a step owes to equal ones when it ends without a result."""
    state = run.steps[step]
    released: list[Effect] = (
        [ReleaseFlight(state.fingerprint, run.head.run, run.names[step])] if state.holds else []
    )
    return [*released, *landed(run, step)]


def _kept_for_equals(run: Run, done: StepSucceeded, at: float) -> list[Effect]:
    fingerprint = run.steps[done.step].fingerprint
    if not fingerprint:
        return []
    entry = ReuseEntry(
        run=run.head.run,
        step=run.names[done.step],
        outputs=done.outputs,
        metrics=done.metrics,
        logs=done.logs,
        seconds=done.seconds,
        ended_at=at,
    )
    return [PutReuse(fingerprint, entry)]


def _kept_for_comparison(run: Run, step: int, at: float) -> list[Effect]:
    fingerprint = run.steps[step].fingerprint
    if not fingerprint:
        return []
    plan = run.plan(step)
    parts = parts_of(plan, digests_of(run, plan))
    entry = LatestEntry(run=run.head.run, fingerprint=fingerprint, parts=parts, at=at)
    return [PutLatest(latest_key(run, step), entry)]


def _look_up(run: Run, step: int) -> LookUp:
    state = run.steps[step]
    return LookUp(
        run=run.head.run,
        step=run.names[step],
        look=state.look,
        fingerprint=state.fingerprint,
        latest=latest_key(run, step),
        claim=run.head.reuse == "use",
        stale=state.leader,
    )


def _ask(run: Run, step: int) -> AskFlight:
    state = run.steps[step]
    leader_run, leader_step = state.leader or ("", "")
    return AskFlight(
        FollowFlight(
            run=leader_run,
            step=leader_step,
            fingerprint=state.fingerprint,
            follower_run=run.head.run,
            follower_step=run.names[step],
            look=state.look,
        )
    )


def _deadline(partition: Partition, run: Run) -> SetTimer:
    seconds = run.head.deadline_s or partition.deadline_s
    return SetTimer(run.head.run, "", 0, "deadline", run.accepted_at + seconds)


def _stop_timer(run: Run, at: float) -> SetTimer:
    return SetTimer(run.head.run, "", 0, "stop", at + STOP_AGAIN_S)


def _timeout(run: Run, step: int) -> list[Effect]:
    """Return the timer behind the executor's own; a step without a timeout has the run's deadline."""
    seconds = run.plan(step).timeout_s
    if not seconds:
        return []
    state = run.steps[step]
    due = state.at + seconds + TIMEOUT_SLACK_S
    return [SetTimer(run.head.run, run.names[step], state.attempt, "timeout", due)]


def _run_event(run: Run, what: RunWhat, at: float, **fields: Any) -> Emit:
    head = run.head
    event = RunEvent(
        seq=run.seq,
        run=head.run,
        pipeline=head.pipeline,
        what=what,
        at=at,
        version=head.version,
        experiment=head.experiment,
        **fields,
    )
    return Emit(event, head.traceparent)


def _accepted(run: Run, at: float) -> Emit:
    head = run.head
    needs = [run.plan(step).needs for step in range(min(len(run.names), GRAPH_STEPS_MAX + 1))]
    tellable = len(needs) <= GRAPH_STEPS_MAX and sum(map(len, needs)) <= GRAPH_NEEDS_MAX
    return _run_event(
        run,
        "accepted",
        at,
        spec=head.spec,
        display_name=head.display_name,
        tags=head.tags,
        parameters=head.parameters,
        steps=len(run.names),
        graph=dict(zip(run.names, needs, strict=True)) if tellable else {},
        who=head.who,
        trigger=head.trigger,
        rerun_of=head.rerun_of,
        git=head.git,
        reuse=head.reuse,
    )


def _ended(run: Run, end: RunEnd, at: float) -> Emit:
    fields = {"seconds": at - run.accepted_at, "counts": dict(run.counts)}
    match end:
        case RunSucceeded():
            return _run_event(run, "succeeded", at, **fields, outputs=outputs_of(run))
        case RunFailed(error=error):
            return _run_event(run, "failed", at, **fields, error=error, reason=error.message)
        case RunCancelled(reason=reason):
            return _run_event(run, "cancelled", at, **fields, reason=reason)


_SUMMARY_STATES: dict[RunStatus, RunStateName] = {
    RunStatus.ARRIVING: "queued",
    RunStatus.QUEUED: "queued",
    RunStatus.RUNNING: "running",
    RunStatus.SUCCEEDED: "succeeded",
    RunStatus.FAILED: "failed",
    RunStatus.CANCELLED: "cancelled",
}


def _summary(run: Run) -> PutSummary:
    head, ended = run.head, run.status in RUN_ENDED
    return PutSummary(
        RunSummary(
            run=head.run,
            pipeline=head.pipeline,
            state=_SUMMARY_STATES[run.status],
            version=head.version,
            spec=head.spec,
            experiment=head.experiment,
            display_name=head.display_name,
            tags=head.tags,
            parameters=head.parameters,
            who=head.who,
            trigger=head.trigger,
            rerun_of=head.rerun_of,
            reuse=head.reuse,
            git=head.git,
            accepted_at=run.accepted_at,
            ended_at=run.ended_at,
            seconds=run.ended_at - run.accepted_at if ended else 0,
            steps=len(run.names),
            counts=dict(run.counts) if ended else {},
        )
    )
