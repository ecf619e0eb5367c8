"""What the trigger asks of others: runs of the planner, ends of runs of the event stream.

A planner that is away is waited for, with growing pauses and without end: a tick is delivered when
it is answered. The first sending is stored by the stream `requests` already, so the run does not
wait for our patience; only its number does.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from penstock.bus import MESSAGE_ID, Appended, Bus, Expect
from penstock.clock import Clock
from penstock.contracts import cloudevents
from penstock.contracts.codec import decoded, encoded, error_of
from penstock.contracts.events import RUN_ENDS
from penstock.contracts.queries import PipelineCommand, PipelineView, Refusal
from penstock.contracts.requests import CancelRequest, RunAnswer, RunRequest
from penstock.contracts.subjects import Subjects
from penstock.errors import BusUnavailable, Conflict, Corrupt, NotFound, Transient
from penstock_trigger.effects import Announce

ANSWER_S = 5.0
"""How long a planner may take to answer."""
PROBE_S = 2.0
PAUSE_MIN_S = 0.2
PAUSE_MAX_S = 10.0
RESEND_S = 60.0
"""A request that was stored is not sent again sooner unless a planner is seen: copies would pile up."""
PASSING = frozenset({"E_BUS", "E_STORE", "E_TIMEOUT", "E_TRANSIENT", "E_CONFLICT", "E_FULL"})
"""Codes of errors that another attempt may not meet."""


@dataclass(frozen=True, slots=True)
class Outside:
    """The other services, as the trigger sees them."""

    bus: Bus
    names: Subjects
    clock: Clock
    log: FilteringBoundLogger

    async def run_for(self, request: RunRequest, wanted: Callable[[], bool]) -> RunAnswer | None:
        """Return the planner's answer, however long it takes; None when it is no longer wanted."""
        pause_s, complained = PAUSE_MIN_S, False
        while wanted():
            try:
                return await self._asked(request)
            except (NotFound, Transient, Corrupt) as error:
                stored = not isinstance(error, NotFound)  # without a listener there is no stream
                if not complained:
                    complained = True
                    self.log.warning(
                        "waiting for a planner", key=request.idempotency_key, error=str(error)
                    )
            sent = self.clock.monotonic()
            while wanted():
                await asyncio.sleep(pause_s)
                pause_s = min(PAUSE_MAX_S, 2 * pause_s)
                if not stored or self.clock.monotonic() - sent >= RESEND_S:
                    break
                if await self.planner_there(request.pipeline):
                    break
        return None

    async def planner_there(self, pipeline: str) -> bool:
        """Say whether a planner answers."""
        try:
            await self._shown(pipeline)
        except (NotFound, Transient):
            return False
        return True

    async def pipeline(self, name: str) -> PipelineView | None:
        """Return a registered pipeline, or None when no planner answers.

        Raises:
            Refused: what the planner says, such as E_NOT_FOUND.
        """
        try:
            data = await self._shown(name)
            return decoded(data, PipelineView)
        except (NotFound, Transient):
            return None
        except Corrupt:
            refusal = decoded(data, Refusal)
            raise error_of(refusal.error) from None

    async def run_once(self, request: RunRequest) -> RunAnswer:
        """Return the planner's answer to a request that somebody waits for.

        Raises:
            BusUnavailable: E_NO_PLANNER, and nothing was asked for.
        """
        if not await self.planner_there(request.pipeline):
            raise BusUnavailable(
                "no planner answers; nothing was started",
                code="E_NO_PLANNER",
                where=self.names.request("run"),
                hint="type `penstock status` to see what runs",
            )
        return await self._asked(request)

    async def cancel(self, request: CancelRequest) -> None:
        """Ask that a run ends. One that has ended already is as good."""
        try:
            answer = await self.bus.request(
                self.names.request("cancel"), encoded(request), timeout_s=ANSWER_S
            )
            error = decoded(answer.data, RunAnswer).error
        except (NotFound, Transient, Corrupt) as failure:
            # The stream has the wish; whether the run ends in time is not what the tick waits for.
            self.log.warning("cancel not answered", run=request.run, error=str(failure))
            return
        if error is not None:
            self.log.info("cancel refused", run=request.run, code=error.code, error=error.message)

    async def ended(self, run: str) -> bool:
        """Say whether a run has reached its end, by the last of its events."""
        subject = f"{self.names.workspace}.event.*.{run}.run.*"
        last = await self.bus.last(self.names.stream("events"), subject)
        return last is not None and last.subject.rpartition(".")[2] in RUN_ENDS

    async def announce(self, announcements: Sequence[Announce], *, recent: bool = False) -> None:
        """Append events of one subject, in order, each once.

        The stream forgets message ids after two hours; the last event on the subject is never
        forgotten, and a condition on its sequence keeps two replicas from passing each other.
        `recent`: whoever told them before did so less than that ago, so their ids are enough.
        """
        if recent:
            for announcement in announcements:
                await self._append(announcement, None)
            return
        rest = list(announcements)
        while rest:
            head = rest[0]
            subject = self.names.trigger_event(head.event.trigger, head.event.what)
            last = await self.bus.last(self.names.stream("events"), subject)
            known = last.headers.get(MESSAGE_ID, "") if last is not None else ""
            ids = [announcement.message_id for announcement in rest]
            if known in ids:
                rest = rest[ids.index(known) + 1 :]
            sequence = last.sequence if last is not None else 0
            try:
                while rest:
                    appended = await self._append(rest[0], Expect(sequence))
                    sequence = max(sequence, appended.sequence)
                    del rest[0]
            except Conflict:
                await asyncio.sleep(0.01)  # another replica tells the same; look again

    async def _append(self, announcement: Announce, expect: Expect | None) -> Appended:
        event = announcement.event
        headers = cloudevents.headers_of(
            event_id=announcement.message_id,
            kind=cloudevents.event_type("trigger", event.what),
            source=f"/{self.names.workspace}/trigger",
            subject=f"trigger/{event.trigger}",
            at=event.at,
        )
        return await self.bus.append(
            self.names.trigger_event(event.trigger, event.what),
            encoded(event),
            headers,
            message_id=announcement.message_id,
            expect=expect,
        )

    async def _asked(self, request: RunRequest) -> RunAnswer:
        """Return one answer of a planner.

        Raises:
            Transient: no answer, or one that another attempt may improve.
        """
        received = await self.bus.request(
            self.names.request("run"), encoded(request), timeout_s=ANSWER_S
        )
        answer = decoded(received.data, RunAnswer)
        if answer.error is not None and answer.error.code in PASSING:
            raise Transient(answer.error.message, code=answer.error.code, where=answer.error.where)
        if answer.error is None and not answer.run:
            raise Corrupt("an answer without a run and without an error", where="planner")
        return answer

    async def _shown(self, pipeline: str) -> bytes:
        question = PipelineCommand(name=pipeline)
        answer = await self.bus.request(
            self.names.query("pipeline.show"), encoded(question), timeout_s=PROBE_S
        )
        return answer.data
