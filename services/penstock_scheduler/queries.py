"""Answers about runs: any replica gives them, from events and the bucket `runs`, without asking the owner.

A view that was folded is kept and goes on from its last event. The list of runs is a copy of the
bucket, kept by following it.
"""

import asyncio
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

from penstock.bus import Received, Stored, Subscription
from penstock.bus.buckets import Bucket, is_deleted
from penstock.contracts.codec import decoded, encoded, error_body, read
from penstock.contracts.events import RunEvent, StepEvent
from penstock.contracts.queries import (
    Refusal,
    RunQuestion,
    RunsAnswer,
    RunsQuestion,
    RunSummary,
    RunView,
    WhyAnswer,
    WhyQuestion,
)
from penstock.errors import BusUnavailable, Corrupt, Invalid, NotFound, PenstockError
from penstock.ids import RunId, did_you_mean, is_run_id, run_time
from penstock_scheduler.dead_letters import DeadLetters
from penstock_scheduler.tools import Tools
from penstock_scheduler.views import Folded, fold, view_of, why_of

PAGE_STEPS = 1_000
PAGE_RUNS_MAX = 500
ANSWER_BYTES_MAX = 900 * 1024
FOLDED_MAX = 64
FOLDED_STEPS_MAX = 200_000
"""Views kept, by number and by their steps altogether."""
APPEAR_S = 2.0
"""A run accepted a moment ago may not be told yet: wait this long for it."""
YOUNG_S = 120.0


