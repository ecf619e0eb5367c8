"""From the cache to a folder: one pass over a tree's entries, resumable when the cache loses one."""

import os
import time
from pathlib import Path

from penstock.contracts.artifacts import SMALL_BYTES, Entry, Layout, Place
from penstock.errors import NotFound
from penstock.trees.cache import Cache
from penstock.trees.materialise import Folder


class Writing:
    """Writes entries below a folder. `private`: the cache ends with this call, so files are taken out.

    Big files are linked when nobody may write to them, or when the cache is private; small ones and
    everything writable are copies of their own.
    """

    def __init__(
        self,
        layout: Layout,
        entries: list[Entry],
        cache: Cache,
        into: Path,
        *,
        read_only: bool,
        private: bool,
    ) -> None:
        self.layout = layout
        self.entries = entries
        self.cache = cache
        self.into = into
        self.read_only = read_only
        self.private = private
        self._next = 0
        self._taken: set[str] = set()
        self._packs: dict[str, int] = {}

    def run(self) -> None:
        """Write what is not written yet.

        Raises:
            NotFound: an object has left the cache; fetch it and run again.
        """
        try:
            with Folder(self.into, read_only=self.read_only) as folder:
                while self._next < len(self.entries):
                    self._write(folder, self.entries[self._next])
                    self._next += 1
        finally:
            for handle in self._packs.values():
                os.close(handle)
            self._packs = {}

    def _write(self, folder: Folder, entry: Entry) -> None:
        if not entry.digest:
            folder.make(entry.path)
        elif not entry.size:
            folder.write(entry, [])
        elif entry.size < SMALL_BYTES:
            place = self.layout.places[entry.digest]
            folder.write(entry, [os.pread(self._pack(place), place.size, place.offset)])
        else:
            self._write_big(folder, entry)

    def _write_big(self, folder: Folder, entry: Entry) -> None:
        if entry.digest in self._taken:  # left the private cache under an earlier path
            source = self.into / next(e.path for e in self.entries if e.digest == entry.digest)
            folder.copy(entry, source)
            return
        key = self.layout.places[entry.digest].key
        source = self._found(key, entry.size)
        if self.private:
            source.chmod(folder.mode_of(entry))
            os.utime(source, ns=(time.time_ns(), time.time_ns()))
            folder.link(entry, source)
            self._taken.add(entry.digest)
        elif self.read_only:
            folder.link(entry, source)
        else:
            folder.copy(entry, source)

    def _pack(self, place: Place) -> int:
        handle = self._packs.get(place.key)
        if handle is None:
            path = self._found(place.key, None)
            try:
                handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError as error:
                raise NotFound("left the cache", where=place.key) from error
            self._packs[place.key] = handle
        return handle

    def _found(self, key: str, size: int | None) -> Path:
        path = self.cache.path(key, size)
        if path is None:
            raise NotFound("left the cache", where=key)
        return path
