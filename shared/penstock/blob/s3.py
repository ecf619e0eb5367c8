"""The object store that is a bucket of any S3: MinIO, SeaweedFS, AWS.

The minio client does what it can. It cannot write conditionally (`metadata={"If-None-Match": "*"}`
becomes x-amz-meta-… and overwrites), so every write goes through a URL of our own signing (presign.py),
for ourselves as for those on grants. Blocking calls run in threads of this store.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TypeVar
from xml.sax.saxutils import escape, unescape

from blake3 import blake3
from minio import Minio
from minio.error import MinioException, S3Error, ServerError
from urllib3 import PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError

from penstock.blob import Signed
from penstock.blob.keys import checked_key
from penstock.blob.parts import checksum_of
from penstock.blob.presign import Signer
from penstock.contracts.artifacts import part_bytes
from penstock.errors import BlobUnavailable, Invalid, NotAllowed, NotFound, PenstockError
from penstock.units import MIB

CHUNK_BYTES = 1 * MIB
CONNECT_S = 5.0
READ_S = 60.0
LIST_MAX = 1_000_000
MULTIPART_BYTES = 64 * MIB
"""Above this a put goes in parts of this size."""
OWN_URL_S = 900.0
THREADS_MAX = 16
CHECKSUM = "x-amz-checksum-crc32"
PROBE = "probe"
OK = 200
BAD_REQUEST = 400
_EXISTS = (409, 412)
_FULL = ("XMinioStorageFull", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded", "StorageFull")
_DENIED = (
    "AccessDenied",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "AuthorizationHeaderMalformed",
)
_MISSING = ("NoSuchKey", "NoSuchObject", "ResourceNotFound")

T = TypeVar("T")


class S3Store:
    """A bucket. It is created at first use if it does not exist and we may create it."""

    def __init__(
        self,
        *,
        endpoint: str,
        secure: bool,
        key: str,
        secret: str,
        bucket: str,
        region: str = "us-east-1",
        multipart_bytes: int = MULTIPART_BYTES,
    ) -> None:
        self._base = f"{'https' if secure else 'http'}://{endpoint}/{bucket}"
        self._bucket = bucket
        self._signer = Signer(key, secret, region)
        self._multipart_bytes = multipart_bytes
        self._http = PoolManager(
            maxsize=THREADS_MAX,
            timeout=Timeout(connect=CONNECT_S, read=READ_S),
            retries=Retry(0, redirect=0, raise_on_status=False),
        )
        self._client = Minio(
            endpoint,
            access_key=key,
            secret_key=secret,
            secure=secure,
            region=region,
            http_client=self._http,
        )
        self._threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="s3-store")
        self._ready = False
        self._refuses: bool | None = None

    @property
    def address(self) -> str:
        """The store's URL without credentials."""
        return f"s3+{self._base}"

    async def put(self, key: str, data: bytes) -> bool:
        """Store bytes durably under a new key."""
        name = checked_key(key)
        if len(data) > self._multipart_bytes:
            return await self._do(key, lambda: self._put_parts(name, data))
        return await self._do(key, lambda: self._put(name, data))

    async def get(self, key: str, *, offset: int = 0, size: int | None = None) -> bytes:
        """Return an object's bytes, or a range of them."""
        name = checked_key(key)
        if size == 0:
            if await self.size(key) is None:
                raise NotFound("no such object", where=key)
            return b""
        return await self._do(key, lambda: b"".join(self._chunks(name, offset, size)))

    async def size(self, key: str) -> int | None:
        """Return an object's size in bytes, None if it does not exist."""
        name = checked_key(key)

        def size() -> int | None:
            try:
                found: int | None = self._client.stat_object(self._bucket, name).size
            except S3Error as error:
                if error.code in _MISSING:
                    return None
                raise
            return found

        return await self._do(key, size)

    async def digest(self, key: str) -> str:
        """Read an object through and return its digest."""
        name = checked_key(key)

        def digest() -> str:
            hasher = blake3()
            for chunk in self._chunks(name, 0, None):
                hasher.update(chunk)
            return hasher.hexdigest()

        return await self._do(key, digest)

    async def delete(self, key: str) -> None:
        """Remove an object."""
        name = checked_key(key)
        await self._do(key, lambda: self._client.remove_object(self._bucket, name))

    async def keys(self, prefix: str) -> AsyncIterator[str]:
        """Iterate over keys with a prefix, at most LIST_MAX."""

        def listed() -> list[str]:
            objects = self._client.list_objects(self._bucket, prefix=prefix, recursive=True)
            return [found.object_name for found, _ in zip(objects, range(LIST_MAX), strict=False)]

        for key in await self._do(prefix, listed):
            yield key

    async def refuses_wrong_bytes(self) -> bool:
        """Say whether the server compares an upload with its checksum: it is sent a wrong one."""
        if self._refuses is None:
            self._refuses = await self._do(PROBE, self._probe)
        return self._refuses

    async def is_checked(self, key: str) -> bool:
        """Say whether the object has a checksum of its own, or of its parts."""
        name = checked_key(key)
        headers = {"x-amz-checksum-mode": "ENABLED"}

        def is_checked() -> bool:
            url = self._url("HEAD", name, headers=headers)
            response = self._http.request("HEAD", url, headers=headers)
            return response.status == OK and CHECKSUM in response.headers

        return await self._do(key, is_checked)

    async def abandon_uploads(self, older_s: float) -> int:
        """Forget uploads in parts that nobody finished."""
        return await self._do(PROBE, lambda: self._abandon_old(older_s))

    async def upload_url(
        self, key: str, size: int, *, checksums: Sequence[str] = (), expires_s: float = 900
    ) -> Signed:
        """Return leave to write `key` once, with exactly `size` bytes: size and checksums are signed."""
        name = checked_key(key)
        if len(checksums) > 1:
            return await self._do(key, lambda: self._parts_url(name, size, checksums, expires_s))
        await self._do(key, lambda: None)
        return self._upload_url(name, size, expires_s, checksum="".join(checksums))

    async def download_url(self, key: str, *, expires_s: float = 900) -> Signed:
        """Return leave to read `key`."""
        return Signed(self._url("GET", checked_key(key), expires_s))

    async def close(self) -> None:
        """Let go of connections and threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._http.clear()

    # -- writing ---------------------------------------------------------------------------------
    def _url(
        self,
        method: str,
        key: str,
        expires_s: float = OWN_URL_S,
        *,
        headers: dict[str, str] | None = None,
        query: dict[str, str] | None = None,
    ) -> str:
        return self._signer.url(
            method,
            f"{self._base}/{key}",
            at=time.time(),
            expires_s=expires_s,
            headers=headers,
            query=query,
        )

    def _upload_url(
        self, key: str, size: int, expires_s: float = OWN_URL_S, *, checksum: str = ""
    ) -> Signed:
        headers = {"content-length": str(size), "if-none-match": "*"}
        if checksum:
            headers[CHECKSUM] = checksum
        return Signed(self._url("PUT", key, expires_s, headers=headers), headers)

    def _parts_url(self, key: str, size: int, checksums: Sequence[str], expires_s: float) -> Signed:
        """Begin an upload in parts; the completion is what must find no object."""
        upload = self._begun(key, {"x-amz-checksum-algorithm": "CRC32"})
        step = part_bytes(size)
        parts = []
        for number, checksum in enumerate(checksums, start=1):
            length = min(step, size - (number - 1) * step)
            headers = {"content-length": str(length), CHECKSUM: checksum}
            query = {"partNumber": str(number), "uploadId": upload}
            url = self._url("PUT", key, expires_s, headers=headers, query=query)
            parts.append(Signed(url, headers))
        headers = {"if-none-match": "*"}
        url = self._url("POST", key, expires_s, headers=headers, query={"uploadId": upload})
        return Signed(url, headers, tuple(parts))

    def _begun(self, key: str, headers: dict[str, str]) -> str:
        url = self._url("POST", key, headers=headers, query={"uploads": ""})
        response = self._http.request("POST", url, headers=headers)
        _check(key, response.status, response.data)
        return _between(response.data, "UploadId")

    def _probe(self) -> bool:
        key = f"{PROBE}/{secrets.token_hex(8)}"
        leave = self._upload_url(key, 5, checksum=checksum_of(b"right"))
        response = self._http.request("PUT", leave.url, body=b"wrong", headers=leave.headers)
        if response.status == BAD_REQUEST:
            return True
        _check(key, response.status, response.data)
        self._client.remove_object(self._bucket, key)
        return False

    def _abandon_old(self, older_s: float) -> int:
        url = self._signer.url(
            "GET", self._base, at=time.time(), expires_s=OWN_URL_S, query={"uploads": ""}
        )
        response = self._http.request("GET", url)
        _check(PROBE, response.status, response.data)
        count = 0
        for text in response.data.decode("utf-8", "replace").split("<Upload>")[1:]:
            begun = datetime.fromisoformat(_text_of(text, "Initiated"))
            if time.time() - begun.timestamp() >= older_s:
                self._abandon(unescape(_text_of(text, "Key")), _text_of(text, "UploadId"))
                count += 1
        return count

    def _put(self, key: str, data: bytes) -> bool:
        leave = self._upload_url(key, len(data))
        response = self._http.request("PUT", leave.url, body=data, headers=leave.headers)
        if response.status in _EXISTS:
            return False
        _check(key, response.status, response.data)
        return True

    def _put_parts(self, key: str, data: bytes) -> bool:
        """Upload in parts; the completion is what must find no object."""
        upload = self._begun(key, {})
        try:
            parts = []
            for number, at in enumerate(range(0, len(data), self._multipart_bytes), start=1):
                query = {"partNumber": str(number), "uploadId": upload}
                part = data[at : at + self._multipart_bytes]
                response = self._http.request("PUT", self._url("PUT", key, query=query), body=part)
                _check(key, response.status, response.data)
                tag = escape(response.headers.get("etag", ""))
                parts.append(f"<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>")
            body = f"<CompleteMultipartUpload>{''.join(parts)}</CompleteMultipartUpload>".encode()
            headers = {"if-none-match": "*"}
            url = self._url("POST", key, headers=headers, query={"uploadId": upload})
            response = self._http.request("POST", url, body=body, headers=headers)
            if response.status in _EXISTS:
                self._abandon(key, upload)
                return False
            _check(key, response.status, response.data)
        except BaseException:
            self._abandon(key, upload)
            raise
        return True

    def _asked(self, method: str, key: str, query: dict[str, str]) -> bytes:
        response = self._http.request(method, self._url(method, key, query=query))
        _check(key, response.status, response.data)
        return response.data

    def _abandon(self, key: str, upload: str) -> None:
        """Forget the parts; what cannot be forgotten now expires by the server's own rules."""
        try:
            self._asked("DELETE", key, {"uploadId": upload})
        except (HTTPError, PenstockError):
            return

    # -- reading ---------------------------------------------------------------------------------
    def _chunks(self, key: str, offset: int, size: int | None) -> Iterator[bytes]:
        try:
            response = self._client.get_object(self._bucket, key, offset=offset, length=size or 0)
        except S3Error as error:
            if error.code == "InvalidRange":  # nothing lies behind `offset`
                return
            raise
        try:
            yield from response.stream(CHUNK_BYTES)
        finally:
            response.close()
            response.release_conn()

    # -- calling ---------------------------------------------------------------------------------
    async def _do(self, key: str, work: Callable[[], T]) -> T:
        """Run a blocking call in a thread and translate what it raises."""

        def translated() -> T:
            try:
                if not self._ready:
                    self._make_bucket()
                return work()
            except PenstockError:
                raise
            except Exception as error:
                raise error_of(error, key, self.address) from error

        return await asyncio.get_running_loop().run_in_executor(self._threads, translated)

    def _make_bucket(self) -> None:
        try:
            if not self._client.bucket_exists(self._bucket):
                self._client.make_bucket(self._bucket)
        except S3Error as error:
            if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists", "AccessDenied"):
                raise  # denied: a key for objects alone may not look at buckets, and need not
        self._ready = True


