"""What follows when a step ends: the steps behind it start or are skipped, and the run may end.

Every function costs what it changes. Only `break_off` looks at the whole run, once per run.
"""

from penstock.contracts.artifacts import TreeRef
from penstock.contracts.fingerprints import Obstacle, fingerprint, parts_of, reason_of
from penstock.contracts.requests import ErrorBody
from penstock.contracts.work import Failure
from penstock_scheduler.decide.turn import Turn
from penstock_scheduler.effects.results import digests_of
from penstock_scheduler.state import (
    ENDED,
    OUT,
    RUN_ENDED,
    TRYING,
    WELL,
    Run,
    RunStatus,
    StepStatus,
    offerable,
)
from penstock_scheduler.transitions import (
    AttemptOffered,
    RunCancelled,
    RunFailed,
    RunStarted,
    RunSucceeded,
    StepFailed,
    StepQueued,
    StepReady,
    StepReused,
    StepSkipped,
)


def start(turn: Turn, run: Run, step: int) -> None:
    """Start a waiting step whose needs are met, skip one whose needs cannot be met; else nothing."""
    advance(turn, run, [step])


def advance(turn: Turn, run: Run, candidates: list[int]) -> None:
    """Move waiting steps on, and everything behind those that thereby end."""
    work = list(reversed(candidates))
    while work:
        step = work.pop()
        if run.steps[step].status is not StepStatus.WAITING:
            continue
        broken = _broken_need(run, step)
        if broken:
            turn.record(StepSkipped(run=run.head.run, step=step, reason=broken))
        elif run.waiting[step] == 0 and _may_start(run):
            _start(turn, run, step)
        if run.steps[step].status in ENDED:
            work.extend(reversed(run.dependents[step]))


def step_ended(turn: Turn, run: Run, step: int) -> None:
    """Draw the consequences of a step's end."""
    turn.touch(run.targets[step])
    if breaks_off(run):
        if run.broken == run.names[step]:
            break_off(turn, run)
    else:
        advance(turn, run, list(run.dependents[step]))
    conclude(turn, run)


def breaks_off(run: Run) -> bool:
    """Say whether a failed step keeps the others from starting."""
    return bool(run.broken) and not run.head.continue_on_step_failure


def break_off(turn: Turn, run: Run) -> None:
    """Skip everything that has not begun: a step failed, and the run does not go on without it."""
    for step, state in enumerate(run.steps):
        if state.status in ENDED or state.status is StepStatus.RUNNING:
            continue
        out = state.attempt if state.status in OUT else 0
        reason = _broken_need(run, step) or f"step {run.broken} failed"
        turn.record(StepSkipped(run=run.head.run, step=step, attempt=out, reason=reason))
        turn.touch(run.targets[step])


def conclude(turn: Turn, run: Run) -> None:
    """End the run if its last step has ended."""
    if run.open or run.status in RUN_ENDED:
        return
    name, counts = run.head.run, run.counts
    well = sum(counts.get(status.value, 0) for status in WELL)
    if well == len(run.names):
        turn.record(RunSucceeded(run=name))
    elif run.cancelling is not None and not run.cancelling.overdue:
        turn.record(RunCancelled(run=name, reason=run.cancelling.reason))
    elif run.cancelling is not None:
        error = ErrorBody(
            code="E_DEADLINE",
            message=run.cancelling.reason,
            where=f"run {name}",
            hint="give the pipeline a longer settings.deadline, or its steps less to do",
        )
        turn.record(RunFailed(run=name, error=error))
    else:
        failed = counts.get(StepStatus.FAILED.value, 0)
        others = f" and {failed - 1} more" if failed > 1 else ""
        error = ErrorBody(
            code="E_STEP",
            message=f"step {run.broken} failed{others}",
            where=f"run {name}, step {run.broken}",
            hint=f"penstock run logs {name} {run.broken}",
        )
        turn.record(RunFailed(run=name, error=error))


def begin_run(turn: Turn, run: Run) -> None:
    """Say that the run has started, once."""
    if run.status is RunStatus.QUEUED:
        turn.record(RunStarted(run=run.head.run))


def offer(turn: Turn) -> None:
    """Fill the windows of the targets that were touched, the most urgent step first."""
    for target in turn.touched:
        while found := offerable(turn.partition, target):
            run, step = found
            attempt = run.steps[step].attempt
            turn.record(AttemptOffered(run=run.head.run, step=step, attempt=attempt))
    turn.touched.clear()


def current(run: Run, step: int, attempt: int) -> bool:
    """Say whether news of this attempt counts."""
    state = run.steps[step]
    return state.status in TRYING and state.attempt == attempt


def _may_start(run: Run) -> bool:
    return run.cancelling is None and not breaks_off(run)


def _broken_need(run: Run, step: int) -> str:
    """Return why a step's needs cannot be met any more, or an empty text."""
    if run.waiting[step] == 0 or not run.counts.keys() & _BADLY:
        return ""
    for need in run.plan(step).needs:
        status = run.steps[run.index[need]].status
        if status in ENDED and status not in WELL:
            return f"step {need} {_PAST[status]}"
    return ""


_BADLY = {StepStatus.FAILED.value, StepStatus.CANCELLED.value, StepStatus.SKIPPED.value}
_PAST = {
    StepStatus.FAILED: "failed",
    StepStatus.CANCELLED: "was cancelled",
    StepStatus.SKIPPED: "was skipped",
}


def _start(turn: Turn, run: Run, step: int) -> None:
    plan, name = run.plan(step), run.head.run
    if plan.given is not None:
        given = plan.given
        begin_run(turn, run)
        turn.record(
            StepReused(
                run=name,
                step=step,
                reused_from=given.run,
                outputs={
                    output: TreeRef(digest=digest) for output, digest in given.outputs.items()
                },
                metrics=given.metrics,
                logs=TreeRef(digest=given.logs) if given.logs else None,
                fingerprint=given.fingerprint,
                reason=f"kept from run {given.run}",
            )
        )
        return
    digests = digests_of(run, plan)
    lacking = next((i for i, b in plan.inputs.items() if b.step and i not in digests), "")
    if lacking:
        maker = plan.inputs[lacking]
        failure = Failure(
            code="E_INPUT",
            message=f"step {maker.step} ended well without output {maker.output!r}",
            where=f"steps.{plan.name}.inputs.{lacking}",
            hint="run the pipeline again with --reuse refresh",
        )
        turn.record(StepFailed(run=name, step=step, attempt=0, failure=failure))
        if breaks_off(run):
            break_off(turn, run)
        return
    if run.head.reuse == "off" or not plan.deterministic:
        obstacle: Obstacle = plan.kind if plan.kind != "command" else "nondeterministic"
        if run.head.reuse == "off":
            obstacle = "off"
        reason = reason_of((), obstacle=obstacle)
        turn.record(StepQueued(run=name, step=step, reason=reason))
        turn.touch(plan.compute)
        return
    key = fingerprint(parts_of(plan, digests))
    turn.record(StepReady(run=name, step=step, fingerprint=key))
