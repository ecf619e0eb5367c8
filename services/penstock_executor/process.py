"""Starting a step's command through the launcher, and ending it with everything it started.

The protocol and the process tree are drawn in launcher.py. Nothing here waits on a pipe: a command
has ended when init says so, whoever still holds its stdout (CPython's `wait()` would not return).
"""

import asyncio
import contextlib
import fcntl
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from penstock.errors import PenstockError, Transient
from penstock_executor.decide.forkable import Program
from penstock_executor.init import AGAIN_BYTES_MAX
from penstock_executor.launcher import LENGTH

PIPE_BYTES = 1024 * 1024
"""Room for a burst, so that a step rarely waits for us; the kernel may give less."""
PROBE_S = 10.0
REPORT_BYTES_MAX = 8192

IDLE_MAX = 32
"""Inits that wait for another command."""

VMSTAT_BYTES_MAX = 64 * 1024
_OOM_KILLS = re.compile(rb"^oom_kill (\d+)$", re.MULTILINE)

assert LENGTH  # noqa: S101 - imported: a launcher that does not compile stops the executor at once


class NotStarted(PenstockError):
    """The command could not be started; the message says what the launcher met."""

    default_code = "E_INTERNAL"


@dataclass(frozen=True, slots=True)
class Command:
    """What to run, where, and with which variables."""

    arguments: Sequence[str]
    folder: str
    environment: Mapping[str, str]
    read_only: Sequence[str] = ()
    """Folders that the command cannot write to, when it runs in a namespace."""
    program: Program | None = None
    """What it is, if it may be forked from a warm interpreter."""
    imports: Sequence[str] = ()
    """Names of modules that its sources import."""


