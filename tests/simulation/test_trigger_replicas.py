"""Replicas of the trigger that see old states, crash between any two steps and repeat each other.

The world holds what the bus would: one cursor changed by compare-and-set, the requests' keys, the
events' ids. Whatever happens, each tick has one outcome, told once, and none is forgotten.
`PENSTOCK_SEED` repeats one world.
"""

import os
import random
from collections import Counter
from dataclasses import dataclass, field

import pytest

from penstock.contracts.requests import RunAnswer
from penstock.contracts.schedules import Firing, Schedule, ScheduleState
from penstock_trigger.decide import asked, decided, settled, told
from penstock_trigger.effects import Announce
from penstock_trigger.rules import timing_of
from penstock_trigger.state import Judgement
from penstock_trigger.ticks import span

T0 = 1_800_000_000.0
SEEDS = range(200)


@dataclass
class World:
    """What is durable, and what time it is."""

    schedule: Schedule
    now: float = T0
    cursor: ScheduleState | None = None
    revision: int = 0
    runs: dict[str, str] = field(default_factory=dict)
    events: dict[str, Announce] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    started_over: list[str] = field(default_factory=list)

    def update(self, state: ScheduleState, revision: int) -> bool:
        """Change the cursor if it is still at `revision`."""
        if revision != self.revision:
            return False
        assert self.cursor is None or state.last_due >= self.cursor.last_due
        self.cursor, self.revision = state, revision + 1
        return True

    def run(self, key: str) -> str:
        """Return the run of a key, as a planner does."""
        if key not in self.runs:
            self.started_over.extend(self.running)
            self.runs[key] = f"run{len(self.runs)}"
            self.running.add(self.runs[key])
        return self.runs[key]


@dataclass
class Replica:
    """A process: its view of the cursor, and how far it has come with the oldest decision."""

    name: str
    world: World
    state: ScheduleState | None = None
    revision: int = 0
    head: Firing | None = None
    answer: RunAnswer | None = None
    announced: bool = False

    def look(self) -> None:
        """Take in the newest cursor."""
        self.state, self.revision = self.world.cursor, self.world.revision

    def crash(self) -> None:
        """Forget everything."""
        self.state, self.revision = None, 0
        self.head, self.answer, self.announced = None, None, False

    def decide(self, missed_until: float) -> None:
        """Decide what is due, from a view that may be old."""
        world = self.world
        last = self.state.last_run if self.state else ""
        judgement = Judgement(
            now=world.now, missed_until=missed_until, running=last in world.running
        )
        timing = timing_of(world.schedule)
        after = decided(world.schedule, timing, self.state, judgement, self.name)
        if after is not None and world.update(after, self.revision):
            self.look()

    def carry_out(self) -> None:
        """Take one more step with the oldest decision: ask, tell, settle."""
        if self.state is None or not self.state.pending:
            return
        if self.head is None or self.state.pending[0] != self.head:
            self.head, self.answer, self.announced = self.state.pending[0], None, False
        ask = asked(self.state)
        if ask is not None and self.answer is None:
            if ask.cancel is not None:
                self.world.running.discard(ask.cancel.run)
            self.answer = RunAnswer(run=self.world.run(ask.request.idempotency_key))
        elif not self.announced:
            timing = timing_of(self.world.schedule)
            for event in told(self.state, timing, self.answer, self.world.now):
                self.world.events.setdefault(event.message_id, event)
            self.announced = True
        else:
            run = self.answer.run if self.answer else ""
            after = settled(self.state, self.head, run, self.name)
            if after is not None and self.world.update(after, self.revision):
                self.look()
            self.head = None


def lived(seed: int) -> World:
    """Return a world after a life of random events, with nothing left undone."""
    choice = random.Random(seed)
    world = World(
        Schedule(
            name="s",
            pipeline="p",
            every=choice.choice([1, 7, 30]),
            created_at=T0,
            catch_up=choice.choice(["none", "last", "all"]),
            catch_up_max=choice.choice([1, 3, 50]),
            overlap=choice.choice(["allow", "skip", "queue", "replace"]),
        )
    )
    replicas = [Replica(f"r{n}", world) for n in range(choice.choice([1, 2, 3]))]
    for _ in range(choice.choice([50, 200])):
        replica = choice.choice(replicas)
        match choice.choices(
            ["time", "back", "look", "decide", "carry", "crash", "end"],
            weights=[8, 1, 12, 12, 20, 2, 4],
        )[0]:
            case "time":
                world.now += choice.choice([0.3, 1, 5, 20])
            case "back":
                world.now -= choice.choice([0.5, 30])
            case "look":
                replica.look()
            case "decide":
                replica.decide(world.now - choice.choice([0, 2, 30]))
            case "carry":
                replica.carry_out()
            case "crash":
                replica.crash()
            case "end" if world.running:
                world.running.discard(choice.choice(sorted(world.running)))
    last = replicas[0]
    world.now = max(world.now, T0) + 2 * world.schedule.every
    for _ in range(5000):
        last.look()
        last.decide(world.now - 30)
        for _ in range(3):
            last.carry_out()
        world.running.clear()
        cursor = world.cursor
        timing = timing_of(world.schedule)
        if (
            cursor is not None
            and not cursor.pending
            and not cursor.queued
            and not span(timing, cursor.last_due, world.now, 1).count
        ):
            return world
    raise AssertionError(f"seed {seed}: never done")


def outcomes(world: World) -> Counter[float]:
    """Return how many outcomes each tick has: events, one that speaks for many counted as many."""
    timing = timing_of(world.schedule)
    found: Counter[float] = Counter()
    for announce in world.events.values():
        if "/before/" in announce.message_id:
            count = int(announce.event.reason.partition(" ")[0].replace(",", ""))
            after = announce.event.due
            newest = span(timing, after, after + count * world.schedule.every + 1e-6, count)
            found.update(tick.due for tick in newest.newest)
        else:
            found[announce.event.due] += 1
    return found


@pytest.mark.parametrize("block", range(10))
def test_every_tick_has_one_outcome_whatever_crashes_and_repeats(block: int) -> None:
    only = os.environ.get("PENSTOCK_SEED")
    for seed in [int(only)] if only else SEEDS[block::10]:
        world = lived(seed)
        assert world.cursor is not None
        ticks = span(timing_of(world.schedule), T0, world.cursor.last_due, 1_000_000).newest
        wrong = {due: n for due, n in outcomes(world).items() if n != 1}
        assert not wrong, f"seed {seed}: {world.schedule.overlap} {wrong}"
        assert set(outcomes(world)) == {tick.due for tick in ticks}, f"seed {seed}"
        fired = {a.message_id.removesuffix("/fired") for a in world.events.values() if a.event.run}
        assert fired == set(world.runs), f"seed {seed}: a run without an event, or the reverse"
        if world.schedule.overlap in ("skip", "queue"):
            assert not world.started_over, f"seed {seed}: a run began beside {world.started_over}"


def test_the_invariant_notices_a_decision_that_is_made_twice() -> None:
    world = lived(3)
    twin = next(iter(world.events.values()))
    world.events["another"] = Announce(twin.event, "another")
    assert max(outcomes(world).values()) == 2
