"""A definition's local folders and files become artifacts, each distinct one scanned and stored once."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from penstock.contracts.artifacts import PREFIX, Entry, Manifest, tree_digest
from penstock.contracts.spec import PipelineSpec, spec_bytes
from penstock.errors import Invalid, PenstockError
from penstock.sdk.definition import Definition, Include, Local, Place, with_artifacts
from penstock.trees.beside import Beside, scanned_beside
from penstock.trees.client import TreeClient
from penstock.trees.git import snapshot_git
from penstock.trees.hashing import Scan
from penstock.trees.known import Known
from penstock.trees.scan import scanned, scanned_file

_known = Known()
"""This process submits the same folders again and again, hardly changed."""

INLINE_BYTES_MAX = 512 * 1024
"""A larger spec travels as an artifact, so that a request stays well below NATS's 1 MiB."""


@dataclass(frozen=True, slots=True)
class Scanned:
    """A spec whose artifacts are named, what has to be stored for it, and what is worth a note."""

    spec: PipelineSpec
    scans: Mapping[str, tuple[Scan, str]]
    """Digest → the scanned tree and its owner."""
    notes: tuple[str, ...] = ()


async def scanned_spec(definition: Definition, trees: TreeClient | None = None) -> Scanned:
    """Return the definition's complete spec; with `trees` what it needs is stored, else nothing is.

    Raises:
        Refused: what cannot be a snapshot (penstock.trees), at the place that names it.
    """
    if definition.root is None:
        return await _scanned_spec(definition, trees)
    # Git is slower than all the rest, so it is asked meanwhile.
    asked = asyncio.ensure_future(asyncio.to_thread(snapshot_git, definition.root))
    try:
        found = await _scanned_spec(definition, trees)
    finally:
        git = await asked
    return replace(found, spec=msgspec.structs.replace(found.spec, git=git))


async def _scanned_spec(definition: Definition, trees: TreeClient | None) -> Scanned:
    seen: dict[tuple[Path, bool, tuple[Include, ...]], Scan] = {}
    real: dict[Path, Path] = {}  # a thousand steps often share one folder
    stored: dict[Place, str] = {}
    scans: dict[str, tuple[Scan, str]] = {}
    notes: list[str] = list(definition.notes)
    for local in definition.locals:
        code = len(local.place) % 3 == 0  # ("steps", s, "code"); inputs have one key more
        if local.path not in real:
            real[local.path] = local.path.resolve()
        key = (real[local.path], code, local.includes)
        if key not in seen:
            seen[key] = scan = await asyncio.to_thread(_scan, local, definition, code=code)
            owner = "snapshot" if code else f"data/{local.place[-1]}"
            scans.setdefault(scan.ref.digest, (scan, owner))
            notes += scan.notes
        stored[local.place] = PREFIX + seen[key].ref.digest
        if local.hash_paths:
            place = (*local.place[:-1], "hash_digest")
            stored[place] = _hash_digest(seen[key], local, definition)
    if trees is not None:
        puts = (trees.put(scan, owner) for scan, owner in scans.values())
        for result in await asyncio.gather(*puts, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
    return Scanned(with_artifacts(definition.spec, stored), scans, tuple(notes))


async def spec_for_request(spec: PipelineSpec, trees: TreeClient) -> msgspec.Raw:
    """Return a spec as a request carries it: inline, or `artifact:<digest>` when it is large."""
    data = spec_bytes(spec)
    if len(data) <= INLINE_BYTES_MAX:
        return msgspec.Raw(data)
    tree = await trees.put_bytes({"spec.json": data}, "snapshot")
    return msgspec.Raw(msgspec.json.encode(PREFIX + tree.digest))


async def stored_parameters(paths: Mapping[str, Path], trees: TreeClient) -> dict[str, str]:
    """Store the files and folders that parameters name; return `artifact:<digest>` by parameter."""
    result = {}
    for name, path in paths.items():
        scan = await asyncio.to_thread(_data_scan, path)
        result[name] = PREFIX + (await trees.put(scan, f"data/{name}")).digest
    return result


def _data_scan(path: Path) -> Scan:
    if path.is_dir():
        return scanned(path, ignore=False, purpose="data", known=_known)
    return scanned_file(path, path.name)


def _scan(local: Local, definition: Definition, *, code: bool) -> Scan:
    try:
        if not code:
            return _data_scan(local.path)
        if local.includes:
            root = None if local.bare else local.path
            return scanned_beside(root, (Beside(*one) for one in local.includes), known=_known)
        if local.path.is_dir():
            return scanned(local.path, ignore=True, known=_known)
        return scanned_file(local.path, local.path.name, purpose="snapshot")
    except PenstockError as error:
        place = definition.where(*local.place)
        hint = f"{error.hint}; named at {place}" if error.hint else f"named at {place}"
        raise type(error)(error.message, code=error.code, where=error.where, hint=hint) from error


def _hash_digest(scan: Scan, local: Local, definition: Definition) -> str:
    """Return the digest of only those files of a snapshot that `hash_paths` name.

    Raises:
        Invalid: E_PATH, a path that names nothing.
    """
    kept: dict[str, Entry] = {}
    for pattern in local.hash_paths:
        clean = pattern.removeprefix("./").rstrip("/")
        found = [
            entry
            for entry in scan.manifest.entries
            if clean in ("", ".")
            or entry.path == clean
            or entry.path.startswith(clean + "/")
            or fnmatchcase(entry.path, clean)
        ]
        if not found:
            raise Invalid(
                f"{pattern!r} names no file of {local.path}",
                code="E_PATH",
                where=definition.where(*local.place[:-1], "hash_paths"),
            )
        kept |= {entry.path: entry for entry in found}
    return tree_digest(Manifest(entries=tuple(kept[path] for path in sorted(kept))))
