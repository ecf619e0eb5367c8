"""What is left of a log when it is cut, and what is written twice into it: found by the simulation."""

from penstock.bus import MESSAGE_ID, Expect, Stored
from penstock.bus.memory import ManualClock, MemoryServer
from penstock.bus.topology import ensure
from penstock.contracts.plans import PlanHead, PlannedStep, PlanPart
from penstock.contracts.subjects import Subjects
from penstock.runtime.logs import logger
from penstock_scheduler.decide import decided
from penstock_scheduler.effects import owed
from penstock_scheduler.runlog import LIVE, RunLog
from penstock_scheduler.state import Partition, anchor, evolve, needed_from
from penstock_scheduler.tools import Tools
from penstock_scheduler.transitions import Commit, PlanRecorded, StepReady, messages_of

RUN = "6q9c8w0k3f7m2ax"
OTHER = "6q9c8w0k3f7m2bb"
NOW = 1_000.0


def part(run: str, number: int = 0, parts: int = 1) -> PlanPart:
    step = PlannedStep(name=f"s{number}", command="c")
    return PlanPart(head=PlanHead(run=run, pipeline="p"), part=number, parts=parts, steps=(step,))


def test_a_run_whose_first_fact_is_on_its_way_does_not_make_the_others_unneeded() -> None:
    partition = Partition()
    decided(partition, [part(RUN)], NOW)
    anchor(partition, 7)
    decided(partition, [part(OTHER)], NOW)
    assert needed_from(partition) == 7


def test_what_a_cut_has_left_of_an_ended_run_is_passed_over() -> None:
    partition = Partition()
    evolve(partition, PlanRecorded(part=part(OTHER)), NOW)
    # The first part of the run's plan was in a message below what the other run needs.
    evolve(partition, PlanRecorded(part=part(RUN, 1, parts=2)), NOW)
    evolve(partition, StepReady(run=RUN, step=0, fingerprint="f"), NOW)
    assert list(partition.runs) == [OTHER]
    assert all(RUN not in str(effect) for effect in owed(partition))


async def test_a_commit_that_was_sent_again_after_the_window_is_read_once() -> None:
    clock, names = ManualClock(), Subjects("w")
    server = MemoryServer(clock)
    bus = await server.connect("me")
    await ensure(bus, names, ("runs",))
    tools = Tools(bus, names, logger("scheduler", "me"), clock, "me", 1, 1.0, print)
    fence = (await bus.append(names.own(0), b"{}", expect=Expect(0))).sequence
    log = RunLog(tools, 0, fence)
    commit = Commit(at=NOW, transitions=(PlanRecorded(part=part(RUN)),), live=1)
    first = await log.write(commit)
    await server.advance(3_600)
    [data] = messages_of(commit)
    expect = Expect(fence, names.own(0))
    headers = {LIVE: "1"}
    again = await bus.append(
        names.runlog(0), data, headers, message_id=f"0.{fence}.1", expect=expect
    )
    assert again.sequence > first
    stored: list[Stored] = []
    await bus.replay(names.stream("runs"), [names.runlog(0)], stored.append)
    assert len({message.headers[MESSAGE_ID] for message in stored}) == 1
    assert len(stored) == 2
    assert [c async for c in RunLog(tools, 0, fence).read()] == [[(first, commit)]]
    await bus.close()
