"""What goes out first, what goes out at all; and looks that are answered before the commit."""

import asyncio

from penstock.bus import Stored
from penstock.bus.memory import ManualClock, MemoryBus, MemoryServer
from penstock.bus.topology import ensure
from penstock.contracts.inbox import Reports
from penstock.contracts.plans import PlanHead, PlannedStep, PlanPart
from penstock.contracts.subjects import Subjects
from penstock.contracts.work import AttemptStarted, AttemptSucceeded
from penstock.runtime.logs import logger
from penstock_scheduler import shell
from penstock_scheduler.decide import decided
from penstock_scheduler.effects import Dispatch, Effect, Emit, SetTimer, Stop, Withdraw, sent
from penstock_scheduler.partition import Term
from penstock_scheduler.runlog import taken_over
from penstock_scheduler.state import Partition
from penstock_scheduler.tools import Tools
from penstock_scheduler.transitions import (
    AttemptBegan,
    AttemptOffered,
    Commit,
    StepQueued,
    StepReady,
    StepSucceeded,
    commit_of,
)

RUN = "6q9c8w0k3f7m2ax"
STARTED = AttemptStarted(run=RUN, step="a", attempt=1, executor="x")
SUCCEEDED = AttemptSucceeded(run=RUN, step="a", attempt=1, executor="x")


def plan(*steps: PlannedStep, reuse: str = "off") -> PlanPart:
    return PlanPart(head=PlanHead(run=RUN, pipeline="p", reuse=reuse), steps=steps)  # type: ignore[arg-type]


def a_then_b(**fields: float) -> tuple[PlannedStep, PlannedStep]:
    return (
        PlannedStep(name="a", command="do a", **fields),  # type: ignore[arg-type]
        PlannedStep(name="b", command="do b", needs=("a",)),
    )


def kinds(effects: list[Effect]) -> list[str]:
    return [type(effect).__name__ for effect in effects]


def test_work_goes_out_before_what_has_happened_is_told() -> None:
    partition = Partition()
    decided(partition, [plan(*a_then_b())], 1)
    turn = decided(partition, [SUCCEEDED], 2)
    assert kinds(turn.effects)[-1] == "Dispatch"
    effects = sent(partition, turn.effects)
    assert kinds(effects) == ["Dispatch", *kinds(turn.effects)[:-1]]


def test_what_takes_work_back_stays_behind_it() -> None:
    partition = Partition()
    turn = decided(partition, [plan(*a_then_b())], 1)
    (work,) = (effect for effect in turn.effects if isinstance(effect, Dispatch))
    back = Withdraw(RUN, "default", "a", 1)
    stop = Stop(RUN, "a", 1, "superseded")
    assert sent(partition, [back, work, stop]) == [work, back, stop]


def test_an_attempt_that_ended_in_the_turn_it_began_gets_no_timer() -> None:
    partition = Partition()
    decided(partition, [plan(*a_then_b(timeout_s=9, expected_s=5))], 1)
    turn = decided(partition, [Reports(run=RUN, reports=(STARTED, SUCCEEDED))], 2)
    asked = [e.kind for e in turn.effects if isinstance(e, SetTimer)]
    assert asked == ["timeout", "overdue"]
    left = sent(partition, turn.effects)
    assert not [effect for effect in left if isinstance(effect, SetTimer)]
    told = [effect.event.what for effect in left if isinstance(effect, Emit)]
    assert told == ["started", "started", "succeeded", "queued"]  # the run, then the steps


def test_an_attempt_that_goes_on_keeps_its_timers() -> None:
    partition = Partition()
    decided(partition, [plan(*a_then_b(timeout_s=9, expected_s=5))], 1)
    effects = sent(partition, decided(partition, [STARTED], 2).effects)
    assert [e.kind for e in effects if isinstance(e, SetTimer)] == ["timeout", "overdue"]


async def opened() -> tuple[MemoryBus, Tools]:
    clock, names = ManualClock(), Subjects("w")
    bus = await MemoryServer(clock).connect("me")
    needed = ("inbox", "runs", "timers", "work", "events", "dead", "reuse", "latest")
    await ensure(bus, names, needed)
    return bus, Tools(bus, names, logger("scheduler", "me"), clock, "me", 8, 1e6, print)


async def commits_of(bus: MemoryBus, names: Subjects) -> list[Commit]:
    found: list[Commit] = []
    await bus.replay(
        names.stream("runs"), [names.runlog(0)], lambda s: found.append(commit_of(s.data))
    )
    return found


async def offered(bus: MemoryBus, names: Subjects, step: str) -> None:
    subject = names.work("default", RUN, step, 1)
    while await bus.last(names.stream("work"), subject) is None:  # noqa: ASYNC110 - as it comes
        await asyncio.sleep(0)


async def test_a_result_and_what_it_sets_going_are_one_commit() -> None:
    """Also the look for equal work that lies between them."""
    bus, tools = await opened()
    term = Term(tools, 0, await taken_over(tools, 0))
    await term.begin()
    term.put(plan(*a_then_b(), reuse="use"))
    async with asyncio.timeout(10):
        await offered(bus, tools.names, "a")
        term.put(Reports(run=RUN, reports=(STARTED, SUCCEEDED)))
        await offered(bus, tools.names, "b")
    last = (await commits_of(bus, tools.names))[-1]
    assert [type(fact) for fact in last.transitions][-5:] == [
        AttemptBegan,
        StepSucceeded,
        StepReady,
        StepQueued,
        AttemptOffered,
    ]
    await term.end()
    await bus.close()


async def test_queues_hold_one_message_that_nobody_takes() -> None:
    """So that nats-server need not begin a new file whenever one has become empty."""
    bus, tools = await opened()
    for _ in range(2):  # again and again: one stays one
        anchoring = asyncio.create_task(shell._anchor(tools))
        for _ in range(20):
            await asyncio.sleep(0)
        anchoring.cancel()
        for queue in ("inbox", "work"):
            lying: list[Stored] = []
            await bus.replay(tools.names.stream(queue), [f"w.{queue}.>"], lying.append)
            assert [stored.subject for stored in lying] == [f"w.{queue}.anchor"]
    await bus.close()
