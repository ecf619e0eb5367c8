"""The work under fire: clients that submit and insist, some that cancel, and a schedule that ticks."""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import nats as nats_client
from nats.aio.client import Client as NatsClient
from tests.chaos.harness.graphs import SCRIPT, Graph, Surroundings, graph
from tests.chaos.harness.stack import Stack

from penstock.bus import Stored, Subscription
from penstock.bus.nats import NatsBus, connect
from penstock.contracts.codec import decoded, encoded
from penstock.contracts.schedules import Schedule, ScheduleCommand, ScheduleState, ScheduleView
from penstock.errors import PenstockError
from penstock.trees.client import TreeClient

ENDS = ("succeeded", "failed", "cancelled")
SCHEDULE = "ticking"
AGAIN = frozenset({"E_BUS", "E_FULL", "E_TIMEOUT", "E_STORE", "E_NO_STREAM", "E_NO_RESPONDER"})
"""Answers that mean: not now. Any other refusal of what we submit is a fault of the system."""
ANSWER_S = 3.0
ASKED_MAX = 12


@dataclass
class Submission:
    """One run that was asked for."""

    key: str
    graph: Graph
    run: str = ""
    answers: set[str] = field(default_factory=set)
    """Every run id that was ever answered for this key: must be one."""
    registered: bool = False
    """The pipeline is registered first, and run by its name."""
    cancelled: bool = False
    asked_at: float = 0
    answered_at: float = 0
    refusals: list[str] = field(default_factory=list)


