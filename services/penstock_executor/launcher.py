"""A small process that starts the commands of steps, and leaves nothing of them behind.

The executor starts it once, as `python -I -S launcher.py FD`, and asks it over a Unix socket to
start commands; forking this small single-threaded process is quick, forking the executor is not.
It uses the standard library only, because it runs before and beside everything else.

    executor ── launcher ── init ── command ── whatever the command starts
                            (PID 1 of the attempt's own PID namespace)

    without CAP_SYS_ADMIN:  launcher ── keeper, in a user namespace of its own ── init ── command
    without namespaces:     launcher ── keeper, a subreaper, does what init does ── command

Init starts the command, reaps, and listens on a control socket of which the executor holds the
other end:

    executor → init   T<seconds>  SIGTERM to every process, SIGKILL to what is left after that time
                      K           SIGKILL to every process, now
    init → executor   S           the command runs
                      X<status>   the command has ended with this wait status and nothing is left
                      E<text>     it could not be started

When the command ends, everything else it started is killed before X is sent. When the executor
goes, however it goes, the control socket ends and the attempt is killed; when launcher or keeper go,
PR_SET_PDEATHSIG kills init, and with the init of a PID namespace the kernel kills everything in it.
The launcher's only thread lives as long as the executor (PDEATHSIG follows threads, not processes).
"""

import contextlib
import ctypes
import gc
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18

LENGTH = struct.Struct("!I")
REQUEST_BYTES_MAX = 64 * 1024 * 1024
FDS = 3  # control, stdout, stderr
KILL_ROUND_S = 0.002
OOM_SCORE = b"500"  # the kernel, when short of memory, takes steps before services

libc = ctypes.CDLL(None, use_errno=True)


Spawn = Callable[[dict[str, Any], list[int]], int]
"""Starts a command whose outputs these are, from init, and returns its process id."""


class Forked(BaseException):
    """Raised in a child that is the command itself: whoever forked it has nothing to do there."""


def main(number: int) -> int:
    """Serve launch requests on the socket with this file descriptor until its other end closes."""
    requests = settled(number)
    serve(requests, spawned)
    return 0


def settled(number: int) -> socket.socket:
    """Become a process that serves, and return the socket of its requests."""
    death_signal(signal.SIGKILL)
    os.setsid()  # a Ctrl-C on the executor's terminal is the executor's business
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers are reaped by the kernel
    requests = socket.socket(fileno=number)
    requests.set_inheritable(False)
    return requests


def serve(requests: socket.socket, spawn: Spawn) -> None:
    """Launch what is asked for until the other end closes."""
    gc.freeze()  # forks share these pages
    own = own_namespace()
    while True:
        received = request_of(requests)
        if received is None:
            return
        request, fds = received
        try:
            launch(request, fds, requests, own, spawn)
        except OSError as error:  # no more processes, say: that one attempt fails
            control = socket.socket(fileno=os.dup(fds[0]))
            with control, contextlib.suppress(OSError):
                control.send(b"E" + repr(error).encode())
        for fd in fds:
            os.close(fd)


def own_namespace() -> int | None:
    """Return a handle of our PID namespace if we may leave it and come back, as root may; else None."""
    own = os.open("/proc/self/ns/pid", os.O_RDONLY)
    if libc.unshare(CLONE_NEWPID) == 0 and libc.setns(own, CLONE_NEWPID) == 0:
        return own
    os.close(own)
    return None


def launch(
    request: dict[str, Any],
    fds: list[int],
    requests: socket.socket,
    own: int | None,
    spawn: Spawn,
) -> None:
    """Fork the process that attends to a command: init itself where we may, otherwise its keeper.

    unshare(2) makes the next child the init of a new PID namespace, setns(2) makes the children after
    it those of our own (`own`) again. That spares root the keeper: 1 ms.
    """
    if own is None or not request["namespace"]:
        if os.fork() == 0:
            requests.close()
            keep(request, fds, spawn)
        return
    check(libc.unshare(CLONE_NEWPID), "unshare")
    try:
        init = os.fork()
    except OSError:
        check(libc.setns(own, CLONE_NEWPID), "setns")
        raise
    if init == 0:
        requests.close()
        become_init(request, fds, spawn)
    check(libc.setns(own, CLONE_NEWPID), "setns")


