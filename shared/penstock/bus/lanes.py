"""Appends to one stream in order, together when there are many.

    put ─▶ waiting ─▶ few: one by one, pipelined ──────────────▶ each future resolves
                      many: all or none, one fsync ─▶ refused: one by one

What arrives while others are under way waits for them, so under load it gathers by itself, and
without load nothing waits. Whoever puts something must not mind its being stored twice.
"""

import asyncio
from asyncio import Future
from collections import deque
from functools import partial

from penstock.bus import TOGETHER_MAX, TOGETHER_MIN, Appended, Bus, Outgoing
from penstock.errors import PenstockError


class Lane:
    """The way to one stream."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.waiting: deque[tuple[Outgoing, Future[Appended]]] = deque()
        self._arrived = asyncio.Event()
        self._last: Future[Appended] | None = None

    def put(self, message: Outgoing) -> Future[Appended]:
        """Take over a message; the future resolves as `Bus.append` does."""
        future: Future[Appended] = asyncio.get_running_loop().create_future()
        self.waiting.append((message, future))
        self._last = future
        self._arrived.set()
        return future

    async def passed(self) -> None:
        """Return when everything put so far is stored, or refused."""
        if self._last is not None and not self._last.done():
            await asyncio.wait({self._last})

    async def work(self) -> None:
        """Store until cancelled."""
        while True:
            if not self.waiting:
                self._arrived.clear()
                await self._arrived.wait()
            count = min(len(self.waiting), TOGETHER_MAX)
            chunk = [self.waiting.popleft() for _ in range(count)]
            if count < TOGETHER_MIN or not await self._together(chunk):
                await self._one_by_one(chunk)

    async def _together(self, chunk: list[tuple[Outgoing, Future[Appended]]]) -> bool:
        try:
            stored = await self.bus.append_together([message for message, _ in chunk])
        except PenstockError:
            return False  # one of them is the reason; one by one it is found
        for (_, future), appended in zip(chunk, stored, strict=True):
            if not future.done():
                future.set_result(appended)
        return True

    async def _one_by_one(self, chunk: list[tuple[Outgoing, Future[Appended]]]) -> None:
        sent: list[Future[Appended]] = []
        for message, future in chunk:
            try:
                answer = await self.bus.append_soon(
                    message.subject,
                    message.data,
                    message.headers,
                    message_id=message.message_id,
                    expect=message.expect,
                )
            except PenstockError as error:
                _fail(future, error)
                continue
            answer.add_done_callback(partial(_hand_over, future))
            sent.append(answer)
        if sent:
            await asyncio.wait(sent)


def _hand_over(future: Future[Appended], done: Future[Appended]) -> None:
    if future.done():
        return
    error = None if done.cancelled() else done.exception()
    if error is not None:
        _fail(future, error)
    elif not done.cancelled():
        future.set_result(done.result())


def _fail(future: Future[Appended], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # whoever does not look is not scolded at exit
