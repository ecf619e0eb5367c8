"""What an executor adds to a command: `python tests/bench/bench_executor.py`.

Floors, measured in the same run: the same shell started directly, and one acknowledged publish.
An attempt is timed from the acknowledged publish of its work item to its result in the inbox.
"""

import asyncio
import os
import secrets
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from penstock.bus.nats import connect
from penstock.contracts.plans import PlannedOutput
from penstock.contracts.subjects import Subjects
from penstock.testing.attempts import Attempts
from penstock.testing.fleet import Fleet
from penstock.testing.servers import NatsServer
from penstock.trees.client import TreeClient
from penstock_executor.process import Command, Launcher, shell

ROUNDS = 60
MANY = 200


async def spread(work: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """Return median and 90th percentile in milliseconds."""
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        await work()
        times.append((time.perf_counter() - began) * 1000)
    times.sort()
    return times[len(times) // 2], times[len(times) * 9 // 10]


def show(what: str, result: tuple[float, float], floor: float = 0) -> None:
    """Print one line."""
    ratio = f"   {result[0] / floor:5.1f} times the shell" if floor else ""
    print(f"{what:44} p50 {result[0]:7.2f} ms   p90 {result[1]:7.2f} ms{ratio}")


async def floors(attempts: Attempts) -> float:
    """Measure what nobody can avoid; return the shell's milliseconds."""

    async def direct() -> None:
        subprocess.run([shell(), "-c", "true"], check=True)  # noqa: ASYNC221 - the quickest way

    async def publish() -> None:
        await attempts.bus.append(attempts.names.dead("bench"), b"{}")

    plain = await spread(direct)
    show("floor: shell -c true, started directly", plain)
    show("floor: one acknowledged publish", await spread(publish))
    for namespace in (True, False):
        launcher = Launcher(lambda: None)
        launcher.namespace = namespace

        async def launch(launcher: Launcher = launcher) -> None:
            command = Command(arguments=[shell(), "-c", "true"], folder="/", environment={})
            running = launcher.start(command)
            await running.ended
            for fd in (running.stdout, running.stderr):
                os.close(fd)

        show(f"launcher, namespace {'on' if namespace else 'off'}", await spread(launch), plain[0])
        launcher.close()
    return plain[0]


async def attempts_of(attempts: Attempts, floor: float) -> None:
    """Measure attempts of one executor."""

    async def no_op() -> None:
        await (await attempts.give("true")).success()

    async def talking() -> None:
        await (await attempts.give("echo hello")).success()

    async def writing() -> None:
        output = {"o": PlannedOutput(type="uri_file")}
        await (await attempts.give("echo x > ${{outputs.o}}", outputs=output)).success()

    await no_op()
    show("attempt: no-op", await spread(no_op), floor)
    show("attempt: one line of output, archived", await spread(talking), floor)
    show("attempt: one output stored", await spread(writing), floor)
    began = time.perf_counter()
    given = [await attempts.give("true", step=f"s{n}") for n in range(MANY)]
    for one in given:
        await one.success()
    rate = MANY / (time.perf_counter() - began)
    print(f"{MANY} no-ops, 2 at a time{'':19} {rate:7.1f} attempts/s")


async def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        server = NatsServer(root / "nats")
        server.start()
        workspace = f"b{secrets.token_hex(4)}"
        try:
            store = f"file:{root / 'store'}"
            for mode in ("auto", "off"):
                with Fleet(
                    root / mode, bus=server.url, store=store, workspace=workspace + mode
                ) as fleet:
                    fleet.start("artifact")
                    fleet.start("executor", slots="2", namespace=mode)
                    bus = await connect(server.url, name="bench")
                    trees = TreeClient(bus, Subjects(fleet.workspace))
                    attempts = Attempts(bus, Subjects(fleet.workspace), trees)
                    await attempts.open()
                    floor = await floors(attempts)
                    print(f"-- namespace {mode}")
                    await attempts_of(attempts, floor)
                    await trees.close()
                    await bus.close()
        finally:
            server.stop()


if __name__ == "__main__":
    asyncio.run(main())
