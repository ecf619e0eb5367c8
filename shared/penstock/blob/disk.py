"""A directory as an object store, as both sides see it: the service that owns it and those on grants.

    <root>/.penstock-store      the store's id, so that a directory of the same name elsewhere is noticed
    <root>/.incoming/           objects being written
    <root>/<key>                complete, durable, never changed

An object is written under a name of its own, fsynced, hard-linked to its key (which fails if the
key exists: that makes it write-once, also between machines) and its directory is fsynced.
Objects share no inode with a file that a step can write to: what writes to its input in place must not
be able to change what is stored. A file that nobody can write to any more may become an object by link
alone (`take_once`), which spares the one copy that costs as much as the step's own writing.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from blake3 import blake3

from penstock.errors import BlobUnavailable, Corrupt, Invalid, NotFound
from penstock.ids import digest_of
from penstock.units import MIB

MARKER = ".penstock-store"
INCOMING = ".incoming"
STORE_HEADER = "x-penstock-store"
CHUNK_BYTES = 1 * MIB
HASHED_BYTES = 4 * MIB
STALE_S = 86_400.0
_FULL = (errno.ENOSPC, errno.EDQUOT)
_LINKS_REFUSED = (
    errno.EXDEV,
    errno.EPERM,
    errno.EMLINK,
    errno.EACCES,
    errno.EOPNOTSUPP,
    errno.ENOENT,
)
READ_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

Piece = Path | bytes
"""A whole file, or bytes."""


def prepare(root: Path) -> str:
    """Make `root` a store, if it is none yet, and return its id.

    Raises:
        BlobUnavailable: E_STORE or E_STORE_FULL.
    """
    with translated(root):
        (root / INCOMING).mkdir(parents=True, exist_ok=True)
        marker = root / MARKER
        with contextlib.suppress(FileNotFoundError):
            if found := marker.read_text(encoding="ascii").strip():
                return found
        lock = os.open(root, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)  # others prepare it too, and one id must win
            if not marker.exists() or not marker.read_bytes().strip():
                # Synced before it has its name: after a power cut an empty marker closed the store.
                temporary = root / INCOMING / f"marker-{secrets.token_hex(8)}"
                with temporary.open("x", encoding="ascii") as file:
                    file.write(secrets.token_hex(8) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(marker)
                sync_folder(root)
        finally:
            os.close(lock)
        return marker.read_text(encoding="ascii").strip()


def sweep(root: Path, *, older_s: float = STALE_S) -> int:
    """Delete what interrupted writers left behind and return how many files that were."""
    count = 0
    now = time.time()
    with contextlib.suppress(OSError), os.scandir(root / INCOMING) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if now - entry.stat(follow_symlinks=False).st_mtime > older_s:
                    Path(entry.path).unlink()
                    count += 1
    return count


def check_reachable(root: Path, store: str) -> None:
    """Refuse a directory that is not the store with id `store`.

    Raises:
        Invalid: E_STORE_REMOTE, the store's directory is on another machine.
    """
    found = ""
    with contextlib.suppress(OSError):
        found = (root / MARKER).read_text(encoding="ascii").strip()
    if not found or (store and found != store):
        raise Invalid(
            f"the object store is the directory {root} of the machine that runs the artifact "
            f"service; here {'another store has that name' if found else 'it does not exist'}",
            code="E_STORE_REMOTE",
            where="store",
            hint="share one S3 store between machines: penstock up --store s3+http://…",
        )


def write_once(root: Path, key: str, pieces: Iterable[Piece], size: int) -> bool:
    """Store pieces end to end under a new key, durably; False if the key exists.

    Raises:
        Invalid: E_SIZE, the pieces are not `size` bytes together. Nothing is stored then.
        BlobUnavailable: E_STORE or E_STORE_FULL.
    """
    target = root / key
    temporary = root / INCOMING / secrets.token_hex(16)
    with translated(root):
        if target.exists():
            return False
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
        try:
            try:
                written = copy_pieces(pieces, handle, size)
                if written != size:
                    raise Invalid(
                        f"{written:,} bytes came; granted: {size:,}", code="E_SIZE", where=key
                    )
                os.fsync(handle)
            finally:
                os.close(handle)
            try:
                _make_folders(root, target.parent)
                os.link(temporary, target)
            except FileExistsError:
                return False
            sync_folder(target.parent)
        finally:
            temporary.unlink(missing_ok=True)
    return True


def take_once(root: Path, key: str, source: Path, size: int) -> bool | None:
    """Make a file itself the object, durably; False if the key exists, None where it must be copied.

    Whoever calls this vouches that nobody writes to the file from now on, under any of its names.

    Raises:
        Invalid: E_SIZE, the file has not `size` bytes. Nothing is stored then.
        BlobUnavailable: E_STORE or E_STORE_FULL.
    """
    target = root / key
    with translated(root):
        if target.exists():
            return False
        _make_folders(root, target.parent)
        try:
            handle = os.open(source, READ_FLAGS)
        except FileNotFoundError:
            return None
        try:
            about = os.fstat(handle)
            if about.st_size != size:
                raise Invalid(
                    f"{about.st_size:,} bytes came; granted: {size:,}", code="E_SIZE", where=key
                )
            os.fsync(handle)
        finally:
            os.close(handle)
        try:
            os.link(source, target, follow_symlinks=False)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno in _LINKS_REFUSED:
                return None
            raise
        sync_folder(target.parent)
    return True


def linked(root: Path, key: str, target: Path, size: int) -> bool:
    """Make an object appear as `target` by link, for a reader that never writes; False where it cannot."""
    source = root / key
    try:
        if source.lstat().st_size != size:
            return False
        os.link(source, target, follow_symlinks=False)
    except OSError:
        return False
    return True


def read_range(root: Path, key: str, offset: int, size: int | None) -> Iterator[bytes]:
    """Iterate over an object's bytes. Raises NotFound, BlobUnavailable."""
    with opened(root, key) as handle:
        left = os.fstat(handle).st_size - offset
        left = max(0, left if size is None else min(left, size))
        while left:
            chunk = os.pread(handle, min(CHUNK_BYTES, left), offset)
            if not chunk:
                break
            offset += len(chunk)
            left -= len(chunk)
            yield chunk


