"""How soon: the first byte of user code, an event, a line that a step writes."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from nats.aio.client import Client as Nats
from nats.aio.msg import Msg
from tests.bench.bench import Bench, times
from tests.bench.pipelines import WorkLost, ended, fan
from tests.bench.registry import Row, Samples, at_most, workload
from tests.bench.stacks import bare_bus

from penstock.bus import Received
from penstock.bus.nats import connect
from penstock.contracts.subjects import Subjects
from penstock.sdk.pipeline import Pipeline
from penstock.sdk.steps import PythonScriptStep

BLOCK = 40
"""Percentiles are taken of so many; the median of three such blocks is the figure."""
LINES = 200_000
PROCESS = "from starting python to its first statement"
APPEND = "one acknowledged append, then one publish, by a plain client on a bare server"


@workload(
    "first-byte",
    "",
    Row("first-byte-p50", "ms", PROCESS, at_most(25, "ours")),
    Row("first-byte-p95", "ms", PROCESS, at_most(60, "ours")),
)
def first_byte(bench: Bench) -> dict[str, Samples]:
    """From submission by a connected client to the first statement of the step, on an idle stack."""
    script = bench.sources / "first/first.py"

    def ours() -> float:
        step = PythonScriptStep(
            "first.py", arguments=[bench.salt()], source_directory=script.parent
        )
        pipeline = Pipeline(steps=[step], name="first")
        began = time.time()
        _, run = ended(bench.client, pipeline)
        lines = bench.client.lines(run)
        if len(lines) != 1:
            raise WorkLost(f"{len(lines)} lines of run {run}, not 1")
        return (float(lines[0].text) - began) * 1000

    def floor() -> float:
        began = time.time()
        done = subprocess.run([sys.executable, script], check=True, stdout=subprocess.PIPE)
        return (float(done.stdout) - began) * 1000

    return percentiles("first-byte", ours, floor, bench.rounds(3), ("p50", "p95"))


@workload(
    "event-delay",
    "",
    Row("event-delay-p50", "ms", APPEND),
    Row("event-delay-p99", "ms", APPEND),
)
def event_delay(bench: Bench) -> dict[str, Samples]:
    """From the scheduler's decision (the event's `at`) to a subscriber, while 200 steps run."""
    blocks = [asyncio.run(delays(bench)) for _ in range(bench.rounds(3))]
    with bare_bus(bench.folder()) as server:
        floors = [asyncio.run(plain_delays(server.url)) for _ in range(bench.rounds(3))]
    return {
        f"event-delay-{name}": Samples(
            [percentile(block, name) for block in blocks],
            [percentile(block, name) for block in floors],
        )
        for name in ("p50", "p99")
    }


@workload("log-throughput", "lines/s", floor="the same script into a file, and sync")
def log_throughput(bench: Bench) -> Samples:
    """A step that writes 200,000 lines of 80 characters; from submission until all are stored."""
    talk = bench.sources / "talk/talk.py"
    folder = bench.folder()

    def ours() -> float:
        step = PythonScriptStep(
            "talk.py", arguments=[LINES, bench.salt()], source_directory=talk.parent
        )
        seconds, run = ended(bench.client, Pipeline(steps=[step], name="talk"))
        found = len(bench.client.lines(run))
        if found != LINES:
            raise WorkLost(f"{found:,} lines of {LINES:,} are stored")
        return seconds

    def floor() -> None:
        bench.floor("talk.sh", talk, LINES, bench.salt(), folder / "lines.txt")

    return times(LINES, bench.paired(ours, floor, rounds=3))


def percentiles(
    name: str,
    ours: Callable[[], float],
    floor: Callable[[], float],
    blocks: int,
    wanted: Sequence[str],
) -> dict[str, Samples]:
    """Measure both in turns, in blocks; return the percentiles of each block as samples."""
    found = {each: Samples([], []) for each in wanted}
    ours()
    for _ in range(blocks):
        pairs = [(ours(), floor()) for _ in range(BLOCK)]
        for each in wanted:
            found[each].ours.append(percentile([one for one, _ in pairs], each))
            found[each].floor.append(percentile([one for _, one in pairs], each))
    return {f"{name}-{each}": samples for each, samples in found.items()}


def percentile(values: Sequence[float], name: str) -> float:
    """Return the percentile that a name such as p95 means."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * int(name[1:]) // 100)]


async def delays(bench: Bench) -> list[float]:
    """Return how late each event of a run of 200 steps came, in ms."""
    import msgspec

    found: list[float] = []

    async def take(message: Received) -> None:
        now = time.time()
        found.append((now - float(msgspec.json.decode(message.data)["at"])) * 1000)

    bus = await connect(bench.stack.bus, name="bench")
    await bus.subscribe(Subjects().events(), take)
    await asyncio.to_thread(ended, bench.client, fan(bench.sources, 200, bench.salt()))
    await bus.close()
    return found


async def plain_delays(url: str) -> list[float]:
    """Return how late a publish behind a durable append comes, in ms, without us."""
    found: list[float] = []
    sender, reader = Nats(), Nats()
    await sender.connect(url)
    await reader.connect(url)
    stream = sender.jetstream()
    await stream.add_stream(name="floor", subjects=["floor.commit"])

    async def take(message: Msg) -> None:
        found.append((time.time() - float(message.data)) * 1000)

    await reader.subscribe("floor.event", cb=take)
    await reader.flush()
    for _ in range(500):
        began = time.time()
        await stream.publish("floor.commit", b"x" * 700)
        await sender.publish("floor.event", str(began).encode())
        await sender.flush()
    await reader.flush()
    await sender.close()
    await reader.close()
    return found
