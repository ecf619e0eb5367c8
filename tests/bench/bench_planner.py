"""How long planning takes, as a ratio to decoding the same spec's JSON: `python tests/bench/bench_planner.py`.

The floor is msgspec's own typed decode; nothing that reads the spec at all can be faster.
"""

import json
import time
from collections.abc import Callable
from typing import Any

import msgspec

from penstock.contracts.requests import RunRequest
from penstock.contracts.spec import PipelineSpec
from penstock_planner.decide.plan import Origin, parts_of, planned
from penstock_planner.decide.reading import spec_of

ROUNDS = 5


def chain(count: int) -> dict[str, Any]:
    """Return steps in one line, each reading what the one before wrote."""
    return {
        f"s{n:05}": {
            "command": "work ${{inputs.x}} ${{inputs.p}} ${{outputs.o}}",
            "inputs": {
                "p": "${{parent.inputs.p}}",
                **({"x": f"${{{{parent.jobs.s{n - 1:05}.outputs.o}}}}"} if n else {"x": 1}),
            },
            "outputs": {"o": None},
        }
        for n in range(count)
    }


def bipartite(count: int) -> dict[str, Any]:
    """Return `count` makers and `count` readers, each reading from every maker: count² edges."""
    makers = {f"a{n:03}": {"command": "make", "outputs": {"o": None}} for n in range(count)}
    edges = {f"i{n:03}": f"${{{{parent.jobs.a{n:03}.outputs.o}}}}" for n in range(count)}
    readers = {f"b{n:03}": {"command": "read", "inputs": edges} for n in range(count)}
    return makers | readers


def seconds(work: Callable[[], object]) -> float:
    """Return the best of some rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return best


def measured(name: str, steps: dict[str, Any]) -> str:
    """Return one line about one spec."""
    data = json.dumps({"inputs": {"p": 1}, "steps": steps}).encode()
    spec = spec_of(data, stored=True)
    request, origin = RunRequest(), Origin(run="0" * 15)
    plan = planned(spec, request, origin)
    floor = seconds(lambda: msgspec.json.decode(data, type=PipelineSpec))
    reading = seconds(lambda: spec_of(data, stored=True))
    planning = seconds(lambda: planned(spec, request, origin))
    cutting = seconds(lambda: parts_of(plan.head, plan.steps))
    whole = reading + planning + cutting
    return (
        f"{name:>22}  {len(data) / 1e6:7.2f} MB  decode {floor * 1e3:8.1f} ms  "
        f"read {reading / floor:5.1f}x  plan {planning / floor:5.1f}x  parts {cutting / floor:5.1f}x  "
        f"all {whole * 1e3:8.1f} ms = {whole / floor:5.1f}x  {len(steps) / whole:10,.0f} steps/s"
    )


def main() -> None:
    """Print one line per shape of spec."""
    print(measured("1,000 in a line", chain(1_000)))
    print(measured("10,000 in a line", chain(10_000)))
    print(measured("100,000 in a line", chain(100_000)))
    print(measured("500 x 500 edges", bipartite(500)))


if __name__ == "__main__":
    main()
