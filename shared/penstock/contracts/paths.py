"""Paths inside trees: which may be there, so that no manifest reaches outside its tree.

Everybody who makes, stores or unpacks a tree asks here; nothing in this module touches a disk.
A path that passes can be created below any directory on any common filesystem: relative, no "..",
no control characters, NFC, and no two paths that differ only in case.
"""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from penstock.contracts.artifacts import FILES_MAX, PATH_BYTES_MAX, TREE_BYTES_MAX, Manifest
from penstock.errors import Invalid
from penstock.ids import digest_of, is_digest


@dataclass(frozen=True, slots=True)
class Codes:
    """The error codes of one door that paths come in by."""

    path: str
    name: str
    duplicate: str


ARCHIVE = Codes("E_ARCHIVE_PATH", "E_ARCHIVE_NAME", "E_ARCHIVE_DUPLICATE")
"""Of snapshots and of manifests, whoever sent them."""
FILES = Codes("E_NAME", "E_NAME", "E_DUPLICATE")
"""Of files that a step or a person left on a disk."""

PART_BYTES_MAX = 255
"""What ext4, XFS, APFS and NTFS allow for one name."""
SHOWN_MAX = 80
EMPTY_DIGEST = digest_of(b"")


def check_path(path: str, *, where: str, codes: Codes = ARCHIVE) -> None:
    """Refuse a path that may not be in a tree. `codes` says what to call it.

    Raises:
        Invalid: E_ARCHIVE_PATH (could leave the tree) or E_ARCHIVE_NAME (could not be stored everywhere).
    """
    if not path or path == "/":
        raise Invalid("the path is empty", code=codes.path, where=where)
    if not (path.isascii() and path.isprintable()):
        _check_characters(path, where, codes)
    if path[0] == "/" or "\\" in path or path[1:2] == ":":
        raise Invalid(
            f"{shown(path)} is absolute or has a backslash; allowed: relative paths with '/'",
            code=codes.path,
            where=where,
        )
    if len(path.encode()) > PATH_BYTES_MAX:
        raise Invalid(
            f"{shown(path)} has {len(path.encode()):,} bytes; allowed: {PATH_BYTES_MAX:,}",
            code=codes.name,
            where=where,
        )
    for part in path.removesuffix("/").split("/"):
        if part in ("", ".", ".."):
            raise Invalid(
                f"{shown(path)} has a part {part!r}; allowed: names only",
                code=codes.path,
                where=where,
            )
        if len(part) > PART_BYTES_MAX // 4 and len(part.encode()) > PART_BYTES_MAX:
            raise Invalid(
                f"{shown(path)} has a name of {len(part.encode()):,} bytes; "
                f"allowed: {PART_BYTES_MAX}",
                code=codes.name,
                where=where,
            )


def check_distinct(paths: Iterable[str], *, where: str, codes: Codes = ARCHIVE) -> None:
    """Refuse paths that are one and the same on some filesystem, or a file that is also a folder.

    Raises:
        Invalid: E_ARCHIVE_DUPLICATE.
    """
    folders: dict[str, str] = {}
    files: dict[str, str] = {}
    empty: list[str] = []
    for path in paths:
        if path.endswith("/"):
            empty.append(path[:-1])
        else:
            other = files.setdefault(_folded(path), path)
            if other is not path:
                raise _twins(other, path, where, codes)
        _note_folders(path[:-1].rpartition("/")[0], folders, where, codes)
    for path in empty:
        folded = _folded(path)
        around = folders.get(folded)
        if around is not None:
            raise _twins(f"{around}/", f"{path}/", where, codes)
        folders[folded] = path
    for folded, path in folders.items():
        if folded in files:
            raise _twins(files[folded], f"{path}/", where, codes)


def check_manifest(manifest: Manifest, *, where: str = "manifest") -> None:
    """Refuse a manifest that could do harm or that is not in canonical form.

    Raises:
        Invalid: E_LIMIT, E_TOO_LARGE, E_DIGEST, E_ARCHIVE_PATH, _NAME, _DUPLICATE, _ORDER or _ENTRY.
    """
    entries = manifest.entries
    if len(entries) > FILES_MAX:
        raise Invalid(
            f"{len(entries):,} entries; allowed: {FILES_MAX:,}", code="E_LIMIT", where=where
        )
    before = ""
    sizes: dict[str, int] = {}
    total = 0
    for number, entry in enumerate(entries):
        path = entry.path
        if path <= before:
            check_path(path, where=f"{where}.entries[{number}]")
            raise Invalid(
                f"{shown(path)} comes after {shown(before)}; allowed: each path once, in order",
                code=ARCHIVE.duplicate if path == before else "E_ARCHIVE_ORDER",
                where=f"{where}.entries[{number}]",
            )
        before = path
        check_path(path, where=f"{where}.entries[{number}]")
        if path[-1] == "/":
            fine = not (entry.digest or entry.size or entry.executable)
        else:
            fine = is_digest(entry.digest) and (
                entry.size > 0 or (entry.size == 0 and entry.digest == EMPTY_DIGEST)
            )
            fine = fine and sizes.setdefault(entry.digest, entry.size) == entry.size
        if not fine:
            raise Invalid(
                f"{shown(path)}: size {entry.size} and digest {entry.digest[:SHOWN_MAX]!r} do not "
                "belong together; allowed: one size per digest, none for a folder",
                code="E_ARCHIVE_ENTRY",
                where=f"{where}.entries[{number}]",
            )
        total += entry.size
    if total > TREE_BYTES_MAX:
        raise Invalid(
            f"{total:,} bytes; allowed: {TREE_BYTES_MAX:,}", code="E_TOO_LARGE", where=where
        )
    check_distinct((entry.path for entry in entries), where=where)


def shown(path: str) -> str:
    """Return a path fit for one line of a log: quoted, escaped, cut."""
    text = ascii(path) if any(unicodedata.category(c)[0] == "C" for c in path) else repr(path)
    return text if len(text) <= SHOWN_MAX else f"{text[: SHOWN_MAX - 3]}..."


def _check_characters(path: str, where: str, codes: Codes) -> None:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise Invalid(f"{shown(path)} is not UTF-8", code=codes.name, where=where) from error
    for character in path:
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
            raise Invalid(
                f"{shown(path)} has the control character {character!a}",
                code=codes.name,
                where=where,
            )
    if not unicodedata.is_normalized("NFC", path):
        raise Invalid(f"{shown(path)} is not in normal form C", code=codes.name, where=where)


def _folded(path: str) -> str:
    if path.isascii():
        return path.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _note_folders(folder: str, folders: dict[str, str], where: str, codes: Codes) -> None:
    while folder:
        other = folders.setdefault(_folded(folder), folder)
        if other is folder:
            folder = folder.rpartition("/")[0]
            continue
        if other != folder:
            raise _twins(f"{other}/", f"{folder}/", where, codes)
        return  # seen before, and so were its parents


def _twins(one: str, other: str, where: str, codes: Codes) -> Invalid:
    return Invalid(
        f"{shown(one)} and {shown(other)} would be one name",
        code=codes.duplicate,
        where=where,
        hint="rename one: names may not differ only in case or Unicode form",
    )
