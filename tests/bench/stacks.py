"""Real stacks for benchmarks: `penstock up` in a folder, or a bare server with a few services."""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from penstock.testing.fleet import Fleet
from penstock.testing.null_executor import __name__ as null_executor_module
from penstock.testing.servers import NatsServer
from penstock.units import GIB

PENSTOCK = Path(sys.executable).with_name("penstock")
SLOTS = 2


class Stack:
    """What `penstock up` starts, on ports of its own, until the block ends."""

    def __init__(
        self, folder: Path, *, store: str = "", targets: str = "", slots: int = SLOTS
    ) -> None:
        self.folder = folder
        self.words = ["--slots", str(slots)]
        self.words += ["--store", store] if store else []
        self.words += ["--targets", targets] if targets else []

    def __enter__(self) -> Self:
        self.penstock("up", "--detach", *self.words)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.penstock("down")

    def penstock(self, *words: str) -> str:
        """Run a command of ours to its end and return what it printed.

        Raises:
            RuntimeError: it failed; its last words are the message.
        """
        done = subprocess.run(
            [str(PENSTOCK), *words, "--dir", str(self.folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"penstock {words[0]}: {done.stderr[-1500:]}")
        return done.stdout

    def state(self) -> dict[str, Any]:
        """Return what the stack says of itself."""
        state: dict[str, Any] = json.loads((self.folder / "state.json").read_text(encoding="utf-8"))
        return state

    @property
    def bus(self) -> str:
        """URL of its NATS, with the password."""
        return str(self.state()["bus"])

    def pids(self) -> list[int]:
        """Return the supervisor and what it runs, nats-server among them."""
        state = self.state()
        return [int(state["supervisor_pid"]), *(int(s["pid"]) for s in state["services"])]


@contextmanager
def bare_bus(folder: Path) -> Iterator[NatsServer]:
    """Lend a nats-server that fsyncs before it acknowledges, and nothing else."""
    server = NatsServer(folder / "nats", max_file_bytes=64 * GIB)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def control_plane(folder: Path, *, schedulers: int = 1) -> Iterator[Fleet]:
    """Lend schedulers on a bus of their own, beside an executor that runs nothing."""
    with bare_bus(folder) as server:
        fleet = Fleet(folder / "fleet", bus=server.url, store="", workspace="b")
        with fleet, null_executor(server.url, "b"):
            for _ in range(schedulers):
                fleet.start("scheduler")
            yield fleet


@contextmanager
def null_executor(url: str, workspace: str) -> Iterator[None]:
    """Run an executor that runs nothing, in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", null_executor_module, "--bus", url, "--workspace", workspace]
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def family_of(pids: Iterable[int]) -> list[int]:
    """Return these processes and all that descend from them, nats-servers and their like left out."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text(encoding="utf-8", errors="replace")
            except OSError:  # it has ended meanwhile
                continue
            parent = int(stat.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(folder.name))
    found: list[int] = []
    waiting = list(pids)
    while waiting:
        pid = waiting.pop()
        if pid not in found and not is_server(pid):
            found.append(pid)
            waiting += children.get(pid, [])
    return found


def is_server(pid: int) -> bool:
    """Say whether a process is a server that is not ours."""
    return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip() == "nats-server"


def ticks_of(pids: Iterable[int]) -> int:
    """Return the processor ticks that processes have used so far."""
    total = 0
    for pid in pids:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        fields = stat.rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total


def memory_mib(pid: int) -> tuple[float, float]:
    """Return a process's memory: resident, and its share of it when shared pages are divided."""
    found = {}
    for text in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()[1:]:
        key, value, *_ = text.split()
        found[key] = float(value) / 1024
    return found["Rss:"], found["Pss:"]
