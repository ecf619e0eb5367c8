"""A follower is told to look again only when what it shall find is stored: it must not run again."""

import asyncio

import structlog

from penstock.bus.memory import MemoryServer
from penstock.bus.topology import ensure
from penstock.clock import SystemClock
from penstock.contracts.inbox import FlightLanded
from penstock.contracts.queries import ReuseEntry
from penstock.contracts.subjects import Subjects
from penstock_scheduler.decide import LookedUp
from penstock_scheduler.effects import LookUp, PutReuse, TellFlight
from penstock_scheduler.lookups import LookUps
from penstock_scheduler.performer import Performer
from penstock_scheduler.tools import Tools

RUN, OTHER = "6q9c8w0k3f7m2ax", "6q9c8w0k3f7m2bb"
KEY = "cd" * 32
NAMES = Subjects("w")


async def test_what_a_look_must_find_is_stored_before_anybody_looks() -> None:
    bus = await MemoryServer().connect("test")
    await ensure(bus, NAMES, ("inbox", "reuse", "latest"))
    tools = Tools(
        bus=bus,
        names=NAMES,
        log=structlog.get_logger(),
        clock=SystemClock(),
        instance="s",
        window=1,
        deadline_s=1,
        fail=lambda error: None,
    )
    found: asyncio.Queue[LookedUp] = asyncio.Queue()
    looks = LookUps(bus, NAMES, tools.log, found.put_nowait)
    performer = Performer(tools, looks, lambda message: None)
    entry = ReuseEntry(run=RUN, step="a", ended_at=1)
    landed = FlightLanded(
        run=OTHER, step="b", fingerprint=KEY, leader_run=RUN, leader_step="a", look=1
    )
    look = LookUp(run=RUN, step="c", look=1, fingerprint=KEY, latest="p.c", claim=True)
    looking = asyncio.create_task(looks.work())
    pending = await performer.perform([PutReuse(KEY, entry), TellFlight(landed), look])
    for _ in range(50):  # nothing carries the result to its bucket yet
        await asyncio.sleep(0)
    assert await bus.last(NAMES.stream("inbox"), "w.inbox.>") is None
    assert found.empty()
    storing = asyncio.create_task(performer.reuse_lane.work())
    try:
        await performer.settle(pending)
        assert await bus.last(NAMES.stream("inbox"), "w.inbox.>") is not None
        answer = await asyncio.wait_for(found.get(), 5)
        assert answer.entry == entry
        assert not answer.claimed
    finally:
        for task in (looking, storing):
            task.cancel()
