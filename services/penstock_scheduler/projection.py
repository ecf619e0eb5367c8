"""What others read: events in order, exactly once, and one line per run.

An event is stored under the message id `<run>.<seq>`, so sending it twice stores it once; a run's
events are put on the wire in order, and after the first that fails everything from there is sent
again. So what is stored is always a beginning of what happened, and a new owner goes on after the
last stored one, with the link of the chain that it carries. Nothing here decides what happened.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence

import msgspec
from structlog.typing import FilteringBoundLogger

from penstock.bus import TOGETHER_MIN, Appended, Bus, Expect, Outgoing, Stored
from penstock.bus.buckets import Bucket
from penstock.contracts import chain, cloudevents
from penstock.contracts.codec import decoded, encoded
from penstock.contracts.events import RUN_ENDS, RunEvent
from penstock.contracts.queries import RUN_STATES_FINAL, RunSummary
from penstock.contracts.subjects import Subjects
from penstock.errors import BusUnavailable, Conflict, Corrupt, Invalid
from penstock.runtime.crash import Crash, never
from penstock_scheduler.effects import Emit

PIPELINED_MAX = 1_000
PAUSE_S = 0.05
PAUSE_S_MAX = 2.0


class Numbered(msgspec.Struct):
    """The only field of an event that a new owner needs."""

    seq: int = 0


class LastTold(msgspec.Struct, frozen=True):
    """The last stored event of a run: its number, and its link of the chain."""

    seq: int = 0
    link: str = chain.START


class Progress:
    """How many of the things handed over are done; they are done in order."""

    def __init__(self) -> None:
        self.given = 0
        self.done = 0
        self._moved = asyncio.Event()

    def advance(self, count: int) -> None:
        """Note that `count` more are done."""
        self.done += count
        self._moved.set()
        self._moved = asyncio.Event()

    async def reached(self, mark: int) -> None:
        """Return when `mark` things are done."""
        while self.done < mark:
            await self._moved.wait()


class Projector:
    """Events of one partition, on their way to everybody."""

    def __init__(
        self, bus: Bus, names: Subjects, log: FilteringBoundLogger, crash: Crash = never
    ) -> None:
        self.bus = bus
        self.names = names
        self.log = log
        self.crash = crash
        self.waiting: deque[Emit] = deque()
        self.progress = Progress()
        self._links: dict[str, str] = {}
        """Of runs that go on: the link of the last event that is stored."""
        self._arrived = asyncio.Event()

    def go_on(self, told: Mapping[str, LastTold]) -> None:
        """Link the next events of these runs to what an earlier owner has told."""
        self._links.update((run, last.link) for run, last in told.items())

    def add(self, emit: Emit) -> None:
        """Take over an event."""
        self.waiting.append(emit)
        self.progress.given += 1
        self._arrived.set()

    async def work(self) -> None:
        """Send events until cancelled."""
        while True:
            if not self.waiting:
                self._arrived.clear()
                await self._arrived.wait()
            chunk = [self.waiting.popleft() for _ in range(min(len(self.waiting), PIPELINED_MAX))]
            await self._told(chunk)
            self.crash("scheduler.after-events")
            self.progress.advance(len(chunk))

    async def _told(self, chunk: Sequence[Emit]) -> None:
        pause_s, begin = PAUSE_S, 0
        if len(chunk) >= TOGETHER_MIN and await self._told_together(chunk):
            return
        while begin < len(chunk):
            links = dict(self._links)
            sent = [await self._send(emit, links) for emit in chunk[begin:]]
            results = await asyncio.gather(*(future for future, _ in sent), return_exceptions=True)
            failed = next((r for r in results if isinstance(r, BaseException)), None)
            stored = next(
                (n for n, r in enumerate(results) if isinstance(r, BaseException)), len(results)
            )
            for emit, (_, link) in zip(chunk[begin:], sent[:stored], strict=False):
                self._linked(emit, link)
            begin += stored
            if failed is None:
                return
            self.log.warning("events wait", error=str(failed), waiting=len(chunk) - begin)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, PAUSE_S_MAX)

    async def _told_together(self, chunk: Sequence[Emit]) -> bool:
        """Store events as one; False: one of them is too large or stored already, or who knows."""
        links = dict(self._links)
        letters = []
        for emit in chunk:
            previous = links.get(emit.event.run, chain.START)
            letter, links[emit.event.run] = self._letter(emit, previous)
            letters.append(letter)
        try:
            await self.bus.append_together(letters)
        except (Invalid, Conflict, BusUnavailable) as error:
            self.log.debug("events go one by one", error=str(error), events=len(chunk))
            return False
        for emit in chunk:
            self._linked(emit, links[emit.event.run])
        return True

    def _linked(self, emit: Emit, link: str) -> None:
        event = emit.event
        if isinstance(event, RunEvent) and event.what in RUN_ENDS:
            self._links.pop(event.run, None)
        else:
            self._links[event.run] = link

    async def _send(
        self, emit: Emit, links: dict[str, str]
    ) -> "tuple[asyncio.Future[Appended], str]":
        """Put an event on the wire after the one in `links`, and note its own link there."""
        previous = links.get(emit.event.run, chain.START)
        try:
            future, link = await self._append(emit, previous)
        except Invalid:  # above the server's limit: the story must go on, with less detail
            future, link = await self._append(slimmed(emit), previous)
        except BusUnavailable as error:
            future, link = asyncio.get_running_loop().create_future(), previous
            future.set_exception(error)
        links[emit.event.run] = link
        return future, link

    async def _append(self, emit: Emit, previous: str) -> "tuple[asyncio.Future[Appended], str]":
        letter, link = self._letter(emit, previous)
        future = await self.bus.append_soon(
            letter.subject, letter.data, letter.headers, message_id=letter.message_id
        )
        return future, link

    def _letter(self, emit: Emit, previous: str) -> tuple[Outgoing, str]:
        """Return an event as it is stored, and its link of the chain."""
        event, names = emit.event, self.names
        message_id = f"{event.run}.{event.seq}"
        if isinstance(event, RunEvent):
            noun, about = "run", event.run
            subject = names.run_event(event.pipeline, event.run, event.what)
        else:
            noun, about = "step", f"{event.run}/{event.step}"
            subject = names.step_event(event.pipeline, event.run, event.step, event.what)
        headers = cloudevents.headers_of(
            event_id=message_id,
            kind=cloudevents.event_type(noun, event.what),
            source=f"penstock/{names.workspace}",
            subject=about,
            at=event.at,
            traceparent=emit.traceparent,
        )
        body = encoded(event)
        headers[chain.HEADER] = link = chain.link(previous, body)
        return Outgoing(subject, body, headers, message_id), link


def slimmed(emit: Emit) -> Emit:
    """Return an event without what can be large."""
    event = emit.event
    if isinstance(event, RunEvent):
        slim: RunEvent = msgspec.structs.replace(event, graph={}, tags={}, parameters={})
        return Emit(slim, emit.traceparent)
    return Emit(
        msgspec.structs.replace(event, metrics={}, tags={}, parts=(), outputs={}), emit.traceparent
    )


async def last_told(bus: Bus, names: Subjects, runs: Sequence[str]) -> dict[str, LastTold]:
    """Return the last stored event of each run."""
    filters = [names.run_events(run) for run in runs]
    found = await bus.last_many(names.stream("events"), filters)
    told = {}
    for run, stored in zip(runs, found, strict=True):
        last = _last(stored) if stored is not None else LastTold()
        told[run] = await _searched(bus, names, run) if last is None else last
    return told


async def _searched(bus: Bus, names: Subjects, run: str) -> LastTold:
    """Return the event with the highest `seq` among a run's, the last of which is not ours."""
    events: list[Stored] = []
    await bus.replay(names.stream("events"), [names.run_events(run)], events.append)
    ours = [last for stored in events if (last := _last(stored)) is not None]
    return max(ours, key=lambda last: last.seq, default=LastTold())


