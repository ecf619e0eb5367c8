"""The command: `make bench`, `make bench ONLY=chain-50`, `python -m tests.bench --list`.

A benchmark never asserts. The exit code says whether the work was done: 1 when a run lost work or
failed, 2 for a name that is none; with --check also 1 when a bound is missed.
"""

import argparse
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from pathlib import Path

from tests.bench.bench import Bench
from tests.bench.registry import Missing, Samples, Workload, chosen, workloads
from tests.bench.report import HEADINGS, Figure, cells, figure, kept, line, markdown

PAGE = Path("shared/docs/reports/benchmarks.md")


def measured(one: Workload, bench: Bench) -> dict[str, Figure]:
    """Return the figures of one workload by row."""
    samples = one.run(bench)
    by_row: Mapping[str, Samples] = {one.name: samples} if isinstance(samples, Samples) else samples
    assert set(by_row) == {row.name for row in one.rows}, f"{one.name} measured {sorted(by_row)}"
    return {row.name: figure(row, by_row[row.name]) for row in one.rows}


def run(wanted: list[Workload], rounds: int) -> tuple[list[str], list[str]]:
    """Measure, print and keep; return the names of what failed and of what missed its bound."""
    failed: list[str] = []
    missed: list[str] = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # stacks come down with us
    print(line(HEADINGS), flush=True)
    root = Path(tempfile.mkdtemp(prefix="penstock-bench-"))
    began = time.monotonic()
    try:
        with Bench(root, rounds) as bench:
            for one in wanted:
                try:
                    found = measured(one, bench)
                except Missing as reason:
                    print(f"{one.name:<32} left out: {reason}", flush=True)
                    continue
                except Exception:  # one workload that fails does not take the others' figures along
                    print(f"{one.name:<32} FAILED", flush=True)
                    traceback.print_exc()
                    failed.append(one.name)
                    continue
                kept(found)
                missed += [name for name, each in found.items() if not each.get("holds", True)]
                for name, each in found.items():
                    print(line(cells(name, each)), flush=True)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print(f"{time.monotonic() - began:.0f} s; kept in .bench/latest.json", flush=True)
    return failed, missed


def listed(known: Mapping[str, Workload]) -> str:
    """Return the names that can be asked for."""
    return "\n".join(
        f"  {row.name:<32} {row.floor}{'   (only by name)' if one.heavy else ''}"
        for one in known.values()
        for row in one.rows
    )


def main() -> int:
    """Read the command line, measure, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", help="what to measure (default: all but the heavy)")
    parser.add_argument("--check", action="store_true", help="exit 1 when a bound is missed")
    parser.add_argument("--rounds", type=int, default=0, help="repetitions, instead of the usual")
    parser.add_argument("--list", action="store_true", help="print the names")
    parser.add_argument("--markdown", action="store_true", help=f"write {PAGE} from the latest")
    given = parser.parse_args()
    if given.list:
        print(listed(workloads()))
        return 0
    if given.markdown:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(markdown(workloads()), encoding="utf-8")
        return 0
    names = [name for word in given.names for name in re.split(r"[,\s]+", word) if name]
    try:
        wanted = chosen(names)
    except KeyError as error:
        print(f"no workload {error}; there are:\n{listed(workloads())}", file=sys.stderr)
        return 2
    failed, missed = run(wanted, given.rounds)
    left = [one.name for one in workloads().values() if one.heavy and one not in wanted]
    if left and not names:
        print(f"left out, ask by name: {', '.join(left)}")
    if missed:
        print(f"missed their bounds: {', '.join(missed)}")
    if failed:
        print(f"FAILED: {', '.join(failed)}")
    return int(bool(failed or (given.check and missed)))


if __name__ == "__main__":
    sys.exit(main())
