"""What a store that refuses wrong bytes is told beforehand, and big objects in parts.

The checksums that are signed into an upload are taken of the same bytes in memory that the object's own
digest is taken of once more, so that between the two nothing can change; from there on the store checks.
CRC-32 and not SHA-256: it has to notice accidents on the way, which it misses once in 2^32 of them, and
every reader compares the digest anyway; SHA-256 cost 0.4 s of 512 MiB on two cores, as much as reading back.
"""

import base64
import os
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from xml.sax.saxutils import escape

from blake3 import blake3

from penstock.blob.disk import CHUNK_BYTES, HASHED_BYTES, READ_FLAGS
from penstock.contracts.artifacts import Grant, GrantedPart, part_bytes
from penstock.errors import BlobUnavailable, Invalid

SENDERS_MAX = 4
"""Parts of one object that travel at the same time."""

Sender = Callable[[str, str, dict[str, str], Callable[[], Iterator[bytes]]], dict[str, str] | None]
"""method, URL, headers, maker of the body → the answer's headers; None if the object exists already."""


def checksum_of(data: bytes) -> str:
    """Return the checksum of an object, or part, that is in memory."""
    return _text(zlib.crc32(data))


def declared(path: Path, size: int) -> tuple[str, tuple[str, ...]]:
    """Return a file's digest, and the checksum of each of its parts.

    Both hashes are fed from the same buffers, side by side. What is read is no more than `size` bytes;
    of a file that has become shorter the digest is another one.

    Raises:
        OSError: it cannot be read.
    """
    whole = blake3()
    step = part_bytes(size)
    sums: list[str] = []
    buffers = [memoryview(bytearray(HASHED_BYTES)) for _ in range(2)]
    handle = os.open(path, READ_FLAGS)
    try:
        with ThreadPoolExecutor(1, "checksums") as beside:
            offset, turn = 0, 0
            running: Future[int] | None = None
            while offset < size:
                left = min(HASHED_BYTES, size - offset, step - offset % step)
                count = os.preadv(handle, [buffers[turn][:left]], offset)
                if not count:
                    break
                data = buffers[turn][:count]
                before = running.result() if running is not None and offset % step else 0
                if running is not None and not offset % step:
                    sums.append(_text(running.result()))
                running = beside.submit(zlib.crc32, data, before)
                whole.update(data)
                offset += count
                turn = 1 - turn
            if running is not None:
                sums.append(_text(running.result()))
    finally:
        os.close(handle)
    return whole.hexdigest(), tuple(sums)


def _text(checksum: int) -> str:
    return base64.b64encode(checksum.to_bytes(4, "big")).decode()


def sent_in_parts(grant: Grant, piece: Path | bytes, size: int, send: Sender) -> bool:
    """Upload an object's parts, several at a time, and have them put together; False if it exists.

    Raises:
        Invalid: E_SIZE, the piece is not of `size` bytes; E_CHANGED, it cannot be read.
        As `send`.
    """
    step = part_bytes(size)

    def one(numbered: tuple[int, GrantedPart]) -> str:
        number, part = numbered
        at = (number - 1) * step
        length = min(step, size - at)
        headers = send("PUT", part.url, part.headers, lambda: _read(piece, at, length, grant.key))
        tag = (headers or {}).get("etag", "")
        if not tag:
            raise BlobUnavailable(f"the store took part {number} without a tag", where=grant.key)
        checksum = next((v for k, v in part.headers.items() if "checksum" in k), "")
        return (
            f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(tag)}</ETag>"
            f"<ChecksumCRC32>{escape(checksum)}</ChecksumCRC32></Part>"
        )

    with ThreadPoolExecutor(SENDERS_MAX, "upload") as threads:
        parts = list(threads.map(one, enumerate(grant.parts, start=1)))
    body = f"<CompleteMultipartUpload>{''.join(parts)}</CompleteMultipartUpload>".encode()
    headers = {**grant.headers, "content-length": str(len(body))}
    return send("POST", grant.url, headers, lambda: iter([body])) is not None


def _read(piece: Path | bytes, at: int, length: int, key: str) -> Iterator[bytes]:
    """Iterate over a part's bytes; one of another length than granted is never completed."""
    if isinstance(piece, bytes):
        yield piece[at : at + length]
        return
    handle = os.open(piece, READ_FLAGS)
    try:
        while length:
            chunk = os.pread(handle, min(CHUNK_BYTES, length), at)
            if not chunk:
                raise Invalid(f"{length:,} bytes are missing", code="E_SIZE", where=key)
            at += len(chunk)
            length -= len(chunk)
            yield chunk
    finally:
        os.close(handle)
