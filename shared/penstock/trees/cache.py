"""Contents kept on this machine, so that a step next to its data gets it by link.

Objects lie under the keys they have in the store (big files alone, packs, manifests); everything that
enters was checked against its digest. A file in the cache is read-only and *sealed*: its time of
change is a constant, so one that was written to in place, by a step that runs as root, say, is
noticed by a look at its status and thrown away. Time of access, set by hand, says what was used last.
Several processes may share a cache; each may delete at any moment, and a reader then has a miss.
"""

import contextlib
import os
import secrets
import time
from pathlib import Path

from penstock.blob.disk import Piece, copy_pieces
from penstock.units import GIB

SEAL_NS = 1_577_836_800 * 10**9
"""2020-01-01T00:00:00Z."""
BYTES_MAX = 20 * GIB
TRIMMED_TO = 0.8
STALE_S = 86_400.0
INCOMING = "incoming"


class Cache:
    """A bounded directory of objects."""

    def __init__(self, root: Path, bytes_max: int = BYTES_MAX) -> None:
        self.root = root
        self.bytes_max = bytes_max
        (root / INCOMING).mkdir(parents=True, exist_ok=True)
        self._bytes = sum(size for _, size, _ in self._found())

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
        self._bytes += size
        if self._bytes > self.bytes_max:
            self.trim()
        return path

    def trim(self) -> int:
        """Delete what was not used for longest until the cache fits; return the bytes left."""
        found = sorted(self._found())
        left = sum(size for _, size, _ in found)
        goal = int(self.bytes_max * TRIMMED_TO)
        for _, size, path in found:
            if left <= goal:
                break
            with contextlib.suppress(OSError):
                path.unlink()
                left -= size
        self._bytes = left
        return left

    def _found(self) -> list[tuple[float, int, Path]]:
        """Return (last use, size, path) of everything; forget what interrupted writers left."""
        found: list[tuple[float, int, Path]] = []
        now = time.time()
        for folder, _, names in os.walk(self.root):
            for name in names:
                path = Path(folder) / name
                with contextlib.suppress(OSError):
                    status = path.lstat()
                    if path.parent.name == INCOMING:
                        if now - status.st_ctime > STALE_S:
                            path.unlink()
                        continue
                    found.append((status.st_atime, status.st_size, path))
        return found
