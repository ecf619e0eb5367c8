"""Play seeds, or one seed again with its trace.

make simulate SEEDS=200000 FIRST=0          many, on all cores
python -m tests.simulation --replay 4711    one, with what happened in it
python -m tests.simulation --mutants        which bugs are noticed, and after how many seeds
"""

import argparse
import contextlib
import subprocess
import sys
import time

from tests.simulation.batch import Tally, tallies
from tests.simulation.world.mutants import ALL, seeds_needed
from tests.simulation.world.play import T0, played

PROGRESS_S = 5.0


def main() -> int:
    """Do what the command line asks; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=5_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=0, help="0: one per core")
    parser.add_argument("--replay", type=int, metavar="SEED")
    parser.add_argument("--mutant", default="", choices=["", *ALL], metavar="NAME")
    parser.add_argument("--lines", type=int, default=0, help="of the trace, from its end; 0: all")
    parser.add_argument("--mutants", action="store_true")
    given = parser.parse_args()
    if given.replay is not None:
        return replay(given.replay, given.mutant, given.lines)
    return mutants(given.seeds, given.first) if given.mutants else many(given)


def many(given: argparse.Namespace) -> int:
    """Play many seeds."""
    began = told = time.monotonic()
    total = Tally()
    for tally in tallies(given.first, given.seeds, given.processes):
        total.add(tally)
        for broken in tally.broken:
            seed = broken.split()[1].rstrip(":")
            print(f"\n{broken}\nreplay: {sys.executable} -m tests.simulation --replay {seed}")
            print(*trace_of(int(seed), 12), sep="\n", flush=True)
        if time.monotonic() - told > PROGRESS_S:
            told = time.monotonic()
            rate = total.seeds / (told - began)
            line = f"{total.seeds:,} of {given.seeds:,} seeds, {len(total.broken)} broken"
            print(f"{line}, {rate:.0f} seeds/s", flush=True)
    seconds = time.monotonic() - began
    landed = ", ".join(f"{name} {count:,}" for name, count in sorted(total.landed.items()))
    print(f"landed: {landed}")
    last = given.first + given.seeds - 1
    print(
        f"{total.seeds:,} seeds ({given.first:,} to {last:,}) at {commit()}: {len(total.broken)} broken; "
        f"{total.actions:,} actions, {total.seeds / seconds:.0f} seeds/s"
    )
    return 1 if total.broken else 0


def replay(seed: int, mutant: str, lines: int) -> int:
    """Play one seed again and print its trace."""
    planted = ALL.get(mutant)
    patch = planted.patch() if planted and planted.patch else contextlib.nullcontext()
    with patch:
        emphasis = planted.faults if planted else None
        world, broken = played(seed, mutant, traced=True, emphasis=emphasis)
    trace = world.trace or []
    print(*trace[-lines:], sep="\n")
    print(f"\n{world.shape}\n{world.faults}")
    print(broken or f"seed {seed}: no promise broken, {world.now - T0:.0f} s of its time")
    return 1 if broken else 0


def trace_of(seed: int, lines: int) -> list[str]:
    """Return the last lines of a seed's trace."""
    world, _ = played(seed, traced=True)
    return (world.trace or [])[-lines:]


def mutants(seeds: int, first: int) -> int:
    """Say of each mutant after how many seeds it is noticed, and by what."""
    missed = 0
    for mutant in ALL.values():
        count, found = seeds_needed(mutant, seeds, first)
        missed += not count
        print(f"{mutant.name:22} {count or 'missed':>6}  {found[:100]}", flush=True)
    return 1 if missed else 0


def commit() -> str:
    """Return the commit that is played, with a mark when something was changed since."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=9", "--exclude=*"],
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
