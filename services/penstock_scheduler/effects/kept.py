"""What a step that ended well leaves behind: its result for equal steps, its make-up for the next run."""

from penstock.contracts.fingerprints import parts_of
from penstock.contracts.queries import LatestEntry, ReuseEntry
from penstock_scheduler.effects.expecting import learned
from penstock_scheduler.effects.orders import PutLatest, PutReuse
from penstock_scheduler.effects.results import digests_of, latest_key
from penstock_scheduler.state import Run
from penstock_scheduler.transitions import StepReused, StepSucceeded


def kept(run: Run, fact: StepReused | StepSucceeded, at: float) -> list[PutReuse | PutLatest]:
    """Return what a step leaves that ended well at `at`.

    The same whenever it is asked: nothing it is made of changes once the step has ended.
    """
    if not run.steps[fact.step].fingerprint:
        return []
    if isinstance(fact, StepReused):
        return [_for_comparison(run, fact.step, at, 0)]
    return [_for_equals(run, fact, at), _for_comparison(run, fact.step, at, fact.seconds)]


def _for_equals(run: Run, done: StepSucceeded, at: float) -> PutReuse:
    entry = ReuseEntry(
        run=run.head.run,
        step=run.names[done.step],
        outputs=done.outputs,
        metrics=done.metrics,
        logs=done.logs,
        seconds=done.seconds,
        ended_at=at,
    )
    return PutReuse(run.steps[done.step].fingerprint, entry)


def _for_comparison(run: Run, step: int, at: float, seconds: float) -> PutLatest:
    state, plan = run.steps[step], run.plan(step)
    typical_s, samples = learned(state.typical_s, state.samples, seconds)
    entry = LatestEntry(
        run=run.head.run,
        fingerprint=state.fingerprint,
        parts=parts_of(plan, digests_of(run, plan)),
        at=at,
        typical_s=typical_s,
        samples=samples,
    )
    return PutLatest(latest_key(run, step), entry)
