"""What the next owner asks for again: only what may have been lost, and everything of that."""

import asyncio
import gc

import pytest

from penstock.bus.memory import ManualClock, MemoryServer
from penstock.bus.topology import ensure
from penstock.contracts.artifacts import TreeRef
from penstock.contracts.plans import Bound, PlanHead, PlannedStep, PlanPart
from penstock.contracts.queries import ReuseEntry
from penstock.contracts.subjects import Subjects
from penstock.contracts.work import AttemptStarted, AttemptSucceeded
from penstock.runtime.logs import logger
from penstock_scheduler.decide import Input, LookedUp, decided
from penstock_scheduler.effects import Dispatch, Effect, Emit, LookUp, PutLatest, PutReuse
from penstock_scheduler.effects.replay import Replay
from penstock_scheduler.partition import Term
from penstock_scheduler.runlog import taken_over
from penstock_scheduler.state import Partition
from penstock_scheduler.tools import Tools
from penstock_scheduler.transitions import Commit, StepSucceeded, commit_of

RUN = "6q9c8w0k3f7m2ax"
OTHER = "6q9c8w0k3f7m2bb"
STEPS = 4
Played = tuple[list[tuple[int, Commit]], list[list[Effect]]]


def chain_of_steps(run: str = RUN) -> PlanPart:
    steps = tuple(
        PlannedStep(
            name=f"s{n}",
            command="c",
            needs=(f"s{n - 1}",) if n else (),
            inputs={"i": Bound(type="data", step=f"s{n - 1}", output="o")} if n else {},
        )
        for n in range(STEPS)
    )
    return PlanPart(head=PlanHead(run=run, pipeline="p"), part=0, parts=1, steps=steps)


def reports(run: str, step: str) -> tuple[AttemptStarted, AttemptSucceeded]:
    outputs = {"o": TreeRef(digest=f"{int(step[1:]):064x}")}
    return (
        AttemptStarted(run=run, step=step, attempt=1, executor="x"),
        AttemptSucceeded(run=run, step=step, attempt=1, executor="x", outputs=outputs, seconds=1.0),
    )


def answers(effect: Effect) -> list[Input]:
    if isinstance(effect, LookUp):
        known = (effect.run, effect.step, effect.look, effect.fingerprint)
        return [LookedUp(*known, claimed=True)]
    if isinstance(effect, Dispatch):
        item = effect.item
        return list(reports(item.run, item.step))
    return []


def played() -> Played:
    """Return a run's commits under sequences 10, 20, …, and the effects of each."""
    partition = Partition()
    commits: list[tuple[int, Commit]] = []
    asked: list[list[Effect]] = []
    inputs: list[Input] = [chain_of_steps()]
    while inputs:
        now = 1_000.0 + len(commits)
        turn = decided(partition, inputs, now)
        commits.append(
            (10 * len(commits) + 10, Commit(at=now, transitions=tuple(turn.transitions)))
        )
        asked.append(turn.effects)
        inputs = [answer for effect in turn.effects for answer in answers(effect)]
    return commits, asked


def replayed(commits: list[tuple[int, Commit]], told: int, settled: int) -> Replay:
    replay = Replay(Partition(), {RUN: told})
    for sequence, commit in commits[:-1]:
        replay.take(sequence, commit)
    sequence, last = commits[-1]
    replay.take(sequence, Commit(at=last.at, transitions=last.transitions, settled=settled))
    return replay


def test_without_a_word_about_it_everything_is_asked_for_again_that_was_asked_for() -> None:
    commits, asked = played()
    replay = replayed(commits, 0, 0)
    effects = [effect for some in asked for effect in some]
    assert replay.events == [effect for effect in effects if isinstance(effect, Emit)]
    assert replay.results() == [e for e in effects if isinstance(e, PutReuse | PutLatest)]
    assert len(replay.results()) == 2 * STEPS
    assert [line.summary.state for line in replay.lines()] == ["succeeded"]


@pytest.mark.parametrize("told", range(0, 3 * STEPS + 4, 3))
def test_what_has_been_told_is_not_told_again(told: int) -> None:
    commits, _ = played()
    every = replayed(commits, 0, 0).events
    assert replayed(commits, told, 0).events == [e for e in every if e.event.seq > told]


