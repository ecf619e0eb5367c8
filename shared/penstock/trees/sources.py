"""Where the bytes of a tree's objects come from while it is being stored."""

import contextlib
import os
import stat
from pathlib import Path
from typing import NamedTuple

from penstock.blob.disk import Piece, hashed
from penstock.contracts.artifacts import Layout, ObjectRef, Place
from penstock.contracts.paths import shown
from penstock.errors import Corrupt, Invalid
from penstock.ids import digest_of
from penstock.trees.cache import SEAL_NS, Cache
from penstock.trees.scan import TROUBLES, Scan, Stamp, stamp_of


class Content(NamedTuple):
    """A distinct content and its place."""

    digest: str
    place: Place


def contents_of(layout: Layout) -> dict[str, list[Content]]:
    """Return by object key what the object holds, in order of offset."""
    contents: dict[str, list[Content]] = {ref.key: [] for ref in layout.objects}
    for digest, place in layout.places.items():
        contents[place.key].append(Content(digest, place))
    return contents


def check_contents(path: Path, contents: list[Content]) -> None:
    """Refuse an object, lying in a file, whose bytes are not what its place says.

    Raises:
        Corrupt: E_DIGEST.
    """
    with path.open("rb") as file:
        for content in contents:
            place = content.place
            if place.key.startswith("cas/"):
                digest, size = hashed(file.fileno(), place.size)
            else:
                data = os.pread(file.fileno(), place.size, place.offset)
                digest, size = digest_of(data), len(data)
            if size != place.size or digest != content.digest:
                raise Corrupt(
                    f"the bytes at {place.offset} are not those of {content.digest[:12]}…",
                    code="E_DIGEST",
                    where=place.key,
                )


class Sources:
    """The objects of a scanned tree, and the pieces each is made of."""

    def __init__(self, scan: Scan, layout: Layout) -> None:
        self.scan = scan
        self.objects: dict[str, ObjectRef] = {ref.key: ref for ref in layout.objects}
        self.contents = contents_of(layout)
        self._stamps = dict(scan.stamps)

    def pieces(self, key: str, cache: Cache | None) -> list[Piece]:
        """Return what the object is made of: one file of the cache, or the scanned files."""
        if cache is not None:
            path = cache.path(key, self.objects[key].size)
            if path is not None:
                return [path]
        return [self.scan.files[content.digest] for content in self.contents[key]]

    def keep(self, key: str, cache: Cache, *, give: bool) -> None:
        """Put an object into the cache. `give`: a file of its own becomes part of the cache."""
        if cache.path(key, self.objects[key].size) is not None:
            return
        contents = self.contents[key]
        if give and key.startswith("cas/") and self._given(key, contents[0].digest, cache):
            return
        temporary = cache.written([self.scan.files[content.digest] for content in contents])
        try:
            check_contents(temporary, contents)
            cache.add(key, temporary)
        except Corrupt:
            self.check_unchanged()
            raise
        finally:
            temporary.unlink(missing_ok=True)

    def check_unchanged(self) -> None:
        """Refuse sources that do not look as they did when they were scanned.

        Raises:
            Invalid: E_<purpose>_CHANGED.
        """
        for digest, stamp in self._stamps.items():
            source = self.scan.files[digest]
            if not isinstance(source, Path):
                continue
            found: Stamp | None = None
            with contextlib.suppress(OSError):
                found = stamp_of(source.lstat())
            if found != stamp:
                raise Invalid(
                    f"{shown(str(source))} changed after it was read",
                    code=TROUBLES[self.scan.purpose].changed,
                    where=self.scan.purpose,
                    hint="is something still writing to it?",
                )

    def _given(self, key: str, digest: str, cache: Cache) -> bool:
        """Make a file part of the cache by link; False where that cannot be."""
        source = self.scan.files[digest]
        if not isinstance(source, Path):
            return False
        temporary = cache.temporary()
        try:
            os.link(source, temporary, follow_symlinks=False)
        except OSError:
            return False
        status = temporary.lstat()
        if not stat.S_ISREG(status.st_mode) or stamp_of(status) != self._stamps.get(digest):
            temporary.unlink()
            self.check_unchanged()
            return False
        cache.add(key, temporary)
        self._stamps[digest] = Stamp(status.st_size, SEAL_NS, status.st_ino)
        return True
