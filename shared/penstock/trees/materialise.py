"""Writing a tree below a folder, and nowhere else.

Every folder on the way is opened by handle without following links, every file is created new
(O_EXCL, O_NOFOLLOW) relative to its folder's handle, so neither a hostile manifest nor a link that
appears meanwhile leads outside. Modes are 644 or 755, 444 or 555 when read-only. Bytes are counted and
hashed as they are written. (Why not an archive library: CVE-2025-4517 escaped from one that filters.)
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from blake3 import blake3

from penstock.blob.disk import copy_pieces
from penstock.contracts.artifacts import Entry, Manifest
from penstock.contracts.paths import check_path, shown
from penstock.errors import Corrupt, Invalid, NotFound, PenstockError, Transient
from penstock.trees.cache import SEAL_NS

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LINKS_REFUSED = (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP, errno.EACCES)


class Folder:
    """A folder that a tree is written into; entries in the order of their paths go quickest."""

    def __init__(self, root: Path, *, read_only: bool = False) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self.read_only = read_only
        self._names: list[str] = []
        self._handles = [os.open(root, _FOLDER)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            os.close(handle)
        self._handles = []

    def make(self, path: str) -> None:
        """Create an empty folder.

        Raises:
            Invalid: as `write`.
        """
        check_path(path, where=str(self.root))
        with self._translated(path):
            self._enter(path.removesuffix("/").split("/"))

    def write(self, entry: Entry, chunks: Iterable[bytes]) -> None:
        """Create a file from bytes, which must have the entry's size and digest.

        Raises:
            Invalid: E_EXISTS, something is there; E_ARCHIVE_LINK, a link is on the way;
                E_ARCHIVE_PATH or _NAME.
            Corrupt: E_DIGEST, other bytes came. Nothing is left behind then.
            Transient: E_DISK, the disk is full.
        """
        with self._translated(entry.path):
            handle, name = self._created(entry)
            try:
                hasher = blake3()
                count = 0
                for chunk in chunks:
                    count += len(chunk)
                    if count > entry.size:
                        break
                    hasher.update(chunk)
                    view = memoryview(chunk)
                    while view:
                        view = view[os.write(handle, view) :]
                if count != entry.size or hasher.hexdigest() != entry.digest:
                    raise Corrupt(
                        f"{shown(entry.path)} has other bytes than its manifest says "
                        f"({count:,} of {entry.size:,})",
                        code="E_DIGEST",
                        where=str(self.root),
                    )
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=self._handles[-1])
                raise
            finally:
                os.close(handle)

    def copy(self, entry: Entry, source: Path) -> None:
        """Create a file as a copy of one whose bytes were checked. Raises as `write`."""
        with self._translated(entry.path):
            handle, name = self._created(entry)
            try:
                if copy_pieces([source], handle) != entry.size:
                    raise Corrupt(
                        f"{shown(entry.path)} is cut short", code="E_DIGEST", where=str(self.root)
                    )
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=self._handles[-1])
                raise
            finally:
                os.close(handle)

    def link(self, entry: Entry, source: Path) -> None:
        """Create a file as another name of `source`, or as a copy where that cannot be."""
        check_path(entry.path, where=str(self.root))
        mode = source.stat().st_mode & 0o777
        if mode == self.mode_of(entry):
            with self._translated(entry.path):
                *folders, name = entry.path.split("/")
                self._enter(folders)
                try:
                    os.link(source, name, dst_dir_fd=self._handles[-1], follow_symlinks=False)
                    return
                except OSError as error:
                    if error.errno not in _LINKS_REFUSED:
                        raise
        self.copy(entry, source)

    def link_from(self, folder: int, entry: Entry) -> bool:
        """Create a file as another name of the sealed one of its name in an open folder.

        False where there is none that is as it must be, or links cannot be made. The path is one of a
        manifest that was checked.
        """
        *folders, name = entry.path.split("/")
        with self._translated(entry.path):
            self._enter(folders)
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if (
                status.st_mtime_ns != SEAL_NS
                or status.st_size != entry.size
                or status.st_mode != stat.S_IFREG | self.mode_of(entry)
            ):
                return False
            os.link(
                name, name, src_dir_fd=folder, dst_dir_fd=self._handles[-1], follow_symlinks=False
            )
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EEXIST):
                raise _error_of(error, entry.path, self.root) from error
            return False
        return True

    def mode_of(self, entry: Entry) -> int:
        """Return the permissions a file gets."""
        if self.read_only:
            return 0o555 if entry.executable else 0o444
        return 0o755 if entry.executable else 0o644

    def _created(self, entry: Entry) -> tuple[int, str]:
        check_path(entry.path, where=str(self.root))
        *folders, name = entry.path.split("/")
        self._enter(folders)
        handle = os.open(name, _NEW, 0o600, dir_fd=self._handles[-1])
        os.fchmod(handle, self.mode_of(entry))
        return handle, name

    def _enter(self, names: list[str]) -> None:
        """Make the last handle that of the folder `names`, creating what is missing."""
        same = 0
        while same < min(len(names), len(self._names)) and names[same] == self._names[same]:
            same += 1
        while len(self._names) > same:
            self._names.pop()
            os.close(self._handles.pop())
        for name in names[same:]:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=self._handles[-1])
            self._handles.append(os.open(name, _FOLDER, dir_fd=self._handles[-1]))
            self._names.append(name)

    @contextlib.contextmanager
    def _translated(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _error_of(error, path, self.root) from error


def _error_of(error: OSError, path: str, root: Path) -> PenstockError:
    where = str(root)
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return Invalid(
            f"a link or a file lies on the way to {shown(path)}; links are not allowed",
            code="E_ARCHIVE_LINK",
            where=where,
        )
    if error.errno == errno.EEXIST:
        return Invalid(f"{shown(path)} exists already", code="E_EXISTS", where=where)
    if error.errno == errno.ENAMETOOLONG:
        return Invalid(f"{shown(path)} is too long here", code="E_ARCHIVE_NAME", where=where)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Transient(
            f"no space left for {shown(path)}", code="E_DISK", where=where, hint="free some space"
        )
    if error.errno == errno.ENOENT:
        return NotFound(f"{shown(path)} vanished", where=where)
    return Transient(f"{shown(path)}: {error.strerror or error}", code="E_DISK", where=where)


def changed_paths(manifest: Manifest, root: Path) -> list[str]:
    """Return paths of big read-only files that were written to after `fetch` linked them below `root`.

    A look at each file's status, no reading: links of the cache keep their sealed time of change.
    """
    changed = []
    for entry in manifest.entries:
        with contextlib.suppress(OSError):
            status = (root / entry.path).lstat()
            sealed = status.st_mtime_ns == SEAL_NS
            if status.st_nlink > 1 and (not sealed or status.st_size != entry.size):
                changed.append(entry.path)
    return changed
