"""The local stack as a file: what `penstock up` wrote, so that other commands find it.

    <dir>/state.json     mode 600; this file's contents, replaced whole on every change
    <dir>/penstock.lock  held by the living supervisor, so two of them never share a directory
    <dir>/logs/          one log per service, bounded
    <dir>/bus/           nats.conf (mode 600, holds the password), the port, the streams
    <dir>/store/         the object store of `file:` stacks
    <dir>/executor/      the executor's cache and attempt directories
    <dir>/datastores/    the workspace's own datastores, a folder each

A process number alone proves nothing after a crash or a reboot, so a process is known by its number
and its birth together. Nothing here starts or ends anything.
"""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

import msgspec

from penstock.errors import Corrupt, Invalid

FOLDER = ".penstock"
STATE_FILE = "state.json"
LOCK_FILE = "penstock.lock"
STATE_VERSION = 1
READY_FD = "PENSTOCK_READY_FD"
"""Variable that names the pipe on which a service says, with one byte, that it serves."""

StackState = Literal["starting", "ready", "degraded", "stopping", "stopped"]
ServiceState = Literal["starting", "ready", "restarting", "stopping", "stopped"]


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """One process of the stack. `pid` is 0 while there is none; `born` names its start."""

    name: str
    pid: int = 0
    born: str = ""
    state: ServiceState = "starting"
    restarts: int = 0
    reason: str = ""
    """Why it is not ready, in its own last words; empty when it is."""


class Stack(msgspec.Struct, frozen=True, kw_only=True):
    """A stack as its supervisor last described it. `bus` and `store` carry their credentials."""

    workspace: str
    bus: str
    store: str
    supervisor_pid: int
    supervisor_born: str
    started_at: float
    state: StackState = "starting"
    services: tuple[Service, ...] = ()
    slots: int = 0
    """Executor slots as asked for with `--slots`; 0: the executor's own default."""
    targets: str = ""
    """Compute targets as asked for with `--targets`; empty: the executor's own default."""
    embedded_bus: bool = True
    dir: str = ""
    version: int = STATE_VERSION

    def alive(self) -> bool:
        """Say whether the supervisor that wrote this still lives."""
        return self.supervisor_pid > 0 and birth_of(self.supervisor_pid) == self.supervisor_born

    def seen(self) -> "Stack":
        """Return the stack as it is now: stopped when nobody supervises it, whatever the file says."""
        if self.alive():
            return self
        stopped = tuple(
            msgspec.structs.replace(s, pid=0, born="", state="stopped") for s in self.services
        )
        return msgspec.structs.replace(self, state="stopped", services=stopped)


def birth_of(pid: int) -> str:
    """Return what tells this process from any other that has or had its number; empty: none lives."""
    if pid <= 0:
        return ""
    if sys.platform == "linux":
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
            boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        except OSError:
            return ""
        # The command may hold blanks and brackets, so fields are counted behind its last bracket.
        fields = stat.rpartition(")")[2].split()
        state, started_ticks = fields[0], fields[19]
        return "" if state in "ZX" else f"{boot}/{started_ticks}"
    answer = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, started = answer.stdout.strip().partition(" ")
    return "" if not started or state.startswith("Z") else started.strip()


def at(directory: Path) -> Stack | None:
    """Return the stack whose directory this is, alive or not; None if there never was one.

    Raises:
        Corrupt: E_STATE, the file is there and makes no sense.
        Invalid: E_NOT_READABLE, it belongs to somebody else.
    """
    file = directory / STATE_FILE
    try:
        stack = msgspec.json.decode(file.read_bytes(), type=Stack)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise Invalid(
            "this stack belongs to another user",
            code="E_NOT_READABLE",
            where=str(file),
            hint="give --bus URL, or --dir with a directory of your own",
        ) from error
    except msgspec.MsgspecError as error:
        raise Corrupt(
            f"not a state file of this version: {error}",
            code="E_STATE",
            where=str(file),
            hint="remove the file; `penstock up` writes a new one and keeps the data",
        ) from error
    return msgspec.structs.replace(stack, dir=str(directory))


def folders(start: Path) -> Iterator[Path]:
    """Iterate over the places of a stack's directory, from `start` upwards, as git does."""
    here = start.resolve()
    for place in (here, *here.parents):
        yield place / FOLDER


def named(directory: Path) -> Stack | None:
    """Return the stack that `--dir DIRECTORY` means: the directory itself, or `.penstock` in it."""
    return at(directory) if _is_folder_of_stack(directory) else at(directory / FOLDER)


def find(start: Path) -> Stack | None:
    """Return the stack in `start` or of the nearest `.penstock` upwards from it, alive or not."""
    if _is_folder_of_stack(start):
        return at(start)
    for folder in folders(start):
        stack = at(folder)
        if stack is not None:
            return stack
    return None


def write(directory: Path, stack: Stack) -> None:
    """Replace the state file, readable by its owner only, never half written.

    On a full disk, when it matters most, there is no room for a second file: then the bytes go over
    the old ones, in one write and in the blocks that the file already has.
    """
    data = msgspec.json.format(msgspec.json.encode(stack))
    file, temporary = directory / STATE_FILE, directory / f".{STATE_FILE}.{os.getpid()}"
    try:
        _write_bytes(temporary, data, os.O_CREAT | os.O_TRUNC)
        temporary.replace(file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not file.exists():
            raise
        _write_bytes(file, data.ljust(file.stat().st_size), 0)


def _write_bytes(file: Path, data: bytes, flags: int) -> None:
    descriptor = os.open(file, os.O_WRONLY | flags, 0o600)
    try:
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(descriptor)


def without_password(url: str) -> str:
    """Return a URL that may be shown to anybody: user and password become `***`."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc="***@" + parts.netloc.rpartition("@")[2]))


def _is_folder_of_stack(directory: Path) -> bool:
    # A folder may hold a state.json of somebody else's; the lock's name is ours alone.
    return directory.name == FOLDER or (directory / LOCK_FILE).exists()
