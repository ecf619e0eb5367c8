"""The launcher, inside a container: `python3 -I -S attend.py SOCKET`.

It connects to the executor's socket, says which shell there is, and from then on does what the launcher
on a machine does. When the executor goes, however it goes, the connection ends, this process ends,
and with it the container. It has to run on the Python of anybody's image: 3.10 and newer.
"""

import contextlib
import os
import shutil
import signal
import socket
import sys
from typing import Any

if __name__ == "__main__":  # a script that looks for modules nowhere but above itself
    sys.path.insert(0, __file__.rpartition("/")[0].rpartition("/")[0].rpartition("/")[0])

from penstock_executor import init, launcher

SHARED = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - what a step can write to beside its own folder


def main(path: str) -> int:
    """Serve launch requests until the executor goes."""
    requests = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    requests.connect(path)
    shell = shutil.which("bash") or "/bin/sh"
    requests.sendall(f"{shell}\n".encode())
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers are reaped by the kernel
    launcher.serve(requests, spawned)
    return 0


def spawned(request: dict[str, Any], outputs: list[int]) -> int:
    """Start the command where nothing is left of the one before."""
    for folder in SHARED:
        emptied(folder)
    return init.spawned(request, outputs)


def emptied(folder: str) -> None:
    """Remove what the command before has left; its processes are gone. Whatever is mounted below stays."""
    with contextlib.suppress(OSError):
        _empty(folder, os.stat(folder).st_dev)  # noqa: PTH116 - pathlib is not loaded here


def _empty(folder: str, device: int) -> None:
    for entry in list(os.scandir(folder)):
        with contextlib.suppress(OSError):
            if entry.stat(follow_symlinks=False).st_dev != device:
                continue
            if entry.is_dir(follow_symlinks=False):
                os.chmod(entry.path, 0o700)  # noqa: PTH101
                _empty(entry.path, device)
                os.rmdir(entry.path)  # noqa: PTH106
            else:
                os.unlink(entry.path)  # noqa: PTH108


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
