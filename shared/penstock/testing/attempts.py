"""Attempts given to real executors without a scheduler: work in, reports and log chunks out."""

import asyncio
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from penstock.bus import Bus, ConsumerSpec, Delivery, Stored
from penstock.bus.topology import ensure
from penstock.contracts.codec import encoded, inbound
from penstock.contracts.inbox import Reports
from penstock.contracts.logs import DELIVERY, OFFSET
from penstock.contracts.subjects import Subjects
from penstock.contracts.work import (
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    StopAttempt,
    WorkItem,
)
from penstock.ids import run_id
from penstock.trees.client import TreeClient
from penstock.units import Seconds

Report = AttemptStarted | AttemptSucceeded | AttemptFailed
WAIT_S = 60.0


@dataclass
class Given:
    """One attempt that was put into the work queue."""

    item: WorkItem
    at: float
    reports: list[Report] = field(default_factory=list)
    report_times: list[float] = field(default_factory=list)
    """Monotonic seconds when each report came."""
    started: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def results(self) -> list[AttemptSucceeded | AttemptFailed]:
        """The terminal reports."""
        return [report for report in self.reports if not isinstance(report, AttemptStarted)]

    async def start(self, timeout_s: float = WAIT_S) -> AttemptStarted:
        """Return the report that user code is about to run."""
        await asyncio.wait_for(self.started.wait(), timeout_s)
        return next(r for r in self.reports if isinstance(r, AttemptStarted))

    async def result(self, timeout_s: float = WAIT_S) -> AttemptSucceeded | AttemptFailed:
        """Return the first terminal report."""
        await asyncio.wait_for(self.ended.wait(), timeout_s)
        return self.results[0]

    async def success(self, timeout_s: float = WAIT_S) -> AttemptSucceeded:
        """Return the first terminal report, which must be a success."""
        result = await self.result(timeout_s)
        assert isinstance(result, AttemptSucceeded), result  # noqa: S101
        return result

    async def failure(self, timeout_s: float = WAIT_S) -> AttemptFailed:
        """Return the first terminal report, which must be a failure."""
        result = await self.result(timeout_s)
        assert isinstance(result, AttemptFailed), result  # noqa: S101
        return result


class Attempts:
    """Stands where a scheduler stands."""

    def __init__(self, bus: Bus, names: Subjects, trees: TreeClient) -> None:
        self.bus = bus
        self.names = names
        self.trees = trees
        self._given: dict[tuple[str, str, int], Given] = {}

    async def open(self) -> None:
        """Begin to listen."""
        await ensure(self.bus, self.names, ("work", "inbox", "logs", "dead"))
        spec = ConsumerSpec(
            stream=self.names.stream("inbox"),
            name="attempts",
            filter_subjects=(f"{self.names.workspace}.inbox.>",),
        )
        await self.bus.consume(spec, self._on_report)

    async def give(self, command: str, *, step: str = "step", **fields: Any) -> Given:
        """Put an attempt with this command into the work queue."""
        run = run_id(Seconds(time.time()), secrets.token_hex(8))
        item = WorkItem(run=run, step=step, attempt=1, pipeline="test", command=command)
        return await self.give_item(msgspec.structs.replace(item, **fields))

    async def give_item(self, item: WorkItem) -> Given:
        """Put an attempt into the work queue."""
        given = self.expect(item)
        subject = self.names.work(item.target, item.run, item.step, item.attempt)
        await self.bus.append(
            subject, encoded(item), message_id=f"{item.run}.{item.step}.{item.attempt}"
        )
        return given

    def expect(self, item: WorkItem) -> Given:
        """Listen for reports of an attempt that somebody else gives."""
        given = self._given[item.run, item.step, item.attempt] = Given(item, time.monotonic())
        return given

    async def stop(self, given: Given, **fields: Any) -> None:
        """Send a stop order."""
        item = given.item
        order = StopAttempt(run=item.run, step=item.step, attempt=item.attempt)
        order = msgspec.structs.replace(order, **fields)
        await self.bus.publish(self.names.stop(item.run, item.step), encoded(order))
        await self.bus.flush()

    async def live_log(self, given: Given, stream: str, delivery: int = 1) -> bytes:
        """Return what was published live on a stream once its end was; offsets must fit."""
        item = given.item
        subjects = [self.names.logs(item.run, item.step, str(item.attempt))]
        data = b""
        messages = self.bus.stored(self.names.stream("logs"), subjects)
        async with asyncio.timeout(WAIT_S):
            async for stored in messages:
                if stored.headers[DELIVERY] != str(delivery):
                    continue
                name = stored.subject.rpartition(".")[2]
                if name == "end":
                    break
                if name == stream:
                    assert int(stored.headers[OFFSET]) == len(data), stored.headers  # noqa: S101
                    data += stored.data
        return data

    async def chunks(self, given: Given) -> list[Stored]:
        """Return all log chunks stored so far."""
        found: list[Stored] = []
        item = given.item
        subjects = [self.names.logs(item.run, item.step, str(item.attempt))]
        await self.bus.replay(self.names.stream("logs"), subjects, found.append)
        return found

    async def archived(self, given: Given) -> dict[str, bytes]:
        """Return the files of the archive, by path."""
        logs = given.results[0].logs
        if logs is None:
            return {}
        manifest = await self.trees.manifest(logs.digest)
        return {
            entry.path: await self.trees.read(logs.digest, entry.path)
            for entry in manifest.entries
            if entry.digest
        }

    async def files(self, digest: str) -> dict[str, bytes]:
        """Return the files of a stored tree, by path."""
        manifest = await self.trees.manifest(digest)
        return {e.path: await self.trees.read(digest, e.path) for e in manifest.entries if e.digest}

    async def _on_report(self, delivery: Delivery) -> None:
        message = inbound(delivery.message.data)
        for report in message.reports if isinstance(message, Reports) else (message,):
            if isinstance(report, AttemptStarted | AttemptSucceeded | AttemptFailed):
                self._note(report)
        await delivery.ack()

    def _note(self, report: Report) -> None:
        given = self._given.get((report.run, report.step, report.attempt))
        if given is not None:
            given.reports.append(report)
            given.report_times.append(time.monotonic())
            given.started.set()
            if not isinstance(report, AttemptStarted):
                given.ended.set()


def marked_processes(mark: str) -> list[int]:
    """Return ids of living processes whose variables contain `mark`."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                dead = b") Z" in (folder / "stat").read_bytes()
                if not dead and mark.encode() in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
    return found
