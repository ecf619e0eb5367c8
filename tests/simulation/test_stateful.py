"""The same world with Hypothesis at the wheel: it chooses what happens, and shrinks what fails.

The seeded world explores long courses; this one finds short ones. PENSTOCK_EXAMPLES=2000 plays more.
"""

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from tests.simulation.world.client import Client, requested
from tests.simulation.world.clockwork import Process, Work
from tests.simulation.world.ending import is_over, left
from tests.simulation.world.invariants import check
from tests.simulation.world.play import CONVERGE_MAX, World
from tests.simulation.world.wishes import KILLED, PIPELINE, Submission

from penstock.contracts.requests import CancelRequest
from penstock.contracts.spec import Input, Output, PipelineSpec, Settings, StepSpec

EXAMPLES = int(os.environ.get("PENSTOCK_EXAMPLES", "40"))
STEPS = 40
COMMANDS = 3
RUNS_MAX = 3


@st.composite
def submissions(draw: Any) -> Submission:
    """Draw a wish: a graph of up to four steps."""
    rows = draw(
        st.lists(
            st.tuples(st.integers(0, COMMANDS - 1), st.integers(0, 7), st.booleans()),
            min_size=1,
            max_size=4,
        )
    )
    steps = {}
    for number, (command, mask, feeds) in enumerate(rows):
        needs = [f"s{n}" for n in range(number) if mask >> n & 1]
        steps[f"s{number}"] = StepSpec(
            command=f"c{command}",
            inputs={
                f"i{n}": Input(path=f"${{{{parent.jobs.{need}.outputs.o}}}}")
                for n, need in enumerate(needs)
                if feeds
            },
            outputs={"o": Output()},
            needs=tuple(needs),
        )
    keeps_on = Settings(continue_on_step_failure=draw(st.booleans()))
    spec = PipelineSpec(name=PIPELINE, steps=steps, settings=keeps_on)
    reuse = draw(st.sampled_from(["use", "use", "refresh", "off"]))
    return Submission(spec=spec, key=draw(st.sampled_from(["", "k1", "k2"])), reuse=reuse)


class Wheel(RuleBasedStateMachine):
    """Rules are what may happen; the world does the rest."""

    mutant = ""

    @initialize(seed=st.integers(0, 500))
    def begin(self, seed: int) -> None:
        """A world without faults of its own, and without wishes yet."""
        self.world = world = World(seed, self.mutant, kind=True)
        world.clients, world.triggers, world.schedule = [], [], None
        world.services = [p for p in world.services if not p.name.startswith("trigger")]
        world.wishes.submissions = []
        self.life = world.begun()
        self.life.__enter__()

    def whom(self, number: int) -> Process:
        return self.world.services[number % len(self.world.services)]

    @rule(wish=submissions())
    def submit(self, wish: Submission) -> None:
        world = self.world
        if len(world.clients) < RUNS_MAX:
            client = Client(world, f"client{len(world.clients)}", wish=wish)
            world.clients.append(client)
            world.wishes.submissions.append(wish)
            client.boot()

    @rule(count=st.integers(1, 60))
    def let(self, count: int) -> None:
        """Whatever can happen happens."""
        for _ in range(count):
            self.world.actions += 1
            self.world.act()

    @rule(number=st.integers(0, 1_000))
    def deliver(self, number: int) -> None:
        """One particular task takes its step."""
        hot = [n for n, task in enumerate(self.world.hot) if task.is_ready(self.world.now)]
        live = [n for n in hot if not self.world.hot[n].dead]
        if live:
            self.world.step(live[number % len(live)])

    @rule(number=st.integers(0, 1_000))
    def duplicate(self, number: int) -> None:
        """A message that is on loan is lent once more."""
        server = self.world.server
        queues = (server.requests, server.work, *server.inbox.values())
        lent = [e for queue in queues for e in queue.entries.values() if e.until > self.world.now]
        if lent:
            entry = lent[number % len(lent)]
            entry.until = self.world.now
            self.world.audit.excused(entry)

    @rule(whom=st.integers(0, 20), point=st.integers(0, 12), down_s=st.sampled_from([0.1, 30.0]))
    def crash(self, whom: int, point: int, down_s: float) -> None:
        """A process dies after `point` more steps of its own."""
        victim, world = self.whom(whom), self.world
        for _ in range(point):
            own = [n for n, task in enumerate(world.hot) if task.process is victim]
            ready = [n for n in own if not world.hot[n].dead and world.hot[n].is_ready(world.now)]
            if ready:
                world.step(ready[0])
            else:
                world.act()
        victim.crash(down_s)
        world.trouble[victim] = victim.until

    @rule(whom=st.integers(0, 20))
    def restart(self, whom: int) -> None:
        """A process that is down or paused goes on."""
        self.whom(whom).until = self.world.now

    @rule(whom=st.integers(0, 20), seconds=st.sampled_from([3.0, 40.0, 200.0]))
    def pause(self, whom: int, seconds: float) -> None:
        victim = self.whom(whom)
        victim.until = max(victim.until, self.world.now + seconds)
        self.world.trouble[victim] = victim.until

    @rule(whom=st.integers(0, 20))
    def partition(self, whom: int) -> None:
        """A process is cut off until somebody heals the net."""
        victim = self.whom(whom)
        victim.cut_until = self.world.now + 60
        self.world.trouble[victim] = victim.cut_until

    @rule()
    def heal(self) -> None:
        for process in self.world.services:
            process.cut_until = 0

    @rule(seconds=st.sampled_from([0.5, 5.0, 30.0, 150.0]))
    def tick(self, seconds: float) -> None:
        self.world.advance(self.world.now + seconds)

    @rule(number=st.integers(0, 20), killed=st.booleans())
    def finish(self, number: int, killed: bool) -> None:
        """An attempt's user code ends now."""
        loans = [loan for e in self.world.executors for loan in e.loans.values()]
        running = [loan for loan in loans if loan.phase == "running"]
        if running:
            running[number % len(running)].ended = KILLED if killed else 0

    @rule(number=st.integers(0, 20))
    def cancel(self, number: int) -> None:
        runs, world = self.world.runs(), self.world
        if runs and world.clients:
            run = runs[number % len(runs)]
            world.audit.cancelled.add(run)
            request = CancelRequest(run=run, reason="enough")
            world.clients[0].spawn(answered(world.clients[0], request))

    @invariant()
    def events_are_a_beginning_without_holes(self) -> None:
        for run, events in self.world.server.events.items():
            assert [event.seq for event in events] == list(range(1, len(events) + 1)), run

    def teardown(self) -> None:
        """Then nothing goes wrong any more, and everything comes to its end."""
        world = self.world
        try:
            world.heal()
            for _ in range(CONVERGE_MAX):
                if is_over(world):
                    break
                world.actions += 1
                world.act()
            else:
                raise AssertionError(f"I1 not over: {left(world)}")
            check(world)
        finally:
            self.life.__exit__(None, None, None)


def answered(client: Client, request: CancelRequest) -> Work[None]:
    """Ask for a cancel, and forget the answer."""
    yield from requested(client, "cancel", request, repeat=True)


def how(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


TestWheel = Wheel.TestCase
TestWheel.settings = how(EXAMPLES)


@pytest.mark.parametrize("name", ["ack_first", "commit_before_upload", "no_cas"])
def test_the_wheel_finds_a_planted_bug(name: str) -> None:
    class Mutated(Wheel):
        mutant = name

    quick = settings(how(400), phases=[Phase.generate], derandomize=True, database=None)
    with pytest.raises(Exception, match=r"I[0-9]"):
        run_state_machine_as_test(Mutated, settings=quick)
