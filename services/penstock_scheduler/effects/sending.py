"""In which order a turn's effects go out, and which need not.

Work goes first: an executor waits for it, and telling what has happened takes longer than a step that
does nothing. Nothing that a turn asks for must be done before its work is offered; what takes work back
stays behind it.
"""

from collections.abc import Iterable

from penstock_scheduler.effects.orders import Dispatch, Effect, SetTimer
from penstock_scheduler.state import ENDED, Partition


def sent(partition: Partition, effects: Iterable[Effect]) -> list[Effect]:
    """Return effects as they go out, those left out that the turn itself has made needless."""
    work: list[Effect] = []
    rest: list[Effect] = []
    for effect in effects:
        if isinstance(effect, Dispatch):
            work.append(effect)
        elif not (isinstance(effect, SetTimer) and _ended(partition, effect)):
            rest.append(effect)
    return work + rest


def _ended(partition: Partition, timer: SetTimer) -> bool:
    """Say whether a timer's step has ended: an attempt whose start and end came together, for one."""
    run = partition.runs.get(timer.run)
    step = run.index.get(timer.step) if run is not None else None
    return run is not None and step is not None and run.steps[step].status in ENDED
