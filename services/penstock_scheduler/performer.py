"""Doing what was decided: one effect, one or two words to the bus.

Effects go on the wire in the order they were asked for and are awaited beside the next decision.
What fails because the bus is away is done again until the term ends; every effect may be done twice.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, assert_never

from penstock.bus import TOGETHER_MIN, Appended, Expect, Outgoing
from penstock.bus.buckets import Bucket, Value
from penstock.bus.lanes import Lane
from penstock.contracts.codec import encoded
from penstock.contracts.inbox import FlightLanded, Inbound, TimerDue
from penstock.contracts.queries import LatestEntry, ReuseEntry
from penstock.contracts.work import AttemptFailed, Failure, StopAttempt
from penstock.errors import BusUnavailable, Conflict, Invalid, PenstockError
from penstock.ids import is_name
from penstock_scheduler.effects import (
    AskFlight,
    CancelTimers,
    Dispatch,
    Effect,
    Emit,
    LookUp,
    PutLatest,
    PutReuse,
    PutSummary,
    ReleaseFlight,
    SetTimer,
    Stop,
    TellFlight,
    Withdraw,
)
from penstock_scheduler.lookups import LookUps
from penstock_scheduler.projection import Projector, Summaries
from penstock_scheduler.tools import PAUSE_S, PAUSE_S_MAX, Tools


@dataclass(frozen=True, slots=True)
class Pending:
    """An effect that is on the wire."""

    effect: Effect
    done: Awaitable[object]


class Performer:
    """Performs the effects of one partition."""

    def __init__(self, tools: Tools, looks: LookUps, put: Callable[[Inbound], None]) -> None:
        self.tools = tools
        self.looks = looks
        self.put = put
        self.events = Projector(tools.bus, tools.names, tools.log, tools.crash)
        self.summaries = Summaries(tools.bus, tools.names, tools.log)
        self.reuse = Bucket(tools.bus, tools.names.bucket("reuse"), ReuseEntry)
        self.latest = Bucket(tools.bus, tools.names.bucket("latest"), LatestEntry)
        self.work_lane = Lane(tools.bus)
        self.reuse_lane, self.latest_lane = looks.results, Lane(tools.bus)

    def works(self) -> list[Coroutine[Any, Any, None]]:
        """Return what goes on beside, as long as the term lasts."""
        return [
            self.events.work(),
            self.summaries.work(),
            self.work_lane.work(),
            self.reuse_lane.work(),
            self.latest_lane.work(),
        ]

    async def perform(self, effects: list[Effect]) -> list[Pending]:
        """Begin every effect, in order; return those whose end is worth waiting for."""
        pending: list[Pending] = []
        works = False
        few = sum(isinstance(effect, Dispatch) for effect in effects) < TOGETHER_MIN
        for effect in effects:
            if works and not isinstance(effect, Dispatch):
                await asyncio.sleep(0)  # the work leaves before the rest is written down
            works = isinstance(effect, Dispatch)
            done = await self._begun(effect, few=few)
            self.tools.crash("scheduler.after-effect")
            if done is not None:
                pending.append(Pending(effect, done))
        return pending

    async def settle(self, pending: list[Pending]) -> None:
        """Return when every effect is done, however often it has to be tried."""
        pause_s = PAUSE_S
        while pending:
            results = await asyncio.gather(*(p.done for p in pending), return_exceptions=True)
            again: list[Effect] = []
            for one, result in zip(pending, results, strict=True):
                if isinstance(result, BusUnavailable):
                    again.append(one.effect)
                elif isinstance(result, Conflict):
                    pass  # the attempt is on its queue already, or somebody else's claim stands
                elif isinstance(result, Invalid):
                    self._refused(one.effect, result)
                elif isinstance(result, BaseException):
                    raise result
            if not again:
                return
            self.tools.log.warning("effects wait", effects=len(again), error=str(results[0]))
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, PAUSE_S_MAX)
            pending = await self.perform(again)

    async def _begun(self, effect: Effect, *, few: bool) -> Awaitable[object] | None:
        try:
            return await self._begin(effect, few=few)
        except (BusUnavailable, Invalid) as error:
            failed: asyncio.Future[object] = asyncio.get_running_loop().create_future()
            failed.set_exception(error)
            return failed

    async def _begin(self, effect: Effect, *, few: bool) -> Awaitable[object] | None:
        bus, names = self.tools.bus, self.tools.names
        match effect:
            case Emit():
                self.events.add(effect)
            case PutSummary():
                self.summaries.add(effect.summary)
            case LookUp():
                self.looks.add(effect)
            case Dispatch(item=item):
                subject = names.work(item.target, item.run, item.step, item.attempt)
                message_id = f"{item.run}.{item.step}.{item.attempt}"
                if few:  # at once: the lane would send it in a later turn of the loop
                    return await bus.append_soon(subject, encoded(item), message_id=message_id)
                return self.work_lane.put(Outgoing(subject, encoded(item), message_id=message_id))
            case SetTimer():
                return await self._set(effect)
            case Stop():
                await self._stop(effect)
            case PutReuse():
                subject = self.reuse.subject(effect.fingerprint)
                return self.reuse_lane.put(Outgoing(subject, encoded(effect.entry)))
            case PutLatest():
                subject = self.latest.subject(effect.key)
                return self.latest_lane.put(Outgoing(subject, encoded(effect.entry)))
            case ReleaseFlight():
                return asyncio.ensure_future(self._release(effect))
            case AskFlight(message=asked):
                return await bus.append_soon(
                    names.inbox(asked.run, "scheduler", "follow", asked.step),
                    encoded(asked),
                    message_id=f"{asked.run}.{asked.step}.follow."
                    f"{asked.follower_run}.{asked.follower_step}.{asked.look}",
                )
            case TellFlight(message=told):
                return asyncio.ensure_future(self._tell(told))
            case Withdraw():
                return asyncio.ensure_future(self._withdraw(effect))
            case CancelTimers(run=run):
                stream = names.stream("timers")
                return asyncio.ensure_future(bus.purge(stream, names.timers_of(run)))
            case _:
                assert_never(effect)
        return None

    async def _set(self, timer: SetTimer) -> "asyncio.Future[Appended]":
        due = TimerDue(run=timer.run, step=timer.step, attempt=timer.attempt, kind=timer.kind)
        names = self.tools.names
        # The attempt is part of the name, so that a replaced owner that sets its timer late cannot
        # move the timer of a later attempt.
        kind = f"{timer.kind}-{timer.attempt}" if timer.attempt else timer.kind
        return await self.tools.bus.schedule(
            names.timer(timer.run, timer.step, kind),
            names.due(timer.run, timer.step, kind),
            encoded(due),
            timer.at,
        )

    async def _tell(self, told: FlightLanded) -> None:
        """Tell a follower to look again, when what it shall find is stored: it must not run again."""
        await self.reuse_lane.passed()
        names = self.tools.names
        await self.tools.bus.append(
            names.inbox(told.run, "scheduler", "landed", told.step),
            encoded(told),
            message_id=f"{told.run}.{told.step}.landed."
            f"{told.leader_run}.{told.leader_step}.{told.look}",
        )

    async def _stop(self, stop: Stop) -> None:
        if not is_name(stop.run) or not is_name(stop.step):
            return  # news about a run that cannot exist; its names are no subject
        order = StopAttempt(
            run=stop.run,
            step=stop.step,
            attempt=stop.attempt,
            reason=stop.reason,
            before=stop.before,
        )
        try:
            await self.tools.bus.publish(self.tools.names.stop(stop.run, stop.step), encoded(order))
        except PenstockError as error:  # never the last word: a timer says it again
            self.tools.log.warning("a stop order was not sent", run=stop.run, error=str(error))

    async def _withdraw(self, work: Withdraw) -> None:
        names = self.tools.names
        subject = (
            names.work(work.target, work.run, work.step, work.attempt)
            if work.attempt
            else names.work_of_run(work.run)
        )
        await self.tools.bus.purge(names.stream("work"), subject)

    async def _release(self, flight: ReleaseFlight) -> None:
        found = await self.reuse.get(flight.fingerprint)
        if found is None or found.value.ended_at:
            return
        if (found.value.run, found.value.step) == (flight.run, flight.step):
            await self.reuse.delete(flight.fingerprint, revision=found.revision)

    async def put_back(self, effects: list[PutReuse | PutLatest]) -> None:
        """Offer results again that a dead owner may not have offered; newer ones stay."""
        await self.tools.patiently(lambda: self._put_back(effects))

    async def _put_back(self, effects: list[PutReuse | PutLatest]) -> None:
        reuse = {e.fingerprint: e.entry for e in effects if isinstance(e, PutReuse)}
        latest = {e.key: e.entry for e in effects if isinstance(e, PutLatest)}
        present = await self.reuse.get_many(list(reuse))
        before = await self.latest.get_many(list(latest))
        sent = [
            await self._put_if(self.reuse.subject(key), encoded(entry), found)
            for (key, entry), found in zip(reuse.items(), present, strict=True)
            if found is None or found.value.ended_at < entry.ended_at
        ]
        sent += [
            await self._put_if(self.latest.subject(name), encoded(line), kept)
            for (name, line), kept in zip(latest.items(), before, strict=True)
            if kept is None or kept.value.at < line.at
        ]
        for result in await asyncio.gather(*sent, return_exceptions=True):
            if isinstance(result, BaseException) and not isinstance(result, Conflict | Invalid):
                raise result  # a conflict: somebody else put something meanwhile, they know better

    async def _put_if(
        self, subject: str, data: bytes, found: Value[Any] | None
    ) -> "asyncio.Future[Appended]":
        """Put unless somebody else does meanwhile."""
        if found is None:  # never there, or deleted: a marker would need its own sequence
            return await self.tools.bus.append_soon(subject, data)
        return await self.tools.bus.append_soon(subject, data, expect=Expect(found.revision))

    def _refused(self, effect: Effect, error: Invalid) -> None:
        """A work item above the bus's limit can never be queued: the attempt has failed."""
        self.tools.log.error("an effect is refused", effect=type(effect).__name__, error=str(error))
        if isinstance(effect, Dispatch):
            item = effect.item
            failure = Failure(
                code=error.code,
                message=f"the work item cannot be queued: {error.message}",
                where=f"steps.{item.step}",
                hint="pass large values as artifacts",
            )
            self.put(
                AttemptFailed(
                    run=item.run,
                    step=item.step,
                    attempt=item.attempt,
                    executor="",
                    failure=failure,
                    retriable=False,
                )
            )
