"""One episode: a fresh stack, work, a storm, calm, and the questions afterwards."""

import asyncio
import random
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from tests.chaos.harness import evidence, invariants
from tests.chaos.harness.stack import Say, Stack
from tests.chaos.harness.storm import Storm, Weather
from tests.chaos.harness.workload import Workload

ROOT = Path(__file__).parents[3]
QUIESCE_S = 120.0
OUTAGE_AFTER_S = 8.0
"""Seconds of ordinary storm before an outage, so that it meets work of every kind."""


class Result(msgspec.Struct, kw_only=True):
    """What an episode proved, in numbers; episodes add up in a tally."""

    seed: int
    store: str
    commit: str
    seconds: float = 0
    kills: dict[str, int] = {}
    points: dict[str, int] = {}
    faults: dict[str, int] = {}
    exits: dict[str, int] = {}
    runs: dict[str, int] = {}
    """By end."""
    steps: int = 0
    executions: int = 0
    duplicates: int = 0
    """Executions beyond one for each attempt."""
    redelivered: int = 0
    retried: int = 0
    reused: int = 0
    ticks: int = 0
    quiesced_s: float = 0
    """Seconds from the end of the storm until every run had ended."""
    violations: dict[str, list[str]] = {}
    harness: list[str] = []
    """What went wrong in the harness itself: such an episode proves nothing."""
    orphans: int = 0
    """Messages that a power cut brought back into work queues, owed to nobody."""
    story: list[str] = []
    """Every kill and fault with its time, kept where something was wrong."""


@dataclass
class Plan:
    """How an episode goes."""

    seed: int
    weather: Weather
    storm_s: float
    store: str = "minio"
    clients: int = 5
    steps_max: int = 40
    slow_s: float = 5
    keep: bool = False
    """Keep the folder also when all is well."""
    outage_s: float = 0
    """So long each of these is away in the middle of the storm, one after the other:"""
    outages: tuple[str, ...] = ("broker", "store")
    every_s: float = 3
    """Seconds between two ticks of the schedule."""


async def played(plan: Plan, root: Path, say: Say = print) -> Result:
    """Play an episode and return what became of it. The folder stays when a promise was broken."""
    chance = random.Random(plan.seed)
    began = time.monotonic()
    result = Result(seed=plan.seed, store=plan.store, commit=commit())
    async with Stack(root, store=plan.store, say=say) as stack:
        workload = Workload(
            stack,
            chance,
            clients=plan.clients,
            steps_max=plan.steps_max,
            slow_s=plan.slow_s,
            every_s=plan.every_s,
        )
        await workload.start()
        try:
            storm = Storm(stack, workload, chance, plan.weather)
            outages = asyncio.create_task(_outages(stack, plan.outages, plan.outage_s))
            await storm.rage(time.monotonic() + plan.storm_s)
            await outages
            await stack.calm()
            calm_at = time.monotonic()
            ended = await workload.stop(QUIESCE_S)
            result.quiesced_s = round(time.monotonic() - calm_at, 1)
            found = await evidence.collected(stack, workload)
            summed(result, found)
            result.violations = invariants.violations(found)
            if result.violations:
                keep_events(found, root)
                queues = msgspec.json.encode(await evidence.waiting(stack, workload))
                (root / "queues.json").write_bytes(msgspec.json.format(queues, indent=2))
            if not ended:
                stuck = f"after {QUIESCE_S:g} s of calm: {workload.unended()}"
                result.violations.setdefault("quiescence", []).append(stuck)
        finally:
            await workload.close()
            if result.violations or result.harness or plan.keep:
                result.story = stack.landed.story()
        keep_notes(result, root)
    result.seconds = round(time.monotonic() - began, 1)
    if not (result.violations or result.harness or plan.keep):
        shutil.rmtree(root, ignore_errors=True)
    return result


async def _outages(stack: Stack, names: Sequence[str], seconds: float) -> None:
    """Take them away for long, one after the other."""
    for name in names if seconds else ():
        await asyncio.sleep(OUTAGE_AFTER_S)
        while not await stack.away(name, seconds):
            if name == "store" and stack.store is None:
                return
            await asyncio.sleep(0.5)
        stack.landed.note("outage", f"{name} for {seconds:g} s")


def summed(result: Result, found: evidence.Evidence) -> None:
    """Fill in the numbers."""
    landed = found.landed
    result.kills = dict(Counter(kill.component for kill in landed.kills))
    result.points = dict(Counter(kill.point for kill in landed.kills if kill.point))
    result.faults = dict(Counter(kind for kind, _ in landed.faults if kind != "harness"))
    result.harness = [detail for kind, detail in landed.faults if kind == "harness"]
    result.exits = dict(Counter(f"{name} {code}" for name, code in landed.exits))
    ends = (
        event["what"]
        for events in found.runs.values()
        for event in events
        if "step" not in event and event["what"] in invariants.ENDS
    )
    result.runs = dict(Counter(ends))
    ended = [*invariants.steps(found, "succeeded"), *invariants.steps(found, "failed")]
    result.reused = sum(1 for _ in invariants.steps(found, "reused"))
    result.steps = len(ended) + result.reused
    result.executions = len(found.executions)
    result.duplicates = invariants.duplicates(found)
    result.redelivered = invariants.redeliveries(found)
    result.retried = sum(1 for _ in invariants.steps(found, "retrying"))
    result.ticks = len(found.ticks)
    result.orphans = sum(queue.messages for queue in found.queues)


def keep_notes(result: Result, root: Path) -> None:
    """Write what was found next to the logs, which stay when a promise was broken."""
    (root / "result.json").write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2))


def keep_events(found: evidence.Evidence, root: Path) -> None:
    """Write every event of every run next to the logs."""
    with (root / "events.jsonl").open("wb") as file:
        for events in found.runs.values():
            file.writelines(event[evidence.BODY] + b"\n" for event in events)


def commit() -> str:
    """Return the commit that is being tested, with a plus when files differ from it."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    head = git("rev-parse", "--short", "HEAD") or "?"
    return head + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")


def play(plan: Plan, root: Path, say: Say = print) -> Result:
    """Play an episode, from outside asyncio."""
    return asyncio.run(played(plan, root, say))
