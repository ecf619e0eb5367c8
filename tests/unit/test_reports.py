"""Reports that gather go together, in order, and one that cannot be stored keeps no other back."""

import asyncio

import pytest

from penstock.bus import Appended, Stored
from penstock.bus.memory import MemoryBus, MemoryServer
from penstock.bus.topology import ensure
from penstock.contracts.codec import inbound
from penstock.contracts.inbox import Report, Reports
from penstock.contracts.subjects import Subjects
from penstock.contracts.work import AttemptStarted, AttemptSucceeded
from penstock.errors import BusUnavailable, Invalid
from penstock.runtime.reports import Reporter

RUN, OTHER = "6q9c8w0k3f7m2ax", "6q9c8w0k3f7m2bb"
NAMES = Subjects("w")


def started(step: str, run: str = RUN) -> AttemptStarted:
    return AttemptStarted(run=run, step=step, attempt=1, executor="x")


def ended(step: str, **metrics: object) -> AttemptSucceeded:
    return AttemptSucceeded(run=RUN, step=step, attempt=1, executor="x", metrics=metrics)


async def connected() -> MemoryBus:
    bus = await MemoryServer().connect("test")
    await ensure(bus, NAMES, ("inbox",))
    return bus


async def inbox(bus: MemoryBus) -> list[Report | Reports]:
    found: list[Stored] = []
    await bus.replay(NAMES.stream("inbox"), ["w.inbox.>"], found.append)
    messages = [inbound(stored.data) for stored in found]
    assert all(isinstance(message, Report | Reports) for message in messages)
    return messages  # type: ignore[return-value]


async def test_one_report_is_a_message_of_its_own() -> None:
    bus = await connected()
    reporter = Reporter(bus, NAMES)
    await reporter.report(started("a"))
    await reporter.report(ended("a"))
    assert await inbox(bus) == [started("a"), ended("a")]


async def test_reports_that_gather_go_together_by_run_and_in_order() -> None:
    bus = await connected()
    reporter = Reporter(bus, NAMES)
    said: list[Report] = [started("a"), ended("a"), started("b")]
    await asyncio.gather(*(reporter.report(r) for r in [*said, started("c", OTHER)]))
    assert await inbox(bus) == [Reports(run=RUN, reports=tuple(said)), started("c", OTHER)]
    await asyncio.gather(*(reporter.report(r) for r in said))  # the bus drops the copy
    assert len(await inbox(bus)) == 2


async def test_large_reports_go_in_several_messages() -> None:
    bus = await connected()
    reporter = Reporter(bus, NAMES)
    said: list[Report] = [ended(f"s{n}", text="x" * 100_000) for n in range(5)]
    await asyncio.gather(*(reporter.report(r) for r in said))
    groups = await inbox(bus)
    assert [r for g in groups for r in (g.reports if isinstance(g, Reports) else (g,))] == said
    assert len(groups) == 2


async def test_one_that_cannot_be_stored_keeps_no_other_back() -> None:
    bus = await connected()
    reporter = Reporter(bus, NAMES)
    said: list[Report] = [started("a"), ended("a", text="x" * 2_000_000), started("b")]
    results = await asyncio.gather(*(reporter.report(r) for r in said), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), Invalid, type(None)]
    assert await inbox(bus) == [started("a"), started("b")]


@pytest.mark.parametrize("error", [BusUnavailable("away"), RuntimeError("a bug")])
async def test_whatever_goes_wrong_everybody_who_waits_learns_it(error: Exception) -> None:
    bus = await connected()
    reporter = Reporter(bus, NAMES)

    async def away(*_: object, **__: object) -> Appended:
        raise error

    bus.append = away  # type: ignore[method-assign]
    results = await asyncio.gather(
        *(reporter.report(r) for r in (started("a"), started("b"))), return_exceptions=True
    )
    assert results == [error, error]
    with pytest.raises(type(error)):
        await reporter.report(started("a"))
