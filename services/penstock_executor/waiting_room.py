"""Attempts that wait until what they ask for is free here, and work that does not fit here at all."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from penstock.clock import Clock
from penstock.contracts.resources import Offer, Resources
from penstock.contracts.work import Waiting
from penstock_executor.attempt import Attempt, Result
from penstock_executor.decide.room import NOTHING, Room

MISFIT_S = 5.0
"""After this long work that does not fit here is offered to the target's executors again."""

Key = tuple[str, str, int]


class WaitingRoom:
    """Whoever asks the executor is told why they wait."""

    def __init__(self, offer: Offer, gpus: tuple[str, ...], clock: Clock) -> None:
        self.offer = offer
        self._room = Room(offer, gpus)
        self._clock = clock
        self._roomier = asyncio.Condition()
        self._waiting: dict[Key, Waiting] = {}

    @property
    def waiting(self) -> Iterable[Waiting]:
        """Who waits for what."""
        return self._waiting.values()

    def refused(self, key: Key, asked: Resources) -> bool:
        """Say whether a step asks for more than there is here; then it is told as waiting for a while."""
        lacks = self._room.never(asked) if asked != NOTHING else ""
        if lacks:
            now = self._clock.now()
            known = self._waiting.items()
            self._waiting = {k: w for k, w in known if now - w.since < MISFIT_S * 3}
            self._note(key, now, f"no executor that fits has taken it; this one lacks {lacks}")
        return bool(lacks)

    async def run(
        self, key: Key, attempt: Attempt, on_start: Callable[[], Awaitable[None]]
    ) -> Result:
        """Run an attempt when what it asks for is free. Raises as `Attempt.run`."""
        await self._enter(key, attempt)
        try:
            return await attempt.run(on_start)
        finally:
            await self._leave(key, attempt)

    async def _enter(self, key: Key, attempt: Attempt) -> None:
        """Wait until what the step asks for is free, and take it."""
        asked, since = attempt.item.resources, self._clock.now()
        if asked == NOTHING:
            return
        async with self._roomier:
            while (lacking := self._room.lacking(asked)) and not attempt.ending:
                self._note(key, since, f"not free here: {lacking}")
                await self._roomier.wait()
            self._waiting.pop(key, None)
            if not lacking:
                attempt.gpus = self._room.take(key, asked)

    async def _leave(self, key: Key, attempt: Attempt) -> None:
        """Free what a step has taken."""
        if attempt.item.resources != NOTHING:
            self._room.leave(key)
            await self.stir()

    async def stir(self) -> None:
        """Have those that wait look again: there is more room, or they are to end."""
        async with self._roomier:
            self._roomier.notify_all()

    def _note(self, key: Key, since: float, message: str) -> None:
        run, step, _ = key
        self._waiting[key] = Waiting(
            run=run, step=step, since=since, code="E_RESOURCES", message=message
        )
