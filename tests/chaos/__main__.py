"""The long form: `make chaos KILLS=1000 SEED=1 FOR=8` plays episodes until enough kills have landed."""

import argparse
import secrets
import sys
import time
from pathlib import Path

from tests.chaos.harness.episode import Plan, Result, play
from tests.chaos.harness.report import add, written
from tests.chaos.harness.storm import FAULTS, Weather

STORES = ("minio", "file", "minio", "weed")


def main(arguments: list[str]) -> int:
    """Play, print a line for each episode, and add what was proved to the tally."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=0, help="stop beginning episodes after")
    parser.add_argument("--seed", type=int, default=0, help="0: drawn")
    parser.add_argument("--episode-kills", type=int, default=150)
    parser.add_argument("--storm-s", type=float, default=240)
    parser.add_argument("--every-s", type=float, default=1.0)
    parser.add_argument("--store", choices=("", "file", "minio", "weed"), default="")
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--outage-s", type=float, default=0, help="each of --outages away so long")
    parser.add_argument("--outages", default="broker,store")
    parser.add_argument("--clients", type=int, default=5)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--dir", type=Path, default=Path(".chaos"))
    given = parser.parse_args(arguments)
    until = time.monotonic() + given.minutes * 60 if given.minutes else float("inf")
    seed = given.seed or secrets.randbelow(10**6) + 1
    landed, number, bad = 0, 0, 0
    while landed < given.kills and time.monotonic() < until:
        weather = Weather(
            kills=min(given.episode_kills, given.kills - landed),
            every_s=given.every_s,
            faults=tuple(filter(None, given.faults.split(","))),
        )
        store = given.store or STORES[number % len(STORES)]
        plan = Plan(
            seed=seed + number,
            weather=weather,
            storm_s=given.storm_s,
            store=store,
            keep=given.keep,
            outage_s=given.outage_s,
            outages=tuple(given.outages.split(",")),
            clients=given.clients,
            every_s=30 if given.outage_s > 60 else 3,
        )
        root = given.dir.absolute() / f"episode-{plan.seed}-{int(time.time())}"
        result = play(plan, root)
        landed += sum(result.kills.values())
        number += 1
        add(given.dir / "tally.jsonl", result)
        tell(number, result, root)
        if result.violations:
            bad += 1
            again = (
                f"python -m tests.chaos --seed {plan.seed} --store {store} --kills {weather.kills}"
            )
            print(f"    again: {again}", flush=True)
    written(given.dir / "tally.jsonl", given.dir / "report")
    return 1 if bad else 0


def tell(number: int, result: Result, root: Path) -> None:
    """Print one episode."""
    kills = " ".join(f"{name} {count}" for name, count in sorted(result.kills.items()))
    faults = " ".join(f"{name} {count}" for name, count in sorted(result.faults.items()))
    print(
        f"episode {number} seed {result.seed} {result.store}: {sum(result.kills.values())} kills "
        f"({kills}), {sum(result.points.values())} at points; {faults}; runs {result.runs}, "
        f"{result.steps} steps, {result.executions} executions; {result.seconds:.0f} s, "
        f"calm after {result.quiesced_s:g} s",
        flush=True,
    )
    for name, told in result.violations.items():
        print(f"    VIOLATION {name}: {len(told)}", flush=True)
        for line in told[:5]:
            print(f"        {line}", flush=True)
    for line in result.harness:
        print(f"    the harness failed: {line}", flush=True)
    if result.violations or result.harness:
        print(f"    kept: {root}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
