"""The object store, patiently: asked again for a few seconds, and not twice for what is known."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from structlog.typing import FilteringBoundLogger

from penstock.blob import BlobStore
from penstock.clock import Clock
from penstock.contracts.artifacts import Grant, GrantedPart, ObjectRef
from penstock.errors import BlobUnavailable
from penstock_artifact import decide
from penstock_artifact.effects import Discard
from penstock_artifact.state import Objects

LOOKS_MAX = 32
DELAY_S_MAX = 1.0

T = TypeVar("T")


class Store:
    """The object store and what is known about its objects."""

    def __init__(
        self,
        blobs: BlobStore,
        log: FilteringBoundLogger,
        clock: Clock,
        *,
        grant_s: float,
        patience_s: float,
    ) -> None:
        self.blobs = blobs
        self.log = log
        self.clock = clock
        self.grant_s = grant_s
        self.patience_s = patience_s
        self.known = Objects()
        self._looks = asyncio.Semaphore(LOOKS_MAX)

    async def missing(self, objects: Sequence[ObjectRef]) -> list[ObjectRef]:
        """Return those objects that the store lacks, in order; one of a wrong size is deleted."""

        async def look(ref: ObjectRef) -> None:
            async with self._looks:
                size = await self.size(ref.key)
            damage = decide.wrong_size(ref, size)
            if damage is not None:
                await self.discard(damage)
            else:
                self.known.saw(ref.key, size, self.clock.monotonic())

        started = self.clock.monotonic()
        doubtful = decide.to_look_at(objects, self.known, started)
        await asyncio.gather(*(look(ref) for ref in doubtful))
        return decide.to_look_at(doubtful, self.known, started)

    async def size(self, key: str) -> int | None:
        """Return an object's size, None if it is not there."""
        return await self._patiently(lambda: self.blobs.size(key))

    async def get(self, key: str) -> bytes:
        """Return an object's bytes. Raises NotFound."""
        return await self._patiently(lambda: self.blobs.get(key))

    async def digest(self, key: str) -> str:
        """Read an object through and return its digest. Raises NotFound."""
        return await self._patiently(lambda: self.blobs.digest(key))

    async def put(self, key: str, data: bytes) -> None:
        """Store an object whose key follows from its bytes; one that is there is the same one."""
        ref = ObjectRef(key=key, size=len(data))
        if not await self._patiently(lambda: self.blobs.put(key, data)):
            damage = decide.wrong_size(ref, await self.size(key))
            if damage is not None:
                await self.discard(damage)
                await self._patiently(lambda: self.blobs.put(key, data))
        self.verified(ref)

    async def discard(self, order: Discard) -> None:
        """Delete an object."""
        if order.why:
            self.log.warning("discarded", key=order.key, why=order.why)
        self.forget(order.key)
        await self._patiently(lambda: self.blobs.delete(order.key))

    async def refuses_wrong_bytes(self) -> bool:
        """Say whether the store itself compares what is uploaded with what was announced."""
        return await self._patiently(self.blobs.refuses_wrong_bytes)

    async def is_checked(self, key: str) -> bool:
        """Say whether the store compared an object with its checksum when it came in."""
        if not await self.refuses_wrong_bytes():
            return False
        return await self._patiently(lambda: self.blobs.is_checked(key))

    async def upload_grant(self, ref: ObjectRef, checksums: Sequence[str] = ()) -> Grant:
        """Return leave to write an object once."""
        signed = await self._patiently(
            lambda: self.blobs.upload_url(
                ref.key, ref.size, checksums=checksums, expires_s=self.grant_s
            )
        )
        parts = tuple(GrantedPart(url=part.url, headers=part.headers) for part in signed.parts)
        return Grant(key=ref.key, url=signed.url, headers=signed.headers, parts=parts)

    async def download_grant(self, key: str) -> Grant:
        """Return leave to read an object."""
        signed = await self._patiently(lambda: self.blobs.download_url(key, expires_s=self.grant_s))
        return Grant(key=key, url=signed.url, headers=signed.headers)

    def verified(self, ref: ObjectRef) -> None:
        """Note that an object's bytes were read and right."""
        self.known.verified(ref.key, ref.size, self.clock.monotonic())

    def forget(self, key: str) -> None:
        """Note that an object is not there."""
        self.known.saw(key, None, self.clock.monotonic())

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Ask the store; ask again for a few seconds when it does not answer.

        Raises:
            BlobUnavailable: E_STORE or E_STORE_FULL.
        """
        until = self.clock.monotonic() + self.patience_s
        delay_s = 0.05
        while True:
            try:
                return await work()
            except BlobUnavailable as error:
                if self.clock.monotonic() + delay_s > until:
                    self.log.warning("store", code=error.code, message=error.message)
                    raise
            await asyncio.sleep(delay_s)
            delay_s = min(DELAY_S_MAX, delay_s * 2)
