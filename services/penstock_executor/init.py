"""Init of one attempt after the other: starts a command, reaps, ends it, and leaves nothing of it behind.

Init is PID 1 of a PID namespace (launcher.py draws the tree) and listens on a control socket of which
the executor holds the other end:

    executor → init   T<seconds>  SIGTERM to every process, SIGKILL to what is left after that time
                      K           SIGKILL to every process, now
                      R<request>  another command, with the file descriptors of its outputs
    init → executor   S           the command runs
                      A<status>   the command has ended with this wait status, nothing is left, and
                                  another one may be asked for here
                      X<status>   the same, and init ends
                      E<text>     it could not be started, and init ends

When the command ends, everything else it started is killed before its end is told. When the executor
goes, however it goes, the control socket ends and the attempt is killed; and when init is killed the
kernel kills everything in its namespace.

A new namespace with its /proc costs 1.2 ms of processor time, so the one of a command that has ended serves again, but only
if it is as it was: the command ended by itself, nothing that it started was left, nobody has mounted
anything. The next command finds a namespace with no process but init.
"""

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

PR_SET_PDEATHSIG = 1
CLONE_NEWNS = 0x00020000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
MNT_DETACH = 2

AGAIN_BYTES_MAX = 64 * 1024
"""A request longer than this goes to a launcher: a packet has to fit into its socket."""
OUTPUTS = 2  # stdout, stderr
KILL_ROUND_S = 0.002
OOM_SCORE = b"500"  # the kernel, when short of memory, takes steps before services

libc = ctypes.CDLL(None, use_errno=True)

Request = dict[str, Any]
Spawn = Callable[[Request, list[int]], int]
"""Starts a command whose outputs these are, from init, and returns its process id; 0 where that is a
fork of init itself: whoever was called in it returns."""


def become_init(request: Request, fds: list[int], spawn: Spawn) -> None:
    """Be the init of a new PID namespace: see its /proc, and attend to one command after the other.

    Returns in forked commands only.
    """
    control = socket.socket(fileno=fds[0])
    next_one: tuple[Request, list[int]] | None = (request, fds[1:])
    try:
        death_signal(signal.SIGKILL)
        check(libc.unshare(CLONE_NEWNS), "unshare")
        mount(None, "/", None, MS_REC | MS_PRIVATE)
        mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
        wake = awake()
        before = scene()
        while next_one is not None:
            request, outputs = next_one
            for path in request["read_only"]:
                shield(path)
            attended = attend(request, control, outputs, spawn, wake)
            if attended is None:  # we are the command
                control.detach()
                return
            status, alone = attended
            again = alone and cleared(request["read_only"]) and scene() == before
            with contextlib.suppress(OSError):  # the executor is gone
                control.send(b"%c%d" % (b"A" if again else b"X", status))
            next_one = another(control) if again else None
    except BaseException as error:  # the executor must hear of it
        with contextlib.suppress(OSError):
            control.send(b"E" + repr(error).encode()[:4000])
    os._exit(0)


def awake() -> int:
    """Become a process that attends to others; return what can be read when one of them has ended."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_read, False)
    os.set_blocking(wake_write, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wake_write)
    with contextlib.suppress(OSError):
        write("/proc/self/oom_score_adj", OOM_SCORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    return wake_read


def attend(
    request: Request, control: socket.socket, outputs: list[int], spawn: Spawn, wake: int
) -> tuple[int, bool] | None:
    """Start the command and do as the control socket says; return when nothing is left.

    Returned are the command's wait status, and whether it ended by itself and left nothing to kill;
    None in a command that was forked.
    """
    _statuses.clear()
    os.chdir(request["folder"])
    command = spawn(request, outputs)
    if command == 0:
        return None
    for fd in outputs:
        os.close(fd)
    with contextlib.suppress(OSError):  # the executor is gone; watch() sees that too
        control.send(b"S")
    status = watch(command, control, wake, namespace=request["namespace"])
    alone = status is not None and not reap()
    if not alone:
        kill_all(namespace=request["namespace"])
    if status is None:  # it was killed just now
        status = _statuses.get(command, int(signal.SIGKILL))
    return status, alone


def another(control: socket.socket) -> tuple[Request, list[int]] | None:
    """Wait for another command; None when there will be none."""
    while True:
        data, outputs, _, _ = socket.recv_fds(control, AGAIN_BYTES_MAX, OUTPUTS)
        for fd in outputs:  # Python 3.11 does not pass MSG_CMSG_CLOEXEC on
            os.set_inheritable(fd, False)
        if not data:
            return None
        if data[:1] == b"R":
            return json.loads(data[1:]), outputs
        # else an order for the command before, which had ended


def shield(path: str) -> None:
    """Make a folder read-only for everybody in our mount namespace."""
    mount(path, path, None, MS_BIND | MS_REC)
    kept = os.statvfs(path).f_flag & MS_NOEXEC  # a locked flag cannot be taken away
    mount(None, path, None, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | kept)


def cleared(paths: list[str]) -> bool:
    """Leave the command's folder and take the shields away; say whether that could be done."""
    os.chdir("/")
    return all(libc.umount2(os.fsencode(path), MNT_DETACH) == 0 for path in reversed(paths))