def request_of(requests: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Return the next request and its file descriptors, None at the end."""
    data, fds, _, _ = socket.recv_fds(requests, LENGTH.size, FDS)
    for fd in fds:  # Python 3.11 does not pass MSG_CMSG_CLOEXEC on
        os.set_inheritable(fd, False)
    while data and len(data) < LENGTH.size:
        data += requests.recv(LENGTH.size - len(data))
    if not data:
        return None
    size = LENGTH.unpack(data)[0]
    parts = []
    while size:
        part = requests.recv(min(size, 1 << 20))
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return json.loads(b"".join(parts)), fds


def keep(request: dict[str, Any], fds: list[int], spawn: Spawn) -> NoReturn:
    """Become the keeper of one attempt, and end with it."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        control = socket.socket(fileno=fds[0])
        os.setsid()
        if request["namespace"]:
            keep_namespace(request, control, fds[1:], spawn)
        else:  # no death signal: when the launcher dies, this one stays to kill the rest
            check(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "subreaper")
            attend(request, control, fds[1:], spawn)
    except Forked:
        raise
    except BaseException as error:  # the executor must hear of it
        with contextlib.suppress(OSError):
            socket.socket(fileno=os.dup(fds[0])).send(b"E" + repr(error).encode()[:4000])
        os._exit(1)
    os._exit(0)


def keep_namespace(
    request: dict[str, Any], control: socket.socket, outputs: list[int], spawn: Spawn
) -> None:
    """Start init in user and PID namespaces of its own and wait for its end."""
    user, group = os.getuid(), os.getgid()
    check(libc.unshare(CLONE_NEWUSER | CLONE_NEWPID), "unshare")
    write("/proc/self/setgroups", b"deny")
    write("/proc/self/uid_map", b"%d %d 1" % (user, user))
    write("/proc/self/gid_map", b"%d %d 1" % (group, group))
    death_signal(signal.SIGKILL)  # not before: gaining capabilities clears it (commit_creds)
    init = os.fork()
    if init == 0:
        become_init(request, [control.detach(), *outputs], spawn)
    control.close()
    for fd in outputs:
        os.close(fd)
    os.waitpid(init, 0)


def become_init(request: dict[str, Any], fds: list[int], spawn: Spawn) -> NoReturn:
    """Be the init of a new PID namespace: see its /proc, shield the inputs, and attend to the command."""
    control = socket.socket(fileno=fds[0])
    try:
        death_signal(signal.SIGKILL)
        check(libc.unshare(CLONE_NEWNS), "unshare")
        mount(None, "/", None, MS_REC | MS_PRIVATE)
        mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
        for path in request["read_only"]:
            mount(path, path, None, MS_BIND | MS_REC)
            kept = os.statvfs(path).f_flag & MS_NOEXEC  # a locked flag cannot be taken away
            mount(None, path, None, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | kept)
        attend(request, control, fds[1:], spawn)
    except Forked:
        raise
    except BaseException as error:  # as in keep
        with contextlib.suppress(OSError):
            control.send(b"E" + repr(error).encode()[:4000])
    os._exit(0)


def attend(
    request: dict[str, Any], control: socket.socket, outputs: list[int], spawn: Spawn
) -> None:
    """Start the command, do as the control socket says, and report when nothing is left."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_read, False)
    os.set_blocking(wake_write, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wake_write)
    with contextlib.suppress(OSError):
        write("/proc/self/oom_score_adj", OOM_SCORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    os.chdir(request["folder"])
    try:
        command = spawn(request, outputs)
    except Forked:  # we are the command
        control.detach()
        raise
    for fd in outputs:
        os.close(fd)
    with contextlib.suppress(OSError):  # the executor is gone; watch() sees that too
        control.send(b"S")
    status = watch(command, control, wake_read, namespace=request["namespace"])
    kill_all(namespace=request["namespace"])
    if status is None:  # it was killed just now
        status = _statuses.get(command, int(signal.SIGKILL))
    with contextlib.suppress(OSError):
        control.send(b"X%d" % status)


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


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
