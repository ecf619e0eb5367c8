"""Deadlines and overdue words on a real nats-server, while schedulers are killed between them."""

import asyncio

import pytest
from tests.integration.test_scheduler_on_nats import (
    WAIT_S,
    executor,
    fleet,
    named,
    nats,
    step,
    story,
    submit,
)

from penstock.bus.nats import NatsBus
from penstock.contracts.plans import PlanHead
from penstock.contracts.subjects import Subjects
from penstock.testing.fleet import Fleet
from penstock.testing.null_executor import NullExecutor

pytestmark = pytest.mark.server
__all__ = ["executor", "fleet", "nats"]


async def test_an_overdue_attempt_is_told_once_though_its_scheduler_was_killed(
    fleet: Fleet, bus: NatsBus, names: Subjects, executor: NullExecutor
) -> None:
    fleet.start("scheduler")
    fleet.start("scheduler")
    head = PlanHead(run=named("overdue"), pipeline="p", reuse="off")
    hangs = step("a", command="hang", expected_s=1.0)
    run = await submit(bus, names, head, hangs, step("b", "a"))
    told = await story(bus, names, run)
    await told.until("started", step="a")
    fleet.kill("scheduler-1")
    fleet.kill("scheduler-2")  # whichever owned the run: its timer comes due with nobody there
    fleet.restart("scheduler-1")
    await told.until("overdue", step="a")
    fleet.kill("scheduler-1")
    fleet.restart("scheduler-2")
    await executor_ends(bus, names, run)
    events = await told.ended()
    assert [e.what for e in events if e.step == "a"] == [
        "queued",
        "started",
        "overdue",
        "succeeded",
    ]


async def executor_ends(bus: NatsBus, names: Subjects, run: str) -> None:
    """Report, for the null executor, that what hangs has come to its end after all."""
    from penstock.contracts.codec import encoded
    from penstock.contracts.work import AttemptSucceeded

    report = AttemptSucceeded(run=run, step="a", attempt=1, executor="null")
    await bus.append(names.inbox(run, "executor", "succeeded", "a"), encoded(report))


async def test_a_step_whose_target_nobody_serves_fails_at_its_deadline(
    fleet: Fleet, bus: NatsBus, names: Subjects, executor: NullExecutor
) -> None:
    fleet.start("scheduler")
    head = PlanHead(run=named("nobody"), pipeline="p", reuse="off")
    waits = step("a", compute="gpu", deadline_s=1.5, attempts_max=5)
    run = await submit(bus, names, head, waits, step("b", "a"))
    told = await story(bus, names, run)
    await told.until("queued", step="a")
    fleet.kill("scheduler-1")
    async with asyncio.timeout(WAIT_S):  # the deadline passes while nobody is there to keep it
        due = names.due(run, "a", "deadline")
        while await bus.last(names.stream("timers"), due) is None:  # noqa: ASYNC110 - a work queue
            await asyncio.sleep(0.05)
    fleet.restart("scheduler-1")
    events = await told.ended()
    assert [(e.step, e.what) for e in events][-3:] == [
        ("a", "failed"),
        ("b", "skipped"),
        ("", "failed"),
    ]
    failure = next(e.failure for e in events if e.what == "failed" and e.step)
    assert failure.code == "E_DEADLINE"
    assert await bus.last(names.stream("work"), names.work_of("gpu")) is None, "not called back"


async def test_a_run_s_deadline_counts_the_time_it_was_queued(
    fleet: Fleet, bus: NatsBus, names: Subjects
) -> None:
    fleet.start("scheduler")
    head = PlanHead(run=named("queued"), pipeline="p", reuse="off", deadline_s=1.0)
    run = await submit(bus, names, head, step("a", compute="gpu"), step("b", "a"))
    events = await (await story(bus, names, run)).ended()
    assert [(e.step, e.what) for e in events] == [
        ("", "accepted"),
        ("a", "queued"),
        ("a", "cancelled"),
        ("b", "cancelled"),
        ("", "failed"),
    ]
    assert "deadline of 1 s" in events[-1].reason
