"""Which executors are there, and why a queued step waits for one. Asks on the bus; starts nothing."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection
from datetime import datetime

from penstock.bus import Received
from penstock.contracts.codec import decoded, encoded
from penstock.contracts.queries import ExecutorsQuestion
from penstock.contracts.work import ExecutorPresence
from penstock.errors import Corrupt
from penstock.sdk.conversation import Conversation
from penstock.sdk.progress import Progress, StepProgress

ANSWER_S = 2.0
"""How long nobody may answer before nobody is there."""
QUIET_S = 0.25
"""After an answer, how long no other may come before all have answered."""
QUEUED_S = 3.0
"""An executor with a free slot takes a step within milliseconds; after this long one asks why not."""
AGAIN_S = 5.0

AWAY = {"E_DISK": "disk space", "E_RESOURCES": "room", "E_ENGINE": "the Docker engine"}

Executors = Collection[ExecutorPresence]


async def present(
    talk: Conversation, *, wait_s: float = ANSWER_S, quiet_s: float = QUIET_S
) -> tuple[ExecutorPresence, ...]:
    """Return the executors that answer, by name; those that are ending say so (`draining`)."""
    heard: dict[str, ExecutorPresence] = {}
    news = asyncio.Event()

    async def on_presence(message: Received) -> None:
        with contextlib.suppress(Corrupt):
            said = decoded(message.data, ExecutorPresence)
            heard[said.executor] = said
            news.set()

    subscription = await talk.bus.subscribe(talk.names.presence(), on_presence)
    try:
        await talk.bus.publish(talk.names.query("executors"), encoded(ExecutorsQuestion()))
        with contextlib.suppress(TimeoutError):
            while True:
                await asyncio.wait_for(news.wait(), quiet_s if heard else wait_s)
                news.clear()
    finally:
        await subscription.close()
    return tuple(heard[name] for name in sorted(heard))


def unserved(target: str, executors: Executors) -> str:
    """Return that no executor takes the steps of a target, and what to type; empty: one does."""
    serving = [e for e in executors if not e.draining]
    if any(target in executor.targets for executor in serving):
        return ""
    if not serving:
        return "no executor is running; `penstock status` says more"
    known = ", ".join(sorted({name for executor in serving for name in executor.targets}))
    return (
        f"no executor serves {target!r} (served: {known}); "
        f"start one: penstock serve executor --targets {target}"
    )


def reason_to_wait(target: str, executors: Executors) -> str:
    """Return why a queued step has not started; empty when its turn should come at once."""
    serving = [e for e in executors if target in e.targets and not e.draining]
    if not serving:
        return unserved(target, executors)
    slots = sum(executor.slots for executor in serving)
    if sum(executor.busy for executor in serving) < slots:
        return ""
    if slots == 1:
        return f"the one slot of {target!r} is busy"
    return f"all {slots} slots of {target!r} are busy"


def waits_of(run: str, step: str, executors: Executors) -> str:
    """Return what an attempt waits for on its executor, and since when; empty when it goes on."""
    for waiting in (w for executor in executors for w in executor.waiting):
        if (waiting.run, waiting.step) == (run, step):
            since = datetime.fromtimestamp(waiting.since).astimezone().strftime("%H:%M:%S")
            if waiting.code == "E_ENVIRONMENT":
                return f"{waiting.message}, since {since}"
            away = AWAY.get(waiting.code, "the store")
            return f"waits for {away} since {since}: {waiting.code}: {waiting.message}"
    return ""


async def explain_waiting(
    talk: Conversation, progress: Progress, on_news: Callable[[StepProgress], None]
) -> None:
    """Keep `waits_for` of a run's steps true until it ends; `on_news` hears of each change."""
    while not progress.ended:
        waiting = progress.unchanged_since(time.time() - QUEUED_S)
        if not waiting:
            await asyncio.sleep(1)
            continue
        executors = await present(talk)
        for step in waiting:
            reason = waits_of(progress.run, step.name, executors)
            if not reason and step.state == "queued":
                reason = reason_to_wait(step.target, executors)
            if reason != step.waits_for:
                step.waits_for = reason
                on_news(step)
        await asyncio.sleep(AGAIN_S)
