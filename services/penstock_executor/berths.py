"""Berths: where attempts lie whose steps run in containers, one attempt at a time.

    <data>/berths/<name>/
        work/attempts/<attempt>/   all of an attempt but its inputs; seen in the container
        in/<attempt>/              its inputs; seen in the container, read-only
        talk/                      sockets and pipes; seen in the container, read-only

What a container sees is fixed when it is made, so a container that is to serve a second attempt needs a
place where that one will lie: its berth. There are as many as the executor has slots. Paths are the
same inside as outside. Each berth carries a lock of its executor; whoever finds one without may
remove it with its container.
"""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from penstock.errors import Invalid
from penstock_executor.decide.containers import Mount
from penstock_executor.decide.layout import Place
from penstock_executor.place import Attempts, remove
from penstock_executor.reach import Reach

BERTHS = "berths"
SOCKET_BYTES_MAX = 107
"""What fits into sockaddr_un."""


@dataclass
class Berth:
    """One place for attempts."""

    root: Path
    lock: int
    owner: tuple[int, int] | None = None
    """User and group that steps run as, where that is not ours."""
    attempts: Attempts = field(init=False)

    def __post_init__(self) -> None:
        for folder in (self.root / "in", self.talk):
            folder.mkdir(mode=0o755)
            folder.chmod(0o755)
        self.attempts = Attempts(self.root / "work", inputs=self.root / "in")
        self.attempts.root.chmod(0o755)

    @property
    def talk(self) -> Path:
        """Where sockets and pipes lie."""
        return self.root / "talk"

    @property
    def mounts(self) -> tuple[Mount, ...]:
        """What a container sees of it."""
        work = str(self.attempts.root)
        return (
            Mount(work, work, writable=True),
            Mount(str(self.root / "in"), str(self.root / "in")),
            Mount(str(self.talk), str(self.talk)),
        )

    def hand_over(self, place: Place) -> None:
        """Give the step what it may write to. Call in a thread: a snapshot may have many files."""
        theirs = (
            place.code,
            place.outputs,
            place.temporary,
            place.images,
            place.site,
            place.mlflow,
        )
        for folder in theirs:
            Path(folder).mkdir(exist_ok=True)
        Path(place.root).chmod(0o755)
        with contextlib.suppress(FileNotFoundError):
            (self.talk / "socket").chmod(0o666)
        if self.owner is not None:
            for folder in theirs:
                Reach(place.root).own(folder, *self.owner)

    def take_back(self, place: Place) -> None:
        """Own again what the step has written. Call in a thread, when nothing of it runs any more."""
        if self.owner is not None:
            for folder in (
                place.outputs,
                place.images,
                place.mlflow,
                f"{place.code}/outputs",
                f"{place.code}/logs",
            ):
                Reach(place.root).own(folder, os.geteuid(), os.getegid())

    def release(self) -> None:
        """Remove it and let go of its lock."""
        remove(self.root)
        os.close(self.lock)


def made(data: Path, owner: tuple[int, int] | None) -> Berth:
    """Make a berth.

    Raises:
        Invalid: E_DIR, the data folder's path is too long for sockets.
    """
    folder = data / BERTHS
    with locked(folder, fcntl.LOCK_SH):
        root = folder / secrets.token_hex(4)
        if len(os.fsencode(root)) + len("/talk/launcher") > SOCKET_BYTES_MAX:
            raise Invalid(
                f"{len(os.fsencode(data))} bytes of path are too long for sockets below it",
                code="E_DIR",
                where=str(data),
                hint="set PENSTOCK_EXECUTOR_DATA_DIR to a shorter path",
            )
        root.mkdir(mode=0o711)
        lock = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return Berth(root, lock, owner)


def left(data: Path) -> list[Path]:
    """Return the berths of dead executors; their containers are still to be removed, then they."""
    folder = data / BERTHS
    with locked(folder, fcntl.LOCK_EX):
        return [path for path in folder.iterdir() if _unlocked(path)]


def alive(data: Path) -> list[Path]:
    """Return the berths of executors that live."""
    folder = data / BERTHS
    return [path for path in folder.iterdir() if not _unlocked(path)] if folder.is_dir() else []


@contextlib.contextmanager
def locked(folder: Path, how: int) -> Iterator[None]:
    """Exclude making and sweeping of each other."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, how)
        yield
    finally:
        os.close(handle)


def _unlocked(path: Path) -> bool:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True
