"""Buckets: small tables on the bus. The same layout as NATS KV, so `nats kv` reads them.

A bucket is a stream `KV_<bucket>` whose subjects are `$KV.<bucket>.<key>`; a value is the last
message of its key; a delete is a marker message. Compare-and-set is an expected sequence.
"""

from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec

from penstock.bus import Appended, Bus, Expect, Stored, StreamSpec
from penstock.contracts.codec import decoded, encoded
from penstock.errors import Conflict
from penstock.units import MIB

OPERATION = "KV-Operation"

T = TypeVar("T")


def bucket_spec(
    bucket: str,
    *,
    max_bytes: int = 256 * MIB,
    max_age_s: float = 0,
    history: int = 1,
    description: str = "",
) -> StreamSpec:
    """Return the stream behind a bucket. `max_age_s` forgets keys not written for that long."""
    return StreamSpec(
        name=f"KV_{bucket}",
        subjects=(f"$KV.{bucket}.>",),
        max_bytes=max_bytes,
        discard="new",
        max_age_s=max_age_s,
        max_msgs_per_subject=history,
        allow_ttl=False,
        allow_together=True,
        description=description,
    )


class Value(msgspec.Struct, Generic[T], frozen=True):
    """A decoded value and its revision (the sequence it was stored under)."""

    value: T
    revision: int
    at: float


class Bucket(Generic[T]):
    """A typed table."""

    def __init__(self, bus: Bus, bucket: str, kind: type[T]) -> None:
        self.bus = bus
        self.name = bucket
        self.stream = f"KV_{bucket}"
        self.kind = kind

    def subject(self, key: str) -> str:
        """Return the subject that holds `key`."""
        return f"$KV.{self.name}.{key}"

    async def get(self, key: str) -> Value[T] | None:
        """Return the value of `key`, or None."""
        return self.value_of(await self.bus.last(self.stream, self.subject(key)))

    async def get_many(self, keys: Sequence[str]) -> list[Value[T] | None]:
        """Return the values of `keys`, in order, in one go."""
        found = await self.bus.last_many(self.stream, [self.subject(key) for key in keys])
        return [self.value_of(stored) for stored in found]

    async def put(self, key: str, value: T, *, message_id: str = "") -> Appended:
        """Set `key`, whatever it was."""
        return await self.bus.append(self.subject(key), encoded(value), message_id=message_id)

    async def update(self, key: str, value: T, revision: int) -> Appended:
        """Set `key` if its revision still is `revision` (0: it does not exist). Raises Conflict."""
        expect = Expect(sequence=revision)
        return await self.bus.append(self.subject(key), encoded(value), expect=expect)

    async def create(self, key: str, value: T) -> Appended:
        """Set `key` if it does not exist, also after a delete. Raises Conflict."""
        try:
            return await self.update(
                key, value, 0
            )  # most keys are new: looked at if this one is not
        except Conflict:
            last = await self.bus.last(self.stream, self.subject(key))
        if last is not None and not is_deleted(last):
            raise Conflict(f"key {key!r} exists", where=self.name)
        return await self.update(key, value, last.sequence if last else 0)

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        """Mark `key` as deleted."""
        expect = None if revision is None else Expect(sequence=revision)
        await self.bus.append(self.subject(key), b"", {OPERATION: "DEL"}, expect=expect)

    def value_of(self, stored: Stored | None) -> Value[T] | None:
        """Return the decoded value of a stored message; None for none and for delete markers."""
        if stored is None or is_deleted(stored):
            return None
        return Value(decoded(stored.data, self.kind), stored.sequence, stored.at)

    def key_of(self, stored: Stored) -> str:
        """Return the key that a stored message belongs to."""
        return stored.subject.removeprefix(f"$KV.{self.name}.")


def is_deleted(stored: Stored) -> bool:
    """Say whether a stored message marks its key as deleted."""
    return stored.headers.get(OPERATION, "") in ("DEL", "PURGE")