def _last(stored: Stored) -> LastTold | None:
    try:
        return LastTold(decoded(stored.data, Numbered).seq, stored.headers.get(chain.HEADER, ""))
    except Corrupt:
        return None


class Summaries:
    """The bucket `runs`: the newest line of each run wins, and a final one is final."""

    def __init__(self, bus: Bus, names: Subjects, log: FilteringBoundLogger) -> None:
        self.bucket = Bucket(bus, names.bucket("runs"), RunSummary)
        self.bus = bus
        self.log = log
        self.waiting: dict[str, RunSummary] = {}
        self.progress = Progress()
        self._arrived = asyncio.Event()
        self._revisions: dict[str, int] = {}

    def add(self, summary: RunSummary) -> None:
        """Take over a line; one of the same run that still waits is replaced."""
        self.waiting[summary.run] = summary
        self.progress.given += 1
        self._arrived.set()

    async def work(self) -> None:
        """Write lines until cancelled."""
        while True:
            if not self.waiting:
                self._arrived.clear()
                await self._arrived.wait()
            lines, given = self.waiting, self.progress.given
            self.waiting = {}
            await self._written(lines)
            self.progress.advance(given - self.progress.done)

    async def _written(self, lines: dict[str, RunSummary]) -> None:
        pause_s = PAUSE_S
        while lines:
            try:
                futures = {
                    run: await self.bus.append_soon(
                        self.bucket.subject(run),
                        encoded(line),
                        expect=Expect(self._revisions.get(run, 0)),
                    )
                    for run, line in lines.items()
                }
                await asyncio.gather(*futures.values(), return_exceptions=True)
                for run, future in futures.items():
                    failure = future.exception()
                    if failure is None:
                        self._note(lines.pop(run), future.result().sequence)
                    elif isinstance(failure, Conflict):
                        await self._reread(run, lines)
                    else:
                        raise failure
            except BusUnavailable as error:
                self.log.warning("summaries wait", error=str(error), waiting=len(lines))
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, PAUSE_S_MAX)

    def _note(self, line: RunSummary, revision: int) -> None:
        if line.state in RUN_STATES_FINAL:
            self._revisions.pop(line.run, None)
        else:
            self._revisions[line.run] = revision

    async def _reread(self, run: str, lines: dict[str, RunSummary]) -> None:
        present = await self.bucket.get(run)
        if present is not None and present.value.state in RUN_STATES_FINAL:
            lines.pop(run)
            return
        self._revisions[run] = present.revision if present else 0
