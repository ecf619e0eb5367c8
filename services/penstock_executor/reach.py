"""What of a step's folders the executor may touch: what lies there itself, never where a link leads.

A step may leave anything in its folders: links to files of this machine, pipes that nobody writes to, devices. The
executor has other rights than the step, so whatever it reads, writes, moves, removes or owns below an attempt's folder
goes through here: part by part from that folder on, no link followed at any level, also if one is put there meanwhile.
What is above the attempt's folder is the executor's own.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from io import BufferedReader, BufferedWriter
from pathlib import Path

PATH_BYTES_MAX = 4096
"""What lies deeper than a path can say is not looked at."""
_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_WAY = os.O_PATH | _FOLDER
"""To go through a folder, which needs no right to list it."""


class Reach:
    """The reach of the executor into one attempt's folder. Paths are absolute, or relative to that folder."""

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root)

    def status(self, path: str | Path) -> os.stat_result:
        """Return the status of what lies at a path: a link's own.

        Raises:
            NotADirectoryError: a part above it is a link, or no folder.
            OSError: nothing is there, among others.
        """
        with self._above(path) as (folder, name):
            return os.stat(name, dir_fd=folder, follow_symlinks=False)

    def is_folder(self, path: str | Path) -> bool:
        """Say whether a folder lies there itself."""
        try:
            return stat.S_ISDIR(self.status(path).st_mode)
        except OSError:
            return False

    def entries(self, path: str | Path) -> list[tuple[str, os.stat_result]]:
        """Return what lies in a folder, by name; nothing if it is no folder, or may not be listed."""
        try:
            with self._folder(self._parts(path)) as way:
                handle = os.open(".", os.O_RDONLY | _FOLDER, dir_fd=way)
                try:
                    with os.scandir(handle) as found:
                        return sorted((e.name, e.stat(follow_symlinks=False)) for e in found)
                finally:
                    os.close(handle)
        except OSError:
            return []

    def below(self, path: str | Path) -> Iterator[tuple[str, os.stat_result]]:
        """Iterate over all that lies below a folder, by its path in it; a folder comes before what it holds."""
        waiting = [""]
        while waiting:
            prefix = waiting.pop()
            for name, status in self.entries(Path(path, prefix)):
                yield prefix + name, status
                deep = len(os.fsencode(prefix + name)) >= PATH_BYTES_MAX
                if stat.S_ISDIR(status.st_mode) and not deep:
                    waiting.append(f"{prefix}{name}/")

    def files(self, path: str | Path) -> Iterator[str]:
        """Iterate over the files below a folder, by their path in it."""
        return (name for name, status in self.below(path) if stat.S_ISREG(status.st_mode))

    def opened(self, path: str | Path, flags: int = os.O_RDONLY) -> int:
        """Return a handle of a file. Nothing makes this wait: a pipe is refused like all else that is no file.

        Raises:
            OSError: no file lies there itself.
        """
        flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with self._above(path) as (folder, name):
            handle = os.open(name, flags, 0o644, dir_fd=folder)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise OSError(errno.EINVAL, "no file", str(path))
        return handle

    def read(self, path: str | Path, limit: int) -> bytes:
        """Return a file's first bytes. Raises as `opened`."""
        with self.reader(path) as file:
            return file.read(limit)

    def reader(self, path: str | Path) -> BufferedReader:
        """Open a file to read it. Raises as `opened`."""
        return os.fdopen(self.opened(path), "rb")

    def create(self, path: str | Path) -> BufferedWriter:
        """Make a file, and the folders above it.

        Raises:
            FileExistsError: something lies there, be it a link to nothing.
            NotADirectoryError: a part above it is a link, or no folder.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with self._above(path, make=True) as (folder, name):
            return os.fdopen(os.open(name, flags, 0o644, dir_fd=folder), "wb")

    def move(self, path: str | Path, target: str | Path) -> None:
        """Move what lies at a path, within the attempt's folder."""
        with self._above(path) as (source, name), self._above(target) as (folder, new):
            os.rename(name, new, src_dir_fd=source, dst_dir_fd=folder)

    def only_files(self, path: str | Path) -> tuple[int, list[str]]:
        """Remove links, devices, pipes and sockets below a folder; return the number of files, and what went."""
        files = 0
        gone: list[str] = []
        for below, status in self.below(path):
            if stat.S_ISREG(status.st_mode):
                files += 1
            elif not stat.S_ISDIR(status.st_mode):
                with self._above(Path(path, below)) as (folder, name):
                    os.unlink(name, dir_fd=folder)
                gone.append(f"{Path(path).name}/{below}")
        return files, gone

    def own(self, path: str | Path, user: int, group: int) -> None:
        """Give a folder and all below it to a user, as far as it may be given."""
        self._own(path, user, group)
        for below, _ in self.below(path):
            self._own(Path(path, below), user, group)

    def _own(self, path: str | Path, user: int, group: int) -> None:
        with contextlib.suppress(OSError), self._above(path) as (folder, name):
            os.chown(name, user, group, dir_fd=folder, follow_symlinks=False)

    def _parts(self, path: str | Path) -> tuple[str, ...]:
        return (self._root / path).relative_to(self._root).parts

    @contextlib.contextmanager
    def _above(self, path: str | Path, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """Give the folder that a path's last part lies in, and that part."""
        *above, name = self._parts(path)
        with self._folder(tuple(above), make=make) as folder:
            yield folder, name

    @contextlib.contextmanager
    def _folder(self, parts: tuple[str, ...], *, make: bool = False) -> Iterator[int]:
        handle = os.open(self._root, _WAY)
        try:
            for part in parts:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, dir_fd=handle)
                below = os.open(part, _WAY, dir_fd=handle)
                os.close(handle)
                handle = below
            yield handle
        finally:
            os.close(handle)
