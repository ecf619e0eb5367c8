"""Where the bytes of a tree's objects come from while it is being stored."""

import contextlib
import fcntl
import os
import signal
import stat
import time
from pathlib import Path
from typing import NamedTuple

from penstock.blob.disk import Piece, hashed
from penstock.blob.parts import checksum_of, declared
from penstock.contracts.artifacts import (
    SMALL_BYTES,
    Layout,
    Manifest,
    ObjectRef,
    Place,
    part_bytes,
)
from penstock.contracts.paths import shown
from penstock.errors import Corrupt, Invalid, Transient
from penstock.ids import digest_of
from penstock.trees.cache import SEAL_NS, Cache
from penstock.trees.hashing import TROUBLES, Scan, Stamp, stamp_of


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


def _data_of(piece: Piece) -> bytes:
    return piece if isinstance(piece, bytes) else piece.read_bytes()


def _changed(key: str, how: str) -> Invalid:
    return Invalid(f"what is to be stored cannot be read: {how}", code="E_CHANGED", where=key)


GIVEN_NAMES = 2
"""Names of a file that is being given: the one it was written under, and ours."""


def unwritten(path: Path) -> bool:
    """Say whether nobody has a file open for writing. False also where the system cannot tell.

    A read lease is granted only then (fcntl(2), F_SETLEASE); it is let go of at once. Should somebody
    open the file in that moment, the kernel's signal must not be SIGIO, which ends a process.
    """
    if not hasattr(fcntl, "F_SETLEASE"):  # pragma: no cover - not Linux
        return False
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.fcntl(handle, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def small_bytes(manifest: Manifest) -> int:
    """Return the bytes of all small files, which name a kept folder together with the tree's digest."""
    return sum(entry.size for entry in manifest.entries if entry.size < SMALL_BYTES)


class Sources:
    """The objects of a scanned tree, and the pieces each is made of."""

    def __init__(self, scan: Scan, layout: Layout) -> None:
        self.scan = scan
        self.small_bytes = small_bytes(scan.manifest)
        self.objects: dict[str, ObjectRef] = {ref.key: ref for ref in layout.objects}
        self.bytes = sum(ref.size for ref in layout.objects)
        self.contents = contents_of(layout)
        self._stamps = dict(scan.stamps)

    def pieces(self, key: str, cache: Cache | None) -> tuple[list[Piece], bool]:
        """Return what the object is made of, and whether that is a file of the cache: else the sources."""
        if cache is not None:
            path = cache.path(key, self.objects[key].size)
            if path is not None:
                return [path], True
        return [self.scan.files[content.digest] for content in self.contents[key]], False

    def carried(self, cache: Cache | None) -> dict[str, bytes]:
        """Return the bytes of every object, by key: for a small tree.

        Raises:
            Invalid: E_<purpose>_CHANGED.
            Transient: E_CHANGED, the cache lost it.
        """
        found: dict[str, bytes] = {}
        for key, ref in self.objects.items():
            try:
                pieces, _ = self.pieces(key, cache)
                data = b"".join(p if isinstance(p, bytes) else p.read_bytes() for p in pieces)
            except FileNotFoundError:
                data = b""
            if len(data) != ref.size:
                self.check_unchanged()
                raise Transient(
                    f"{len(data):,} bytes; scanned: {ref.size:,}", code="E_CHANGED", where=key
                )
            found[key] = data
        return found

    def keep(self, key: str, cache: Cache, *, give: bool) -> None:
        """Put an object into the cache. `give`: a file of its own becomes part of the cache."""
        if cache.path(key, self.objects[key].size) is not None:
            return
        contents = self.contents[key]
        if give and key.startswith("cas/") and self._given(key, contents[0].digest, cache):
            return
        temporary = cache.written([self.scan.files[content.digest] for content in contents])
        try:
            if not all(isinstance(self.scan.files[content.digest], bytes) for content in contents):
                check_contents(temporary, contents)
            cache.add(key, temporary)
        except Corrupt:
            self.check_unchanged()
            raise
        finally:
            temporary.unlink(missing_ok=True)

    def checksums(self, key: str, cache: Cache | None) -> tuple[str, ...]:
        """Return what a store that checks is told of an object, whose digests are looked at once more.

        Raises:
            Invalid: E_CHANGED, the bytes are not (or no longer) those that were scanned.
        """
        pieces, _ = self.pieces(key, cache)
        contents = self.contents[key]
        size = self.objects[key].size
        try:
            if key.startswith("cas/") and isinstance(pieces[0], Path):
                digest, sums = declared(pieces[0], size)
                right = digest == contents[0].digest
            else:
                data = b"".join(_data_of(piece) for piece in pieces)
                sums = tuple(
                    checksum_of(data[at : at + part_bytes(size)])
                    for at in range(0, size, part_bytes(size))
                )
                right = len(data) == size and all(
                    digest_of(data[each.place.offset :][: each.place.size]) == each.digest
                    for each in contents
                )
        except OSError as error:
            raise _changed(key, str(error)) from error
        if not right:
            raise _changed(key, "it has other bytes than when it was read first")
        return sums

    def recheck(self, cache: Cache) -> None:
        """Throw out of the cache what has other bytes than its digest: the store found some wrong."""
        for key, contents in self.contents.items():
            path = cache.path(key, self.objects[key].size)
            if path is not None:
                try:
                    check_contents(path, contents)
                except Corrupt:
                    path.unlink(missing_ok=True)

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

    def seal(self) -> bool:
        """Seal the small files of the scanned folder, which may be kept then.

        False where they are not as they were scanned, or not plain files with one name.
        """
        root, looks = self.scan.root, self.scan.looks
        if root is None or not looks:
            return False
        try:
            for folder in {path.rpartition("/")[0] for path in looks}:
                if not stat.S_ISDIR(os.lstat(f"{root}/{folder}").st_mode):
                    return False
            now = time.time_ns()
            for entry in self.scan.manifest.entries:
                if not entry.digest or entry.size >= SMALL_BYTES:
                    continue
                path = f"{root}/{entry.path}"
                status = os.lstat(path)
                regular = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
                if not regular or stamp_of(status) != looks[entry.path]:
                    return False
                os.chmod(path, 0o555 if entry.executable else 0o444)  # noqa: PTH101 - thousands
                os.utime(path, ns=(now, SEAL_NS))
        except OSError:
            return False
        return True

    def give_folder(self, digest: str, cache: Cache) -> None:
        """Move the sealed folder into the cache; its big files are there already, each by itself."""
        root = self.scan.root
        if root is None or cache.folder(digest, self.small_bytes) is not None:
            return
        for entry in self.scan.manifest.entries:
            if entry.size >= SMALL_BYTES:
                with contextlib.suppress(OSError):
                    os.unlink(f"{root}/{entry.path}")  # noqa: PTH108 - as above
        cache.add_folder(digest, self.small_bytes, root)

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
        if status.st_nlink != GIVEN_NAMES or not unwritten(temporary):
            temporary.unlink()  # somebody else may write to it: the cache gets a copy
            return False
        cache.add(key, temporary)
        self._stamps[digest] = Stamp(status.st_size, SEAL_NS, status.st_ino)
        return True
