"""Many seeds on all cores."""

import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.simulation.world.play import played

CHUNK = 50
"""Seeds that a process plays in one go."""


@dataclass
class Tally:
    """What came of some seeds."""

    seeds: int = 0
    actions: int = 0
    broken: list[str] = field(default_factory=list)
    landed: Counter[str] = field(default_factory=Counter)
    """What happened how often: faults, and what they led to."""

    def add(self, other: "Tally") -> None:
        """Count another tally in."""
        self.seeds += other.seeds
        self.actions += other.actions
        self.broken += other.broken
        self.landed.update(other.landed)


def chunk_of(first: int, count: int) -> Tally:
    """Return what comes of `count` seeds."""
    tally = Tally()
    for seed in range(first, first + count):
        world, broken = played(seed)
        tally.seeds += 1
        tally.actions += world.actions
        tally.landed.update(world.landed)
        if broken:
            tally.broken.append(broken)
    return tally


def tallies(first: int, count: int, processes: int = 0) -> Iterator[Tally]:
    """Iterate over what comes of `count` seeds, chunk by chunk, as they are done."""
    ends = range(first, first + count, CHUNK)
    chunks = [(begin, min(CHUNK, first + count - begin)) for begin in ends]
    if processes == 1:
        yield from (chunk_of(*chunk) for chunk in chunks)
        return
    # spawned, not forked: tests run where threads are about
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes or os.cpu_count()) as pool:
        yield from pool.imap_unordered(_chunk_of, chunks)


def _chunk_of(chunk: tuple[int, int]) -> Tally:
    return chunk_of(*chunk)
