"""One file from an http(s) URL, streamed to a disk. What comes short or late is an error, never a file."""

import os
import unicodedata
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from penstock.contracts.artifacts import TREE_BYTES_MAX
from penstock.contracts.paths import FILES, check_path
from penstock.errors import Invalid, NotFound, Refused, Transient
from penstock.units import MIB

if TYPE_CHECKING:
    from urllib3 import PoolManager

CONNECT_S = 10.0
READ_S = 60.0
CHUNK_BYTES = MIB
REDIRECTS_MAX = 10
NAME_DEFAULT = "data"
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "penstock"}
_MISSING = (404, 410)
_DENIED = (401, 403, 407, 451)
_LATER = (408, 425, 429)


def name_of(url: str) -> str:
    """Return the name that a URL's file gets: the last part of its path."""
    name = unicodedata.normalize("NFC", unquote(urlsplit(url).path).rstrip("/").rpartition("/")[2])
    try:
        check_path(name, where=url, codes=FILES)
    except Refused:
        return NAME_DEFAULT
    return name


class Downloaded(NamedTuple):
    """A file that was downloaded, and the server's name of its bytes ("" without a strong ETag)."""

    path: Path
    etag: str = ""


def downloaded(
    url: str, folder: Path, go_on: Callable[[], None], etag: str = ""
) -> Downloaded | None:
    """Write the file at `url` into a folder; `go_on` may raise between pieces.

    None: it still is what the server called `etag`, and nothing was written.

    Raises:
        NotFound: E_DATA_MISSING.
        Invalid: E_DATA_PERMISSION, E_DATA_TYPE (another refusal of the server), E_TOO_LARGE.
        Transient: E_SOURCE, the server does not answer, or not to the end; E_DISK.
    """
    from urllib3 import Retry, Timeout
    from urllib3.exceptions import HTTPError

    target = folder / name_of(url)
    retries = Retry(
        redirect=REDIRECTS_MAX,
        connect=0,
        read=0,
        status=0,
        other=0,
        respect_retry_after_header=False,  # the step's own retries wait, and can be cancelled
    )
    try:
        with _pool(url) as pool:
            response = pool.request(
                "GET",
                url,
                headers=_HEADERS | ({"If-None-Match": etag} if etag else {}),
                preload_content=False,
                decode_content=False,
                enforce_content_length=True,
                timeout=Timeout(connect=CONNECT_S, read=READ_S),
                retries=retries,
            )
            try:
                if etag and response.status == HTTPStatus.NOT_MODIFIED:
                    return None
                _check_status(response.status, url)
                found = response.headers.get("ETag", "")
                with target.open("xb") as file:
                    size = 0
                    for chunk in response.stream(CHUNK_BYTES):
                        go_on()
                        size += len(chunk)
                        if size > TREE_BYTES_MAX:
                            raise Invalid(
                                f"more than {TREE_BYTES_MAX:,} bytes", code="E_TOO_LARGE", where=url
                            )
                        file.write(chunk)
            finally:
                response.release_conn()
    except HTTPError as error:
        raise Transient(
            f"{type(error).__name__}: {error}"[:500], code="E_SOURCE", where=url
        ) from error
    except OSError as error:
        raise Transient(error.strerror or str(error), code="E_DISK", where=str(target)) from error
    return Downloaded(target, found if found.startswith('"') else "")


def _check_status(status: int, url: str) -> None:
    if status == HTTPStatus.OK:
        return
    if status in _MISSING:
        raise NotFound(f"the server has no such file ({status})", code="E_DATA_MISSING", where=url)
    if status in _DENIED:
        raise Invalid(
            f"the server does not give it to us ({status})",
            code="E_DATA_PERMISSION",
            where=url,
            hint="it must be public: what needs a password is a datastore",
        )
    if status in _LATER or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise Transient(f"the server answers {status}", code="E_SOURCE", where=url)
    raise Invalid(f"the server answers {status}", code="E_DATA_TYPE", where=url)


def _pool(url: str) -> "PoolManager":
    from urllib3 import PoolManager, ProxyManager

    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme)
    bundle = os.environ.get("SSL_CERT_FILE") or None
    if proxy and not proxy_bypass(parts.hostname or ""):
        return ProxyManager(proxy, ca_certs=bundle)
    return PoolManager(ca_certs=bundle)
