"""A partition's log in the hands of one owner: fenced, one commit in flight, compacted.

Every commit expects the sequence of the owner's own message on own.<p>. After a takeover that
message is no longer the last one, so the server refuses whatever an older owner still writes.
"""

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Callable

import msgspec

from penstock.bus import MESSAGE_ID, Expect, Stored
from penstock.errors import BusUnavailable, Conflict
from penstock_scheduler.tools import PAUSE_S, PAUSE_S_MAX, Tools
from penstock_scheduler.transitions import Commit, commit_of, messages_of

LIVE = "Penstock-Live"
"""Header of every commit: how many runs still need an owner."""
CHUNK_BYTES = 1 << 20
"""So much of the log is decoded at a time."""


class Deposed(Exception):
    """Somebody else owns the partition now."""


class RunLog:
    """The log of one partition during one term."""

    def __init__(self, tools: Tools, number: int, fence: int) -> None:
        self.tools = tools
        self.number = number
        self.fence = fence
        self.stream = tools.names.stream("runs")
        self.subject = tools.names.runlog(number)
        self.own = tools.names.own(number)
        self.writing = asyncio.Lock()
        self.appends = 0
        self.last_sequence = 0
        self.last_live = 0

    async def read(self) -> AsyncGenerator[list[tuple[int, Commit]], None]:
        """Iterate over everything that is in the log, with its sequences, while it arrives.

        What lacks our header no scheduler wrote, of whatever version; it is passed over, loudly. A
        commit whose answer got lost, and that was sent again after the window in which the server
        drops copies, is there twice: the second one is passed over too. Found by the simulation.

        Raises:
            Corrupt: a newer version wrote it.
            BusUnavailable: the end of the log was not reached.
        """
        arrived: deque[Stored] = deque()
        more = asyncio.Event()

        def take(stored: Stored) -> None:
            arrived.append(stored)
            more.set()

        replay = self.tools.bus.replay(self.stream, [self.subject], take)
        reading = asyncio.ensure_future(replay)
        reading.add_done_callback(lambda _: more.set())
        seen: set[str] = set()
        foreign: list[int] = []
        try:
            while True:
                complete = reading.done()
                if arrived:
                    yield self._taken(arrived, seen, foreign)
                elif complete:
                    break
                else:
                    more.clear()
                    await more.wait()
            reading.result()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        if foreign:
            self.tools.log.error(
                "passed over in the run log: no scheduler wrote it",
                partition=self.number,
                messages=len(foreign),
                first=foreign[0],
            )

    def _taken(
        self, arrived: deque[Stored], seen: set[str], foreign: list[int]
    ) -> list[tuple[int, Commit]]:
        """Decode some of what has arrived."""
        commits: list[tuple[int, Commit]] = []
        size = 0
        while arrived and size < CHUNK_BYTES:
            stored = arrived.popleft()
            size += len(stored.data)
            message_id = stored.headers.get(MESSAGE_ID, "")
            if LIVE not in stored.headers:
                foreign.append(stored.sequence)
                continue
            if message_id in seen:
                continue
            if message_id:
                seen.add(message_id)
            commit = commit_of(stored.data)
            commits.append((stored.sequence, commit))
            self.last_sequence, self.last_live = stored.sequence, commit.live
        return commits

    async def write(self, commit: Commit) -> int:
        """Store a commit, in as many messages as it needs; return the first one's sequence.

        Raises:
            Deposed: somebody else owns the partition.
        """
        async with self.writing:
            sequences = [await self._append(data, commit.live) for data in messages_of(commit)]
        return sequences[0]

    async def rest(self, at: float, idle: Callable[[], bool]) -> bool:
        """Say that nothing is live, unless that is said or no longer true; return whether it was said.

        `idle` is asked under the lock: a run that begins meanwhile is already in the state.
        """
        async with self.writing:
            if not self.last_live or not idle():
                return False
            await self._append(msgspec.json.encode(Commit(at=at)), 0)
            return True

    async def still_ours(self) -> None:
        """Raise Deposed if somebody else owns the partition."""
        own = await self.tools.patiently(lambda: self.tools.bus.last(self.stream, self.own))
        if own is None or own.sequence != self.fence:
            raise Deposed

    async def compact(self, up_to: int) -> None:
        """Drop what no replay needs. The last message stays: it says whether anything is live."""
        await self.tools.bus.purge(self.stream, self.subject, up_to=up_to or self.last_sequence)
        await self.tools.bus.purge(self.stream, self.own, up_to=self.fence)

    async def _append(self, data: bytes, live: int) -> int:
        bus, log = self.tools.bus, self.tools.log
        self.appends += 1
        # The id names the term: a commit that was sent and not answered is found as a duplicate.
        message_id = f"{self.number}.{self.fence}.{self.appends}"
        pause_s = PAUSE_S
        while True:
            try:
                appended = await bus.append(
                    self.subject,
                    data,
                    {LIVE: str(live)},
                    message_id=message_id,
                    expect=Expect(self.fence, self.own),
                )
            except Conflict as error:
                await self.still_ours()
                log.debug("another write is in process", error=str(error))
                await asyncio.sleep(PAUSE_S)
            except BusUnavailable as error:
                log.warning("a commit waits", partition=self.number, error=str(error))
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, PAUSE_S_MAX)
            else:
                if appended.duplicate:  # on a replicated stream this is said to deposed owners too
                    await self.still_ours()
                self.last_sequence, self.last_live = appended.sequence, live
                return appended.sequence


async def taken_over(tools: Tools, number: int) -> int:
    """Make every earlier owner's commits impossible; return the fence of ours."""
    subject = tools.names.own(number)
    while True:
        last = await tools.bus.last(tools.names.stream("runs"), subject)
        with contextlib.suppress(Conflict):
            appended = await tools.bus.append(
                subject,
                msgspec.json.encode({"instance": tools.instance}),
                message_id=f"{tools.instance}.{secrets.token_hex(8)}",
                expect=Expect(last.sequence if last else 0),
            )
            return appended.sequence
