"""The port of the object store: what the artifact service may ask of it, and nobody else.

Adapters: `file.py` (a directory), `s3.py` (any S3, through the minio client), `memory.py` (tests).
All pass tests/contract/test_blob_conformance.py. Objects are written once: a second write of a key is
refused, never an overwrite. Keys are `[a-z0-9/.-]+`, relative, without "..".

Other processes move bytes on URLs from `upload_url` and `download_url`, with `penstock.blob.transfer`.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Signed:
    """Leave to move one object until it expires. Send `headers` exactly as given."""

    url: str
    headers: dict[str, str] = field(default_factory=dict)
    parts: "tuple[Signed, ...]" = ()
    """To be uploaded first, in any order; `url` then puts them together."""


class BlobStore(Protocol):
    """An object store."""

    @property
    def address(self) -> str:
        """The store's URL without credentials."""
        ...

    async def put(self, key: str, data: bytes) -> bool:
        """Store bytes durably under a new key; False (and nothing changed) if the key exists.

        Raises:
            BlobUnavailable: E_STORE or E_STORE_FULL.
        """
        ...

    async def get(self, key: str, *, offset: int = 0, size: int | None = None) -> bytes:
        """Return an object's bytes, or a range of them. Raises NotFound, BlobUnavailable."""
        ...

    async def size(self, key: str) -> int | None:
        """Return an object's size in bytes, None if it does not exist."""
        ...

    async def digest(self, key: str) -> str:
        """Read an object through and return its BLAKE3-256 in hex. Raises NotFound."""
        ...

    async def delete(self, key: str) -> None:
        """Remove an object; nothing happens if it does not exist."""
        ...

    def keys(self, prefix: str) -> AsyncIterator[str]:
        """Iterate over keys with a prefix, in no promised order."""
        ...

    async def refuses_wrong_bytes(self) -> bool:
        """Say whether an upload whose bytes have not the checksum it was granted for is refused.

        Found out by trying, once; a store that does not must be read back.
        """
        ...

    async def upload_url(
        self, key: str, size: int, *, checksums: Sequence[str] = (), expires_s: float = 900
    ) -> Signed:
        """Return leave to write `key` once, with exactly `size` bytes.

        `checksums`: base64 of the CRC-32 of each of `part_count(size)` parts, for a store that
        refuses wrong bytes. An upload that is cut short leaves nothing, or (SeaweedFS) an object of
        another size.
        """
        ...

    async def is_checked(self, key: str) -> bool:
        """Say whether the store compared the object with a checksum when it came in."""
        ...

    async def abandon_uploads(self, older_s: float) -> int:
        """Forget uploads in parts that were begun so long ago and not finished; return how many."""
        ...

    async def download_url(self, key: str, *, expires_s: float = 900) -> Signed:
        """Return leave to read `key`, whole or in ranges."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
