"""A small process that starts the commands of steps, and leaves nothing of them behind.

The executor starts it once, as `python -I -S launcher.py FD`, and asks it over a Unix socket to
start commands; forking this small single-threaded process is quick, forking the executor is not.
It uses the standard library only, because it runs before and beside everything else.

    executor ── launcher ── init ── command ── whatever the command starts
                            (PID 1 of a PID namespace that no other command shares)

    without CAP_SYS_ADMIN:  launcher ── keeper, in a user namespace of its own ── init ── command
    without namespaces:     launcher ── keeper, a subreaper, does what init does ── command

What the executor and init say to each other is told in init.py. When launcher or keeper go,
PR_SET_PDEATHSIG kills init, and with the init of a PID namespace the kernel kills everything in it.
The launcher's only thread lives as long as the executor (PDEATHSIG follows threads, not processes).
"""

import contextlib
import gc
import json
import os
import signal
import socket
import struct
import sys

if __name__ == "__main__":  # a script that looks for modules nowhere but beside itself
    sys.path.insert(0, __file__.rpartition("/")[0].rpartition("/")[0])

from penstock_executor.init import (
    Request,
    Spawn,
    attend,
    awake,
    become_init,
    check,
    death_signal,
    libc,
    spawned,
    write,
)

PR_SET_CHILD_SUBREAPER = 36
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000

LENGTH = struct.Struct("!I")
FDS = 3  # control, stdout, stderr


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


def serve(requests: socket.socket, spawn: Spawn) -> bool:
    """Launch what is asked for until the other end closes: False; True in forked commands."""
    gc.freeze()  # forks share these pages
    own = own_namespace()
    while True:
        received = request_of(requests)
        if received is None:
            return False
        request, fds = received
        try:
            if launch(request, fds, requests, own, spawn):
                return True
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
    request: Request,
    fds: list[int],
    requests: socket.socket,
    own: int | None,
    spawn: Spawn,
) -> bool:
    """Fork the process that attends to a command: init itself where we may, otherwise its keeper.

    Returns True in forked commands.

    unshare(2) makes the next child the init of a new PID namespace, setns(2) makes the children after
    it those of our own (`own`) again. That spares root the keeper: 1 ms.
    """
    if own is None or not request["namespace"]:
        if os.fork() == 0:
            requests.close()
            keep(request, fds, spawn)
            return True
        return False
    check(libc.unshare(CLONE_NEWPID), "unshare")
    try:
        init = os.fork()
    except OSError:
        check(libc.setns(own, CLONE_NEWPID), "setns")
        raise
    if init == 0:
        requests.close()
        become_init(request, fds, spawn)
        return True
    check(libc.setns(own, CLONE_NEWPID), "setns")
    return False


def request_of(requests: socket.socket) -> tuple[Request, list[int]] | None:
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


def keep(request: Request, fds: list[int], spawn: Spawn) -> None:
    """Become the keeper of one attempt, and end with it; return in forked commands only."""
    control = socket.socket(fileno=fds[0])
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        if request["namespace"]:
            if keep_namespace(request, control, fds[1:], spawn):
                return
        else:  # no death signal: when the launcher dies, this one stays to kill the rest
            check(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "subreaper")
            attended = attend(request, control, fds[1:], spawn, awake())
            if attended is None:  # we are the command
                control.detach()
                return
            with contextlib.suppress(OSError):
                control.send(b"X%d" % attended[0])
    except BaseException as error:  # the executor must hear of it
        with contextlib.suppress(OSError):
            socket.socket(fileno=os.dup(fds[0])).send(b"E" + repr(error).encode()[:4000])
        os._exit(1)
    os._exit(0)


def keep_namespace(
    request: Request, control: socket.socket, outputs: list[int], spawn: Spawn
) -> bool:
    """Start init in user and PID namespaces of its own and wait for its end; True in forked commands."""
    user, group = os.getuid(), os.getgid()
    check(libc.unshare(CLONE_NEWUSER | CLONE_NEWPID), "unshare")
    write("/proc/self/setgroups", b"deny")
    write("/proc/self/uid_map", b"%d %d 1" % (user, user))
    write("/proc/self/gid_map", b"%d %d 1" % (group, group))
    death_signal(signal.SIGKILL)  # not before: gaining capabilities clears it (commit_creds)
    init = os.fork()
    if init == 0:
        become_init(request, [control.detach(), *outputs], spawn)
        return True
    control.close()
    for fd in outputs:
        os.close(fd)
    os.waitpid(init, 0)
    return False


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
