"""The planner: how long planning takes, and how long a caller waits for the run's id."""

import asyncio
import json
from typing import Any

import msgspec
from nats.aio.client import Client
from tests.bench.bench import Bench, scaled
from tests.bench.registry import Row, Samples, workload
from tests.bench.stacks import bare_bus

from penstock.contracts.requests import RunRequest
from penstock.contracts.spec import PipelineSpec
from penstock.testing.fleet import Fleet
from penstock_planner.decide.plan import Origin, parts_of, planned
from penstock_planner.decide.reading import spec_of

DECODE = "msgspec's typed decode of the same bytes"
ANSWERS = 200
SPEC = {"name": "b", "steps": {f"s{n}": {"command": "true"} for n in range(10)}}


@workload(
    "plan",
    "",
    Row("plan-1000", "ms", DECODE),
    Row("plan-100000", "ms", DECODE),
    Row("plan-250000-edges", "ms", DECODE),
)
def plan(bench: Bench) -> dict[str, Samples]:
    """From a spec's bytes to the parts of its plan: steps in a line, and 500 readers of 500 makers."""
    return {
        "plan-1000": planning(bench, chain(1000), 5),
        "plan-100000": planning(bench, chain(100_000), 1),
        "plan-250000-edges": planning(bench, bipartite(500), 1),
    }


@workload("answer", "ms", floor="one acknowledged publish")
def answer(bench: Bench) -> Samples:
    """From a request on the bus to the answer with the run's id."""
    with (
        bare_bus(bench.folder()) as server,
        Fleet(bench.folder(), bus=server.url, store="") as fleet,
    ):
        fleet.start("planner")
        return asyncio.run(answers(server.url))


def planning(bench: Bench, steps: dict[str, Any], rounds: int) -> Samples:
    """Measure reading, planning and cutting one spec."""
    data = json.dumps({"inputs": {"p": 1}, "steps": steps}).encode()

    def ours() -> None:
        plan = planned(spec_of(data, stored=True), RunRequest(), Origin(run="0" * 15))
        assert sum(len(part.steps) for part in parts_of(plan.head, plan.steps)) == len(steps)

    def floor() -> None:
        msgspec.json.decode(data, type=PipelineSpec)

    return scaled(bench.paired(ours, floor, rounds=rounds, warm=rounds > 1), 1000)


async def answers(url: str) -> Samples:
    """Ask and publish in turns; return how long each took."""
    samples = Samples([], [])
    client = Client()
    await client.connect(url)
    stream = client.jetstream()
    await stream.add_stream(name="floor", subjects=["floor"])
    body = json.dumps({"spec": SPEC}).encode()
    loop = asyncio.get_running_loop()
    for number in range(ANSWERS + 1):
        began = loop.time()
        told = json.loads((await client.request("penstock.request.run", body, timeout=60)).data)
        between = loop.time()
        assert told["state"] == "queued", told
        await stream.publish("floor", body)
        if number:  # the first one warms both up
            samples.ours.append((between - began) * 1000)
            samples.floor.append((loop.time() - between) * 1000)
    await client.close()
    return samples


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
