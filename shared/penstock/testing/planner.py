"""A stand-in for planner and scheduler, for tests of those who ask for runs: it records and answers.

Like the real ones it makes one run of one idempotency key, whoever sends it and however often, and
it says that a run has ended by an event in the stream.
"""

import time
from dataclasses import dataclass, field

from penstock.bus import Bus, Received, Subscription
from penstock.contracts.codec import decoded, encoded
from penstock.contracts.events import RunEvent, RunWhat
from penstock.contracts.queries import PipelineCommand, PipelineView, Refusal
from penstock.contracts.requests import CancelRequest, ErrorBody, RunAnswer, RunRequest
from penstock.contracts.subjects import Subjects
from penstock.ids import RunId, run_id
from penstock.units import Seconds


@dataclass
class RecordingPlanner:
    """Answers `request.run`, `request.cancel` and `query.pipeline.show` of one workspace."""

    bus: Bus
    names: Subjects
    requests: list[tuple[float, RunRequest]] = field(default_factory=list)
    """Everything received, copies included, with the moment it came (seconds since 1970)."""
    runs: dict[str, RunId] = field(default_factory=dict)
    """Idempotency key → run."""
    pipelines: dict[str, str] = field(default_factory=dict)
    """Run → pipeline."""
    cancelled: list[str] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)
    """Pipelines that are refused as not found."""
    silent: set[str] = field(default_factory=set)
    """Pipelines whose requests are never answered."""
    _subscriptions: list[Subscription] = field(default_factory=list)

    async def start(self) -> None:
        """Begin to answer."""
        for subject, handler in (
            (self.names.request("run"), self._run),
            (self.names.request("cancel"), self._cancel),
            (self.names.query("pipeline.show"), self._show),
        ):
            self._subscriptions.append(await self.bus.subscribe(subject, handler, queue="planner"))

    async def stop(self) -> None:
        """Answer no more."""
        for subscription in self._subscriptions:
            await subscription.close()
        self._subscriptions.clear()

    async def end(self, run: str, what: RunWhat = "succeeded") -> None:
        """Say that a run has ended."""
        pipeline = self.pipelines[run]
        event = RunEvent(seq=9, run=run, pipeline=pipeline, what=what, at=time.time())
        await self.bus.append(
            self.names.run_event(pipeline, run, what), encoded(event), message_id=f"{run}.9"
        )

    async def _run(self, message: Received) -> None:
        request = decoded(message.data, RunRequest)
        if request.pipeline in self.silent or not message.reply:
            return
        self.requests.append((time.time(), request))
        if request.pipeline in self.unknown:
            answer = RunAnswer(error=self._not_found(request.pipeline))
        else:
            key = request.idempotency_key
            run = self.runs.setdefault(key, run_id(Seconds(time.time()), self.names.workspace, key))
            self.pipelines[run] = request.pipeline
            answer = RunAnswer(run=run, state="queued")
        await self.bus.publish(message.reply, encoded(answer))

    async def _cancel(self, message: Received) -> None:
        request = decoded(message.data, CancelRequest)
        self.cancelled.append(request.run)
        await self.bus.publish(message.reply, encoded(RunAnswer(run=request.run, state="running")))

    async def _show(self, message: Received) -> None:
        name = decoded(message.data, PipelineCommand).name
        known = name not in self.unknown
        answer = (
            PipelineView(name=name, version="1", spec="0" * 64)
            if known
            else Refusal(error=self._not_found(name))
        )
        await self.bus.publish(message.reply, encoded(answer))

    def _not_found(self, name: str) -> ErrorBody:
        return ErrorBody(code="E_NOT_FOUND", message=f"no pipeline {name!r}", where="pipeline")
