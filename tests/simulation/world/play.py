"""The world: one seed, all processes, and the choice of what happens next.

Faults stop at 60 % of the budget; then everything must come to its end (liveness), and what is left
must be in order (invariants).
"""

import contextlib
import dataclasses
import random
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping

import msgspec
from tests.simulation.world import fate, faults, twists, wishes
from tests.simulation.world.artifact import Artifact
from tests.simulation.world.auditor import Auditor, Violation
from tests.simulation.world.client import Client
from tests.simulation.world.clockwork import NEVER, Box, Process, Task, Wait
from tests.simulation.world.ending import is_over, left
from tests.simulation.world.executor import Executor
from tests.simulation.world.invariants import check
from tests.simulation.world.planner import Planner
from tests.simulation.world.scheduler import Scheduler
from tests.simulation.world.server import Server
from tests.simulation.world.store import Store
from tests.simulation.world.trigger import Trigger

from penstock.contracts.requests import RunAnswer
from penstock.contracts.schedules import Schedule
from penstock.contracts.spec import PipelineSpec
from penstock.contracts.work import StopAttempt
from penstock_planner.decide import plan as planning
from penstock_planner.decide.reading import pairing_of
from penstock_scheduler.state import RUN_ENDED, RunStatus
from penstock_scheduler.transitions import commit_of
from penstock_trigger.ticks import rfc3339

T0 = 1_800_000_000.0
CALM_SHARE = 0.6
CONVERGE_MAX = 12_000
"""Actions without faults after which everything must be over."""
LOOKS = 3


