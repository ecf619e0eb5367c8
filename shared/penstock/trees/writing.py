"""From the cache to a folder: one pass over a tree's entries, resumable when the cache loses one."""

import os
import time
from pathlib import Path

from penstock.contracts.artifacts import SMALL_BYTES, Entry, Layout, Place
from penstock.errors import NotFound
from penstock.trees.cache import Cache
from penstock.trees.materialise import Folder

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Writing:
    """Writes entries below a folder. `private`: the cache ends with this call, so files are taken out.

    Big files are linked when nobody may write to them, or when the cache is private; small ones are
    links into the `kept` folder, where there is one; everything else is a copy of its own.
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
        kept: Path | None = None,
    ) -> None:
        self.layout = layout
        self.entries = entries
        self.cache = cache
        self.into = into
        self.read_only = read_only
        self.private = private
        self.kept = kept
        self._next = 0
        self._taken: set[str] = set()
        self._packs: dict[str, int] = {}
        self._beside: tuple[str, int] = ("", -1)

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
            self._leave()

    def _write(self, folder: Folder, entry: Entry) -> None:
        if not entry.digest:
            folder.make(entry.path)
        elif entry.size < SMALL_BYTES and self.kept is not None and self._linked(folder, entry):
            pass
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

    def _linked(self, folder: Folder, entry: Entry) -> bool:
        """Make a small file a link to the one that was kept; False where that one is gone or changed."""
        above = f"{self.kept}/{entry.path.rpartition('/')[0]}"
        if self._beside[0] != above:
            self._leave()
            try:
                self._beside = (above, os.open(above, _FOLDER))
            except OSError:
                self.kept = None
                return False
        if folder.link_from(self._beside[1], entry):
            return True
        self.kept = None
        return False

    def _leave(self) -> None:
        if self._beside[1] >= 0:
            os.close(self._beside[1])
        self._beside = ("", -1)

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
