"""Reading a partition's log into its state, beside everything else that the process does.

A run of a hundred thousand steps leaves tens of megabytes: they are decoded as they arrive, never
held together, and other partitions get their turn every few milliseconds, or they lose their pins.
"""

import asyncio
import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager

from penstock_scheduler.effects.replay import Replay
from penstock_scheduler.projection import LastTold, last_told
from penstock_scheduler.runlog import RunLog
from penstock_scheduler.state import Partition
from penstock_scheduler.tools import Tools
from penstock_scheduler.transitions import PlanRecorded, run_of

SLICE_S = 0.02

_replays: set[object] = set()
"""Those under way in this process."""


async def replayed(
    tools: Tools, log: RunLog, partition: Partition, go_on: Callable[[Mapping[str, LastTold]], None]
) -> Replay:
    """Make the state from the log; `go_on` hears what has been told of each run.

    Raises:
        Corrupt: a newer version wrote the log.
        BusUnavailable: it could not be read to its end.
    """
    loop, told = asyncio.get_running_loop(), dict[str, int]()
    replay = Replay(partition, told)
    rested = loop.time()
    with _uncollected():
        async with aclosing(log.read()) as chunks:
            async for chunk in chunks:
                planned = dict.fromkeys(
                    run_of(transition)
                    for _, commit in chunk
                    for transition in commit.transitions
                    if isinstance(transition, PlanRecorded)
                )
                if unknown := [run for run in planned if run not in told]:
                    found = await last_told(tools.bus, tools.names, unknown)
                    told.update((run, last.seq) for run, last in found.items())
                    go_on(found)
                for sequence, commit in chunk:
                    replay.take(sequence, commit)
                    if loop.time() - rested > SLICE_S:
                        await asyncio.sleep(0)
                        rested = loop.time()
    if replay.commits:
        tools.log.info(
            "took over",
            partition=log.number,
            commits=replay.commits,
            runs=len(partition.runs),
            transitions=replay.transitions,
        )
    return replay


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the cyclic garbage collector still: a growing state is no garbage, and it walks it again and again."""
    mark = object()
    _replays.add(mark)
    gc.disable()
    try:
        yield
    finally:
        _replays.discard(mark)
        if not _replays:
            gc.enable()
