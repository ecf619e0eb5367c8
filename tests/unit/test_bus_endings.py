"""Closing a bus ends, whatever its tasks do with a cancellation."""

import asyncio
import contextlib

from penstock.bus._endings import cancelled, ended


async def test_a_task_that_loses_a_cancellation_is_cancelled_again() -> None:
    lost = 0

    async def loses_two() -> None:
        nonlocal lost
        while lost < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost += 1
        await asyncio.Event().wait()

    task = asyncio.create_task(loses_two())
    await asyncio.sleep(0)
    await cancelled([task])
    assert task.cancelled()
    assert lost == 2


async def test_a_loop_may_end_itself_and_finish_what_is_in_hand() -> None:
    done: list[str] = []

    async def closes_itself() -> None:
        await ended(asyncio.current_task())
        await cancelled([task])
        done.append("itself")

    task = asyncio.create_task(closes_itself())
    await ended(task, 5)
    assert done == ["itself"]

    async def busy() -> None:
        await asyncio.sleep(0.01)
        done.append("in hand")

    await ended(asyncio.create_task(busy()), 5)
    late = asyncio.create_task(asyncio.Event().wait())
    with contextlib.suppress(asyncio.CancelledError):
        await ended(late, 0.01)  # type: ignore[arg-type]
    assert done == ["itself", "in hand"]
    assert late.cancelled()
