"""Callers and their answers. A stream forgets a caller's reply address, so planners remember it.

    caller ──request──▶ request.run ──▶ stream ──▶ whichever planner pulls it ──▶ plan
                            │                                │
                            └─core, queue group─▶ a planner  │ request answer.<key>
                                                  waiting ◀──┘
                                                     └──▶ the caller's reply address

The key follows from the message, so equal requests share it; each answer goes to exactly one of
them, and since they are equal it does not matter to which.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from structlog.typing import FilteringBoundLogger

from penstock.bus import Bus, Received, Subscription
from penstock.contracts.subjects import Subjects
from penstock.errors import NotFound, PenstockError, Transient
from penstock_planner.decide.reading import pairing_of

QUEUE = "planner"
WAITING_MAX = 20_000
WAIT_S = 60.0
SWEEP_S = 10.0
FIRST_PAUSE_S = 0.002
TRIES_MAX = 10  # 2, 4, 8 … 1,024 ms: about two seconds in all
ANSWER_WAIT_S = 0.5

TAKEN = b"+TAKEN"
NOBODY = b"-NOBODY"


@dataclass(slots=True)
class Line:
    """Callers of equal requests, first come first served."""

    replies: deque[tuple[str, float]] = field(default_factory=deque)
    """Reply address, and the loop's time when we give up waiting."""
    subscription: Subscription | None = None


class Callers:
    """Reply addresses that wait for an answer."""

    def __init__(self, bus: Bus, names: Subjects, log: FilteringBoundLogger) -> None:
        self.bus = bus
        self.names = names
        self.log = log
        self.lines: dict[str, Line] = {}
        self.waiting = 0
        self.idle = asyncio.Event()
        self.idle.set()
        self._subscription: Subscription | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to remember callers."""
        self._subscription = await self.bus.subscribe(
            self.names.request("*"), self._heard, queue=QUEUE
        )
        self._sweeper = asyncio.create_task(self._sweep())

    async def stop_listening(self) -> None:
        """Take no new callers; those that wait may still get their answer."""
        if self._subscription is not None:
            await self._subscription.close()
            self._subscription = None

    async def drain(self, wait_s: float) -> None:
        """Wait until nobody waits any more, at most `wait_s`."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.idle.wait(), wait_s)

    async def close(self) -> None:
        """Forget everybody."""
        await self.stop_listening()
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.wait({self._sweeper})
        for line in self.lines.values():
            if line.subscription is not None:
                await line.subscription.close()
        self.lines.clear()
        self.waiting = 0
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1)

    async def give(self, key: str, answer: bytes) -> bool:
        """Hand an answer to one caller of the request behind `key`; False when nobody waits for it.

        The caller's address may reach its planner later than the stream's copy reached us, so
        nobody is asked for again, after 2, 4, 8 … ms.
        """
        subject = self.names.answer(key)
        pause_s = FIRST_PAUSE_S
        for _ in range(TRIES_MAX):
            if await self._hand_over(key, answer):
                return True
            try:
                taken = await self.bus.request(subject, answer, timeout_s=ANSWER_WAIT_S)
                if taken.data == TAKEN:
                    return True
            except NotFound:
                pass
            except Transient as error:
                self.log.warning("answer not taken", code=error.code, message=error.message)
            await asyncio.sleep(pause_s)
            pause_s *= 2
        return False

    async def _heard(self, message: Received) -> None:
        if not message.reply:
            return
        if self.waiting >= WAITING_MAX:
            self.log.warning("too many callers wait", waiting=self.waiting)
            return
        key = pairing_of(message.subject, message.data, message.headers)
        line = self.lines.get(key)
        until = asyncio.get_running_loop().time() + WAIT_S
        if line is not None:
            line.replies.append((message.reply, until))
        else:
            line = self.lines[key] = Line(deque([(message.reply, until)]))
            self._spawn(self._listen(key, line))
        self.waiting += 1
        self.idle.clear()

    async def _listen(self, key: str, line: Line) -> None:
        """Let other planners reach this line."""
        with contextlib.suppress(PenstockError):  # then only this planner's own answers arrive
            subscription = await self.bus.subscribe(
                self.names.answer(key), self._answered, queue=QUEUE
            )
            if self.lines.get(key) is line:
                line.subscription = subscription
            else:
                await subscription.close()

    async def _answered(self, message: Received) -> None:
        key = message.subject.rpartition(".")[2]
        taken = await self._hand_over(key, message.data)
        if message.reply:
            await self.bus.publish(message.reply, TAKEN if taken else NOBODY)

    async def _hand_over(self, key: str, answer: bytes) -> bool:
        line = self.lines.get(key)
        if line is None:
            return False
        reply = self._next(line)
        if not line.replies:
            self._drop(key, line)
        try:
            await self.bus.publish(reply, answer)
        except PenstockError as error:
            self.log.warning("caller not reached", code=error.code, message=error.message)
        return True

    def _next(self, line: Line) -> str:
        reply, _ = line.replies.popleft()
        self.waiting -= 1
        if not self.waiting:
            self.idle.set()
        return reply

    def _drop(self, key: str, line: Line) -> None:
        del self.lines[key]
        if line.subscription is not None:
            # Not awaited here: a subscription cannot wait for the handler that ends it.
            self._spawn(line.subscription.close())

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_S)
            now = loop.time()
            for key, line in list(self.lines.items()):
                while line.replies and line.replies[0][1] < now:
                    self._next(line)
                if not line.replies:
                    self._drop(key, line)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
