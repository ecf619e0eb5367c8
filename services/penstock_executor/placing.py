"""Writing a tree to a place on a datastore, so that nobody ever reads half a file there.

    a folder here     fetched beside its place (`<datastore>/.penstock-writing/<attempt>/`), synced,
                      renamed: as a whole where nothing is yet, else file by file into what is there
    behind a URL      one upload per file, which an object store shows when it is complete

What lies there already and is not part of the tree stays. Killed in the middle, the next attempt
writes everything again; each file is the old one or the new one meanwhile. Call it in a thread.
"""

import contextlib
import errno
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.contracts.data import Location
from penstock.errors import Invalid, Transient
from penstock_executor.datastores import translated

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

WRITING = ".penstock-writing"
"""Where files wait at the root of a datastore; no import sees it."""
FORGOTTEN_S = 7 * 86_400
"""Age of what killed executors left there and nobody came back for."""
THREADS_MAX = 8

GoOn = Callable[[], None]


def inside(root: Path, path: str, location: Location) -> Path:
    """Return a place below a datastore's folder, whose links may not lead out of it.

    Raises:
        Invalid: E_PATH.
    """
    place = root / path if path else root
    real_root = root.resolve()
    real = place.resolve()
    if real != real_root and not real.is_relative_to(real_root):
        raise Invalid(
            f"a link on the way leads out of the datastore, to {real}",
            code="E_PATH",
            where=location.text(),
            hint="remove the link, or register the folder that it leads to",
        )
    return place


def waiting_folder(root: Path, name: str) -> Path:
    """Return a new folder beside the places of a datastore; what earlier attempts left there goes.

    `name` is <run>-<step>-<attempt>-<delivery>. A step's name may itself end in numbers, so whose a folder
    is says all that stands before the last two: that of step `write-2` begins as one of `write` does.

    Raises:
        Transient: E_DISK.
    """
    around = root / WRITING
    mine = name.rsplit("-", 2)[0]
    try:
        around.mkdir(parents=True, exist_ok=True)
        for other in around.iterdir():
            theirs, *numbers = other.name.rsplit("-", 2)
            same = theirs == mine and len(numbers) == 2 and all(map(str.isdecimal, numbers))  # noqa: PLR2004
            with contextlib.suppress(OSError):
                if same or time.time() - other.lstat().st_mtime > FORGOTTEN_S:
                    shutil.rmtree(other, ignore_errors=True)
        folder = around / name
        folder.mkdir()
    except OSError as error:
        raise Transient(error.strerror or str(error), code="E_DISK", where=str(around)) from error
    return folder


def leave(folder: Path) -> None:
    """Remove a waiting folder, and the folder around it if nobody else waits."""
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()


def put_in_place(
    tree: Path, root: Path, location: Location, go_on: GoOn, moved: Callable[[], None]
) -> None:
    """Rename a waiting tree (a folder or one file) to its place. `moved` is called after each rename.

    Raises:
        Invalid: E_PATH (a link leads out), E_DATA_TYPE (a folder where a file is, or the other way).
        Transient: E_DISK.
    """
    target = inside(root, location.path, location)
    try:
        _sync(tree)
        _made(target.parent, root)
        go_on()
        if not os.path.lexists(target) or (tree.is_file() and not target.is_dir()):
            tree.replace(target)
            moved()
            _sync_folder(target.parent)
            return
        if tree.is_file() or not target.is_dir():
            raise _clash(location, target)
        _merge(tree, root, location, go_on, moved)
    except OSError as error:
        if error.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY):
            raise _clash(location, target) from error
        code = "E_DATA_PERMISSION" if isinstance(error, PermissionError) else "E_DISK"
        kind = Invalid if code == "E_DATA_PERMISSION" else Transient
        raise kind(error.strerror or str(error), code=code, where=str(target)) from error


def upload(
    tree: Path, filesystem: "AbstractFileSystem", path: str, location: Location, go_on: GoOn
) -> None:
    """Upload a folder's files below `path`, or one file to it.

    Raises:
        Invalid: E_DATA_PERMISSION.
        Transient: E_SOURCE.
    """

    def one(file: Path) -> None:
        go_on()
        relative = "" if file == tree else f"/{file.relative_to(tree).as_posix()}"
        filesystem.put_file(str(file), path + relative)

    files = [tree] if tree.is_file() else sorted(_files(tree))
    threads = ThreadPoolExecutor(THREADS_MAX, "place")
    try:
        with contextlib.suppress(FileExistsError, NotImplementedError):
            filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
        for _ in threads.map(one, files):
            pass
    except Exception as error:
        raise translated(error, location) from error
    finally:
        threads.shutdown(wait=True, cancel_futures=True)


def _merge(
    tree: Path, root: Path, location: Location, go_on: GoOn, moved: Callable[[], None]
) -> None:
    """Move a tree into a folder that is there, file by file."""
    for folder, names, files in os.walk(tree):
        below = Path(folder).relative_to(tree).as_posix()
        path = "/".join(part for part in (location.path, below) if part and part != ".")
        target = inside(root, path, location)
        _made(target, root)
        for name in files:
            go_on()
            Path(folder, name).replace(target / name)
            moved()
        for name in names:
            (target / name).mkdir(exist_ok=True)
        _sync_folder(target)


def _made(folder: Path, root: Path) -> None:
    """Create a folder and those above it, durably."""
    if folder.is_dir():
        return
    missing = [folder]
    while not missing[-1].parent.is_dir() and missing[-1] != root:
        missing.append(missing[-1].parent)
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        _sync_folder(made.parent)


def _sync(tree: Path) -> None:
    """Have a tree's files and folders written to the disk."""
    for file in [tree] if tree.is_file() else _files(tree):
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    if tree.is_dir():
        for folder, _, _ in os.walk(tree):
            _sync_folder(Path(folder))


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _files(tree: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(tree):
        for name in names:
            path = Path(folder, name)
            if stat.S_ISREG(path.lstat().st_mode):
                yield path


def _clash(location: Location, target: Path) -> Invalid:
    return Invalid(
        f"a folder where a file is to be, or the other way round, at {target}",
        code="E_DATA_TYPE",
        where=location.text(),
        hint="remove it, or give the output another path",
    )
