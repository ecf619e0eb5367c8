"""A run as its events tell it: the fold behind every view that follows a run. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.contracts.events import RUN_ENDS, STEP_ENDS
from penstock.sdk.events import Seen

STEP_STATE = {"started": "running"}
"""What happened → the state it leads to, where the words differ."""
RUN_STATE = {"accepted": "queued", "started": "running"}
LINE_MAX = 200


@dataclass
class StepProgress:
    """One step so far. Moments are seconds since 1970; 0: not yet."""

    name: str
    state: str = "waiting"
    attempt: int = 0
    started_at: float = 0
    ended_at: float = 0
    seconds: float = 0
    reason: str = ""
    target: str = ""
    queued_at: float = 0
    waits_for: str = ""
    """Why it does not go on, when somebody has asked the executors; see executors.py."""
    failure: Mapping[str, Any] = field(default_factory=dict)
    overdue: bool = False
    retry_at: float = 0
    last_line: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing more will become of it."""
        return self.state in STEP_ENDS


@dataclass
class Progress:
    """A run so far."""

    run: str
    pipeline: str = ""
    display_name: str = ""
    state: str = "queued"
    accepted_at: float = 0
    seconds: float = 0
    total: int = 0
    steps: dict[str, StepProgress] = field(default_factory=dict)
    error: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    last_sequence: int = 0
    name_length: int = 0
    """Of the longest step's name: every line is aligned by it."""

    @property
    def ended(self) -> bool:
        """Whether the run has ended."""
        return self.state in RUN_ENDS

    @property
    def done(self) -> int:
        """How many steps have ended."""
        return sum(step.ended for step in self.steps.values())

    def counts(self) -> dict[str, int]:
        """Return how many steps are in each state."""
        counts: dict[str, int] = {}
        for step in self.steps.values():
            counts[step.state] = counts.get(step.state, 0) + 1
        return counts

    def unchanged_since(self, at: float) -> list[StepProgress]:
        """Return the steps that are queued or run since before a moment (seconds since 1970)."""
        moments = {"queued": "queued_at", "running": "started_at"}
        return [
            step
            for step in self.steps.values()
            if step.state in moments and getattr(step, moments[step.state]) < at
        ]

    def take(self, seen: Seen) -> None:
        """Take in one event; one that was seen before changes nothing."""
        if seen.sequence <= self.last_sequence:
            return
        self.last_sequence = seen.sequence
        if seen.noun == "run":
            self._take_run(seen)
        elif seen.noun == "step":
            self._take_step(seen)

    def hear(self, step: str, line: str) -> None:
        """Remember the last line that a step wrote."""
        if line.strip():
            self._step(step).last_line = line[:LINE_MAX]

    def _take_run(self, seen: Seen) -> None:
        data = seen.data
        self.state = RUN_STATE.get(seen.what, seen.what)
        self.pipeline = data.get("pipeline", self.pipeline)
        self.display_name = data.get("display_name", self.display_name)
        self.reason = data.get("reason", self.reason)
        self.error = data.get("error") or self.error
        if seen.what == "accepted":
            self.accepted_at = seen.at
            self.total = int(data.get("steps", 0))
            for name in _in_order(data.get("graph", {})):
                self._step(name)
        if self.ended:
            self.seconds = float(data.get("seconds", 0)) or max(0.0, seen.at - self.accepted_at)

    def _take_step(self, seen: Seen) -> None:
        data = seen.data
        step = self._step(str(data.get("step", "")))
        step.attempt = int(data.get("attempt", step.attempt))
        step.reason = data.get("reason", step.reason)
        step.target = data.get("target") or step.target
        if seen.what == "overdue":
            step.overdue = True
            return
        step.state = STEP_STATE.get(seen.what, seen.what)
        step.waits_for = ""
        if seen.what == "queued":
            step.queued_at = seen.at
        step.retry_at = float(data.get("retry_at", 0))
        step.failure = data.get("failure") or (step.failure if step.state == "failed" else {})
        if seen.what == "started":
            step.started_at, step.last_line, step.overdue = seen.at, "", False
        if step.ended:
            step.ended_at = seen.at
            step.seconds = float(data.get("seconds", 0))

    def _step(self, name: str) -> StepProgress:
        if name not in self.steps:
            self.steps[name] = StepProgress(name)
            self.name_length = max(self.name_length, len(name))
            self.total = max(self.total, len(self.steps))
        return self.steps[name]


def _in_order(graph: Mapping[str, Any]) -> list[str]:
    """Return the steps in waves, each after its needs; within a wave as they were written."""
    place = {name: number for number, name in enumerate(graph)}
    left = {name: len(set(needs) & place.keys()) for name, needs in graph.items()}
    readers: dict[str, list[str]] = {name: [] for name in graph}
    for name, needs in graph.items():
        for needed in set(needs) & place.keys():
            readers[needed].append(name)
    done: dict[str, None] = {}
    wave = [name for name, count in left.items() if not count]
    while wave:
        done |= dict.fromkeys(wave)
        freed: list[str] = []
        for name in wave:
            for reader in readers[name]:
                left[reader] -= 1
                if not left[reader]:
                    freed.append(reader)
        wave = sorted(freed, key=place.__getitem__)
    return [*done, *(name for name in graph if name not in done)]  # a cycle cannot get here
