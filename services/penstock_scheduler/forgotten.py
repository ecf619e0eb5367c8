"""Runs that ended so long ago that the log has forgotten them: their plans, delivered again, begin nothing."""

from functools import partial

from penstock.contracts.queries import RUN_STATES_FINAL
from penstock_scheduler.projection import Summaries
from penstock_scheduler.state import Partition
from penstock_scheduler.tools import Tools


async def ended_before(
    tools: Tools, summaries: Summaries, state: Partition, planned: set[str]
) -> set[str]:
    """Return those planned runs that have ended, among those that `state` does not know.

    While we ask about some runs, others may be forgotten that we knew before: so it is asked
    again until nothing is left to doubt. Found by the simulation.
    """
    asked: set[str] = set()
    ended: set[str] = set()
    while runs := sorted(planned - state.runs.keys() - asked):
        asked.update(runs)
        found = await tools.patiently(partial(summaries.bucket.get_many, runs))
        ended.update(
            run
            for run, line in zip(runs, found, strict=True)
            if line is not None and line.value.state in RUN_STATES_FINAL
        )
    return ended
