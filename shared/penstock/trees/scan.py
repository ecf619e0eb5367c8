"""A folder as a manifest: every file hashed, everything unfit refused before anything is sent.

Files are opened without following links and looked at before and after they are read, so a file
that changes meanwhile is noticed (a background writer, a notebook saving itself).
"""

import errno
import os
import stat
import unicodedata
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from pathspec import GitIgnoreSpec

from penstock.blob.disk import hashed
from penstock.contracts.artifacts import (
    FILES_MAX,
    SMALL_BYTES,
    TREE_BYTES_MAX,
    Entry,
    Manifest,
    TreeRef,
    tree_ref,
)
from penstock.contracts.paths import ARCHIVE, FILES, Codes, check_distinct, check_path, shown
from penstock.errors import Invalid, NotFound
from penstock.ids import digest_of
from penstock.units import GIB

SNAPSHOT_BYTES_MAX = 1 * GIB
THREADS_MAX = 8
NOTES_MAX = 20
ALWAYS_IGNORED = frozenset({".git", ".penstock", "__pycache__"})
IGNORE_FILES = (".amlignore", ".gitignore")
"""The first one that exists at the root counts; the other is not read."""

_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_SENSITIVE_NAMES = frozenset(
    {".env", ".netrc", ".pgpass", "credentials.json", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519"}
)
_SENSITIVE_ENDS = (".pem", ".key", ".p12", ".pfx", ".keystore", ".nk", ".creds")

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
    purpose: Purpose = "output"

    @property
    def ref(self) -> TreeRef:
        """The tree's name, bytes and number of files."""
        return tree_ref(self.manifest)


def scanned(
    root: Path, *, ignore: bool, purpose: Purpose | None = None, bytes_max: int | None = None
) -> Scan:
    """Return a folder as a manifest. `ignore` obeys ignore files and leaves out .git and the like.

    The purpose ("snapshot" when `ignore`, else "output") chooses the error codes and the limit of size.

    Raises:
        NotFound: E_SNAPSHOT_MISSING, E_OUTPUT_MISSING, …: there is no such folder.
        Invalid: E_<purpose>_TYPE (sockets, devices, links that leave the folder), _CHANGED,
            _PERMISSION; E_NAME, E_DUPLICATE (E_ARCHIVE_PATH, _NAME, _DUPLICATE for snapshots); E_LIMIT;
            E_TOO_LARGE; E_EMPTY, a snapshot of nothing.
    """
    purpose = purpose or ("snapshot" if ignore else "output")
    rules = _Rules.of(root, ignore=ignore, purpose=purpose)
    found = _walked(root, rules)
    notes: list[str] = []
    total = 0
    for item in found:
        if item.folder:
            continue
        total += item.size
        if item.note:
            notes.append(item.note)
    _check_size(found, total, bytes_max, purpose)
    if purpose == "snapshot" and not any(not item.folder for item in found):
        raise Invalid(
            "the source folder holds no files",
            code="E_EMPTY",
            where=str(root),
            hint="look at its ignore file" if ignore else "",
        )
    found.sort(key=lambda item: item.path)
    check_distinct((item.path for item in found), where=str(root), codes=rules.codes)
    return _hashed(found, rules, notes)


def scanned_file(path: Path, name: str = "", *, purpose: Purpose = "data") -> Scan:
    """Return a tree of one file, called `name` or as it is called. Raises as `scanned`."""
    rules = _Rules(root=path.parent, purpose=purpose, spec=None)
    name = unicodedata.normalize("NFC", name or path.name)
    check_path(name, where=str(path), codes=rules.codes)
    try:
        real = path.resolve(strict=True)
        status = real.stat()
    except (OSError, RuntimeError) as error:
        raise NotFound(
            f"no such file: {getattr(error, 'strerror', '') or error}",
            code=rules.trouble.missing,
            where=str(path),
        ) from error
    item = _item(name, real, status, rules)
    _check_size([item], item.size, None, purpose)
    return _hashed([item], rules, [item.note] if item.note else [])


def scanned_bytes(files: dict[str, bytes]) -> Scan:
    """Return a tree of files that are in memory."""
    for path in files:
        check_path(path, where="tree")
    check_distinct(files, where="tree")
    entries = []
    sources: dict[str, Source] = {}
    for path in sorted(files):
        digest = digest_of(files[path])
        entries.append(Entry(path=path, size=len(files[path]), digest=digest))
        sources[digest] = files[path]
    return Scan(Manifest(entries=tuple(entries)), sources, purpose="data")


def stamp_of(status: os.stat_result) -> Stamp:
    """Return what changes when a file is written to."""
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ino)


