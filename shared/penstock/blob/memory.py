"""The object store that is a dictionary, for tests. Passes the same conformance suite as the others."""

import secrets
from collections.abc import AsyncIterator, Sequence
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from penstock.blob import Signed
from penstock.blob.keys import checked_key
from penstock.errors import BlobUnavailable, Invalid, NotFound
from penstock.ids import digest_of

_stores: "WeakValueDictionary[str, MemoryStore]" = WeakValueDictionary()


class MemoryStore:
    """A store in this process. `down = True` makes every call fail, as an outage would."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.down = False
        self.name = secrets.token_hex(8)
        _stores[self.name] = self

    @property
    def address(self) -> str:
        """The store's URL."""
        return f"memory://{self.name}"

    async def put(self, key: str, data: bytes) -> bool:
        """Store bytes under a new key."""
        return self.write(key, data)

    async def get(self, key: str, *, offset: int = 0, size: int | None = None) -> bytes:
        """Return an object's bytes, or a range of them."""
        return self.read(key, offset, size)

    async def size(self, key: str) -> int | None:
        """Return an object's size in bytes, None if it does not exist."""
        self._check()
        data = self.objects.get(checked_key(key))
        return None if data is None else len(data)

    async def digest(self, key: str) -> str:
        """Return an object's digest."""
        return digest_of(self.read(key, 0, None))

    async def delete(self, key: str) -> None:
        """Remove an object."""
        self._check()
        self.objects.pop(checked_key(key), None)

    async def keys(self, prefix: str) -> AsyncIterator[str]:
        """Iterate over keys with a prefix."""
        self._check()
        for key in list(self.objects):
            if key.startswith(prefix):
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
        """Return leave to write `key` once."""
        return Signed(f"{self.address}/{checked_key(key)}", {"content-length": str(size)})

    async def download_url(self, key: str, *, expires_s: float = 900) -> Signed:
        """Return leave to read `key`."""
        return Signed(f"{self.address}/{checked_key(key)}")

    async def close(self) -> None:
        """Do nothing: there are no connections."""

    def write(self, key: str, data: bytes) -> bool:
        """Store bytes under a new key; False if it exists."""
        self._check()
        if checked_key(key) in self.objects:
            return False
        self.objects[key] = bytes(data)
        return True

    def read(self, key: str, offset: int, size: int | None) -> bytes:
        """Return a range of an object's bytes. Raises NotFound."""
        self._check()
        data = self.objects.get(checked_key(key))
        if data is None:
            raise NotFound("no such object", where=key)
        return data[offset : None if size is None else offset + size]

    def _check(self) -> None:
        if self.down:
            raise BlobUnavailable("the store is down", where="store")


def store_at(url: str) -> "tuple[MemoryStore, str]":
    """Return the store and the key that a `memory:` URL names."""
    parts = urlsplit(url)
    store = _stores.get(parts.netloc)
    if store is None:
        raise Invalid("a store in another process's memory", code="E_STORE_REMOTE", where="store")
    return store, parts.path.removeprefix("/")
