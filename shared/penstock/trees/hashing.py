"""Files that were found, hashed: from a list of them to a manifest, and where each content can be read.

Files are opened without following links and looked at before and after they are read, so a file
that changes meanwhile is noticed (a background writer, a notebook saving itself).
"""

import contextlib
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from pathspec import GitIgnoreSpec

from penstock.blob.disk import hashed
from penstock.contracts.artifacts import SMALL_BYTES, Entry, Manifest, TreeRef, tree_ref
from penstock.contracts.paths import ARCHIVE, FILES, Codes, shown
from penstock.errors import Invalid
from penstock.ids import digest_of
from penstock.trees.known import Known
from penstock.units import MIB

THREADS_MAX = 8
HELD_BYTES_MAX = 64 * MIB
"""Bytes of small files that a scan keeps, so that packing them reads nothing a second time."""
ALWAYS_IGNORED = frozenset({".git", ".penstock", "__pycache__"})
IGNORE_FILES = (".amlignore", ".gitignore")
"""The first one that exists at the root counts; the other is not read."""
NOTES_MAX = 20
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

Purpose = Literal["snapshot", "output", "data"]
Source = Path | bytes


class Trouble(NamedTuple):
    """The error codes of what may be wrong with a folder, by what the folder is for."""

    missing: str
    kind: str
    changed: str
    permission: str


TROUBLES: dict[Purpose, Trouble] = {
    "snapshot": Trouble(
        missing="E_SNAPSHOT_MISSING",
        kind="E_SNAPSHOT_TYPE",
        changed="E_SNAPSHOT_CHANGED",
        permission="E_SNAPSHOT_PERMISSION",
    ),
    "output": Trouble(
        missing="E_OUTPUT_MISSING",
        kind="E_OUTPUT_TYPE",
        changed="E_OUTPUT_CHANGED",
        permission="E_OUTPUT_PERMISSION",
    ),
    "data": Trouble(
        missing="E_DATA_MISSING",
        kind="E_DATA_TYPE",
        changed="E_DATA_CHANGED",
        permission="E_DATA_PERMISSION",
    ),
}


class Stamp(NamedTuple):
    """What changes when a file is written to."""

    size: int
    modified_ns: int
    inode: int


@dataclass(frozen=True)
class Scan:
    """A manifest, where each distinct content can be read, and what is worth a warning."""

    manifest: Manifest
    files: dict[str, Source]
    """By digest: a path, or the bytes themselves."""
    notes: tuple[str, ...] = ()
    stamps: dict[str, Stamp] = field(default_factory=dict)
    """By digest, of files that are paths: how they looked when they were read."""
    looks: dict[str, Stamp] = field(default_factory=dict)
    """By path, of files whose bytes are kept in memory: how they looked when they were read."""
    purpose: Purpose = "output"
    root: Path | None = None
    """The folder that was scanned, where it was scanned whole."""

    @property
    def ref(self) -> TreeRef:
        """The tree's name, bytes and number of files."""
        return tree_ref(self.manifest)


def stamp_of(status: os.stat_result) -> Stamp:
    """Return what changes when a file is written to."""
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ino)


@dataclass(frozen=True)
class Rules:
    """What a scan obeys: where, what for, what is left out."""

    root: Path
    purpose: Purpose
    spec: GitIgnoreSpec | None
    sync: bool = False
    """Have big files written to the disk while they are hashed."""
    known: Known | None = None
    """What need not be read again."""

    @staticmethod
    def of(
        root: Path,
        *,
        ignore: bool,
        purpose: Purpose,
        sync: bool = False,
        known: Known | None = None,
    ) -> "Rules":
        """Return the rules for a folder; with `ignore` those of its ignore file."""
        spec = None
        if ignore:
            for name in IGNORE_FILES:
                try:
                    text = (root / name).read_text(encoding="utf-8", errors="replace")
                except OSError:
                    continue
                spec = GitIgnoreSpec.from_lines(text.splitlines())
                break
            spec = spec or GitIgnoreSpec.from_lines([])
        return Rules(root=root, purpose=purpose, spec=spec, sync=sync, known=known)

    @property
    def codes(self) -> Codes:
        """The error codes of bad names."""
        return ARCHIVE if self.purpose == "snapshot" else FILES

    @property
    def trouble(self) -> Trouble:
        """The error codes of bad files."""
        return TROUBLES[self.purpose]

    def ignored(self, path: str, name: str, *, folder: bool) -> bool:
        """Say whether a path is left out."""
        if self.spec is None:
            return False
        return name in ALWAYS_IGNORED or self.spec.match_file(f"{path}/" if folder else path)


class Item(NamedTuple):
    """One file or empty folder found: its path in the tree, and where and how it lies on the disk."""

    path: str
    real: Path
    size: int = 0
    executable: bool = False
    folder: bool = False
    note: str = ""
    status: os.stat_result | None = None


class _Hashed(NamedTuple):
    """A file's digest, how it looked when it was read, and its bytes where they are kept."""

    path: str
    digest: str
    stamp: Stamp
    data: bytes | None = None


