"""How the loops of every adapter end: what is in hand is finished, but not waited for without end."""

import asyncio

HANDLER_WAIT_S = 5.0


async def ended(worker: "asyncio.Task[None] | None", wait_s: float = HANDLER_WAIT_S) -> None:
    """Return when `worker`, which has been told to stop, has done so; cancel it after `wait_s`.

    A handler may end its own loop; then there is nothing to wait for.
    """
    if worker is None or worker is asyncio.current_task():
        return
    _, late = await asyncio.wait({worker}, timeout=wait_s)
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late)