@dataclass
class Running:
    """A command that was asked for."""

    control: socket.socket
    stdout: int
    """Where to read from; the reader closes it."""
    stderr: int
    forked: bool = False
    """From a warm interpreter; otherwise it is a plain process."""
    idle: Callable[[socket.socket], None] | None = None
    """Takes over the control socket of an init that serves again."""
    started: asyncio.Event = field(default_factory=asyncio.Event)
    ended: "asyncio.Future[int]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    """The wait status, when nothing of the command is left. Raises NotStarted or Transient (E_LOST)."""

    def stop(self, grace_s: float) -> None:
        """Ask everything to end; kill what is left after `grace_s`. The first call counts."""
        self._order(b"T%.3f" % max(0.0, grace_s))

    def kill(self) -> None:
        """Kill everything now."""
        self._order(b"K")

    def _order(self, order: bytes) -> None:
        self.idle = None  # it might arrive after the end: nobody else may get it
        with contextlib.suppress(OSError):  # it has ended meanwhile
            self.control.send(order)

    def _report(self) -> None:
        try:
            report = self.control.recv(REPORT_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError:
            report = b""
        text = report[1:].decode(errors="replace")
        match report[:1]:
            case b"S":
                self.started.set()
                return
            case b"A":
                self._end(int(text), again=True)
            case b"X":
                self._end(int(text))
            case b"E":
                self._end(NotStarted(text, where="launcher"))
            case _:
                self._end(Transient("its init was killed from outside", code="E_LOST"))

    def _end(self, result: int | PenstockError, *, again: bool = False) -> None:
        self.started.set()
        asyncio.get_running_loop().remove_reader(self.control)
        if again and self.idle is not None:
            self.idle(self.control)
        else:
            self.control.close()
        if self.ended.done():
            return
        if isinstance(result, int):
            self.ended.set_result(result)
        else:
            self.ended.set_exception(result)
            self.ended.exception()  # whoever is interested awaits it; nobody may be


class Launcher:
    """The small process that starts commands. Start it from the main thread (PDEATHSIG)."""

    def __init__(self, on_death: Callable[[], None]) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    *("-I", "-S", "-X", "utf8"),
                    str(Path(__file__).with_name("launcher.py")),
                    str(theirs.fileno()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={n: v for n, v in os.environ.items() if n == "LD_LIBRARY_PATH"},
            )
        self.namespace = False
        self._requests = ours
        self._desk = Desk(ours)
        self._on_death = on_death
        asyncio.get_running_loop().add_reader(ours, self._died)

    async def probe(self) -> str:
        """Use namespaces from now on if they work here; return why not, or an empty text."""
        self.namespace = True
        problem = ""
        running = self.start(
            Command(arguments=["/bin/sh", "-c", 'test "$$" -ne 1'], folder="/", environment={})
        )
        try:
            status = await asyncio.wait_for(asyncio.shield(running.ended), PROBE_S)
            if status:
                problem = f"a command in a namespace ended with status {status}"
        except (PenstockError, TimeoutError) as error:
            problem = str(error) or "a command in a namespace did not end"
            running.kill()
        for fd in (running.stdout, running.stderr):
            os.close(fd)
        self.namespace = not problem
        return problem

    def start(self, command: Command) -> Running:
        """Ask for a command to be started. Returns at once.

        Raises:
            Transient: E_LOST, the launcher is gone.
        """
        return self._desk.start(command, namespace=self.namespace)

    def close(self) -> None:
        """End the launcher. Commands that still run are killed by the end of their control sockets."""
        asyncio.get_running_loop().remove_reader(self._requests)
        self._desk.close()
        self._requests.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
            return
        self.process.kill()
        self.process.wait()

    def _died(self) -> None:
        asyncio.get_running_loop().remove_reader(self._requests)
        self._on_death()


class Desk:
    """Where commands are asked for: at a launcher, or a fork server, and at its inits that wait.

    An init whose namespace is as it was (init.py) serves again: that is quicker than a new one.
    """

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._idle: list[socket.socket] = []
        self._closed = False

    def start(
        self, command: Command, *, namespace: bool, more: Mapping[str, Any] | None = None
    ) -> Running:
        """Ask for a command to be started. Returns at once.

        Raises:
            Transient: E_LOST, the launcher is gone.
        """
        out_read, out_write = _pipe()
        err_read, err_write = _pipe()
        request = msgspec.json.encode(
            {
                "command": list(command.arguments),
                "folder": command.folder,
                "environment": dict(command.environment),
                "namespace": namespace,
                "read_only": list(command.read_only),
                **(more or {}),
            }
        )
        try:
            control = self._again(request, [out_write, err_write]) if namespace else None
            if control is None:
                control = self._anew(request, [out_write, err_write])
        except OSError as error:
            os.close(out_read)
            os.close(err_read)
            raise Transient(f"the launcher is gone: {error}", code="E_LOST") from error
        finally:
            os.close(out_write)
            os.close(err_write)
        running = Running(control=control, stdout=out_read, stderr=err_read, idle=self._take)
        asyncio.get_running_loop().add_reader(control, running._report)  # noqa: SLF001 - made here
        return running

    def close(self) -> None:
        """Let inits that wait end; those that attend to a command end with it."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def _again(self, request: bytes, outputs: list[int]) -> socket.socket | None:
        """Ask an init that waits; None where there is none."""
        while self._idle and len(request) < AGAIN_BYTES_MAX:
            control = self._idle.pop()  # the one whose memory is the warmest
            try:
                socket.send_fds(control, [b"R", request], outputs)
            except OSError:  # it was killed meanwhile
                control.close()
            else:
                return control
        return None

    def _anew(self, request: bytes, outputs: list[int]) -> socket.socket:
        """Ask for a new init."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                fds = [theirs.fileno(), *outputs]
                socket.send_fds(self._requests, [LENGTH.pack(len(request))], fds)
                self._requests.sendall(request)
            except OSError:
                ours.close()
                raise
        ours.setblocking(False)
        return ours

    def _take(self, control: socket.socket) -> None:
        if self._closed or len(self._idle) >= IDLE_MAX:
            control.close()
        else:
            self._idle.append(control)


def shell() -> str:
    """Return the shell that runs commands: bash, as Azure ML has it, else sh."""
    return shutil.which("bash") or "/bin/sh"


def out_of_memory_kills() -> int:
    """Return how many processes the kernel has killed for memory since it started; 0 if it won't say."""
    with contextlib.suppress(OSError):
        file = os.open("/proc/vmstat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = _OOM_KILLS.search(os.read(file, VMSTAT_BYTES_MAX))
        finally:
            os.close(file)
        return int(found[1]) if found else 0
    return 0


def _pipe() -> tuple[int, int]:
    read, write = os.pipe()
    with contextlib.suppress(OSError, AttributeError):
        fcntl.fcntl(read, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    os.set_blocking(read, False)
    return read, write
