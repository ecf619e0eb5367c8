"""The executor at work: takes deliveries, runs attempts, reports, and says that it is there.

A result is published durably first and the delivery acknowledged second, so between the two the worst
that can happen is that an attempt is delivered again: the same executor knows that it has finished it,
another one runs it again and its report is late news to the scheduler.
"""

import asyncio
import contextlib
import os
import socket
from collections import OrderedDict
from dataclasses import dataclass

from penstock.bus import Consumption, Delivery, Received, dead
from penstock.bus.topology import WORK_ACK_WAIT_S, ensure, work_consumer
from penstock.contracts.codec import decoded, encoded
from penstock.contracts.work import (
    WAITING_MAX,
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    ExecutorPresence,
    Failure,
    StopAttempt,
    WorkItem,
)
from penstock.errors import Corrupt, PenstockError, Transient
from penstock.ids import is_name, is_run_id
from penstock.runtime.reports import Reporter
from penstock.runtime.service import Context
from penstock_executor.attempt import Attempt, GivenBack, failed
from penstock_executor.decide.outcome import lost_failure
from penstock_executor.settings import (
    Settings,
    data_folder,
    gpu_names,
    offer_of,
    slots_of,
    target_names,
)
from penstock_executor.takes import Takes
from penstock_executor.waiting_room import MISFIT_S, WaitingRoom
from penstock_executor.workshop import Workshop

HEARTBEAT_S = WORK_ACK_WAIT_S / 3
REPORT_S = 600.0
"""How long a result is offered to a bus that is away."""
REPORT_RETRY_S = 1.0
HELD_S = 0.1
"""A start waits so long for its result: both in one message cost bus and scheduler half as much, and of
a step that ends sooner nobody sees it start."""
FINISHED_MAX = 4096
"""Finished attempts that are remembered, so that a lost ack does not run one again."""
STREAMS = ("work", "inbox", "logs", "dead")

Key = tuple[str, str, int]
Report = AttemptStarted | AttemptSucceeded | AttemptFailed


@dataclass
class Loan:
    """An attempt that is on loan to this executor."""

    delivery: Delivery
    attempt: Attempt
    task: "asyncio.Task[None] | None" = None
    telling: bool = False
    """Its result is being reported: it needs its slot no longer."""
    fenced: bool = False
    """Another executor has it: neither report it nor give it back, the message is that one's."""


