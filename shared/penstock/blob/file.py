"""The object store that is a directory: for one machine, or for several that share a filesystem."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from penstock.blob import Signed
from penstock.blob.disk import (
    INCOMING,
    STORE_HEADER,
    hashed,
    opened,
    prepare,
    read_range,
    sweep,
    sync_folder,
    translated,
    write_once,
)
from penstock.blob.keys import checked_key

THREADS_MAX = 8

T = TypeVar("T")


class FileStore:
    """A store in a directory (see disk.py for its layout)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._id = ""
        self._threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="file-store")

    @property
    def address(self) -> str:
        """The store's URL."""
        return f"file:{self.root}"

    async def put(self, key: str, data: bytes) -> bool:
        """Store bytes durably under a new key."""
        path = checked_key(key)
        await self._prepared()
        return await self._in_thread(lambda: write_once(self.root, path, [data], len(data)))

    async def get(self, key: str, *, offset: int = 0, size: int | None = None) -> bytes:
        """Return an object's bytes, or a range of them."""
        path = checked_key(key)
        return await self._in_thread(lambda: b"".join(read_range(self.root, path, offset, size)))

    async def size(self, key: str) -> int | None:
        """Return an object's size in bytes, None if it does not exist."""
        path = self.root / checked_key(key)

        def size() -> int | None:
            with translated(self.root):
                try:
                    return path.stat().st_size if path.is_file() else None
                except (FileNotFoundError, NotADirectoryError):
                    return None

        return await self._in_thread(size)

    async def digest(self, key: str) -> str:
        """Read an object through and return its digest."""
        path = checked_key(key)

        def digest() -> str:
            with opened(self.root, path) as handle:
                return hashed(handle, os.fstat(handle).st_size)[0]

        return await self._in_thread(digest)

    async def delete(self, key: str) -> None:
        """Remove an object."""
        path = self.root / checked_key(key)

        def delete() -> None:
            with translated(self.root), contextlib.suppress(FileNotFoundError):
                path.unlink()
                sync_folder(path.parent)

        await self._in_thread(delete)

    async def keys(self, prefix: str) -> AsyncIterator[str]:
        """Iterate over keys with a prefix."""
        for key in await self._in_thread(lambda: self._keys(prefix)):
            yield key

    async def refuses_wrong_bytes(self) -> bool:
        """Say no: what is here is read back, which costs little."""
        return False

    async def is_checked(self, key: str) -> bool:
        """Say no."""
        return False

    async def abandon_uploads(self, older_s: float) -> int:
        """Do nothing: there are no parts."""
        return 0

    async def upload_url(
        self, key: str, size: int, *, checksums: Sequence[str] = (), expires_s: float = 900
    ) -> Signed:
        """Return where to write `key`. Leave to write a directory does not expire."""
        path = self.root / checked_key(key)
        store = await self._prepared()
        return Signed(path.as_uri(), {STORE_HEADER: store, "content-length": str(size)})

    async def download_url(self, key: str, *, expires_s: float = 900) -> Signed:
        """Return where to read `key`. Leave to read a directory does not expire."""
        path = self.root / checked_key(key)
        return Signed(path.as_uri(), {STORE_HEADER: await self._prepared()})

    async def close(self) -> None:
        """Let go of threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _keys(self, prefix: str) -> list[str]:
        found: list[str] = []
        start = self.root / prefix.rpartition("/")[0]
        for folder, folders, files in os.walk(start):
            if Path(folder) == self.root:
                folders[:] = [name for name in folders if name != INCOMING]
            for name in files:
                key = (Path(folder) / name).relative_to(self.root).as_posix()
                if key.startswith(prefix) and not key.startswith("."):
                    found.append(key)
        return found

    async def _prepared(self) -> str:
        if not self._id:
            self._id = await self._in_thread(lambda: prepare(self.root))
            await self._in_thread(lambda: sweep(self.root))
        return self._id

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)
