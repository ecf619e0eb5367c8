"""What a replay of the log asks for again, beside what the state owes: what only a fact can give back.

Events: those behind the last one that is stored; earlier ones are not even built. Results: those of
commits that no later commit calls settled; made at the end, when it is known which these are. And
every run's line, as it is now.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from penstock_scheduler import effects
from penstock_scheduler.effects.kept import kept
from penstock_scheduler.effects.orders import Emit, PutLatest, PutReuse, PutSummary
from penstock_scheduler.effects.told import summary
from penstock_scheduler.state import Partition, RunStatus, anchor, evolve
from penstock_scheduler.transitions import (
    AttemptOffered,
    Commit,
    FlightFollowed,
    RunCancelling,
    StepFollowing,
    StepReady,
    StepReused,
    StepSucceeded,
    Transition,
    run_of,
)

UNTOLD = (AttemptOffered, FlightFollowed, RunCancelling, StepFollowing, StepReady)
"""Facts without an event: what they ask for the state owes anyway."""


@dataclass(slots=True)
class Replay:
    """A log on its way into a partition's state."""

    partition: Partition
    told: Mapping[str, int]
    """The number of each run's last stored event; known before the run's first fact is taken."""
    settled: int = 0
    """The results of commits up to this sequence are in the tables."""
    commits: int = 0
    transitions: int = 0
    events: list[Emit] = field(default_factory=list)
    ended_well: deque[tuple[int, StepReused | StepSucceeded, float]] = field(default_factory=deque)

    def take(self, sequence: int, commit: Commit) -> None:
        """Make a commit true, and remember what may have been lost of it."""
        self.commits += 1
        self.transitions += len(commit.transitions)
        for transition in commit.transitions:
            evolve(self.partition, transition, commit.at)
            self._remember(sequence, transition, commit.at)
        anchor(self.partition, sequence)
        self.settled = max(self.settled, commit.settled)
        while self.ended_well and self.ended_well[0][0] <= self.settled:
            self.ended_well.popleft()

    def results(self) -> list[PutReuse | PutLatest]:
        """Return the results that may not be in the tables."""
        runs = self.partition.runs
        return [
            effect
            for _, fact, at in self.ended_well
            if fact.run in runs
            for effect in kept(runs[fact.run], fact, at)
        ]

    def lines(self) -> list[PutSummary]:
        """Return every run's line."""
        runs = self.partition.runs.values()
        return [summary(run) for run in runs if run.status is not RunStatus.ARRIVING]

    def _remember(self, sequence: int, transition: Transition, at: float) -> None:
        run = self.partition.runs.get(run_of(transition))
        if run is None or run.status is RunStatus.ARRIVING or isinstance(transition, UNTOLD):
            return
        if isinstance(transition, StepReused | StepSucceeded):
            self.ended_well.append((sequence, transition, at))
        if run.seq > self.told.get(run.head.run, 0):
            asked = effects.effects_of(self.partition, transition, at)
            self.events.extend(effect for effect in asked if isinstance(effect, Emit))
