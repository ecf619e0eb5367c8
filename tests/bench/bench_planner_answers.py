"""How long a caller waits for its run id, as a ratio to an acked publish on the same server.

`python tests/bench/bench_planner_answers.py` starts a nats-server that fsyncs every message, and one
planner, then two.
"""

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from nats.aio.client import Client

from penstock.testing.fleet import Fleet
from penstock.testing.servers import NatsServer

COUNT = 300
AT_ONCE = 1_000
SPEC = {"name": "b", "steps": {f"s{n}": {"command": "true"} for n in range(10)}}


async def latencies_ms(work: Callable[[], Awaitable[object]]) -> list[float]:
    """Return how long each of COUNT calls took, one after the other."""
    times = []
    for _ in range(COUNT):
        began = time.perf_counter()
        await work()
        times.append((time.perf_counter() - began) * 1e3)
    return sorted(times)


async def measure(url: str, fleet: Fleet) -> None:
    """Print floors and planners."""
    client = Client()
    await client.connect(url)
    stream = client.jetstream()
    await stream.add_stream(name="floor", subjects=["floor"])
    body = json.dumps({"spec": SPEC}).encode()
    floor = await latencies_ms(lambda: stream.publish("floor", body))
    print(f"acked publish      p50 {statistics.median(floor):6.2f} ms")
    for planners in (1, 2):
        fleet.start("planner")

        async def ask() -> object:
            return await client.request("penstock.request.run", body, timeout=60)

        await ask()
        times = await latencies_ms(ask)
        began = time.perf_counter()
        await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
        rate = AT_ONCE / (time.perf_counter() - began)
        p50 = statistics.median(times)
        print(
            f"answer, {planners} planner(s)  p50 {p50:6.2f} ms = {p50 / statistics.median(floor):4.1f}x"
            f"  p99 {times[int(COUNT * 0.99)]:6.2f} ms   {AT_ONCE} at once: {rate:6.0f} runs/s"
        )
    await client.close()


def main() -> None:
    """Start a server and a fleet, and measure."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = NatsServer(Path(folder) / "nats")
        server.start()
        try:
            with Fleet(Path(folder) / "fleet", bus=server.url, store="") as fleet:
                asyncio.run(measure(server.url, fleet))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
