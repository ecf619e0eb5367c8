"""What it costs to have penstock there: starting, answering --help, and doing nothing."""

import subprocess
import sys
import time

from tests.bench.bench import Bench
from tests.bench.pipelines import ended, fan
from tests.bench.registry import Row, Samples, at_most, workload
from tests.bench.stacks import PENSTOCK, Stack, family_of, is_server, memory_mib, ticks_of

from penstock.sdk.client import Client
from penstock.testing.servers import NatsServer

QUIET_S = 60
IMPORTS = "import asyncio, msgspec, structlog, penstock.bus.nats"
TICKS_PER_S = 100


@workload("help", "s", floor="python -c pass", bound=at_most(10))
def help_is_quick(bench: Bench) -> Samples:
    """`penstock --help`."""

    def ours() -> None:
        subprocess.run([str(PENSTOCK), "--help"], check=True, stdout=subprocess.DEVNULL)

    def floor() -> None:
        subprocess.run([sys.executable, "-c", "pass"], check=True)

    return bench.paired(ours, floor, rounds=10)


@workload(
    "stack-up",
    "s",
    floor="nats-server alone until it is ready, and one Python that imports what a service does",
    bound=at_most(3, "ours"),
)
def stack_up(bench: Bench) -> Samples:
    """`penstock up --detach` in an empty folder, until it says that everything is ready."""

    def ours() -> float:
        stack = Stack(bench.folder() / "stack")
        began = time.perf_counter()
        with stack:
            return time.perf_counter() - began

    def floor() -> float:
        server = NatsServer(bench.folder())
        began = time.perf_counter()
        server.start()
        subprocess.run([sys.executable, "-c", IMPORTS], check=True)
        seconds = time.perf_counter() - began
        server.stop()
        return seconds

    return bench.paired(ours, floor, rounds=3)


@workload(
    "idle",
    "",
    Row("idle-memory", "MiB", "as many Pythons that only import what a service does", at_most(400, "ours")),
    Row("idle-cpu", "% core", "the stack's own nats-server in the same minute", at_most(2, "ours")),
)  # fmt: skip
def idle(bench: Bench) -> dict[str, Samples]:
    """A stack that has run one step and then has nothing to do, for a minute."""
    with Stack(bench.folder() / "stack") as stack:
        with Client(dir=stack.folder) as client:
            ended(client, fan(bench.sources, 1, bench.salt()))
        time.sleep(QUIET_S / 12)  # what a run leaves to do is done
        ours = family_of(stack.pids())
        nats = [pid for pid in stack.pids() if is_server(pid)]
        began, before = time.monotonic(), [ticks_of(ours), ticks_of(nats)]
        time.sleep(QUIET_S)
        seconds, after = time.monotonic() - began, [ticks_of(ours), ticks_of(nats)]
        percent = [
            (b - a) / TICKS_PER_S / seconds * 100 for a, b in zip(before, after, strict=True)
        ]
        memory = [memory_mib(pid) for pid in ours]
    floor = float(bench.floor("idle.py")) / 1024 * len(ours)
    rss, pss = (sum(one) for one in zip(*memory, strict=True))
    more = {"processes": len(ours), "proportional_mib": round(pss)}
    return {
        "idle-memory": Samples([rss], [floor], more),
        "idle-cpu": Samples([percent[0]], [max(percent[1], 0.01)]),
    }