class Queries:
    """The micro service `penstock-scheduler`."""

    def __init__(self, tools: Tools) -> None:
        self.tools = tools
        self.bucket = Bucket(tools.bus, tools.names.bucket("runs"), RunSummary)
        self.summaries: dict[str, RunSummary] = {}
        self.order: list[str] = []
        """Run ids, oldest first: they sort by time."""
        self.folded: OrderedDict[str, Folded] = OrderedDict()
        self._folding: dict[str, asyncio.Lock] = {}
        self._news = asyncio.Event()
        self._open: list[Subscription] = []

    async def start(self) -> None:
        """Answer as soon as the copy of the list is complete."""
        tools, names = self.tools, self.tools.names
        complete = asyncio.Event()

        async def caught_up() -> None:
            complete.set()

        self._open.append(
            await tools.bus.follow(
                self.bucket.stream,
                [self.bucket.subject(">")],
                self._note,
                last_per_subject=True,
                on_caught_up=caught_up,
            )
        )
        await complete.wait()
        endpoints = {
            names.query("runs"): self._answering(RunsQuestion, self.runs),
            names.query("run"): self._answering(RunQuestion, self.run),
            names.query("why"): self._answering(WhyQuestion, self.why),
        }
        for what, (kind, answer) in DeadLetters(tools).questions().items():
            endpoints[names.query(what)] = self._answering(kind, answer)
        self._open.append(await tools.bus.serve("penstock-scheduler", endpoints, queue="scheduler"))

    async def stop(self) -> None:
        """Answer no more."""
        for subscription in self._open:
            await subscription.close()

    # -- answers --------------------------------------------------------------------------------
    async def runs(self, question: RunsQuestion) -> RunsAnswer:
        """Return a page of runs, newest first."""
        if not 1 <= question.limit <= PAGE_RUNS_MAX:
            raise Invalid(
                f"{question.limit}; allowed: 1 to {PAGE_RUNS_MAX}",
                code="E_LIMIT",
                where="query.runs.limit",
            )
        end = bisect_left(self.order, question.before) if question.before else len(self.order)
        page: list[RunSummary] = []
        more = False
        for position in range(end - 1, -1, -1):
            summary = self.summaries[self.order[position]]
            if not _matches(summary, question):
                continue
            if len(page) == question.limit:
                more = True
                break
            page.append(summary)
        return _fitting(page, more=more)

    async def run(self, question: RunQuestion) -> RunView:
        """Return one run, with a page of its steps."""
        folded = await self._found(question.run, "query.run.run")
        limit = PAGE_STEPS if question.steps else 0
        while True:
            view = view_of(folded, first=max(0, question.first), limit=limit)
            if limit <= 1 or len(encoded(view)) <= ANSWER_BYTES_MAX:
                return view
            limit //= 2

    async def why(self, question: WhyQuestion) -> WhyAnswer:
        """Return why a step was reused, or why not."""
        folded = await self._found(question.run, "query.why.run")
        step = folded.steps.get(question.step)
        if step is None:
            raise NotFound(
                f"run {folded.run} has no step {question.step!r}",
                where="query.why.step",
                hint=did_you_mean(question.step, folded.steps) or "see: penstock run show",
            )
        return why_of(folded, step)

    # -- one run --------------------------------------------------------------------------------
    async def _found(self, text: str, where: str) -> Folded:
        """Return the run that an id, or the only one that a beginning of an id, names.

        Raises:
            NotFound: no run, or several.
        """
        run = text
        if not is_run_id(text):
            run = self._by_prefix(text, where)
        deadline = self.tools.clock.monotonic() + APPEAR_S
        while True:
            news = self._news
            folded = await self._folded(run)
            if folded is not None:
                return folded
            left = deadline - self.tools.clock.monotonic()
            young = abs(self.tools.clock.now() - run_time(RunId(run))) < YOUNG_S
            if left <= 0 or not young:
                break
            try:
                async with asyncio.timeout(min(left, 0.1)):
                    await news.wait()
            except TimeoutError:
                continue
        near = did_you_mean(run, self.order[-1000:])
        raise NotFound(
            f"no run {text!r}", where=where, hint=near or "list runs with: penstock run list"
        )

    def _by_prefix(self, text: str, where: str) -> str:
        begin = bisect_left(self.order, text)
        found = [run for run in self.order[begin : begin + 2] if text and run.startswith(text)]
        if len(found) == 1:
            return found[0]
        if found:
            raise NotFound(
                f"several runs begin with {text!r}",
                code="E_NOT_FOUND",
                where=where,
                hint=f"such as {found[0]} and {found[1]}: give more of the id",
            )
        near = did_you_mean(text, self.order[-1000:])
        raise NotFound(
            f"no run {text!r}", where=where, hint=near or "list runs with: penstock run list"
        )

    async def _folded(self, run: str) -> Folded | None:
        """Return a run's events, folded up to now; None if there are none."""
        lock = self._folding.setdefault(run, asyncio.Lock())
        async with lock:
            folded = self.folded.get(run) or Folded(run)
            if folded.end is None:
                names = self.tools.names

                def take(stored: Stored) -> None:
                    fold(folded, _event(stored), stored.sequence)

                await self.tools.bus.replay(
                    names.stream("events"),
                    [names.run_events(run)],
                    take,
                    after=folded.sequence,
                )
            if folded.seq:
                self._keep(run, folded)
        if not lock.locked():
            self._folding.pop(run, None)
        return folded if folded.seq else None

    def _keep(self, run: str, folded: Folded) -> None:
        self.folded[run] = folded
        self.folded.move_to_end(run)
        steps = sum(len(view.steps) for view in self.folded.values())
        while len(self.folded) > FOLDED_MAX or (steps > FOLDED_STEPS_MAX and len(self.folded) > 1):
            _, dropped = self.folded.popitem(last=False)
            steps -= len(dropped.steps)

    # -- the list -------------------------------------------------------------------------------
    async def _note(self, stored: Stored) -> None:
        run = self.bucket.key_of(stored)
        if is_deleted(stored):
            if self.summaries.pop(run, None) is not None:
                self.order.pop(bisect_left(self.order, run))
            return
        try:
            summary = decoded(stored.data, RunSummary)
        except Corrupt as error:
            self.tools.log.error("a line is garbage", subject=stored.subject, error=error.message)
            return
        if run not in self.summaries:
            insort(self.order, run)
        self.summaries[run] = summary
        self._news.set()
        self._news = asyncio.Event()

    def _answering(
        self, kind: type[Any], answer: Callable[[Any], Awaitable[object]]
    ) -> Callable[[Received], Awaitable[None]]:
        """Return a handler that answers with one JSON object, refusals included."""

        async def handle(received: Received) -> None:
            where = received.subject.partition(".")[2]
            try:
                said: object = await answer(read(received.data or b"{}", kind, where))
            except PenstockError as error:
                said = Refusal(error=error_body(error))
            try:
                await self.tools.bus.publish(received.reply, encoded(said))
            except (BusUnavailable, Invalid) as error:
                self.tools.log.warning("an answer was not sent", error=str(error))

        return handle


def _event(stored: Stored) -> RunEvent | StepEvent:
    if stored.subject.split(".")[4] == "step":  # <workspace>.event.<pipeline>.<run>.step.…
        return decoded(stored.data, StepEvent)
    return decoded(stored.data, RunEvent)


def _matches(summary: RunSummary, question: RunsQuestion) -> bool:
    return (
        question.pipeline in ("", summary.pipeline)
        and question.experiment in ("", summary.experiment)
        and question.state in ("", summary.state)
    )


def _fitting(page: list[RunSummary], *, more: bool) -> RunsAnswer:
    """Return as much of a page as one message holds."""
    while True:
        answer = RunsAnswer(runs=tuple(page), more=more)
        if len(page) <= 1 or len(encoded(answer)) <= ANSWER_BYTES_MAX:
            return answer
        page, more = page[: len(page) // 2], True
