"""Looking for equal work: what the buckets hold, whether it still exists, and the claim.

Answers come back as input of a decision. A claim is a compare-and-set on the fingerprint, so of all
steps of all runs in all partitions one gets it. A claim that was made and never decided upon (a
crash in between) is found stale by whoever follows it.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from structlog.typing import FilteringBoundLogger

from penstock.bus import TOGETHER_MIN, Bus, Expect, Outgoing, Stored
from penstock.bus.buckets import Bucket, is_deleted
from penstock.bus.lanes import Lane
from penstock.contracts.artifacts import ExistRequest
from penstock.contracts.base import Message
from penstock.contracts.codec import decoded, encoded
from penstock.contracts.queries import LatestEntry, ReuseEntry
from penstock.contracts.requests import ErrorBody
from penstock.contracts.subjects import Subjects
from penstock.errors import BusUnavailable, Conflict, Corrupt, NotFound, PenstockError
from penstock.runtime.crash import Crash, never
from penstock_scheduler.decide import LookedUp
from penstock_scheduler.effects import LookUp

BATCH_MAX = 500
CLAIMED_BLINDLY_MAX = 8
"""So few looks are claimed while they are made: most work is new, and a claim that comes too late is
refused at the cost of a message."""
BATCHES_MAX = 4
PAUSE_S = 0.1
PAUSE_S_MAX = 2.0
EXIST_WAIT_S = 30.0
"""After this long without an answer of the artifact service a step runs rather than waits."""

T = TypeVar("T")


class ExistOrError(Message):
    """ExistAnswer, or a refusal."""

    digests: tuple[str, ...] = ()
    error: ErrorBody | None = None


class LookUps:
    """Looks of one partition that are under way."""

    def __init__(
        self,
        bus: Bus,
        names: Subjects,
        log: FilteringBoundLogger,
        answer: Callable[[LookedUp], None],
        crash: Crash = never,
    ) -> None:
        self.bus = bus
        self.names = names
        self.log = log
        self.answer = answer
        self.crash = crash
        self.reuse = Bucket(bus, names.bucket("reuse"), ReuseEntry)
        self.latest = Bucket(bus, names.bucket("latest"), LatestEntry)
        self.results = Lane(bus)
        """Where results go that a look must find."""
        self.waiting: list[LookUp] = []
        self._arrived = asyncio.Event()
        self._free = asyncio.Semaphore(BATCHES_MAX)
        self._group: asyncio.TaskGroup | None = None

    def add(self, look: LookUp) -> None:
        """Take over a look."""
        self.waiting.append(look)
        self._arrived.set()

    async def work(self) -> None:
        """Look until cancelled; slow answers of the artifact service hold up only their batch."""
        async with asyncio.TaskGroup() as self._group:
            while True:
                if not self.waiting:
                    self._arrived.clear()
                    await self._arrived.wait()
                await self._free.acquire()
                batch, self.waiting = self.waiting[:BATCH_MAX], self.waiting[BATCH_MAX:]
                self._begin(self._group, batch, self.answer)

    async def soon(self, looks: list[LookUp], within_s: float) -> list[LookedUp]:
        """Look at once; return the answers that come in time. The others come as input, later."""
        answers: list[LookedUp] = []
        if self._group is None or self._free.locked():
            for look in looks:
                self.add(look)
            return answers
        await self._free.acquire()
        late = False

        def take(answer: LookedUp) -> None:
            if late:
                self.answer(answer)
            else:
                answers.append(answer)

        await asyncio.wait({self._begin(self._group, looks, take)}, timeout=within_s)
        late = True
        return answers

    def _begin(
        self, group: asyncio.TaskGroup, batch: list[LookUp], answer: Callable[[LookedUp], None]
    ) -> "asyncio.Task[None]":
        task = group.create_task(self._patiently(batch, answer))
        task.add_done_callback(lambda _: self._free.release())
        return task

    async def _patiently(self, batch: list[LookUp], answer: Callable[[LookedUp], None]) -> None:
        pause_s, left = PAUSE_S, batch
        while left:
            try:
                left = await self._looked(left, answer)
            except BusUnavailable as error:
                self.log.warning("looks wait", error=str(error), waiting=len(left))
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, PAUSE_S_MAX)

    async def _looked(
        self, batch: list[LookUp], answered: Callable[[LookedUp], None]
    ) -> list[LookUp]:
        """Answer what can be answered; return what somebody else changed meanwhile."""
        await self.results.passed()
        subjects = [self.reuse.subject(look.fingerprint) for look in batch]
        ours, found, before = await asyncio.gather(
            self._claimed_blindly(batch, subjects),
            self.bus.last_many(self.reuse.stream, subjects),
            self.bus.last_many(
                self.latest.stream, [self.latest.subject(look.latest) for look in batch]
            ),
        )
        found = [None if number in ours else stored for number, stored in enumerate(found)]
        entries = [self._value(stored, ReuseEntry) for stored in found]
        latest = [self._value(stored, LatestEntry) for stored in before]
        wanted = {
            tree.digest
            for look, entry in zip(batch, entries, strict=True)
            if look.claim and entry is not None and entry.ended_at
            for tree in entry.outputs.values()
        }
        existing = await self._existing(sorted(wanted)) if wanted else frozenset()
        claims: dict[int, Outgoing] = {}
        answers: dict[int, LookedUp] = {}
        for number, look in enumerate(batch):
            entry, stored = entries[number], found[number]
            answer = LookedUp(
                run=look.run,
                step=look.step,
                look=look.look,
                fingerprint=look.fingerprint,
                latest=latest[number],
                entry=entry,
                exists=_all_there(entry, existing),
                unsure=existing is None and entry is not None and bool(entry.ended_at),
            )
            answers[number] = answer
            if not look.claim:
                answers[number] = _changed(answer, entry=None)
            elif number in ours:
                answers[number] = _changed(answer, claimed=True)
            elif entry is not None and not entry.ended_at and _is_ours(entry, look):
                answers[number] = _changed(answer, entry=None, claimed=True)
            elif _claimable(entry, look, answer):
                # An entry that is done but gone is kept in the answer: it belongs to the reason.
                shown = entry if entry is not None and entry.ended_at else None
                answers[number] = _changed(answer, entry=shown, claimed=True)
                claims[number] = Outgoing(
                    subjects[number],
                    _claim_of(look),
                    expect=Expect(stored.sequence if stored else 0),
                )
        failures = await self._claimed(claims)
        if claims or ours:
            self.crash("scheduler.after-claim")
        left: list[LookUp] = []
        for number, look in enumerate(batch):
            failure = failures.get(number)
            if isinstance(failure, Conflict | BusUnavailable):
                left.append(look)
            elif failure is not None:
                raise failure
            else:
                answered(answers[number])
        return left

    async def _claimed_blindly(self, batch: list[LookUp], subjects: list[str]) -> set[int]:
        """Claim what nobody has done or claimed before; return which looks that were."""
        if len(batch) > CLAIMED_BLINDLY_MAX:
            return set()
        claims = {
            number: Outgoing(subjects[number], _claim_of(look), expect=Expect(0))
            for number, look in enumerate(batch)
            if look.claim and look.stale is None
        }
        failures = await self._claimed(claims)
        return claims.keys() - failures.keys()

    async def _claimed(self, claims: dict[int, Outgoing]) -> dict[int, BaseException]:
        """Claim; return those claims that failed, and why."""
        if len(claims) >= TOGETHER_MIN:
            with contextlib.suppress(PenstockError):  # one by one it is found out which, and why
                await self.bus.append_together(list(claims.values()))
                return {}
        sent = [
            await self.bus.append_soon(claim.subject, claim.data, expect=claim.expect)
            for claim in claims.values()
        ]
        results = await asyncio.gather(*sent, return_exceptions=True)
        return {
            number: result
            for number, result in zip(claims, results, strict=True)
            if isinstance(result, BaseException)
        }

    def _value(self, stored: Stored | None, kind: type[T]) -> T | None:
        if stored is None or is_deleted(stored):
            return None
        try:
            return decoded(stored.data, kind)
        except Corrupt as error:  # not worth a stop: the step runs, and overwrites it
            self.log.error("an entry is garbage", subject=stored.subject, error=error.message)
            return None

    async def _existing(self, digests: list[str]) -> frozenset[str] | None:
        """Return which trees exist completely; None if nobody says so in time."""
        subject, pause_s = self.names.artifact("exist"), PAUSE_S
        deadline = asyncio.get_running_loop().time() + EXIST_WAIT_S
        existing: set[str] = set()
        for begin in range(0, len(digests), BATCH_MAX):
            question = encoded(ExistRequest(digests=tuple(digests[begin : begin + BATCH_MAX])))
            while True:
                try:
                    received = await self.bus.request(subject, question)
                    answer = decoded(received.data, ExistOrError)
                    if answer.error is None:
                        existing.update(answer.digests)
                        break
                    self.log.warning("the artifact service refuses", error=answer.error.message)
                except (BusUnavailable, NotFound) as error:
                    self.log.warning("waiting for the artifact service", error=str(error))
                except PenstockError as error:
                    self.log.error("cannot ask the artifact service", error=str(error))
                    return None
                if asyncio.get_running_loop().time() > deadline:
                    return None
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, PAUSE_S_MAX)
        return frozenset(existing)


def _all_there(entry: ReuseEntry | None, existing: frozenset[str] | None) -> bool:
    if entry is None or not entry.ended_at:
        return False
    digests: Iterable[str] = (tree.digest for tree in entry.outputs.values())
    return all(existing is not None and digest in existing for digest in digests)


def _claim_of(look: LookUp) -> bytes:
    return encoded(ReuseEntry(run=look.run, step=look.step))


def _is_ours(entry: ReuseEntry, look: LookUp) -> bool:
    return (entry.run, entry.step) == (look.run, look.step)


def _claimable(entry: ReuseEntry | None, look: LookUp, answer: LookedUp) -> bool:
    if entry is None:
        return True
    if entry.ended_at:
        return not answer.exists
    return look.stale == (entry.run, entry.step)


def _changed(answer: LookedUp, **fields: object) -> LookedUp:
    known: Mapping[str, object] = {
        name: getattr(answer, name) for name in LookedUp.__dataclass_fields__
    }
    return LookedUp(**{**known, **fields})  # type: ignore[arg-type]