def hashed_scan(found: list[Item], rules: Rules, notes: list[str]) -> Scan:
    """Hash all files: small ones in batches (a thread switch costs more than one), big ones each."""
    hashes = {item.path: old for item in found if (old := _remembered(item, rules)) is not None}
    new = [item for item in found if not item.folder and item.path not in hashes]
    small = [item for item in new if item.size < SMALL_BYTES]
    large = [item for item in new if item.size >= SMALL_BYTES]
    batches = [large[i : i + 1] for i in range(len(large))]
    batches += [small[i : i + 256] for i in range(0, len(small), 256)]
    hold = sum(item.size for item in small) <= HELD_BYTES_MAX

    def work(batch: list[Item]) -> list[_Hashed]:
        return [_read(item, rules, hold=hold) for item in batch]

    for results in _mapped(work, batches):
        for each in results:
            hashes[each.path] = each
    entries: list[Entry] = []
    files: dict[str, Source] = {}
    stamps: dict[str, Stamp] = {}
    looks: dict[str, Stamp] = {}
    for item in found:
        if item.folder:
            entries.append(Entry(path=item.path))
            continue
        _, digest, stamp, data = hashes[item.path]
        entries.append(
            Entry(path=item.path, size=stamp.size, digest=digest, executable=item.executable)
        )
        if data is not None:
            looks[item.path] = stamp
        if digest in files:
            continue
        if data is not None:
            files[digest] = data
        else:
            files[digest], stamps[digest] = item.real, stamp
    if len(notes) > NOTES_MAX:
        notes = [*notes[:NOTES_MAX], f"W_NOTES: {len(notes) - NOTES_MAX} more"]
    return Scan(Manifest(entries=tuple(entries)), files, tuple(notes), stamps, looks, rules.purpose)


def _remembered(item: Item, rules: Rules) -> _Hashed | None:
    if rules.known is None or item.status is None:
        return None
    digest = rules.known.digest(item.real, item.status)
    return _Hashed(item.path, digest, stamp_of(item.status)) if digest else None


def _mapped(
    work: Callable[[list[Item]], list[_Hashed]], batches: list[list[Item]]
) -> Iterable[list[_Hashed]]:
    if len(batches) < 2:  # noqa: PLR2004 - one batch needs no pool
        yield from map(work, batches)
        return
    threads = ThreadPoolExecutor(min(THREADS_MAX, os.cpu_count() or 1), "scan")
    try:
        yield from threads.map(work, batches)
    finally:
        threads.shutdown(wait=True, cancel_futures=True)


def _read(item: Item, rules: Rules, *, hold: bool) -> _Hashed:
    """Return a file's digest and stamp; notice when it changes while it is read."""
    try:
        handle = os.open(item.real, _OPEN)
    except PermissionError as error:
        raise Invalid(
            f"{shown(item.path)} may not be read",
            code=rules.trouble.permission,
            where=str(rules.root),
        ) from error
    except OSError as error:
        raise _changed(item, rules, error.strerror or str(error)) from error
    data: bytes | None = None
    digest: str
    try:
        before = os.fstat(handle)
        if not stat.S_ISREG(before.st_mode):
            raise _changed(item, rules, f"it became {kind_of(before.st_mode)}")
        if hold and before.st_size < SMALL_BYTES:
            data = os.pread(handle, SMALL_BYTES, 0)
            digest, count = digest_of(data), len(data)
        else:
            with _synced(handle, when=rules.sync and before.st_size >= SMALL_BYTES):
                digest, count = hashed(handle, before.st_size)
        after = os.fstat(handle)
    except OSError as error:
        raise _changed(item, rules, error.strerror or str(error)) from error
    finally:
        os.close(handle)
    if count != before.st_size or stamp_of(before) != stamp_of(after):
        raise _changed(item, rules, f"{before.st_size:,} bytes before, {after.st_size:,} after")
    if rules.known is not None:
        rules.known.add(item.real, before, digest)
    return _Hashed(item.path, digest, stamp_of(after), data)


@contextlib.contextmanager
def _synced(handle: int, *, when: bool) -> Iterator[None]:
    """Have a file written to its disk while it is read: both together take as long as the longer one.

    An error is not ours to tell: who makes the file durable asks again, and is told then.
    """
    if not when:
        yield
        return

    def sync() -> None:
        with contextlib.suppress(OSError):
            os.fdatasync(handle)

    thread = threading.Thread(target=sync, name="sync")
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _changed(item: Item, rules: Rules, how: str) -> Invalid:
    return Invalid(
        f"{shown(item.path)} changed while it was read: {how}",
        code=rules.trouble.changed,
        where=str(rules.root),
        hint="is something still writing to it?",
    )


def kind_of(mode: int) -> str:
    """Return what something that is no regular file is called."""
    for test, name in (
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
        (stat.S_ISDIR, "a folder"),
    ):
        if test(mode):
            return name
    return "of an unknown kind"
