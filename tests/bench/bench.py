"""What workloads are given: a scratch folder, a warm stack, floors as plain programs, and a stopwatch."""

import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.bench.registry import Samples
from tests.bench.stacks import Stack

from penstock.sdk.client import Client

HERE = Path(__file__).parent
FLOORS = HERE / "floors"
ROUNDS = 5


class Bench:
    """One run of the benchmarks. What it starts ends with it."""

    def __init__(self, root: Path, rounds: int = 0) -> None:
        self.root = root
        self.asked_rounds = rounds
        self.exits = ExitStack()
        self._names = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.exits.close()

    # -- places and stacks ----------------------------------------------------------------------------

    def folder(self) -> Path:
        """Return a new empty folder."""
        self._names += 1
        path = self.root / f"f{self._names}"
        path.mkdir()
        return path

    @cached_property
    def sources(self) -> Path:
        """A copy of the steps' scripts in a git repository of its own, where users have theirs."""
        path = self.root / "sources"
        shutil.copytree(HERE / "steps", path, ignore=shutil.ignore_patterns("__pycache__"))
        git = ["git", "-c", "user.name=bench", "-c", "user.email=bench@localhost"]
        for words in (["init", "-q", "."], ["add", "."], ["commit", "-q", "-m", "Steps"]):
            subprocess.run([*git, *words], cwd=path, check=True)
        return path

    @cached_property
    def stack(self) -> Stack:
        """A stack with two slots that has run something, shared by all workloads that want one."""
        return self.exits.enter_context(Stack(self.root / "stack"))

    @cached_property
    def client(self) -> Client:
        """A connected client of the shared stack."""
        return self.exits.enter_context(Client(dir=self.stack.folder))

    # -- measuring ------------------------------------------------------------------------------------

    def salt(self) -> str:
        """Return an argument that no step has had before, so that every run really runs."""
        return secrets.token_hex(8)

    def rounds(self, usual: int = ROUNDS) -> int:
        """Return how often to measure: as the command line says, else as the workload does."""
        return self.asked_rounds or usual

    def paired(
        self,
        ours: Callable[[], float | None],
        floor: Callable[[], float | None],
        *,
        rounds: int = ROUNDS,
        warm: bool = True,
        sync: bool = False,
    ) -> Samples:
        """Measure both in turns, each first every other time, so that a slow moment hits both.

        What returns a number is asked for it; what returns None is timed. `sync` empties the disk's
        queue before each, so that nobody pays for the other's dirty pages.
        """
        if warm:
            ours()
            floor()
        samples = Samples([], [])
        for number in range(self.rounds(rounds)):
            pair = [(ours, samples.ours), (floor, samples.floor)]
            for work, into in pair if number % 2 else reversed(pair):
                if sync:
                    os.sync()
                into.append(timed(work))
        return samples

    def floor(self, program: str, *words: object, cwd: Path | None = None) -> str:
        """Run a plain program of `floors/` to its end with the steps' own Python; return its stdout.

        Raises:
            subprocess.CalledProcessError: it failed, so there is no floor.
        """
        path = FLOORS / program
        runner = "sh" if path.suffix == ".sh" else sys.executable
        done = subprocess.run(
            [runner, str(path), *map(str, words)],
            cwd=cwd or self.root,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHON": sys.executable},
        )
        return done.stdout


def timed(work: Callable[[], float | None]) -> float:
    """Return what `work` says, or how long it took when it says nothing, in seconds."""
    began = time.perf_counter()
    said = work()
    return time.perf_counter() - began if said is None else said


def times(rate_of: int, samples: Samples) -> Samples:
    """Return seconds as rates of so many things a second."""
    return Samples(
        [rate_of / value for value in samples.ours],
        [rate_of / value for value in samples.floor],
        samples.more,
    )


def scaled(samples: Samples, factor: float) -> Samples:
    """Return samples in another unit."""
    return Samples(
        [value * factor for value in samples.ours],
        [value * factor for value in samples.floor],
        samples.more,
    )
