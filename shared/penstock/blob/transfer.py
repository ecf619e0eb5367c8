"""Moving bytes on grants: what executors and clients use, who hold no credentials.

A grant's URL is `http(s):` (presigned, for S3), `file:` (a directory of this machine) or `memory:`
(tests). A refused second write (412) is no error: the object is there, and the commit verifies it.
Calls block; run them in threads.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from penstock.blob.disk import (
    CHUNK_BYTES,
    STORE_HEADER,
    Piece,
    check_reachable,
    copy_object,
    linked,
    read_range,
    take_once,
    write_once,
)
from penstock.blob.parts import sent_in_parts
from penstock.contracts.artifacts import Grant
from penstock.errors import BlobUnavailable, Invalid, NotFound, PenstockError, Transient
from penstock.units import MIB

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

CONNECTIONS_MAX = 16
CONNECT_S = 5.0
READ_S = 60.0
DELAY_S_MAX = 5.0
PART_BYTES = 32 * MIB
PARTS_MAX = 4
"""Ranges of one object fetched at the same time."""
_EXISTS = (409, 412)
"""Precondition failed; AWS answers 409 while another write of the key is under way."""
_AGAIN = (408, 425, 429, 500, 502, 503, 504)


class CutShort(BlobUnavailable):
    """An object ended before its size: a server was cut off, or the object is damaged."""


class Transfer:
    """Uploads and downloads. `patience_s`: how long one object may fail before we give up."""

    def __init__(self, *, patience_s: float = 60) -> None:
        self.patience_s = patience_s
        self._pool: PoolManager | None = None

    def upload(
        self, grant: Grant, pieces: Sequence[Piece], size: int, *, take: bool = False
    ) -> bool:
        """Store pieces end to end as the granted object; False if somebody else has done so.

        `take`: the one piece is a file that nobody will write to any more; it may become the object.

        Raises:
            Invalid: E_SIZE (the pieces are not `size` bytes), E_STORE_REMOTE (another machine's store).
            Transient: E_GRANT, the leave has expired: ask for a new one.
            BlobUnavailable: E_STORE or E_STORE_FULL.
        """
        scheme = urlsplit(grant.url).scheme
        if scheme == "file":
            root = self._root(grant)
            if take and isinstance(pieces[0], Path):
                taken = take_once(root, grant.key, pieces[0], size)
                if taken is not None:
                    return taken
            return write_once(root, grant.key, pieces, size)
        if scheme == "memory":
            from penstock.blob.memory import store_at

            store, key = store_at(grant.url)
            data = b"".join(_bytes(pieces))
            if len(data) != size:
                raise _wrong_size(grant.key, len(data), size)
            return store.write(key, data)
        return self._put(grant, pieces, size)

    def chunks(self, grant: Grant, *, offset: int = 0, size: int | None = None) -> Iterator[bytes]:
        """Iterate over the bytes of a granted object, or a range; a cut connection is resumed.

        Raises:
            NotFound: the object is gone.
            Transient, BlobUnavailable, Invalid: as `upload`.
        """
        scheme = urlsplit(grant.url).scheme
        if scheme == "file":
            return read_range(self._root(grant), grant.key, offset, size)
        if scheme == "memory":
            from penstock.blob.memory import store_at

            store, key = store_at(grant.url)
            return iter([store.read(key, offset, size)])
        return self._get(grant, offset, size)

    def download(self, grant: Grant, *, offset: int = 0, size: int | None = None) -> bytes:
        """Return the bytes of a granted object, or a range of them."""
        return b"".join(self.chunks(grant, offset=offset, size=size))

    def download_to(self, grant: Grant, target: Path, size: int, *, link: bool = False) -> bool:
        """Write a granted object to a new file, in parallel ranges when it is large.

        `link`: nobody will write to the file, so it may be the object itself; True says that it is.

        Raises:
            BlobUnavailable: E_STORE, the object is shorter than `size`.
            Corrupt: E_DIGEST, that is certain, since it is a file.
        """
        is_file = urlsplit(grant.url).scheme == "file"
        if is_file and link and linked(self._root(grant), grant.key, target, size):
            return True
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if is_file:
                copy_object(self._root(grant), grant.key, handle, size)
                return False
            parts = [(at, min(PART_BYTES, size - at)) for at in range(0, size, PART_BYTES)]

            def fetch(part: tuple[int, int]) -> None:
                at, left = part
                for chunk in self.chunks(grant, offset=at, size=left):
                    _write_at(handle, chunk, at)
                    at += len(chunk)
                    left -= len(chunk)
                if left:
                    raise CutShort(f"{left:,} of {size:,} bytes are missing", where=grant.key)

            if len(parts) == 1:
                fetch(parts[0])
                return False
            with ThreadPoolExecutor(PARTS_MAX, "download") as threads:
                list(threads.map(fetch, parts))
        finally:
            os.close(handle)
        return False

    def close(self) -> None:
        """Let go of connections."""
        if self._pool is not None:
            self._pool.clear()

    # -- file ------------------------------------------------------------------------------------
    @staticmethod
    def _root(grant: Grant) -> Path:
        parts = urlsplit(grant.url)
        path = unquote(parts.path)
        if not path.endswith(f"/{grant.key}") or parts.netloc:
            raise Invalid(
                "the grant's URL does not end in its key", code="E_GRANT", where=grant.key
            )
        root = Path(path.removesuffix(f"/{grant.key}") or "/")
        check_reachable(root, grant.headers.get(STORE_HEADER, ""))
        return root

    # -- http ------------------------------------------------------------------------------------
    def _http(self) -> "PoolManager":
        if self._pool is None:
            try:
                from urllib3 import PoolManager, Retry, Timeout
            except ImportError as error:  # pragma: no cover - an installation without extras
                raise Invalid(
                    "the object store speaks HTTP, and urllib3 is not installed",
                    code="E_CONFIG",
                    where="store",
                    hint="pip install urllib3",
                ) from error
            self._pool = PoolManager(
                maxsize=CONNECTIONS_MAX,
                timeout=Timeout(connect=CONNECT_S, read=READ_S),
                retries=Retry(0, redirect=0, raise_on_redirect=True, raise_on_status=False),
            )
        return self._pool

    def _put(self, grant: Grant, pieces: Sequence[Piece], size: int) -> bool:
        def send(
            method: str, url: str, headers: dict[str, str], body: Callable[[], Iterator[bytes]]
        ) -> dict[str, str] | None:
            return self._sent(grant, method, url, headers, body)

        if grant.parts:
            return sent_in_parts(grant, pieces[0], size, send)
        headers = {**grant.headers, "content-length": str(size)}
        body = lambda: _sized(grant.key, pieces, size)  # noqa: E731 - made anew for each attempt
        return send("PUT", grant.url, headers, body) is not None

    def _sent(
        self,
        grant: Grant,
        method: str,
        url: str,
        headers: dict[str, str],
        body: Callable[[], Iterator[bytes]],
    ) -> dict[str, str] | None:
        """Send something, patiently; return the answer's headers, None if the object exists."""
        from urllib3.exceptions import HTTPError

        attempts = _Attempts(self.patience_s)
        while True:
            try:
                response = self._http().request(method, url, body=body(), headers=headers)
            except HTTPError as error:
                attempts.wait(_unreachable(grant, error))
                continue
            except OSError as error:
                raise Invalid(
                    f"cannot read what is to be stored: {error}", code="E_CHANGED", where=grant.key
                ) from error
            failed = b"<Error>" in response.data[:512]  # a completion may say 200 and mean an error
            if response.status in (200, 201, 204) and not failed:
                return {name.lower(): value for name, value in response.headers.items()}
            if response.status in _EXISTS:
                return None
            if response.status == 404:  # noqa: PLR2004
                raise Transient(
                    "the store has forgotten this upload",
                    code="E_GRANT",
                    where=grant.key,
                    hint="ask again",
                )
            attempts.wait(_answered(grant, response.status, response.data))

    def _get(self, grant: Grant, offset: int, size: int | None) -> Iterator[bytes]:
        from urllib3.exceptions import HTTPError

        attempts = _Attempts(self.patience_s)
        end = None if size is None else offset + size
        while end is None or offset < end:
            headers = dict(grant.headers)
            if offset or end is not None:
                headers["range"] = f"bytes={offset}-{'' if end is None else end - 1}"
            try:
                response = self._http().request(
                    "GET", grant.url, headers=headers, preload_content=False
                )
            except HTTPError as error:
                attempts.wait(_unreachable(grant, error))
                continue
            try:
                if response.status == 416:  # noqa: PLR2004 - nothing lies behind `offset`
                    return
                if response.status not in (200, 206):
                    attempts.wait(_answered(grant, response.status, response.read(4096)))
                    continue
                for chunk in _ranged(response, offset, end):
                    offset += len(chunk)
                    attempts = _Attempts(self.patience_s)
                    yield chunk
                return
            except HTTPError as error:
                attempts.wait(_unreachable(grant, error))
            finally:
                response.release_conn()


class _Attempts:
    """Waits between attempts, longer each time, until patience ends."""

    def __init__(self, patience_s: float) -> None:
        self.until = time.monotonic() + patience_s
        self.delay_s = 0.05

    def wait(self, error: PenstockError) -> None:
        """Sleep, or raise `error` when it is final or patience is at its end."""
        if not isinstance(error, BlobUnavailable) or time.monotonic() + self.delay_s > self.until:
            raise error
        time.sleep(self.delay_s)
        self.delay_s = min(DELAY_S_MAX, self.delay_s * 2)


def _ranged(response: "BaseHTTPResponse", offset: int, end: int | None) -> Iterator[bytes]:
    """Iterate over a range also when the server ignored the range header and sent everything."""
    skip = offset if response.status == 200 else 0  # noqa: PLR2004
    left = None if end is None else end - offset
    for chunk in response.stream(CHUNK_BYTES):
        piece = chunk
        if skip:
            piece, skip = chunk[skip:], max(0, skip - len(chunk))
        if left is not None:
            piece = piece[:left]
            left -= len(piece)
        if piece:
            yield piece
        if left == 0:
            return


def _bytes(pieces: Sequence[Piece]) -> Iterator[bytes]:
    for piece in pieces:
        if isinstance(piece, bytes):
            yield piece
            continue
        handle = os.open(piece, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            while chunk := os.read(handle, CHUNK_BYTES):
                yield chunk
        finally:
            os.close(handle)


def _sized(key: str, pieces: Sequence[Piece], size: int) -> Iterator[bytes]:
    """Iterate over the bytes; an upload of another length than granted is never completed."""
    count = 0
    for chunk in _bytes(pieces):
        count += len(chunk)
        if count > size:
            raise _wrong_size(key, count, size)
        yield chunk
    if count != size:
        raise _wrong_size(key, count, size)


def _wrong_size(key: str, found: int, size: int) -> Invalid:
    return Invalid(f"{found:,} bytes came; granted: {size:,}", code="E_SIZE", where=key)


def _write_at(handle: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(handle, view, offset)
        view = view[count:]
        offset += count


def _unreachable(grant: Grant, error: Exception) -> BlobUnavailable:
    """Return a connection's failure without the URL: its signature is a secret until it expires."""
    parts = urlsplit(grant.url)
    return BlobUnavailable(
        f"{parts.scheme}://{parts.netloc} did not answer ({type(error).__name__})",
        where=grant.key,
        hint="is the object store running and reachable from here?",
    )


def _answered(grant: Grant, status: int, body: bytes) -> PenstockError:
    code = ""
    with contextlib.suppress(ValueError):
        code = body[body.index(b"<Code>") + 6 : body.index(b"</Code>")].decode("utf-8", "replace")
    told = f"the object store answered {status} {code}".strip()
    if status == 404:  # noqa: PLR2004
        return NotFound("no such object", where=grant.key)
    if status == 507 or "Full" in code or "Quota" in code:  # noqa: PLR2004
        return BlobUnavailable(
            told, code="E_STORE_FULL", where=grant.key, hint="free some space in the store"
        )
    if status in _AGAIN:
        return BlobUnavailable(told, where=grant.key)
    if "Digest" in code or "Checksum" in code:
        return Transient(
            f"{told}: what arrived is not what was announced",
            code="E_DIGEST",
            where=grant.key,
            hint="ask again",
        )
    if status in (400, 401, 403):
        skewed = "Skew" in code
        return Transient(
            f"{told}: the grant has expired or does not fit",
            code="E_GRANT",
            where=grant.key,
            hint="the clocks of this machine and the store differ" if skewed else "ask again",
        )
    return BlobUnavailable(told, where=grant.key)