def test_what_is_settled_is_not_put_again() -> None:
    commits, asked = played()
    for settled, _ in commits:
        behind = [
            effect
            for (sequence, _), some in zip(commits, asked, strict=True)
            if sequence > settled
            for effect in some
            if isinstance(effect, PutReuse | PutLatest)
        ]
        assert replayed(commits, 0, settled).results() == behind


class Stage:
    """A term on a bus in memory."""

    def __init__(self) -> None:
        self.clock, self.names = ManualClock(), Subjects("w")
        self.server = MemoryServer(self.clock)

    async def open(self) -> None:
        self.bus = await self.server.connect("me")
        await ensure(self.bus, self.names, ("inbox", "runs", "timers", "work", "events"))
        await ensure(self.bus, self.names, ("dead", "reuse", "latest"))

    async def term(self) -> Term:
        log = logger("scheduler", "me")
        tools = Tools(self.bus, self.names, log, self.clock, "me", 8, 1e6, print)
        return Term(tools, 0, await taken_over(tools, 0))

    async def commits(self) -> list[tuple[int, Commit]]:
        found: list[tuple[int, Commit]] = []
        await self.bus.replay(
            self.names.stream("runs"),
            [self.names.runlog(0)],
            lambda stored: found.append((stored.sequence, commit_of(stored.data))),
        )
        return found

    async def is_done(self, term: Term, step: int) -> bool:
        """Say whether a step's result is in its bucket."""
        found = await term.performer.reuse.get(term.state.runs[RUN].steps[step].fingerprint)
        return found is not None and bool(found.value.ended_at)

    async def ends(self) -> list[int]:
        return [
            sequence
            for sequence, commit in await self.commits()
            if any(isinstance(fact, StepSucceeded) for fact in commit.transitions)
        ]


async def until_ended_well(stage: Stage, term: Term, count: int) -> None:
    """Play the executor until so many steps have ended well."""
    done: set[str] = set()
    async with asyncio.timeout(10):
        while True:
            run = term.state.runs.get(RUN)
            well = run.counts.get("succeeded", 0) if run else 0
            if well >= count or (run is not None and not run.open):
                return
            for step, name in enumerate(run.names if run else ()):
                if run is not None and run.steps[step].attempt and name not in done:
                    done.add(name)
                    for report in reports(RUN, name):
                        term.put(report)
            await asyncio.sleep(0)


async def test_nothing_is_called_settled_before_its_results_are_stored() -> None:
    """And what a dead owner did not put, the next one does."""
    stage = Stage()
    await stage.open()
    term = await stage.term()
    held: asyncio.Event = asyncio.Event()
    together = term.performer.reuse_lane._one_by_one

    async def later(chunk: object) -> None:
        await held.wait()
        await together(chunk)  # type: ignore[arg-type]

    await term.begin()
    term.put(chain_of_steps())
    await until_ended_well(stage, term, 1)
    async with asyncio.timeout(10):
        while not await stage.is_done(term, 0):  # noqa: ASYNC110 - stored is not yet done
            await asyncio.sleep(0)
    await term.drain(5)
    term.performer.reuse_lane._one_by_one = later  # type: ignore[method-assign]
    await until_ended_well(stage, term, 2)
    term.put(chain_of_steps(OTHER))  # so that there is one more commit
    async with asyncio.timeout(10):
        while not (run := term.state.runs.get(OTHER)) or not run.first_sequence:  # noqa: ASYNC110
            await asyncio.sleep(0)
    commits, ends = await stage.commits(), await stage.ends()
    assert len(ends) == 2
    assert commits[-1][0] > ends[1]
    assert commits[-1][1].settled >= ends[0]
    assert max(commit.settled for _, commit in commits) < ends[1]
    await term.end()

    after = await stage.term()
    await after.begin()
    await asyncio.gather(*after._owing)
    present = await after.performer.reuse.get_many(
        [state.fingerprint for state in after.state.runs[RUN].steps[:2]]
    )
    kept = [found.value for found in present if found is not None]
    assert [type(entry) for entry in kept] == [ReuseEntry, ReuseEntry]
    assert all(entry.ended_at for entry in kept)
    assert gc.isenabled()
    await after.end()
    await stage.bus.close()