def error_of(error: Exception, key: str, address: str) -> PenstockError:
    """Return a library's error as ours."""
    if isinstance(error, S3Error):
        return _answered(key, 0, error.code or "", error.message or "")
    if isinstance(error, ServerError):
        return _answered(key, error.status_code, "", "")
    if isinstance(error, HTTPError | OSError):
        return BlobUnavailable(
            f"{address} did not answer ({type(error).__name__})",
            where=key,
            hint="is the object store running and reachable from here?",
        )
    text = f": {error}" if isinstance(error, MinioException) else ""
    return BlobUnavailable(f"{address} failed with {type(error).__name__}{text}", where=key)


def _check(key: str, status: int, body: bytes) -> None:
    """Refuse an answer that is none of success. A completion may say 200 and mean an error."""
    if status in (200, 201, 204) and b"<Error>" not in body[:512]:
        return
    raise _answered(key, status, _between(body, "Code"), _between(body, "Message"))


def _answered(key: str, status: int, code: str, message: str) -> PenstockError:
    told = f"the object store answered {status or ''} {code} {message}".replace("  ", " ").strip()
    if code in _MISSING:
        return NotFound("no such object", where=key)
    if code in _FULL or status == 507:  # noqa: PLR2004
        return BlobUnavailable(
            told, code="E_STORE_FULL", where=key, hint="free some space in the store"
        )
    if code in _DENIED or status in (401, 403):
        return NotAllowed(
            told, code="E_STORE_DENIED", where=key, hint="check key and secret of the store's URL"
        )
    if code == "RequestTimeTooSkewed":
        return BlobUnavailable(
            told, where=key, hint="the clocks of this machine and the store differ"
        )
    if code == "EntityTooLarge" or status == 413:  # noqa: PLR2004
        return Invalid(told, code="E_TOO_LARGE", where=key)
    return BlobUnavailable(told, where=key)


def _between(body: bytes, tag: str) -> str:
    """Return the text of the first element called `tag`; answers are short and flat."""
    return _text_of(body[:8192].decode("utf-8", "replace"), tag)


def _text_of(text: str, tag: str) -> str:
    return text.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
