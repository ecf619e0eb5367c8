"""Taking in the stream of requests: each is answered, and none can stop the others.

    refused     answered, one event run.refused, done
    transient   again after 1, 5, 30, 120 s
    a bug       likewise
    5 times     kept as a dead letter with the reason, answered, never again

A message delivered a sixth time has brought down five planners: it is set aside unread.
"""

import asyncio
import dataclasses
from collections.abc import Sequence

from structlog.typing import FilteringBoundLogger

from penstock.bus import Bus, Consumption, Delivery, Stored, dead
from penstock.bus.topology import requests_consumer
from penstock.contracts import chain
from penstock.contracts.cloudevents import event_type, headers_of
from penstock.contracts.codec import encoded, error_body
from penstock.contracts.events import RunEvent
from penstock.contracts.requests import RunAnswer
from penstock.contracts.subjects import Subjects
from penstock.errors import Corrupt, Invalid, PenstockError, Refused, Transient
from penstock.runtime.crash import Crash, never
from penstock_planner.decide.reading import pairing_of, pipeline_token, wish_of
from penstock_planner.shell.callers import Callers
from penstock_planner.shell.runs import Runs

DELIVERIES_MAX = 5
DELAYS_S = (1.0, 5.0, 30.0, 120.0)
BATCH = 64
ACK_WAIT_S = 10.0
"""Seconds after which a killed planner's requests go to another one; said to be in work every third."""
MAKES_RUNS = ("run", "rerun")


class Intake:
    """The planners' shared consumer, as one member of it sees it."""

    def __init__(
        self,
        bus: Bus,
        names: Subjects,
        runs: Runs,
        callers: Callers,
        *,
        log: FilteringBoundLogger,
        concurrency: int,
        delays_s: Sequence[float] = DELAYS_S,
        crash: Crash = never,
    ) -> None:
        self.bus = bus
        self.names = names
        self.runs = runs
        self.callers = callers
        self.log = log
        self.delays_s = delays_s
        self.crash = crash
        self._in_hand: set[Delivery] = set()
        self._heart: asyncio.Task[None] | None = None
        self._free = asyncio.Semaphore(concurrency)
        self._tasks: set[asyncio.Task[None]] = set()
        self._consumption: Consumption | None = None

    async def start(self) -> None:
        """Begin to take in."""
        # Counting deliveries is ours: a message that the server gave up on would lie there for ever.
        spec = dataclasses.replace(
            requests_consumer(self.names), max_deliver=-1, ack_wait_s=ACK_WAIT_S
        )
        self._consumption = await self.bus.consume(spec, self._deliver, batch=BATCH)
        self._heart = asyncio.create_task(self._beat())

    async def close(self, wait_s: float = 10) -> None:
        """Take no more, and finish what was begun."""
        if self._consumption is not None:
            await self._consumption.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=wait_s)
        if self._heart is not None:
            self._heart.cancel()
            await asyncio.wait({self._heart})

    async def _beat(self) -> None:
        """Say of everything in hand that it is being worked on."""
        while True:
            await asyncio.sleep(ACK_WAIT_S / 3)
            for delivery in list(self._in_hand):
                await delivery.in_progress()

    async def _deliver(self, delivery: Delivery) -> None:
        await self._free.acquire()
        task = asyncio.create_task(self._held(delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _held(self, delivery: Delivery) -> None:
        self._in_hand.add(delivery)
        try:
            await self._handle(delivery)
        finally:
            self._in_hand.discard(delivery)

    async def _handle(self, delivery: Delivery) -> None:
        message = delivery.message
        self.crash("planner.after-take")
        try:
            answer = await self._answer(delivery)
        except Exception as error:
            # Whatever it was, it must not stop the requests behind it.
            await self._failed(delivery, error)
            return
        finally:
            self._free.release()
        if answer is None:
            return
        # The ack comes last: killed before it, another planner gives the answer again. A caller
        # that is not there costs two seconds of waiting, which hold up nobody.
        self.crash("planner.before-answer")
        key = pairing_of(message.subject, message.data, message.headers)
        given = await self.callers.give(key, encoded(answer))
        self.crash("planner.before-ack")
        await delivery.ack()
        self.log.info(
            "answered" if given else "done",
            request=_kind(message),
            run=answer.run,
            code=answer.error.code if answer.error else "",
        )

    async def _answer(self, delivery: Delivery) -> RunAnswer | None:
        """Return the answer to a request; None when it was set aside unread."""
        message = delivery.message
        if delivery.deliveries > DELIVERIES_MAX:
            reason = Corrupt(
                f"delivered {delivery.deliveries} times and never finished", where="request"
            )
            await self._set_aside(delivery, reason)
            return None
        try:
            wish = wish_of(_kind(message), message.data, message.headers)
            return await self.runs.fulfil(wish, message, again=delivery.deliveries > 1)
        except Refused as error:
            await self._tell_refused(message, error)
            return RunAnswer(error=error_body(error))
        except RecursionError as error:
            refusal = Invalid("nested too deeply", code="E_DECODE", where="request")
            await self._tell_refused(message, refusal)
            self.log.warning("a reader ran out of stack", error=str(error))
            return RunAnswer(error=error_body(refusal))

    async def _tell_refused(self, message: Stored, error: Refused) -> None:
        """Store the event run.refused, once however often the request is delivered."""
        if _kind(message) not in MAKES_RUNS:
            return
        run = self.runs.run_of(None, message)
        pipeline = pipeline_token(message.data, message.headers)
        event = RunEvent(
            seq=1,
            run=run,
            pipeline=pipeline,
            what="refused",
            at=message.at,
            error=error_body(error),
        )
        subject = self.names.run_event(pipeline, run, "refused")
        headers = headers_of(
            event_id=f"{run}.1",
            kind=event_type("run", "refused"),
            source=f"penstock/{self.names.workspace}",
            subject=run,
            at=message.at,
        )
        body = encoded(event)
        headers[chain.HEADER] = chain.link(chain.START, body)
        await self.bus.append(subject, body, headers, message_id=f"{run}.1")

    async def _failed(self, delivery: Delivery, error: Exception) -> None:
        known = error if isinstance(error, PenstockError) else None
        if isinstance(error, Transient):
            self.log.warning(
                "try again", request=_kind(delivery.message), code=error.code, error=str(error)
            )
        else:
            self.log.error("request failed", request=_kind(delivery.message), exc_info=error)
        if delivery.deliveries < DELIVERIES_MAX:
            await delivery.nak(self.delays_s[min(delivery.deliveries, len(self.delays_s)) - 1])
            return
        reason = known or PenstockError(f"{type(error).__name__}: {error}", where="request")
        try:
            await self._set_aside(delivery, reason)
        except Exception as second:
            self.log.error("cannot set aside", error=str(second))
            await delivery.nak(self.delays_s[-1])

    async def _set_aside(self, delivery: Delivery, reason: PenstockError) -> None:
        """Keep a request as a dead letter with the reason, answer it, and never see it again."""
        message = delivery.message
        deliveries = delivery.deliveries
        await dead.keep(self.bus, self.names, "requests", message, reason, deliveries=deliveries)
        self.log.error(
            "set aside", request=_kind(message), sequence=message.sequence, reason=str(reason)
        )
        key = pairing_of(message.subject, message.data, message.headers)
        await self.callers.give(key, encoded(RunAnswer(error=error_body(reason))))
        await delivery.term(str(reason))


def _kind(message: Stored) -> str:
    return message.subject.rpartition(".")[2]