def scene() -> tuple[bytes, int]:
    """Return what a command finds in this namespace, besides processes, and could have changed."""
    return read("/proc/self/mountinfo"), os.getpriority(os.PRIO_PROCESS, 0)


_statuses: dict[int, int] = {}


def watch(command: int, control: socket.socket, wake: int, *, namespace: bool) -> int | None:
    """Return the command's wait status; None when it has to be killed."""
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(wake, select.POLLIN)
    status: int | None = None
    deadline: float | None = None
    while True:
        children = reap()
        status = _statuses.get(command, status)
        if deadline is None:
            if status is not None:
                return status
        elif not children or time.monotonic() >= deadline:
            return status
        wait_s = None if deadline is None else max(0.0, deadline - time.monotonic())
        for fd, _ in poll.poll(None if wait_s is None else int(wait_s * 1000) + 1):
            if fd == wake:
                with contextlib.suppress(BlockingIOError):
                    os.read(wake, 4096)
                continue
            order = control.recv(64)
            if not order or order[:1] == b"K":  # the executor is gone, or impatient
                return status
            if order[:1] == b"T" and deadline is None:
                deadline = time.monotonic() + float(order[1:])
                terminate(command, namespace=namespace)


def spawned(request: dict[str, Any], outputs: list[int]) -> int:
    """Start the command and return its process id; working directory and limits it inherits.

    posix_spawn does not copy our page tables as fork does.
    """
    return os.posix_spawn(
        request["command"][0],
        request["command"],
        request["environment"],
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, outputs[0], 1),
            (os.POSIX_SPAWN_DUP2, outputs[1], 2),
        ],
        setsid=True,
        setsigmask=(),
        setsigdef=(signal.SIGCHLD, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ),
    )


def reap() -> bool:
    """Take in what has ended; say whether children are left."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True
        _statuses[pid] = status


def terminate(command: int, *, namespace: bool) -> None:
    """Ask everything to end: the whole namespace, or the command's process group."""
    with contextlib.suppress(ProcessLookupError):
        if namespace:
            os.kill(-1, signal.SIGTERM)
            os.kill(-1, signal.SIGCONT)  # a stopped process would not hear it
        else:
            os.killpg(command, signal.SIGTERM)
            os.killpg(command, signal.SIGCONT)


def kill_all(*, namespace: bool) -> None:
    """Kill everything the attempt started, and return when nothing is left."""
    while reap():
        if namespace:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
        else:
            for pid in descendants(os.getpid()):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(KILL_ROUND_S)


def descendants(root: int) -> list[int]:
    """Return the process ids below `root`; orphans are children of the subreaper, so none is missed."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - pathlib is not loaded here
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError, IndexError, ValueError):
            fd = os.open(f"/proc/{name}/stat", os.O_RDONLY)
            try:
                text = os.read(fd, 4096)
            finally:
                os.close(fd)
            parent = int(
                text.rpartition(b")")[2].split()[1]
            )  # the name may hold blanks and brackets
            children.setdefault(parent, []).append(int(name))
    found: list[int] = []
    queue = [root]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def death_signal(number: int) -> None:
    """Have the kernel send us `number` when the thread that made us ends."""
    parent = os.getppid()
    check(libc.prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0), "pdeathsig")
    if os.getppid() != parent:
        os._exit(1)


def mount(source: str | None, target: str, kind: str | None, flags: int) -> None:
    """Mount, or change a mount."""
    name = source.encode() if source else None
    filesystem = kind.encode() if kind else None
    check(libc.mount(name, target.encode(), filesystem, flags, None), f"mount {target}")


def read(path: str) -> bytes:
    """Return all of a small file of the kernel."""
    parts = []
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while part := os.read(fd, 1 << 16):
            parts.append(part)
    finally:
        os.close(fd)
    return b"".join(parts)


def write(path: str, data: bytes) -> None:
    """Write a small file of the kernel."""
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def check(result: int, what: str) -> None:
    """Raise the C library's error if there was one."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
