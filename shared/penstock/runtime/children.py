"""Processes of a supervisor: started so that they die with it, watched, restarted, and their logs.

STARTING ──ready byte or line──▶ READY ──ends──▶ RESTARTING ──after its back-off──▶ STARTING
    └────────ends──────────────────────────────────▲
any ──stop()──▶ STOPPING ──ends, or killed after its grace──▶ STOPPED
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from penstock.runtime.crash import VARIABLE as CRASH
from penstock.runtime.stack import READY_FD, Service, ServiceState, birth_of
from penstock.units import MIB

LOG_BYTES_MAX = 4 * MIB
"""A log is kept twice at most: <name>.log and the one before it, <name>.log.1."""
TAIL_LINES_MAX = 20
LINE_BYTES_MAX = 16_384
READS_MAX = 64
BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.1, 10.0
WELL_S = 30.0
"""After this long without an end, a process counts as well and its back-off begins anew."""
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Command:
    """What to run. `ready_line`: a text in its output that means ready, for programs not our own."""

    name: str
    words: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    grace_s: float = 15.0
    """Seconds between SIGTERM and SIGKILL."""
    ready_line: str = ""


class Log:
    """A log file that never grows beyond its bound, and the last lines of it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.tail: deque[str] = deque(maxlen=TAIL_LINES_MAX)
        self._size = file.stat().st_size if file.exists() else 0
        self._opened = self._open()

    def write(self, line: str) -> None:
        """Append one line; a full disk loses it and nothing else."""
        self.tail.append(line)
        data = (line + "\n").encode()
        if self._size + len(data) > LOG_BYTES_MAX:
            self.close()
            with contextlib.suppress(OSError):
                self.file.replace(self.file.with_name(self.file.name + ".1"))
            self._opened, self._size = self._open(), 0
        with contextlib.suppress(OSError):
            self._size += os.write(self._opened, data)

    def close(self) -> None:
        """Let go of the file."""
        with contextlib.suppress(OSError):
            os.close(self._opened)

    def _open(self) -> int:
        return os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


OnChange = Callable[["Child"], None]
OnLine = Callable[["Child", str], None]


