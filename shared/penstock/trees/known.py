"""Digests of files that were hashed before, for as long as the files look the same.

As in git's index: what was written within RACY_NS of being hashed may change again without looking
different, so it is not remembered. `ctime` cannot be set back by who copies or unpacks files.
"""

import os
import time
from pathlib import Path

RACY_NS = 2_000_000_000
FILES_MAX = 200_000
Look = tuple[int, ...]


class Known:
    """What one process remembers. May be shared by threads."""

    def __init__(self) -> None:
        self._digests: dict[Path, tuple[Look, str]] = {}

    def digest(self, path: Path, status: os.stat_result) -> str:
        """Return the digest of a file that looks as it did when it was hashed, else an empty text."""
        look, digest = self._digests.get(path, ((), ""))
        return digest if look == look_of(status) else ""

    def add(self, path: Path, status: os.stat_result, digest: str) -> None:
        """Remember the digest of a file that has just been hashed. `status` is from before that."""
        # Two writes within one tick of the file system's clock look like one.
        if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > RACY_NS:
            if len(self._digests) >= FILES_MAX:
                self._digests.clear()
            self._digests[path] = (look_of(status), digest)


def look_of(status: os.stat_result) -> Look:
    """Return what differs when a file is another one, or was written to."""
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
