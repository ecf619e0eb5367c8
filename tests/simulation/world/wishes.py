"""What users want: pipelines, how their steps behave, and the requests that start them.

A step's result is a pure function of its command and its inputs, so it is known without the system.
How a command behaves (how many attempts it fails, and whether for good) belongs to the command: two
equal steps behave alike, whichever of them runs.
"""

import random
from dataclasses import dataclass, field

import msgspec

from penstock.contracts.artifacts import Entry, Manifest, tree_digest
from penstock.contracts.requests import Reuse
from penstock.contracts.spec import (
    Input,
    Limits,
    Output,
    PipelineSpec,
    Settings,
    StepSpec,
    spec_bytes,
)
from penstock.ids import digest_of

PIPELINE = "p"
EXIT_OK = 0
EXIT_BAD = 1 << 8
EXIT_NOT_FOUND = 127 << 8
KILLED = 9


@dataclass(frozen=True)
class Behaviour:
    """What a command does: the first `fails` attempts end badly, with `status` as of wait(2)."""

    fails: int = 0
    status: int = EXIT_BAD
    seconds: float = 0.2
    limits: Limits = field(default_factory=Limits)
    log_bytes: int = 10


@dataclass(frozen=True)
class Submission:
    """One wish for a run."""

    spec: PipelineSpec
    key: str = ""
    reuse: Reuse = "use"
    priority: int = 0
    cancel_after: int = -1
    """Actions until the client changes its mind; -1: never."""
    rerun: str = ""
    """Afterwards run it again: from "failed" or "start"."""
    again: bool = False
    """Send the request once more after it was answered."""


@dataclass
class Wishes:
    """Everything that is wanted in one world."""

    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    submissions: list[Submission] = field(default_factory=list)
    ticks: int = 0
    """Firings of the schedule."""
    overlap: str = "allow"
    catch_up: str = "none"
    every: float = 20.0


def wishes(chance: random.Random) -> Wishes:
    """Return a seed's wishes."""
    wanted = Wishes(behaviours={f"c{n}": _behaviour(chance) for n in range(3)})
    first = _spec(chance, wanted)
    for number in range(chance.choice([1, 1, 2, 2, 3])):
        # Runs of one shape meet in reuse and single flight.
        spec = first if chance.random() < 0.6 else _spec(chance, wanted)
        key = f"key{chance.choice([0, number, number])}" if chance.random() < 0.7 else ""
        known = next((s for s in wanted.submissions if key and s.key == key), None)
        if known is not None and chance.random() < 0.8:
            wanted.submissions.append(known)  # the same wish, by somebody else
            continue
        wanted.submissions.append(
            Submission(
                spec=spec,
                key=key,
                reuse=chance.choice(["use", "use", "use", "refresh", "off"]),
                priority=chance.choice([0, 0, 5]),
                cancel_after=chance.randint(1, 150) if chance.random() < 0.15 else -1,
                rerun=chance.choice(["", "", "", "failed", "start"]),
                again=chance.random() < 0.2,
            )
        )
    if chance.random() < 0.3:
        wanted.ticks = chance.choice([1, 2, 3])
        wanted.overlap = chance.choice(["allow", "skip", "queue", "replace"])
        wanted.catch_up = chance.choice(["none", "last", "all"])
        wanted.every = chance.choice([5.0, 30.0])
    return wanted


def _behaviour(chance: random.Random) -> Behaviour:
    status = chance.choice([EXIT_BAD, EXIT_BAD, KILLED, EXIT_NOT_FOUND])
    # What another attempt cannot better fails always: else a misfortune could better it.
    fails = chance.choice([0, 0, 0, 0, 1, 1, 2, 9])
    return Behaviour(
        fails=9 if fails and status == EXIT_NOT_FOUND else fails,
        status=status,
        seconds=chance.choice([0.05, 0.5, 20.0]),
        limits=Limits(
            timeout=chance.choice([0, 0, 0, 60.0]),
            retries=chance.choice([0, 1, 2]),
            retry_delay=chance.choice([0.0, 2.0]),
            deadline=chance.choice([0, 0, 0, 200.0]),
            expected=chance.choice([0, 0, 1.0]),
        ),
        log_bytes=chance.choice([0, 10, 200]),
    )


def _spec(chance: random.Random, wanted: Wishes) -> PipelineSpec:
    steps = {}
    names = [f"s{n}" for n in range(chance.choice([1, 2, 2, 3, 4, 5]))]
    for number, name in enumerate(names):
        needs = chance.sample(names[:number], chance.randint(0, min(number, 2)))
        command = f"c{chance.randint(0, 2)}"
        steps[name] = StepSpec(
            command=command,
            inputs={
                f"i{n}": Input(path=f"${{{{parent.jobs.{need}.outputs.o}}}}")
                for n, need in enumerate(needs)
                if chance.random() < 0.7
            },
            outputs={"o": Output()},
            needs=tuple(needs),
            limits=wanted.behaviours[command].limits,
            is_deterministic=chance.random() < 0.9,
        )
    return PipelineSpec(
        name=PIPELINE,
        steps=steps,
        settings=Settings(
            continue_on_step_failure=chance.random() < 0.5,
            deadline=400.0 if chance.random() < 0.05 else 0,
        ),
    )


def request_bytes(wish: Submission) -> bytes:
    """Return a request as a client sends it."""
    return msgspec.json.encode(
        {
            "spec": msgspec.Raw(spec_bytes(wish.spec)),
            "idempotency_key": wish.key,
            "reuse": wish.reuse,
            "priority": wish.priority,
        }
    )


def content_of(command: str, inputs: dict[str, str]) -> bytes:
    """Return what a command writes: a pure function of itself and its inputs' contents."""
    named = ",".join(f"{name}={inputs[name]}" for name in sorted(inputs))
    return f"{command}({named})".encode()


def manifest_of(content: bytes) -> Manifest:
    """Return the tree of an output: one small file."""
    entry = Entry(path="data", size=len(content), digest=digest_of(content))
    return Manifest(entries=(entry,))


def made_by(command: str, inputs: dict[str, str]) -> str:
    """Return the digest of the tree that a command makes of its inputs (by name: tree digests)."""
    return tree_digest(manifest_of(content_of(command, inputs)))
