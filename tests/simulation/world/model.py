"""What must come out of a plan: a naive interpreter, one step after the other, with no machinery.

A command fails its first `fails` attempts and has `attempts_max`; what needs a step that did not end
well is skipped; content is a pure function. Nothing here knows of messages, retries or crashes.
"""

from dataclasses import dataclass

from tests.simulation.world.wishes import Behaviour, made_by

from penstock.contracts.plans import PlannedStep
from penstock_executor.decide.outcome import NOT_FOUND

NOT_FOUND_STATUS = NOT_FOUND << 8


@dataclass(frozen=True)
class Expected:
    """How a step ends when nothing interferes, and what it makes then."""

    well: bool
    reached: bool
    digest: str
    """Known for every step, also for those that fail: what it would make."""


def interpreted(
    steps: tuple[PlannedStep, ...], behaviours: dict[str, Behaviour]
) -> dict[str, Expected]:
    """Return what becomes of each step when every step is tried that can be."""
    found: dict[str, Expected] = {}
    for step in steps:
        behaviour = behaviours[step.command]
        reached = all(found[need].well for need in step.needs)
        final = behaviour.fails > 0 and behaviour.status == NOT_FOUND_STATUS
        enough = not final and behaviour.fails < step.attempts_max
        inputs = {name: found[bound.step].digest for name, bound in step.inputs.items()}
        digest = made_by(step.command, inputs)
        given = step.given is not None
        found[step.name] = Expected(
            well=given or (reached and enough), reached=reached, digest=digest
        )
    return found