class Workload:
    """Keeps `clients` runs going until told to stop."""

    def __init__(
        self,
        stack: Stack,
        chance: random.Random,
        *,
        clients: int = 5,
        steps_max: int = 40,
        slow_s: float = 5,
        every_s: float = 3,
    ) -> None:
        self.stack = stack
        self.chance = chance
        self.clients = clients
        self.steps_max = steps_max
        self.slow_s = slow_s
        self.every_s = every_s
        self.submissions: list[Submission] = []
        self.ended: dict[str, str] = {}
        self.seen = 0
        """Events seen so far: how the storm knows that work is under way."""
        self.last_event_at = 0.0
        self.schedule: Schedule | None = None
        self.ticks: list[float] = []
        """Every moment that the schedule was due, known once it has been stopped."""
        self._news = asyncio.Condition()
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Store the code, register what ticks, and begin."""
        stack = self.stack
        self.bus: NatsBus = await connect(stack.broker.url, name="workload")
        self.trees = TreeClient(self.bus, stack.names, patience_s=120)
        code = await self.trees.put_bytes({"step.py": SCRIPT}, "chaos")
        self.where = Surroundings(
            ledger=stack.root / "ledger",
            mark=f"mark-{stack.workspace}",
            code=code.digest,
            slow_s=self.slow_s,
        )
        self.client: NatsClient = await nats_client.connect(
            stack.broker.url,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.1,
            error_cb=_nothing,
        )
        self._watching: Subscription = await self.bus.follow(
            stack.names.stream("events"), [stack.names.events()], self._on_event
        )
        await self._tick()
        self._tasks = [asyncio.create_task(self._client(n)) for n in range(self.clients)]

    async def stop(self, within_s: float) -> bool:
        """Submit nothing more and wait for every run to end; say whether all did in time."""
        self._stopping.set()
        try:
            async with asyncio.timeout(within_s):
                await asyncio.gather(*self._tasks)
                await self._stop_ticking()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Let go of everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(Exception):  # a broker that is gone takes no goodbye
            await self._watching.close()
        await self.trees.close()
        await self.client.close()
        await self.bus.close()

    def unended(self) -> list[str]:
        """Return the accepted runs that have not ended."""
        return [s.run for s in self.submissions if s.run and s.run not in self.ended]

    # -- clients ---------------------------------------------------------------------------------
    async def _client(self, number: int) -> None:
        chance = random.Random(f"{self.chance.random()}-{number}")
        count = 0
        last: Graph | None = None
        while not self._stopping.is_set():
            count += 1
            if last is not None and chance.random() < 0.3:
                wanted = last.changed(chance) if chance.random() < 0.7 else last
            else:
                broken = chance.random() < 0.06
                wanted = graph(chance, steps_max=self.steps_max, broken=broken)
            last = wanted
            submission = Submission(
                key=f"{self.stack.workspace}-{number}-{count}",
                graph=wanted,
                registered=chance.random() < 0.2,
            )
            self.submissions.append(submission)
            await self._submit(submission)
            if not submission.run:
                continue
            if chance.random() < 0.1:  # asked twice, as a client does that did not hear the answer
                await self._submit(submission)
            if chance.random() < 0.08:
                await asyncio.sleep(chance.uniform(0.1, 4))
                submission.cancelled = submission.run not in self.ended
                await self._insist("request.cancel", {"run": submission.run}, submission)
            await self._end_of(submission.run)

    async def _end_of(self, run: str) -> None:
        async with self._news:
            await self._news.wait_for(lambda: run in self.ended)

    async def _submit(self, submission: Submission) -> None:
        body: dict[str, object] = {
            "idempotency_key": submission.key,
            "tags": {"key": submission.key},
        }
        if submission.registered:
            named = {"name": submission.key, "spec": submission.graph.spec(self.where)}
            await self._insist("query.pipeline.create", named, submission)
            body["pipeline"] = submission.key
        else:
            body["spec"] = submission.graph.spec(self.where)
        submission.asked_at = submission.asked_at or time.time()
        answer = await self._insist("request.run", body, submission)
        if run := str(answer.get("run", "")):
            submission.run = run
            submission.answers.add(run)
            submission.answered_at = submission.answered_at or time.time()

    async def _insist(
        self, subject: str, body: Mapping[str, object], submission: Submission
    ) -> dict[str, Any]:
        """Ask until there is an answer that is not "not now"."""
        while True:
            try:
                answer = await self.client.request(
                    f"{self.stack.workspace}.{subject}", json.dumps(body).encode(), timeout=ANSWER_S
                )
            except (nats_client.errors.Error, OSError):
                await asyncio.sleep(0.2)
                continue
            told: dict[str, Any] = json.loads(answer.data)
            if (error := told.get("error")) is None:
                return told
            if error["code"] not in AGAIN:
                submission.refusals.append(f"{subject}: {error}")
                return told
            await asyncio.sleep(0.2)

    async def _on_event(self, stored: Stored) -> None:
        self.seen += 1
        self.last_event_at = time.time()
        if ".run." in stored.subject:
            event = json.loads(stored.data)
            if event["what"] in ENDS:
                async with self._news:
                    self.ended[event["run"]] = event["what"]
                    self._news.notify_all()

    # -- the schedule ----------------------------------------------------------------------------
    async def _tick(self) -> None:
        names = self.stack.names
        line = '"$PENSTOCK_RUN_ID $PENSTOCK_STEP $PENSTOCK_ATTEMPT $$ $(date +%s.%N)"'
        step = {
            "command": f"echo {line} >> {self.where.ledger}",
            "is_deterministic": False,
            "limits": {"retries": 39, "retry_delay": 0.01},
        }
        body = {"name": SCHEDULE, "spec": {"name": SCHEDULE, "steps": {"tick": step}}}
        answer = await self.bus.request(names.query("pipeline.create"), json.dumps(body).encode())
        assert b'"error"' not in answer.data, answer.data
        wish = Schedule(
            name=SCHEDULE, pipeline=SCHEDULE, every=self.every_s, catch_up="all", catch_up_max=100
        )
        view = await self._ask("create", ScheduleCommand(schedule=wish))
        self.schedule = view.schedule

    async def _stop_ticking(self) -> None:
        """Wait until all that was due is decided and carried out, then take the schedule away."""
        schedule, names = self.schedule, self.stack.names
        assert schedule is not None
        count = int((time.time() - schedule.created_at) // schedule.every)
        self.ticks = [
            round(schedule.created_at + schedule.every * n, 3) for n in range(1, count + 1)
        ]
        subject = names.key("cursors", SCHEDULE)
        async for stored in self.bus.stored(f"KV_{names.bucket('cursors')}", [subject]):
            state = decoded(stored.data, ScheduleState)
            if state.last_due >= self.ticks[-1] - 0.001 and not state.pending:
                break
        await self._ask("delete", ScheduleCommand(name=SCHEDULE))

    async def _ask(self, verb: str, command: ScheduleCommand) -> ScheduleView:
        """Ask the triggers, again and again: they may be starting just now."""
        subject = self.stack.names.query(f"schedule.{verb}")
        for _ in range(ASKED_MAX):
            try:
                answer = await self.bus.request(subject, encoded(command))
            except PenstockError:
                await asyncio.sleep(0.5)
                continue
            if verb == "delete" and b"E_NOT_FOUND" in answer.data:
                break  # an earlier try did it, and its answer was lost
            assert b'"error"' not in answer.data, answer.data
            return decoded(answer.data, ScheduleView)
        assert self.schedule is not None, f"nobody answered {verb}"
        return ScheduleView(schedule=self.schedule)


async def _nothing(error: Exception) -> None:
    """Connections break here on purpose."""
