"""A source folder and what lies beside it in the snapshot: shared code of several components.

As Azure ML's `additional_includes`: each keeps its own name; a packed one is a zip that holds the folder
under its name, with the same bytes for the same contents.
"""

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from penstock.contracts.artifacts import Manifest
from penstock.contracts.paths import ARCHIVE, check_distinct
from penstock.trees.hashing import Scan, Stamp
from penstock.trees.known import Known
from penstock.trees.scan import scanned, scanned_bytes, scanned_file

_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


class Beside(NamedTuple):
    """A folder or file, its name in the snapshot, and whether it goes in as a zip."""

    name: str
    path: Path
    packed: bool = False


def scanned_beside(
    root: Path | None, others: Iterable[Beside], *, known: Known | None = None
) -> Scan:
    """Return a folder (or one file, or nothing) and others beside its contents as one snapshot.

    Raises:
        Refused: as `scanned`; E_ARCHIVE_DUPLICATE, two files of one path.
    """
    parts: list[tuple[str, Scan]] = []
    if root is not None:
        parts.append(("", _code(root, known)))
    for name, path, packed in others:
        if packed:
            parts.append(("", scanned_bytes({name: _zip_of(path)})))
        elif path.is_dir():
            parts.append((f"{name}/", _code(path, known)))
        else:
            parts.append(("", scanned_file(path, name, purpose="snapshot")))
    entries = [
        msgspec.structs.replace(entry, path=prefix + entry.path)
        for prefix, scan in parts
        for entry in scan.manifest.entries
    ]
    entries.sort(key=lambda entry: entry.path)
    check_distinct((entry.path for entry in entries), where=str(root or "code"), codes=ARCHIVE)
    files = {digest: source for _, scan in parts for digest, source in scan.files.items()}
    stamps: dict[str, Stamp] = {}
    for _, scan in parts:
        stamps |= {digest: stamp for digest, stamp in scan.stamps.items() if digest in files}
    notes = tuple(note for _, scan in parts for note in scan.notes)
    return Scan(Manifest(entries=tuple(entries)), files, notes, stamps, {}, "snapshot")


def _code(path: Path, known: Known | None) -> Scan:
    if path.is_dir():
        return scanned(path, ignore=True, known=known)
    return scanned_file(path, path.name, purpose="snapshot")


def _zip_of(folder: Path) -> bytes:
    found = scanned(folder, ignore=True)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in found.manifest.entries:
            if not entry.digest:  # an empty folder
                continue
            source = found.files[entry.digest]
            data = source if isinstance(source, bytes) else source.read_bytes()
            info = zipfile.ZipInfo(f"{folder.name}/{entry.path}", _ZIP_DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (0o755 if entry.executable else 0o644) << 16
            archive.writestr(info, data)
    return packed.getvalue()