class World:
    """Everything that goes on under one seed."""

    def __init__(
        self,
        seed: int,
        mutant: str = "",
        *,
        traced: bool = False,
        twist: str = "",
        kind: bool = False,
        emphasis: Mapping[str, float] | None = None,
    ) -> None:
        """Make a seed's world.

        `twist`: told otherwise, see twists.py. `kind`: without faults. `emphasis`: with more of some.
        """
        self.seed = seed
        self.mutant = mutant
        self.chance = random.Random(seed)
        self.trace: list[str] | None = [] if traced else None
        self.landed: Counter[str] = Counter()
        self.now = self.began_at = T0
        self.actions = 0
        self.calm = False
        self.faults = faults.mix(self.chance)
        self.shape = faults.shape(self.chance)
        self.wishes = wishes.wishes(self.chance)
        if kind:
            self.faults = faults.NO_FAULTS
        if emphasis:
            self.faults = dataclasses.replace(self.faults, **emphasis)
        if twist:
            self.shape, self.wishes = twists.twisted(twist, self.shape, self.wishes)
        self.pace_s = self.chance.choice([0.002, 0.02, 0.1])
        self.registered: PipelineSpec = self.wishes.submissions[0].spec
        self.schedule = self._schedule()
        self.tasks: list[Task] = []
        """Those that wait."""
        self.hot: list[Task] = []
        """Those that can go on."""
        self.callers: dict[str, list[Box]] = {}
        self.garbage: list[bytes] = []
        self.trouble: dict[Process, float] = {}
        self.bus_trouble = 0.0
        self.audit = Auditor(self)
        self.server = Server(self)
        self.store = Store()
        shape = self.shape
        self.schedulers = [Scheduler(self, f"scheduler{n}") for n in range(shape.schedulers)]
        self.planners = [Planner(self, f"planner{n}") for n in range(shape.planners)]
        self.executors = [Executor(self, f"executor{n}") for n in range(shape.executors)]
        self.artifacts = [Artifact(self, f"artifact{n}") for n in range(shape.artifacts)]
        self.triggers = [Trigger(self, f"trigger{n}") for n in range(shape.triggers)]
        if self.schedule is None:
            self.triggers = []
        self.clients = [
            Client(self, f"client{n}", wish=wish) for n, wish in enumerate(self.wishes.submissions)
        ]
        self.services: list[Process] = [
            *self.schedulers,
            *self.planners,
            *self.executors,
            *self.artifacts,
            *self.triggers,
        ]
        self.ambient = [name for name in faults.AMBIENT if getattr(self.faults, name)]
        self.weights = [getattr(self.faults, name) for name in self.ambient]
        self.ambient_total = sum(self.weights)

    def _schedule(self) -> Schedule | None:
        wanted = self.wishes
        if not wanted.ticks:
            return None
        return Schedule(
            name="s",
            pipeline=wishes.PIPELINE,
            every=wanted.every,
            created_at=T0,
            end=rfc3339(T0 + wanted.every * wanted.ticks + 1),
            overlap=wanted.overlap,  # type: ignore[arg-type]
            catch_up=wanted.catch_up,  # type: ignore[arg-type]
        )

    # -- the course of things --------------------------------------------------------------------
    def play(self) -> None:
        """Let things happen until everything is over, then check.

        Raises:
            Violation: a promise was broken.
        """
        with self.begun():
            calm_at = int(self.shape.budget * CALM_SHARE)
            for self.actions in range(calm_at + CONVERGE_MAX):
                if self.actions >= calm_at and not self.calm:
                    self.heal()
                if self.actions % 16 == 0 and is_over(self):
                    check(self)
                    return
                self.act()
            raise Violation(f"I1 not over after {self.actions} actions: {left(self)}")

    @contextlib.contextmanager
    def begun(self) -> Iterator[None]:
        """Start all processes; while this lasts, plans are cut into parts as the shape says."""
        kept = vars(planning)["PART_STEPS_MAX"]
        vars(planning)["PART_STEPS_MAX"] = self.shape.part_steps_max
        try:
            for process in (*self.services, *self.clients):
                process.boot()
            yield
        finally:
            vars(planning)["PART_STEPS_MAX"] = kept

    def act(self) -> None:
        """Let one thing happen, and perhaps a misfortune."""
        if not self.calm and self.chance.random() < self.ambient_total:
            fate.strike(self, self.chance.choices(self.ambient, self.weights)[0])
        self.now += self.pace_s
        if self.actions % 8 == 0:
            self.keep_house()
        number = self._ready()
        if number < 0:
            self.keep_house()
            number = self._ready()
        if number < 0:
            self.advance(self._next_moment())
        else:
            self.step(number)

    def step(self, number: int) -> None:
        """Let one of the tasks that can go on take one step."""
        task = self.hot[number]
        try:
            task.wait = next(task.work)
        except StopIteration:
            task.dead = True
            if task in task.process.tasks:
                task.process.tasks.remove(task)
        if task.dead or task.wait is not None:
            _taken(self.hot, number)
            if not task.dead:
                self.tasks.append(task)

    def _ready(self) -> int:
        """Return the place of a task that can go on, drawn by chance; -1: there is none.

        A few of those that wait are looked at each time, all of them when nothing else is left: most
        wait for long, and to look costs more than to act.
        """
        hot, waiting, chance, now = self.hot, self.tasks, self.chance.random, self.now
        for _ in range(LOOKS):
            if waiting:
                number = int(chance() * len(waiting))
                task = waiting[number]
                if task.dead or task.is_ready(now):
                    _taken(waiting, number)
                    if not task.dead:
                        hot.append(task)
        while hot:
            number = int(chance() * len(hot))
            task = hot[number]
            if not task.dead and task.process.until <= now:
                return number
            _taken(hot, number)
            if not task.dead:
                waiting.append(task)
        ready = [task for task in waiting if not task.dead and task.is_ready(now)]
        if not ready:
            return -1
        self.tasks[:] = [task for task in waiting if not task.dead and task not in ready]
        hot.extend(ready)
        return int(chance() * len(hot))

    # -- time ------------------------------------------------------------------------------------
    def _next_moment(self) -> float:
        """Return when something can happen that cannot happen now."""
        moments = [at for at, _ in self.server.timers.values()]
        for task in self.tasks:
            wait = task.wait
            due = self.now if wait is None else wait.due if isinstance(wait, Wait) else wait
            moments.append(max(due, task.process.until))
        for process in self.services:
            moments += [process.until, process.cut_until]
        server = self.server
        for queue in (
            server.requests,
            server.work,
            *server.inbox.values(),
            *server.due.values(),
        ):
            moments += [entry.until for entry in queue.entries.values()]
        moments.append(server.away_until)
        return min((at for at in moments if self.now < at < NEVER), default=self.now + 1)

    def advance(self, to: float) -> None:
        """Let time pass; whoever is well keeps its loans meanwhile."""
        stride = self.shape.ack_wait_s / 4
        while self.now < to:
            self.now = min(to, self.now + stride) if to - self.now < 500 else to - 400
            self.keep_house()

    def keep_house(self) -> None:
        """Let the server ring its timers; let heartbeats be heard."""
        for executor in self.executors:
            executor.beat()
        for planner in self.planners:
            planner.beat()
        self.server.ring()

    # -- misfortunes -----------------------------------------------------------------------------
    def happens(self, name: str) -> bool:
        """Say whether a fault happens on this occasion."""
        if self.calm:
            return False
        rate = getattr(self.faults, name)
        if rate and self.chance.random() < rate:
            self.landed[name] += 1
            return True
        return False

    def troubled_at(self, process: Process) -> float:
        """Return when a process was last in trouble, or the bus."""
        return max(self.trouble.get(process, 0.0), self.bus_trouble)

    def heal(self) -> None:
        """End all misfortunes: whoever is down comes up, clocks are set right."""
        self.calm = True
        self.server.away_until = self.store.away_until = 0.0
        for process in self.services:
            process.until = min(process.until, self.now + 5)
            process.cut_until = 0.0
            process.offset = 0.0
        if self.trace is not None:
            self.note("fate", "calm from here on")

    # -- words that are no messages of a stream ---------------------------------------------------
    def publish_stop(self, process: Process, order: StopAttempt) -> None:
        """Send a stop order by core NATS: whoever does not listen misses it."""
        if process.cut_until > self.now or self.happens("lost_request"):
            return
        for executor in self.executors:
            if executor.is_reachable():
                executor.hear(order)

    def ask(self, subject: str, data: bytes, box: Box) -> None:
        """Store a request, and let a planner remember who waits for its answer."""
        self.callers.setdefault(pairing_of(subject, data, {}), []).append(box)
        self.server.requests.put(subject, data)

    def answer(self, key: str, answer: RunAnswer, *, lost: bool) -> None:
        """Put an answer into the box of one caller of equal requests, unless it is lost on its way."""
        boxes = self.callers.get(key, [])
        if boxes:
            box = boxes.pop(0)
            box.answer = None if lost else answer

    # -- the log, seen from outside --------------------------------------------------------------
    def runs(self) -> list[str]:
        """Return the runs in the log whose plans are whole."""
        return [
            name
            for shadow in self.audit.shadow.values()
            for name, run in shadow.runs.items()
            if run.status is not RunStatus.ARRIVING
        ]

    def resume(self, partition: int, messages: list[bytes]) -> None:
        """Begin with a log that somebody else has left."""
        for number, data in enumerate(messages):
            name = f"before.{partition}.{number}"
            self.server.own.setdefault(partition, 0)
            commit = msgspec.structs.replace(commit_of(data), settled=0)  # our tables are empty
            plain, fence = msgspec.json.encode(commit), self.server.own[partition]
            live = max(commit.live, 1)  # and nothing is told, so somebody has to own it
            sequence = self.server.commit(partition, fence, plain, live, name)
            self.audit.committed(partition, name, plain, sequence)

    def has_ended(self, run: str) -> bool:
        """Say whether a run's end is told."""
        found = self.audit.run(run)
        return found is not None and found.status in RUN_ENDED

    # -- the trace -------------------------------------------------------------------------------
    def say(self, process: Process, text: str) -> None:
        """Write a line of the trace."""
        self.note(process.name, text)

    def note(self, who: str, text: str) -> None:
        """Write a line of the trace."""
        if self.trace is not None:
            self.trace.append(f"{self.actions:5} {self.now - T0:10.2f} s  {who:12} {text}")


def _taken(tasks: list[Task], number: int) -> None:
    """Take a task out of a list whose order means nothing."""
    tasks[number] = tasks[-1]
    tasks.pop()


def violation_of(seed: int, mutant: str = "") -> str:
    """Return what a seed breaks, or an empty text."""
    return played(seed, mutant)[1]


def played(
    seed: int,
    mutant: str = "",
    *,
    traced: bool = False,
    twist: str = "",
    emphasis: Mapping[str, float] | None = None,
) -> tuple[World, str]:
    """Play a seed; return its world and what it breaks."""
    world = World(seed, mutant, traced=traced, twist=twist, emphasis=emphasis)
    try:
        world.play()
    except Violation as error:
        return world, f"seed {seed}: {error}"
    except Exception as error:  # a decision that raises is a broken promise as well
        if traced:
            world.note("error", traceback.format_exc())
        return world, f"seed {seed}: {type(error).__name__}: {error}"
    return world, ""


__all__ = ["World", "played", "violation_of"]