@dataclass
class Child:
    """One process that is kept running. `on_change` hears of every state, `on_line` of every line."""

    command: Command
    log: Log
    on_change: OnChange
    on_line: OnLine
    state: ServiceState = "starting"
    pid: int = 0
    born: str = ""
    restarts: int = 0
    ends_before_ready: int = 0
    """Ends in a row without having been ready."""
    ended_with: str = ""
    trouble: str = ""
    """Why it is not well although it runs; whoever knows sets and clears it."""
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _process: "subprocess.Popen[bytes] | None" = None
    _ready_pipe: int = -1

    def described(self) -> Service:
        """Return the child as the state file tells it."""
        return Service(
            name=self.command.name,
            pid=self.pid,
            born=self.born,
            state=self.state,
            restarts=self.restarts,
            reason=self.trouble or ("" if self.state in ("ready", "stopped") else self.ended_with),
        )

    async def keep(self) -> None:
        """Keep the process running until `stop` is called; return when it has ended for good."""
        loop = asyncio.get_running_loop()
        backoff_s = BACKOFF_FIRST_S
        while not self._stopping.is_set():
            started = loop.time()
            try:
                await self._run_once()
            except OSError as error:
                self.ended_with = f"cannot be started: {error}"
            self.pid, self.born = 0, ""
            if self._stopping.is_set():
                break
            if not self.ready.is_set():
                self.ends_before_ready += 1
            self.ready.clear()
            if loop.time() - started >= WELL_S:
                backoff_s = BACKOFF_FIRST_S
            self.restarts += 1
            self._move("restarting")
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), backoff_s)
            backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)
        self._move("stopped")
        self.log.close()

    def stop(self) -> None:
        """Ask the process to end, and do not start it again."""
        self._stopping.set()
        if self._process is not None and self.pid:
            self._move("stopping")
            self.signal(signal.SIGTERM)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it is there."""
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _run_once(self) -> None:
        loop = asyncio.get_running_loop()
        output, output_end = os.pipe()
        ready, ready_end = os.pipe()
        environment = {**self.command.environment, READY_FD: str(ready_end)}
        if self.restarts:
            environment.pop(CRASH, None)  # died at once; what starts again is to recover
        try:
            process = subprocess.Popen(  # noqa: ASYNC220 - a fork of this small process takes 2 ms
                self.command.words,
                stdin=subprocess.DEVNULL,
                stdout=output_end,
                stderr=output_end,
                env=environment,
                cwd=self.command.folder,
                pass_fds=(ready_end,),
                process_group=0,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - this process has one thread
            )
        except OSError:
            os.close(output)
            os.close(ready)
            raise
        finally:
            os.close(output_end)
            os.close(ready_end)
        self._process, self.pid, self.born = process, process.pid, birth_of(process.pid)
        self._move("starting")
        lines = _Lines(output, self._hear)
        self._ready_pipe = ready
        loop.add_reader(ready, self._hear_ready)
        try:
            await _ended(process, self._stopping, self.command.grace_s)
        finally:
            lines.close()
            self._close_ready_pipe()
        self.ended_with = _ending(process.returncode)

    def _hear(self, line: str) -> None:
        self.log.write(line)
        if self.command.ready_line and self.command.ready_line in line:
            self._become_ready()
        self.on_line(self, line)

    def _hear_ready(self) -> None:
        said = os.read(self._ready_pipe, 1)
        self._close_ready_pipe()
        if said and not self.command.ready_line:
            self._become_ready()

    def _close_ready_pipe(self) -> None:
        if self._ready_pipe >= 0:
            asyncio.get_running_loop().remove_reader(self._ready_pipe)
            os.close(self._ready_pipe)
            self._ready_pipe = -1

    def _become_ready(self) -> None:
        if self.state == "starting":
            self.ready.set()
            self.ends_before_ready = 0
            self._move("ready")

    def _move(self, state: ServiceState) -> None:
        self.state = state
        self.on_change(self)


class _Lines:
    """Bytes of a pipe, handed on as lines until it is closed."""

    def __init__(self, descriptor: int, on_line: Callable[[str], None]) -> None:
        os.set_blocking(descriptor, False)
        self.descriptor = descriptor
        self.on_line = on_line
        self.rest = b""
        asyncio.get_running_loop().add_reader(descriptor, self.read)

    def read(self) -> None:
        """Take what is there now, but not for ever: a child may write without end."""
        for _ in range(READS_MAX):
            try:
                data = os.read(self.descriptor, 65_536)
            except BlockingIOError:
                return
            if not data:
                asyncio.get_running_loop().remove_reader(self.descriptor)
                return
            *lines, self.rest = (self.rest + data).split(b"\n")
            if len(self.rest) > LINE_BYTES_MAX:
                lines, self.rest = [*lines, self.rest], b""
            for line in lines:
                self.on_line(line[:LINE_BYTES_MAX].decode(errors="replace").rstrip("\r"))

    def close(self) -> None:
        """Take the last lines, and let go of the pipe, which a grandchild may still hold."""
        self.read()
        if self.rest:
            self.on_line(self.rest.decode(errors="replace"))
        asyncio.get_running_loop().remove_reader(self.descriptor)
        os.close(self.descriptor)


async def _ended(
    process: "subprocess.Popen[bytes]", stopping: asyncio.Event, grace_s: float
) -> None:
    """Return when the process has ended; once `stopping`, kill it after its grace."""
    waiting = asyncio.ensure_future(_exit_of(process))
    told = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait({waiting, told}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            await asyncio.wait({waiting}, timeout=grace_s)
        if not waiting.done():
            process.kill()
        await waiting
    finally:
        told.cancel()


async def _exit_of(process: "subprocess.Popen[bytes]") -> None:
    """Return when the process has ended, and reap it."""
    loop = asyncio.get_running_loop()
    if sys.platform != "linux":
        while process.poll() is None:  # noqa: ASYNC110 - no event there tells of a child's end
            await asyncio.sleep(0.05)
        return
    ended = asyncio.Event()
    descriptor = os.pidfd_open(process.pid)
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    process.wait()


def _ending(code: int) -> str:
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _loaded_prctl() -> Callable[[int, int], int] | None:
    if sys.platform != "linux":
        return None  # elsewhere a killed supervisor's children are ended by the next `up`
    prctl: Callable[[int, int], int] = ctypes.CDLL(None, use_errno=True).prctl
    return prctl


_PRCTL = _loaded_prctl()


def _die_with_parent() -> None:
    """Have the kernel kill this child when its supervisor dies, however it dies (prctl(2))."""
    if _PRCTL is not None:
        _PRCTL(PR_SET_PDEATHSIG, signal.SIGKILL)


def end_leftovers(services: Sequence[Service]) -> list[str]:
    """Kill processes of a dead supervisor that still live; return their names."""
    ended = []
    for service in services:
        if service.pid and service.born and birth_of(service.pid) == service.born:
            with contextlib.suppress(ProcessLookupError):
                os.kill(service.pid, signal.SIGKILL)
                ended.append(service.name)
    return ended