@dataclass(frozen=True)
class _Rules:
    root: Path
    purpose: Purpose
    spec: GitIgnoreSpec | None

    @staticmethod
    def of(root: Path, *, ignore: bool, purpose: Purpose) -> "_Rules":
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
        return _Rules(root=root, purpose=purpose, spec=spec)

    @property
    def codes(self) -> Codes:
        return ARCHIVE if self.purpose == "snapshot" else FILES

    @property
    def trouble(self) -> Trouble:
        return TROUBLES[self.purpose]

    def ignored(self, path: str, name: str, *, folder: bool) -> bool:
        if self.spec is None:
            return False
        return name in ALWAYS_IGNORED or self.spec.match_file(f"{path}/" if folder else path)


class _Item(NamedTuple):
    """One file or empty folder found: its path in the tree, and where and how it lies on the disk."""

    path: str
    real: Path
    size: int = 0
    executable: bool = False
    folder: bool = False
    note: str = ""


def _walked(root: Path, rules: _Rules) -> list[_Item]:
    try:
        real_root = root.resolve(strict=True)
        if not real_root.is_dir():
            raise NotADirectoryError
    except (OSError, RuntimeError) as error:
        raise NotFound("no such folder", code=rules.trouble.missing, where=str(root)) from error
    found: list[_Item] = []
    waiting: list[tuple[str, Path, tuple[Path, ...]]] = [("", real_root, (real_root,))]
    while waiting:
        prefix, folder, above = waiting.pop()
        count = 0
        for entry in _entries(folder, rules):
            name = unicodedata.normalize("NFC", _checked_text(entry.name, folder, rules))
            path = prefix + name
            if rules.ignored(path, name, folder=_is_folder(entry)):
                continue
            status, real, is_folder = _looked_at(entry, real_root, rules)
            count += 1
            check_path(path, where=f"{rules.root}/{prefix}", codes=rules.codes)
            if is_folder:
                if real in above:
                    raise Invalid(
                        f"{shown(path)} is a link to a folder around it",
                        code=rules.trouble.kind,
                        where=str(rules.root),
                        hint="remove the link or ignore it",
                    )
                waiting.append((f"{path}/", real, (*above, real)))
                continue
            found.append(_item(path, real, status, rules))
            if len(found) > FILES_MAX:
                raise Invalid(
                    f"more than {FILES_MAX:,} files",
                    code="E_LIMIT",
                    where=str(rules.root),
                    hint=_hint(rules.purpose, "pack them into an archive of your own"),
                )
        if not count and prefix:
            found.append(_Item(path=prefix, real=folder, folder=True))
    return found


def _entries(folder: Path, rules: _Rules) -> "list[os.DirEntry[str]]":
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except PermissionError as error:
        raise Invalid(
            "the folder may not be read", code=rules.trouble.permission, where=str(folder)
        ) from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise Invalid(
                "the path is too long", code=rules.codes.name, where=shown(str(folder))
            ) from error
        raise Invalid(
            f"the folder vanished while it was read: {error.strerror}",
            code=rules.trouble.changed,
            where=str(folder),
        ) from error


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _checked_text(name: str, folder: Path, rules: _Rules) -> str:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise Invalid(
            f"the name {os.fsencode(name)[:80]!r} is not UTF-8",
            code=rules.codes.name,
            where=ascii(str(folder)),
            hint="rename the file",
        ) from error
    return name


def _looked_at(
    entry: "os.DirEntry[str]", real_root: Path, rules: _Rules
) -> tuple[os.stat_result, Path, bool]:
    """Return an entry's status, its real path and whether it is a folder, following links inside."""
    path = Path(entry.path)
    try:
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            real = path.resolve(strict=True)
            if not real.is_relative_to(real_root):
                raise Invalid(
                    "a link that leaves the folder; allowed: files, folders and links inside it",
                    code=rules.trouble.kind,
                    where=str(path),
                    hint="copy the file instead of linking it",
                )
            path, status = real, real.stat()
    except (OSError, RuntimeError) as error:
        raise Invalid(
            f"cannot be looked at: {getattr(error, 'strerror', '') or error}",
            code=rules.trouble.kind,
            where=str(path),
            hint="a link to nothing, or to itself?",
        ) from error
    return status, path, stat.S_ISDIR(status.st_mode)


