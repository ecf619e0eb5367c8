"""Reports of attempts on their way to their runs' inboxes: what gathers while one is stored goes together.

    report ─▶ waiting, by run ─▶ one: its own message ────▶ durable: whoever reported goes on
                                 several: one message of all

An executor of many short attempts would otherwise pay one fsync for each word it says.
"""

import asyncio
import hashlib
from asyncio import Future
from collections import deque

from penstock.bus import Bus
from penstock.contracts.codec import encoded
from penstock.contracts.inbox import Report, Reports
from penstock.contracts.subjects import Subjects
from penstock.contracts.work import AttemptFailed, AttemptStarted, AttemptSucceeded
from penstock.errors import Invalid, PenstockError
from penstock.units import KIB

TOGETHER_MAX = 256
TOGETHER_BYTES_MAX = 256 * KIB
KINDS = {AttemptStarted: "started", AttemptSucceeded: "succeeded", AttemptFailed: "failed"}

Waiting = tuple[Report, Future[None]]


class Reporter:
    """The reports of one executor."""

    def __init__(self, bus: Bus, names: Subjects) -> None:
        self.bus = bus
        self.names = names
        self._waiting: dict[str, deque[Waiting]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def report(self, report: Report) -> "Future[None]":
        """Take over a report; the future resolves when it is durable.

        It raises Transient when the bus is away, and Invalid when the report is too large.
        """
        future: Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.get(report.run)
        if waiting is None:
            waiting = self._waiting[report.run] = deque()
            task = asyncio.create_task(self._send(report.run, waiting))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        waiting.append((report, future))
        return future

    async def _send(self, run: str, waiting: deque[Waiting]) -> None:
        try:
            while waiting:
                group = _next(waiting)
                try:
                    await self._append(run, [report for report, _ in group])
                except Invalid as error:
                    await self._one_by_one(group, error)
                except PenstockError as error:
                    _resolve(group, error)
                except Exception as error:
                    # A bug of ours: whoever reported meets it, and does not wait for ever.
                    _resolve([*group, *waiting], error)
                    waiting.clear()
                else:
                    _resolve(group, None)
        finally:
            del self._waiting[run]

    async def _one_by_one(self, group: list[Waiting], error: Invalid) -> None:
        """Let the others be stored though one of them cannot."""
        if len(group) == 1:
            _resolve(group, error)
            return
        for one in group:
            try:
                await self._append(one[0].run, [one[0]])
            except PenstockError as failure:
                _resolve([one], failure)
            else:
                _resolve([one], None)

    async def _append(self, run: str, reports: list[Report]) -> None:
        first = reports[0]
        if len(reports) == 1:
            kind = KINDS[type(first)]
            subject = self.names.inbox(run, "executor", kind, first.step)
            await self.bus.append(subject, encoded(first), message_id=_id(first))
            return
        ids = " ".join(_id(report) for report in reports)
        await self.bus.append(
            self.names.inbox(run, "executor", "reports"),
            encoded(Reports(run=run, reports=tuple(reports))),
            message_id=f"{run}.{hashlib.blake2b(ids.encode(), digest_size=16).hexdigest()}",
        )


def _id(report: Report) -> str:
    kind = KINDS[type(report)]
    return f"{report.run}.{report.step}.{report.attempt}.{report.delivery}.{kind}"


def _next(waiting: deque[Waiting]) -> list[Waiting]:
    group, size = [waiting.popleft()], 0
    while waiting and len(group) < TOGETHER_MAX:
        size += len(encoded(group[-1][0]))
        if size >= TOGETHER_BYTES_MAX:
            break
        group.append(waiting.popleft())
    return group


def _resolve(group: list[Waiting], error: Exception | None) -> None:
    for _, future in group:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
            future.exception()  # whoever does not look is not scolded at exit