def copy_object(root: Path, key: str, target: int, size: int) -> None:
    """Copy an object of `size` bytes to an open file, without its bytes passing through here.

    Raises:
        NotFound: there is no such object.
        Corrupt: E_DIGEST, it is of another size; objects appear whole, so waiting does not help.
        BlobUnavailable: E_STORE, it became shorter while it was read.
    """
    with opened(root, key) as handle:
        found = os.fstat(handle).st_size
        told = f"the stored object has {found:,} bytes, not {size:,}"
        if found != size:
            raise Corrupt(told, code="E_DIGEST", where=key)
        if _copied_handle(handle, target, size) != size:
            raise BlobUnavailable(told, where=key)


@contextlib.contextmanager
def opened(root: Path, key: str) -> Iterator[int]:
    """Lend a handle that reads an object. Raises NotFound, BlobUnavailable."""
    with translated(root):
        try:
            handle = os.open(root / key, READ_FLAGS)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFound("no such object", where=key) from error
        try:
            yield handle
        finally:
            os.close(handle)


def hashed(handle: int, size: int) -> tuple[str, int]:
    """Return the digest and number of the bytes of an open file of about `size` bytes, from its start.

    Read, not mapped into memory: a mapped file that shrinks meanwhile kills the reader. Reading ends
    soon after `size`: a file may grow faster than it is read.
    """
    if size < CHUNK_BYTES:
        data = os.pread(handle, CHUNK_BYTES, 0)
        if len(data) < CHUNK_BYTES:
            return digest_of(data), len(data)
    hasher = blake3(max_threads=blake3.AUTO)
    buffer = bytearray(HASHED_BYTES)
    view = memoryview(buffer)
    offset = 0
    while offset <= size and (count := os.preadv(handle, [buffer], offset)):
        hasher.update(view[:count])
        offset += count
    return hasher.hexdigest(), offset


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def translated(root: Path) -> Iterator[None]:
    """Turn errors of the operating system into ours."""
    try:
        yield
    except OSError as error:
        full = error.errno in _FULL
        raise BlobUnavailable(
            f"{error.strerror or error} ({root})",
            code="E_STORE_FULL" if full else "E_STORE",
            where="store",
            hint="free some space" if full else "",
        ) from error


def copy_pieces(pieces: Iterable[Piece], target: int, limit: int = 1 << 62) -> int:
    """Copy pieces to a file and return the count, which stops growing just above `limit`."""
    written = 0
    for piece in pieces:
        if isinstance(piece, bytes):
            _write_all(target, piece)
            written += len(piece)
        else:
            written += _copied_file(piece, target, limit - written + 1)
        if written > limit:
            break
    return written


def _copied_file(source: Path, target: int, limit: int) -> int:
    handle = os.open(source, READ_FLAGS)
    try:
        return _copied_handle(handle, target, limit)
    finally:
        os.close(handle)


def _copied_handle(handle: int, target: int, limit: int) -> int:
    """Copy at most `limit` bytes from one open file to another, in the kernel where it can."""
    written = 0
    in_kernel = hasattr(os, "copy_file_range")
    while written < limit:
        if in_kernel:
            try:
                count = os.copy_file_range(handle, target, min(64 * MIB, limit - written))
            except OSError as error:
                if error.errno in _FULL or written:
                    raise
                in_kernel = False  # another filesystem, or one that cannot: read and write
                continue
        else:
            chunk = os.read(handle, min(CHUNK_BYTES, limit - written))
            _write_all(target, chunk)
            count = len(chunk)
        if not count:
            break
        written += count
    return written


def _write_all(target: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]


def _make_folders(root: Path, folder: Path) -> None:
    """Create missing folders below `root`, each durable in its parent."""
    if folder.is_dir():
        return
    if folder != root:
        _make_folders(root, folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
        sync_folder(folder.parent)
