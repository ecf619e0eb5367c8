"""How often executors took an attempt and did not live to let go of it.

    <data>/taken/<run>-<step>-<attempt>    a byte for each such time on this data folder

For work that asks for nothing the queue knows it: each delivery was taken. Work that asks for something is
also delivered to executors that are too small for it, which give it back every few seconds, so its
deliveries say nothing about deaths, and neither does its age. What a misfit cannot raise is what those count who
take it; they write it down before they begin, where they find it when they are started again. An executor that
comes back without its data folder counts from nothing; then the deadline of the run is the bound.

A start told early would be counted by the scheduler, for all machines at once, but the step's timeout would
begin with it, too, and run while its inputs come.
"""

import contextlib
import os
import time
from pathlib import Path

from penstock.contracts.work import WorkItem
from penstock_executor.decide.outcome import DELIVERIES_MAX
from penstock_executor.decide.room import NOTHING

TAKEN = "taken"
FORGOTTEN_S = 7 * 86_400
"""Age of counts whose attempts others have ended."""

Key = tuple[str, str, int]


class Takes:
    """The counts of one data folder, which executors may share."""

    def __init__(self, data: Path) -> None:
        self._folder = data / TAKEN
        self._counted: set[Key] = set()
        with contextlib.suppress(OSError):
            for file in self._folder.iterdir():
                if time.time() - file.lstat().st_mtime > FORGOTTEN_S:
                    file.unlink()

    def taken(self, item: WorkItem, deliveries: int) -> int:
        """Return how often an attempt was taken, this time included; at most so often: nothing is known yet.

        Few deliveries are few takes, so that an ordinary step costs no file.
        """
        if deliveries <= DELIVERIES_MAX or item.resources == NOTHING:
            return deliveries
        key = (item.run, item.step, item.attempt)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._file(key).open("ab", buffering=0) as file:
                file.write(b".")
                self._counted.add(key)
                return os.fstat(file.fileno()).st_size
        except OSError:  # a full disk, say: the attempt waits for room before it does anything
            return 0

    def forget(self, key: Key) -> None:
        """Forget an attempt that its executor has survived."""
        if key in self._counted:
            self._counted.discard(key)
            with contextlib.suppress(OSError):
                self._file(key).unlink()

    def _file(self, key: Key) -> Path:
        run, step, attempt = key
        return self._folder / f"{run}-{step}-{attempt}"