def _item(path: str, real: Path, status: os.stat_result, rules: _Rules) -> _Item:
    if not stat.S_ISREG(status.st_mode):
        raise Invalid(
            f"{shown(path)} is {_kind(status.st_mode)}; allowed: files and folders",
            code=rules.trouble.kind,
            where=str(rules.root),
            hint="remove it, or write it elsewhere",
        )
    note = ""
    name = path.rpartition("/")[2].lower()
    if rules.purpose == "snapshot" and (
        name in _SENSITIVE_NAMES or name.startswith(".env.") or name.endswith(_SENSITIVE_ENDS)
    ):
        note = f"W_SENSITIVE {shown(path)}: looks like a secret and is part of the snapshot"
    elif status.st_mode & (stat.S_ISUID | stat.S_ISGID):
        note = f"W_MODE {shown(path)}: set-user-id and set-group-id are not kept"
    executable = bool(status.st_mode & stat.S_IXUSR)
    return _Item(path=path, real=real, size=status.st_size, executable=executable, note=note)


def _kind(mode: int) -> str:
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


def _check_size(found: list[_Item], total: int, bytes_max: int | None, purpose: Purpose) -> None:
    limit = bytes_max or (SNAPSHOT_BYTES_MAX if purpose == "snapshot" else TREE_BYTES_MAX)
    if total <= limit:
        return
    largest = sorted(found, key=lambda item: -item.size)[:3]
    names = ", ".join(f"{shown(item.path)} {item.size:,}" for item in largest)
    raise Invalid(
        f"{total:,} bytes; allowed: {limit:,}; largest: {names}",
        code="E_TOO_LARGE",
        where=purpose,
        hint=_hint(purpose, "split it"),
    )


def _hint(purpose: Purpose, otherwise: str) -> str:
    if purpose == "snapshot":
        return "list data and results in .amlignore; data travels as inputs, not in the snapshot"
    return otherwise


def _hashed(found: list[_Item], rules: _Rules, notes: list[str]) -> Scan:
    """Hash all files: small ones in batches (a thread switch costs more than one), big ones each."""
    small = [item for item in found if not item.folder and item.size < SMALL_BYTES]
    large = [item for item in found if not item.folder and item.size >= SMALL_BYTES]
    batches = [large[i : i + 1] for i in range(len(large))]
    batches += [small[i : i + 256] for i in range(0, len(small), 256)]
    digests: dict[str, tuple[str, Stamp]] = {}

    def work(batch: list[_Item]) -> list[tuple[str, str, Stamp]]:
        return [(item.path, *_digest(item, rules)) for item in batch]

    for results in _mapped(work, batches):
        for path, digest, stamp in results:
            digests[path] = (digest, stamp)
    entries: list[Entry] = []
    files: dict[str, Source] = {}
    stamps: dict[str, Stamp] = {}
    for item in found:
        if item.folder:
            entries.append(Entry(path=item.path))
            continue
        digest, stamp = digests[item.path]
        entries.append(
            Entry(path=item.path, size=stamp.size, digest=digest, executable=item.executable)
        )
        files.setdefault(digest, item.real)
        if files[digest] is item.real:
            stamps[digest] = stamp
    if len(notes) > NOTES_MAX:
        notes = [*notes[:NOTES_MAX], f"W_NOTES: {len(notes) - NOTES_MAX} more"]
    return Scan(Manifest(entries=tuple(entries)), files, tuple(notes), stamps, rules.purpose)


def _mapped(
    work: Callable[[list[_Item]], list[tuple[str, str, Stamp]]], batches: list[list[_Item]]
) -> Iterable[list[tuple[str, str, Stamp]]]:
    if len(batches) < 2:  # noqa: PLR2004 - one batch needs no pool
        yield from map(work, batches)
        return
    threads = ThreadPoolExecutor(min(THREADS_MAX, os.cpu_count() or 1), "scan")
    try:
        yield from threads.map(work, batches)
    finally:
        threads.shutdown(wait=True, cancel_futures=True)


def _digest(item: _Item, rules: _Rules) -> tuple[str, Stamp]:
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
    try:
        before = os.fstat(handle)
        if not stat.S_ISREG(before.st_mode):
            raise _changed(item, rules, f"it became {_kind(before.st_mode)}")
        digest, count = hashed(handle, before.st_size)
        after = os.fstat(handle)
    except OSError as error:
        raise _changed(item, rules, error.strerror or str(error)) from error
    finally:
        os.close(handle)
    if count != before.st_size or stamp_of(before) != stamp_of(after):
        raise _changed(item, rules, f"{before.st_size:,} bytes before, {after.st_size:,} after")
    return digest, stamp_of(after)


def _changed(item: _Item, rules: _Rules, how: str) -> Invalid:
    return Invalid(
        f"{shown(item.path)} changed while it was read: {how}",
        code=rules.trouble.changed,
        where=str(rules.root),
        hint="is something still writing to it?",
    )
