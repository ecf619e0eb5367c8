"""Processes and their tasks, and how a word travels to the server.

A task yields what it waits for: None (it may go on), a moment, or a `Wait`. Between two yields
nothing else happens, so whatever stands between two yields is one action.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from tests.simulation.world.play import World

NEVER = float("inf")
PAUSE_S = 0.05

T = TypeVar("T")


@dataclass(slots=True)
class Wait:
    """Until `due`, or until `ready` says so."""

    ready: Callable[[], Any]
    due: float = NEVER


Signal = float | Wait | None
Work = Generator[Signal, None, T]


@dataclass(slots=True, eq=False)
class Task:
    """A generator in the hands of a process."""

    work: Work[None]
    process: "Process"
    name: str
    wait: Signal = None
    dead: bool = False

    def is_ready(self, now: float) -> bool:
        """Say whether it can take a step now."""
        if self.process.until > now:
            return False
        wait = self.wait
        if type(wait) is Wait:
            return wait.due <= now or bool(wait.ready())
        return wait is None or wait <= now  # type: ignore[operator]


@dataclass(eq=False)
class Process:
    """One process of a service. What it forgets in a crash is made anew in `boot`."""

    world: "World"
    name: str
    until: float = 0
    """It stands still until then: paused, or not started again yet."""
    cut_until: float = 0
    """Nothing it sends arrives, and nothing reaches it, until then."""
    offset: float = 0
    """How far its wall clock is ahead."""
    life: int = 0
    tasks: list[Task] = field(default_factory=list)

    def boot(self) -> None:
        """Begin a life."""

    def wall(self) -> float:
        """Return what its wall clock shows."""
        return self.world.now + self.offset

    def is_reachable(self) -> bool:
        """Say whether the server hears from it now."""
        now = self.world.now
        return self.until <= now >= self.cut_until and self.world.server.away_until <= now

    def is_silent(self, seconds: float) -> bool:
        """Say whether nothing was and will be heard of it for `seconds`."""
        return max(self.until, self.cut_until) - self.world.now > seconds

    def spawn(self, work: Work[None], name: str = "") -> Task:
        """Begin a task."""
        task = Task(work, self, name)
        self.tasks.append(task)
        self.world.tasks.append(task)
        return task

    def crash(self, restart_s: float) -> None:
        """Die between two actions; another life begins after `restart_s`."""
        for task in self.tasks:
            task.dead = True
        self.tasks = []
        self.life += 1
        self.until = self.world.now + restart_s
        self.spawn(self._restart(), "boot")

    def _restart(self) -> Work[None]:
        self.boot()
        return
        yield


def call(process: Process, act: Callable[..., T], *arguments: Any) -> Work[T]:
    """Return the server's answer to one word.

    The word may get lost, and so may the answer: then it is said again, as the adapters do. The
    server's refusals (Conflict) are raised.
    """
    world = process.world
    while True:
        yield None
        away = max(process.cut_until, world.server.away_until)
        if away > world.now:
            world.landed["waited for the bus"] += 1
            yield away
            continue
        if world.happens("lost_request"):
            yield world.now + PAUSE_S
            continue
        answer = act(*arguments)
        if world.happens("lost_reply"):
            yield world.now + PAUSE_S
            continue
        return answer


def said_once(process: Process, act: Callable[..., T], *arguments: Any) -> Work[T | None]:
    """Return the server's answer to a word that is said once; None when it or its answer got lost."""
    world = process.world
    yield None
    away = max(process.cut_until, world.server.away_until) > world.now
    if away or world.happens("lost_request"):
        return None
    answer = act(*arguments)
    return None if world.happens("lost_reply") else answer


@dataclass(slots=True)
class Box:
    """Where an answer arrives."""

    answer: Any = None
    error: Exception | None = None

    def is_full(self) -> bool:
        """Say whether it has arrived."""
        return self.answer is not None or self.error is not None
