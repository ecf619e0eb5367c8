"""What an executor adds to a command: from the acknowledged work item to the result in the inbox."""

import asyncio
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.bench.bench import Bench
from tests.bench.registry import Row, Samples, workload
from tests.bench.stacks import bare_bus

from penstock.bus.nats import connect
from penstock.contracts.plans import PlannedOutput
from penstock.contracts.subjects import Subjects
from penstock.testing.attempts import Attempts
from penstock.testing.fleet import Fleet
from penstock.trees.client import TreeClient

ROUNDS = 40
SHELL = "the same shell started directly"


@workload(
    "attempt",
    "",
    Row("attempt", "ms", SHELL),
    Row("attempt-line", "ms", SHELL),
    Row("attempt-output", "ms", SHELL),
)
def attempt(bench: Bench) -> dict[str, Samples]:
    """A shell command that does nothing, one that says a line, and one that writes an output."""
    with bare_bus(bench.folder()) as server:
        folder = bench.folder()
        with Fleet(folder, bus=server.url, store=f"file:{folder / 'store'}") as fleet:
            fleet.start("artifact")
            fleet.start("executor", slots="2")
            return asyncio.run(attempts(server.url))


async def attempts(url: str) -> dict[str, Samples]:
    """Give attempts one after the other, each beside a plain process."""
    bus, names = await connect(url, name="bench"), Subjects()
    trees = TreeClient(bus, names)
    given = Attempts(bus, names, trees)
    await given.open()
    output = {"o": PlannedOutput(type="uri_file")}

    async def nothing() -> None:
        await (await given.give("true")).success()

    async def line() -> None:
        await (await given.give("echo hello")).success()

    async def writing() -> None:
        await (await given.give("echo x > ${{outputs.o}}", outputs=output)).success()

    found = {
        "attempt": await beside(nothing),
        "attempt-line": await beside(line),
        "attempt-output": await beside(writing),
    }
    await trees.close()
    await bus.close()
    return found


async def beside(work: Callable[[], Awaitable[object]]) -> Samples:
    """Measure work and a plain shell in turns, in ms."""
    samples = Samples([], [])
    loop = asyncio.get_running_loop()
    await work()
    for _ in range(ROUNDS):
        began = loop.time()
        await work()
        between = loop.time()
        subprocess.run([SH, "-c", "true"], check=True)  # noqa: ASYNC221 - the quickest way
        samples.ours.append((between - began) * 1000)
        samples.floor.append((loop.time() - between) * 1000)
    return samples


SH = str(Path("/bin/bash") if Path("/bin/bash").exists() else Path("/bin/sh"))
