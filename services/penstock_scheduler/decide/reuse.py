"""The answer to a look: reuse the result, follow the equal step in flight, or run."""

from dataclasses import dataclass

from penstock.contracts.fingerprints import Obstacle, compared, parts_of, reason_of
from penstock.contracts.queries import LatestEntry, ReuseEntry
from penstock_scheduler.decide.attempts import step_of
from penstock_scheduler.decide.progress import begin_run, step_ended
from penstock_scheduler.decide.turn import Turn
from penstock_scheduler.effects import ReleaseFlight
from penstock_scheduler.effects.results import digests_of
from penstock_scheduler.state import StepStatus
from penstock_scheduler.transitions import StepFollowing, StepQueued, StepReused


@dataclass(frozen=True, slots=True)
class LookedUp:
    """The shell's answer to LookUp."""

    run: str
    step: str
    look: int
    fingerprint: str
    entry: ReuseEntry | None = None
    """What the bucket `reuse` holds, if that is not our own claim."""
    exists: bool = False
    """Every output of a finished entry exists, says the artifact service."""
    unsure: bool = False
    """The artifact service did not answer in time."""
    claimed: bool = False
    """The claim on the fingerprint is ours."""
    latest: LatestEntry | None = None


def answer(turn: Turn, message: LookedUp) -> None:
    """Take in what the shell found. An answer to an earlier look is late news."""
    found = step_of(turn, message.run, message.step)
    state = found[0].steps[found[1]] if found else None
    if (
        found is None
        or state is None
        or state.status is not StepStatus.LOOKING
        or state.look != message.look
    ):
        if message.claimed and not (state is not None and state.holds):
            turn.ask(ReleaseFlight(message.fingerprint, message.run, message.step))
        return
    run, step = found
    plan, entry, latest = run.plan(step), message.entry, message.latest
    parts = compared(parts_of(plan, digests_of(run, plan)), latest.parts if latest else None)
    compared_with = latest.run if latest else ""
    if entry is not None and entry.ended_at and message.exists:
        begin_run(turn, run)
        turn.record(
            StepReused(
                run=message.run,
                step=step,
                reused_from=entry.run,
                outputs=entry.outputs,
                metrics=entry.metrics,
                logs=entry.logs,
                fingerprint=message.fingerprint,
                reason=reason_of(parts, compared_with=compared_with, reused_from=entry.run),
                compared_with=compared_with,
                parts=parts,
                typical_s=latest.typical_s if latest else 0,
                samples=latest.samples if latest else 0,
            )
        )
        step_ended(turn, run, step)
        return
    if entry is not None and not entry.ended_at and not message.claimed:
        turn.record(
            StepFollowing(run=message.run, step=step, leader_run=entry.run, leader_step=entry.step)
        )
        return
    obstacle: Obstacle = ""
    if run.head.reuse == "refresh":
        obstacle = "refresh"
    elif step in run.fresh:
        obstacle = "named"
    elif entry is not None and entry.ended_at:
        obstacle = "gone"
    reason = reason_of(
        parts, compared_with=compared_with or (entry.run if entry else ""), obstacle=obstacle
    )
    if message.unsure:
        reason = "the artifact service did not say whether the earlier outputs still exist"
    turn.record(
        StepQueued(
            run=message.run,
            step=step,
            holds=message.claimed,
            reason=reason,
            compared_with=compared_with,
            parts=parts,
            typical_s=latest.typical_s if latest else 0,
            samples=latest.samples if latest else 0,
        )
    )
    turn.touch(plan.compute)
