"""The one place that turns a store's URL into an adapter."""

from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from penstock.blob import BlobStore
from penstock.blob.file import FileStore
from penstock.blob.memory import MemoryStore
from penstock.errors import Invalid

SHAPES = "file:/absolute/directory, s3+http://KEY:SECRET@host:port/bucket or s3+https://…"


def open_store(url: str) -> BlobStore:
    """Return the store at `url`; nothing is contacted yet.

    Raises:
        Invalid: E_CONFIG, an URL of another shape. Credentials are not repeated in the message.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.path.startswith("/") and parts.netloc in ("", "localhost"):
        return FileStore(Path(unquote(parts.path)))
    if parts.scheme == "memory":
        return MemoryStore()
    if parts.scheme in ("s3+http", "s3+https"):
        return _s3_store(url)
    raise Invalid(
        f"{parts.scheme or 'no scheme'}: is no object store; allowed: {SHAPES}",
        code="E_CONFIG",
        where="store",
    )


def _s3_store(url: str) -> BlobStore:
    try:
        from penstock.blob.s3 import S3Store
    except ImportError as error:
        raise Invalid(
            f"the S3 client is not installed ({error.name})",
            code="E_CONFIG",
            where="store",
            hint="pip install 'penstock[artifact]'",
        ) from error
    parts = urlsplit(url)
    bucket = parts.path.strip("/")
    try:
        port = parts.port
    except ValueError:
        port = -1
    if port == -1 or not parts.hostname or not bucket or "/" in bucket or not parts.username:
        raise Invalid(
            "key, secret, host, port or bucket is missing or wrong; allowed: s3+http://KEY:SECRET@host:port/bucket",
            code="E_CONFIG",
            where="store",
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return S3Store(
        endpoint=f"{host}:{port}" if port else host,
        secure=parts.scheme == "s3+https",
        key=unquote(parts.username),
        secret=unquote(parts.password or ""),
        bucket=bucket,
        region=parse_qs(parts.query).get("region", ["us-east-1"])[0],
    )
