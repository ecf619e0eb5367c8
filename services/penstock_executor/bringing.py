"""From where data lies to a scan that can be stored. Everything here blocks: call it in a thread.

https:              downloaded into the attempt's folder
a folder here       hashed where it lies, nothing is copied; what a pattern leaves is linked
behind a URL        listed first, so that limits and names are known, then downloaded in parallel
"""

import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from penstock.contracts.artifacts import FILES_MAX, TREE_BYTES_MAX
from penstock.contracts.data import Location
from penstock.contracts.paths import FILES, check_distinct, check_path
from penstock.errors import Invalid, NotFound, Transient
from penstock.ids import digest_of
from penstock.trees.hashing import Scan
from penstock.trees.scan import scanned, scanned_file
from penstock_executor.datastores import Datastores, translated
from penstock_executor.decide.patterns import matches, split
from penstock_executor.placing import WRITING, inside
from penstock_executor.web import downloaded

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

THREADS_MAX = 8
SPARE_BYTES = 256 * 1024 * 1024
"""What a download leaves free on this machine's disk."""

GoOn = Callable[[], None]
"""Called between pieces; raises when the attempt is to end."""


class Brought(NamedTuple):
    """What was brought in, and how it looked there: as long as it looks so, its bytes are the same.

    An empty look says that this cannot be known.
    """

    scan: Scan
    look: str = ""


def brought(
    location: Location, stores: Datastores, into: Path, go_on: GoOn, look: str = ""
) -> Brought | None:
    """Return what lies at a location; what has to be downloaded is put below `into`.

    None: it still looks like `look`, and nothing was downloaded.

    Raises:
        NotFound: E_DATA_MISSING.
        Invalid: E_DATA_PERMISSION, E_DATA_TYPE, E_DATA_CHANGED, E_NAME, E_DUPLICATE, E_LIMIT,
            E_TOO_LARGE, E_PATH, E_EXTRA, E_CONFIG.
        Transient: E_SOURCE, E_DISK.
    """
    into.mkdir(parents=True, exist_ok=True)
    if location.url:
        file = downloaded(location.url, into, go_on, look)
        return None if file is None else Brought(scanned_file(file.path), file.etag)
    root = stores.folder(location)
    if root is not None:
        return Brought(_from_folder(root, location, stores, into, go_on))
    return _from_afar(location, stores, into, go_on, look)


def _from_folder(
    root: Path, location: Location, stores: Datastores, into: Path, go_on: GoOn
) -> Scan:
    base, pattern = split(location.path)
    path = inside(root, base, location)
    if not path.exists():
        raise _missing(location, f"looked at {path}")
    if path.is_file() and not pattern:
        return scanned_file(path)
    if not pattern and not (path / WRITING).exists():
        return scanned(path, ignore=False, purpose="data", known=stores.known)
    linked = 0
    for folder, names, files in os.walk(path):
        go_on()
        names[:] = [name for name in names if name != WRITING]
        for name in files:
            found = Path(folder, name)
            relative = found.relative_to(path).as_posix()
            if pattern and not matches(relative, pattern):
                continue
            target = into / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            _linked(found, target, path)
            linked += 1
    if not linked and pattern:
        raise _missing(location, "nothing matches the pattern")
    return scanned(into, ignore=False, purpose="data")


def _linked(found: Path, target: Path, around: Path) -> None:
    """Make `target` a file of the same bytes, by link where that is possible."""
    real = found.resolve()
    if not real.is_relative_to(around.resolve()) or not real.is_file():
        raise Invalid(
            "a link that leaves the folder, or no file; allowed: files, folders and links inside it",
            code="E_DATA_TYPE",
            where=str(found),
        )
    try:
        os.link(real, target)
    except OSError:
        shutil.copyfile(real, target)


def _from_afar(
    location: Location, stores: Datastores, into: Path, go_on: GoOn, look: str
) -> Brought | None:
    filesystem, root = stores.filesystem(location)
    base, pattern = split(location.path)
    path = f"{root}/{base}" if base else root
    try:
        listed = _listed(filesystem, path, pattern, location)
        sizes = {name: size for name, (size, _) in listed.items()}
        looks = _look_of(listed)
        if look and look == looks:
            return None
        _check_room(sizes, into, location)
        _download(filesystem, path, sizes, into, go_on)
    except Exception as error:
        raise translated(error, location) from error
    if list(sizes) == [""]:
        return Brought(scanned_file(into / base.rpartition("/")[2]), looks)
    return Brought(scanned(into, ignore=False, purpose="data"), looks)


Listed = dict[str, tuple[int, str]]
"""Path → size, and the store's own name of the bytes (ETag) if it has one."""


def _look_of(listed: Listed) -> str:
    """Return a digest of what a store says of its files; empty if it does not name their bytes."""
    if not all(etag for _, etag in listed.values()):
        return ""
    return digest_of(msgspec.json.encode(sorted(listed.items())))


def _listed(
    filesystem: "AbstractFileSystem", path: str, pattern: str, location: Location
) -> Listed:
    """Return the files below a path; of a path that is a file, itself as ""."""
    found: Mapping[str, Mapping[str, Any]] = filesystem.find(path, detail=True)
    sizes: Listed = {}
    for name, about in found.items():
        relative = name[len(path) :].lstrip("/") if name.startswith(path) else name
        if name.endswith("/") or relative.split("/")[0] == WRITING:
            continue  # what marks a folder, or is being written
        if pattern and not matches(relative, pattern):
            continue
        sizes[relative] = (int(about.get("size") or 0), str(about.get("ETag") or ""))
    if not sizes:
        raise _missing(location, "nothing matches the pattern" if pattern else "no files below it")
    if len(sizes) > FILES_MAX:
        raise Invalid(
            f"{len(sizes):,} files; allowed: {FILES_MAX:,}", code="E_LIMIT", where=location.text()
        )
    if list(sizes) != [""]:
        for relative in sizes:
            check_path(relative, where=location.text(), codes=FILES)
        check_distinct(sizes, where=location.text(), codes=FILES)
    return sizes


def _check_room(sizes: Mapping[str, int], into: Path, location: Location) -> None:
    total = sum(sizes.values())
    if total > TREE_BYTES_MAX:
        raise Invalid(
            f"{total:,} bytes; allowed: {TREE_BYTES_MAX:,}",
            code="E_TOO_LARGE",
            where=location.text(),
        )
    free = shutil.disk_usage(into).free
    if total + SPARE_BYTES > free:
        raise Transient(
            f"{total:,} bytes are to come and {free:,} are free", code="E_DISK", where=str(into)
        )


def _download(
    filesystem: "AbstractFileSystem", path: str, sizes: Mapping[str, int], into: Path, go_on: GoOn
) -> None:
    def one(relative: str) -> None:
        go_on()
        target = into / (relative or path.rpartition("/")[2])
        target.parent.mkdir(parents=True, exist_ok=True)
        filesystem.get_file(f"{path}/{relative}" if relative else path, str(target))
        size = target.stat().st_size
        if size != sizes[relative]:
            raise Transient(
                f"{size:,} bytes came, {sizes[relative]:,} were listed",
                code="E_SOURCE",
                where=relative or path,
                hint="is something still writing to it?",
            )

    threads = ThreadPoolExecutor(THREADS_MAX, "bring")
    try:
        for _ in threads.map(one, sizes):
            pass
    finally:
        threads.shutdown(wait=True, cancel_futures=True)


def _missing(location: Location, hint: str) -> NotFound:
    return NotFound(
        "there is nothing at this place", code="E_DATA_MISSING", where=location.text(), hint=hint
    )