class Executor:
    """Runs at most `slots` attempts at a time."""

    def __init__(self, context: Context[Settings], workshop: Workshop) -> None:
        self.context = context
        self.slots = slots_of(context.settings)
        self.targets = target_names(context.settings)
        self._shop = workshop
        self._bus = context.bus
        self._names = context.names
        self._log = context.log
        self._reporter = Reporter(context.bus, context.names)
        self._loans: dict[Key, Loan] = {}
        self._finished: OrderedDict[Key, None] = OrderedDict()
        self._free = asyncio.Semaphore(self.slots)
        offer, gpus = offer_of(context.settings), gpu_names(context.settings)
        self._places = WaitingRoom(offer, gpus, context.clock)
        self._takes = Takes(data_folder(context.settings))
        self._consumptions: list[Consumption] = []
        self._draining = False

    async def serve(self) -> None:
        """Work until the service is told to stop, then drain."""
        await ensure(self._bus, self._names, STREAMS)
        stops = await self._bus.subscribe(self._names.stop(), self._on_stop)
        asks = await self._bus.subscribe(self._names.query("executors"), self._on_question)
        heart = asyncio.create_task(self._beat())
        heart.add_done_callback(self._end_with)
        for target in self.targets:
            consumption = await self._bus.consume(
                work_consumer(self._names, target), self._on_delivery, batch=0
            )
            self._consumptions.append(consumption)
        self._allow()
        await self._say_present()
        self.context.ready()
        await self.context.stopping.wait()
        await self._drain()
        heart.cancel()
        await stops.close()
        await asks.close()

    # -- taking in -------------------------------------------------------------------------------
    async def _on_delivery(self, delivery: Delivery) -> None:
        try:
            await self._take_in(delivery)
        finally:  # whatever became of it; and after what came together with it
            asyncio.get_running_loop().call_soon(self._allow)

    async def _take_in(self, delivery: Delivery) -> None:
        stored = delivery.message
        try:
            item = checked(decoded(stored.data, WorkItem), stored.subject)
        except Corrupt as error:
            self._log.error("not a work item", subject=stored.subject, error=error.message)
            failure = Failure(
                code="E_INTERNAL",
                message=f"the work item cannot be read: {error.message}",
                where=stored.subject,
                hint="its bytes are kept: penstock dead-letters list --stream work",
            )
            await self._set_aside(delivery, error, failure)
            return
        key = (item.run, item.step, item.attempt)
        if key in self._finished:
            await delivery.ack()
            return
        loan = self._loans.get(key)
        if loan is not None:  # delivered again, after a reconnect: it runs already
            self._log.info("attempt delivered again", run=item.run, step=item.step)
            loan.delivery = delivery
            await delivery.in_progress()
            return
        if self._draining:
            await delivery.nak()
            return
        if self._places.refused(key, item.resources):  # another executor may be bigger
            await delivery.nak(MISFIT_S)
            return
        taken = self._takes.taken(item, delivery.deliveries)
        lost = lost_failure(taken, f"{item.step} attempt {item.attempt}")
        if lost is not None:
            self._log.error("given up", run=item.run, step=item.step, error=lost.message)
            await self._set_aside(delivery, Transient(lost.message, code=lost.code), lost)
            self._takes.forget(key)
            return
        self._shop.crash("executor.after-take")
        loan = Loan(delivery, Attempt(self._shop, item, delivery.deliveries))
        self._loans[key] = loan
        loan.task = asyncio.create_task(self._run(key, loan))
        loan.task.add_done_callback(self._end_with)

    async def _on_stop(self, message: Received) -> None:
        try:
            order = decoded(message.data, StopAttempt)
        except Corrupt as error:
            self._log.warning("no stop order", subject=message.subject, error=error.message)
            return
        loan = self._loans.get((order.run, order.step, order.attempt))
        if loan is not None and order.before:
            if loan.attempt.delivery < order.before:
                self._log.warning(
                    "fenced: another executor runs it", run=order.run, step=order.step
                )
                loan.fenced = True
                loan.attempt.give_back()
        elif loan is not None:
            self._log.info("stopping", run=order.run, step=order.step, reason=order.reason)
            loan.attempt.stop(order)
            await self._places.stir()

    async def _set_aside(self, delivery: Delivery, error: PenstockError, failure: Failure) -> None:
        """Keep what cannot be run as a dead letter, and fail the attempt it stands for."""
        stored, deliveries = delivery.message, delivery.deliveries
        await dead.keep(self._bus, self._names, "work", stored, error, deliveries=deliveries)
        item = item_of(stored.subject)
        if item is not None:
            await self._reporter.report(failed(item, self._shop.executor, deliveries, failure))
        await delivery.term(error.code)

    # -- one attempt -----------------------------------------------------------------------------
    async def _run(self, key: Key, loan: Loan) -> None:
        """Run an attempt in a slot, make room for the next, report and acknowledge."""
        attempt = loan.attempt
        told: list[asyncio.Task[None]] = []
        ended = asyncio.Event()

        async def on_start() -> None:
            told.append(asyncio.create_task(self._report_start(self._start(attempt), ended)))

        try:
            async with self._free:
                result = await self._places.run(key, attempt, on_start)
            ended.set()
            loan.telling = True
            self._allow()
            self._shop.crash("executor.before-report")
            # The start goes first: it has waited for its turn of the loop for longer.
            told.append(asyncio.create_task(self._report(result)))
            await asyncio.gather(*told)
            self._remember(key)
            self._shop.crash("executor.before-ack")
            await loan.delivery.ack()
            self._shop.crash("executor.after-ack")
        except GivenBack:
            if not loan.fenced:
                await loan.delivery.nak()
        except Transient as error:  # nobody could be told: let another executor try
            self._log.error("a result could not be reported", error=str(error))
            await loan.delivery.nak()
        finally:
            for task in told:
                task.cancel()
            self._loans.pop(key, None)
            self._takes.forget(key)
        self._allow()
        try:
            await attempt.clean()
        except Exception:  # it has been reported; what is left is swept at the next start
            self._log.exception("an attempt left something behind", run=attempt.item.run)

    def _start(self, attempt: Attempt, *, asking: bool = False) -> AttemptStarted:
        return AttemptStarted(
            run=attempt.item.run,
            step=attempt.item.step,
            attempt=attempt.item.attempt,
            executor=self._shop.executor,
            delivery=attempt.delivery,
            asking=asking,
        )

    async def _report_start(self, report: AttemptStarted, ended: asyncio.Event) -> None:
        """Report a start when its attempt has ended, or goes on for longer than HELD_S."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HELD_S):
                await ended.wait()
        await self._report(report)

    async def _report(self, report: Report) -> None:
        """Append a report to its run's inbox, however long (to REPORT_S) the bus is away.

        Raises:
            Transient: E_BUS and the like, after that.
        """
        clock = self.context.clock
        until = clock.monotonic() + REPORT_S
        told = False
        while True:
            try:
                await self._reporter.report(report)
                return
            except Transient as error:
                if clock.monotonic() > until:
                    raise
                if not told:
                    self._log.warning("waiting for the bus", run=report.run, error=error.message)
                told = True
                await asyncio.sleep(REPORT_RETRY_S)

    def _remember(self, key: Key) -> None:
        self._finished[key] = None
        while len(self._finished) > FINISHED_MAX:
            self._finished.popitem(last=False)

    # -- being there -----------------------------------------------------------------------------
    def _room(self) -> int:
        """Return how many attempts may be asked for: while one is told, the next may run."""
        telling = sum(loan.telling for loan in self._loans.values())
        busy = len(self._loans) - min(telling, self.slots)
        return 0 if self._draining else max(0, self.slots - busy)

    def _allow(self) -> None:
        """Ask for as much work as there are free slots.

        With several targets more may come than that; what is too much waits here, on loan, for a slot.
        """
        for consumption in self._consumptions:
            consumption.allow(self._room())

    async def _beat(self) -> None:
        monotonic = self.context.clock.monotonic
        last = monotonic()
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            lapsed_s, last = monotonic() - last, monotonic()
            if lapsed_s > WORK_ACK_WAIT_S:
                await self._ask_whose(lapsed_s)
            for loan in list(self._loans.values()):
                await loan.delivery.in_progress()
            with contextlib.suppress(PenstockError):
                await self._say_present()

    async def _ask_whose(self, lapsed_s: float) -> None:
        """We were paused, or the machine slept: say again what we run, and hear what is not ours.

        The scheduler answers a start that was overtaken by another executor's with a stop order.
        """
        self._log.warning("woke up", lapsed_s=round(lapsed_s, 1), attempts=len(self._loans))
        for loan in list(self._loans.values()):
            item, delivery = loan.attempt.item, loan.attempt.delivery
            if loan.attempt.phase == "preparing":
                continue  # its start is still to be reported
            report = self._start(loan.attempt, asking=True)
            with contextlib.suppress(Transient):
                await self._bus.append(  # by itself: else it would be the start we told before
                    self._names.inbox(item.run, "executor", "started", item.step),
                    encoded(report),
                    message_id=f"{item.run}.{item.step}.{item.attempt}.{delivery}.started"
                    f".again.{self.context.clock.now()}",
                )

    async def _on_question(self, message: Received) -> None:
        await self._say_present(message.reply)

    async def _say_present(self, to: str = "") -> None:
        """Tell whoever asks, or everybody."""
        waiting = [loan.attempt.waiting for loan in self._loans.values()]
        waiting += self._places.waiting
        presence = ExecutorPresence(
            executor=self._shop.executor,
            targets=self.targets,
            slots=self.slots,
            busy=len(self._loans),
            host=socket.gethostname(),
            pid=os.getpid(),
            draining=self._draining,
            waiting=tuple(w for w in waiting if w is not None)[:WAITING_MAX],
            offer=self._places.offer,
        )
        subject = to or self._names.presence(self._shop.executor)
        await self._bus.publish(subject, encoded(presence))

    async def _drain(self) -> None:
        """Take no more; let attempts finish for a while; give back the rest."""
        self._draining = True
        self._allow()
        tasks = [loan.task for loan in self._loans.values() if loan.task is not None]
        for consumption in self._consumptions:
            await consumption.close()
        with contextlib.suppress(PenstockError):
            await self._say_present()
        if not tasks:
            return
        drain_s = self.context.settings.drain_s
        self._log.info("draining", attempts=len(tasks), drain_s=drain_s)
        _, left = await asyncio.wait(tasks, timeout=drain_s)
        for loan in list(self._loans.values()):
            self._log.info("giving back", run=loan.attempt.item.run, step=loan.attempt.item.step)
            loan.attempt.give_back()
        await self._places.stir()
        if left:
            await asyncio.wait(left)

    def _end_with(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and task.exception() is not None:
            self.context.fail(task.exception() or AssertionError())


def item_of(subject: str) -> WorkItem | None:
    """Return what a work subject says by itself: <workspace>.work.<target>.<run>.<step>.<attempt>."""
    tokens = subject.split(".")
    if len(tokens) != 6:  # noqa: PLR2004 - see above
        return None
    _, _, target, run, step, attempt = tokens
    if not (is_run_id(run) and is_name(step) and attempt.isdigit()):
        return None
    return WorkItem(run=run, step=step, attempt=int(attempt), pipeline="-", target=target)


def checked(item: WorkItem, subject: str) -> WorkItem:
    """Return an item that is what its subject says: reports and folders are named after it.

    Raises:
        Corrupt: it is not.
    """
    named = item_of(subject)
    if named is None or (item.run, item.step, item.attempt) != (
        named.run,
        named.step,
        named.attempt,
    ):
        raise Corrupt(
            f"an item of {item.run[:40]!r}, {item.step[:80]!r}, attempt {item.attempt}",
            where=subject,
        )
    return item
