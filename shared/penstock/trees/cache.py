"""Contents kept on this machine, so that a step next to its data gets it by link.

    cas/…  pack/…  tree/…       objects under the keys they have in the store
    kept/<aa>/<tree>.<bytes>/   the small files of a tree that was made here, as they were written
    incoming/                   what is on its way in, or out

Everything that enters was checked against its digest. A file in the cache is read-only and *sealed*:
its time of change is a constant, so one that was written to in place, by a step that runs as root,
say, is noticed by a look at its status and thrown away. Time of access, set by hand, says what was used
last. Several processes may share a cache; each may delete at any moment: a reader then has a miss, and
whoever holds a link or an open file keeps what it has.
"""

import contextlib
import os
import secrets
import shutil
import time
from pathlib import Path

from penstock.blob.disk import Piece, copy_pieces
from penstock.units import GIB

SEAL_NS = 1_577_836_800 * 10**9
"""2020-01-01T00:00:00Z."""
BYTES_MAX = 20 * GIB
TRIMMED_TO = 0.8
LOOKED_AT = 0.1
"""Others may fill the cache as well: after so many of its bytes were added here, all of it is counted."""
STALE_S = 86_400.0
INCOMING = "incoming"
KEPT = "kept"
DOOMED = "doomed-"


class Cache:
    """A bounded directory of objects."""

    def __init__(self, root: Path, bytes_max: int = BYTES_MAX) -> None:
        self.root = root
        self.bytes_max = bytes_max
        (root / INCOMING).mkdir(parents=True, exist_ok=True)
        self._bytes = sum(size for _, size, _ in self._found())
        self._added = 0

    def path(self, key: str, size: int | None = None) -> Path | None:
        """Return where an object lies, or None; marks it as used."""
        path = self.root / key
        try:
            status = path.stat()
            if status.st_mtime_ns != SEAL_NS or (size is not None and status.st_size != size):
                path.unlink(missing_ok=True)
                return None
            with contextlib.suppress(PermissionError):
                os.utime(path, ns=(time.time_ns(), SEAL_NS))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return path

    def folder(self, digest: str, size: int) -> Path | None:
        """Return the folder that holds a tree's small files, `size` bytes in all, or None."""
        path = self._folder(digest, size)
        try:
            os.utime(path)
        except OSError:
            return None
        return path

    def temporary(self) -> Path:
        """Return a name for a file that is to become an object."""
        return self.root / INCOMING / secrets.token_hex(16)

    def written(self, pieces: list[Piece]) -> Path:
        """Return a temporary file with the pieces end to end."""
        path = self.temporary()
        with path.open("xb") as file:
            copy_pieces(pieces, file.fileno())
        return path

    def add(self, key: str, temporary: Path) -> Path:
        """Take in a file whose bytes were checked, under `key`, and seal it."""
        temporary.chmod(0o444)
        os.utime(temporary, ns=(time.time_ns(), SEAL_NS))
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        size = temporary.stat().st_size
        temporary.rename(path)
        self._grown(size)
        return path

    def add_folder(self, digest: str, size: int, folder: Path) -> bool:
        """Take in a folder of sealed files; False where it cannot be, or is here already."""
        path = self._folder(digest, size)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.rename(path)
        except OSError:
            return False
        self._grown(size)
        return True

    def drop_folder(self, digest: str, size: int) -> None:
        """Throw away a kept folder."""
        self._remove(self._folder(digest, size))

    def trim(self) -> int:
        """Delete what was not used for longest until the cache fits; return the bytes left."""
        found = sorted(self._found())
        left = sum(size for _, size, _ in found)
        if left > self.bytes_max:
            goal = int(self.bytes_max * TRIMMED_TO)
            for _, size, path in found:
                if left <= goal:
                    break
                if self._remove(path):
                    left -= size
        self._bytes = left
        self._added = 0
        return left

    def _grown(self, size: int) -> None:
        self._bytes += size
        self._added += size
        if self._bytes > self.bytes_max or self._added > self.bytes_max * LOOKED_AT:
            self.trim()

    def _folder(self, digest: str, size: int) -> Path:
        return self.root / KEPT / digest[:2] / f"{digest}.{size}"

    def _remove(self, path: Path) -> bool:
        """Delete an object, or a folder: at once out of sight, so that a crash leaves no half of it."""
        try:
            if not path.is_dir():
                path.unlink()
                return True
            doomed = self.root / INCOMING / f"{DOOMED}{secrets.token_hex(16)}"
            path.rename(doomed)
        except OSError:
            return False
        shutil.rmtree(doomed, ignore_errors=True)
        return True

    def _found(self) -> list[tuple[float, int, Path]]:
        """Return (last use, size, path) of everything; forget what interrupted writers left."""
        self._sweep()
        found: list[tuple[float, int, Path]] = []
        for folder, folders, names in os.walk(self.root):
            if folder == str(self.root):
                folders[:] = [name for name in folders if name not in (INCOMING, KEPT)]
            for name in names:
                path = Path(folder) / name
                with contextlib.suppress(OSError):
                    status = path.lstat()
                    found.append((status.st_atime, status.st_size, path))
        for path in self.root.glob(f"{KEPT}/*/*"):
            size = path.suffix.removeprefix(".")
            with contextlib.suppress(OSError):
                found.append((path.lstat().st_mtime, int(size) if size.isdecimal() else 0, path))
        return found

    def _sweep(self) -> None:
        now = time.time()
        with contextlib.suppress(OSError):
            for path in (self.root / INCOMING).iterdir():
                with contextlib.suppress(OSError):
                    if path.name.startswith(DOOMED):
                        shutil.rmtree(path, ignore_errors=True)
                    elif now - path.lstat().st_ctime > STALE_S:
                        path.unlink()
