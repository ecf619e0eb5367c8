"""How the loops of every adapter end: what is in hand is finished, but not waited for without end."""

import asyncio
from collections.abc import Iterable

HANDLER_WAIT_S = 5.0
CANCEL_AGAIN_S = 0.2
CANCELS_MAX = 25


async def ended(worker: "asyncio.Task[None] | None", wait_s: float = HANDLER_WAIT_S) -> None:
    """Return when `worker`, which has been told to stop, has done so; cancel it after `wait_s`.

    A handler may end its own loop; then there is nothing to wait for.
    """
    if worker is None or worker is asyncio.current_task():
        return
    _, late = await asyncio.wait({worker}, timeout=wait_s)
    await cancelled(late)


async def cancelled(tasks: "Iterable[asyncio.Task[None]]") -> None:
    """Cancel tasks until they have ended; give up on one that ignores it CANCELS_MAX times.

    Once is not enough: `asyncio.wait_for` of Python 3.11 loses a cancellation that arrives together
    with the result it waits for (python/cpython#86296), and the loop around it goes on.
    """
    current = asyncio.current_task()
    left = {task for task in tasks if task is not current and not task.done()}
    for _ in range(CANCELS_MAX):
        if not left:
            return
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=CANCEL_AGAIN_S)
