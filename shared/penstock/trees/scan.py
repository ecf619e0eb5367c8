"""A folder as a manifest: everything unfit refused before anything is sent, the rest hashed."""

import dataclasses
import errno
import os
import stat
import unicodedata
from pathlib import Path

from penstock.contracts.artifacts import FILES_MAX, TREE_BYTES_MAX, Entry, Manifest
from penstock.contracts.paths import check_distinct, check_path, shown
from penstock.errors import Invalid, NotFound
from penstock.ids import digest_of
from penstock.trees.hashing import Item, Purpose, Rules, Scan, Source, hashed_scan, kind_of
from penstock.trees.known import Known
from penstock.units import GIB

SNAPSHOT_BYTES_MAX = 1 * GIB
_SENSITIVE_NAMES = frozenset(
    {".env", ".netrc", ".pgpass", "credentials.json", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519"}
)
_SENSITIVE_ENDS = (".pem", ".key", ".p12", ".pfx", ".keystore", ".nk", ".creds")


def scanned(
    root: Path,
    *,
    ignore: bool,
    purpose: Purpose | None = None,
    bytes_max: int | None = None,
    sync: bool = False,
    known: Known | None = None,
) -> Scan:
    """Return a folder as a manifest. `ignore` obeys ignore files and leaves out .git and the like.

    The purpose ("snapshot" when `ignore`, else "output") chooses the error codes and the limit of size.
    `sync` has big files written to the disk meanwhile, for those who will need them durable.
    What `known` remembers is not read again.

    Raises:
        NotFound: E_SNAPSHOT_MISSING, E_OUTPUT_MISSING, …: there is no such folder.
        Invalid: E_<purpose>_TYPE (sockets, devices, links that leave the folder), _CHANGED,
            _PERMISSION; E_NAME, E_DUPLICATE (E_ARCHIVE_PATH, _NAME, _DUPLICATE for snapshots); E_LIMIT;
            E_TOO_LARGE; E_EMPTY, a snapshot of nothing.
    """
    purpose = purpose or ("snapshot" if ignore else "output")
    rules = Rules.of(root, ignore=ignore, purpose=purpose, sync=sync, known=known)
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
    scan = hashed_scan(found, rules, notes)
    return scan if ignore else dataclasses.replace(scan, root=root)


def scanned_file(
    path: Path, name: str = "", *, purpose: Purpose = "data", sync: bool = False
) -> Scan:
    """Return a tree of one file, called `name` or as it is called. Raises as `scanned`."""
    rules = Rules(root=path.parent, purpose=purpose, spec=None, sync=sync)
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
    return hashed_scan([item], rules, [item.note] if item.note else [])


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


def _walked(root: Path, rules: Rules) -> list[Item]:
    try:
        real_root = root.resolve(strict=True)
        if not real_root.is_dir():
            raise NotADirectoryError
    except (OSError, RuntimeError) as error:
        raise NotFound("no such folder", code=rules.trouble.missing, where=str(root)) from error
    found: list[Item] = []
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
            found.append(Item(path=prefix, real=folder, folder=True))
    return found


def _entries(folder: Path, rules: Rules) -> "list[os.DirEntry[str]]":
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


def _checked_text(name: str, folder: Path, rules: Rules) -> str:
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
    entry: "os.DirEntry[str]", real_root: Path, rules: Rules
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


def _item(path: str, real: Path, status: os.stat_result, rules: Rules) -> Item:
    if not stat.S_ISREG(status.st_mode):
        raise Invalid(
            f"{shown(path)} is {kind_of(status.st_mode)}; allowed: files and folders",
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
    return Item(
        path=path, real=real, size=status.st_size, executable=executable, note=note, status=status
    )


def _check_size(found: list[Item], total: int, bytes_max: int | None, purpose: Purpose) -> None:
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
