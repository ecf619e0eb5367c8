"""Data outside of the artifact store: where it lies, and the named places that hold it.

    https://host/file.csv                                  one file, read over the network
    azureml://datastores/D/paths/P                         below a datastore (P may be a pattern: *, ?, **)
    azureml://subscriptions/…/datastores/D/paths/P         the same, as Azure writes it out
    wasbs://container@account…, abfss://…, s3://…          only below the alias of a registered datastore

A location never carries credentials: whoever carries a transfer out has them among its own settings.
Nothing here touches a network or a disk.
"""

import re
from collections.abc import Iterable
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from penstock.contracts.base import Message, Strict
from penstock.errors import Invalid
from penstock.ids import is_name

DATASTORES = (
    "workspaceblobstore",
    "workspacefilestore",
    "workspaceworkingdirectory",
    "workspaceartifactstore",
)
"""Datastores that every workspace has, in a folder of its own."""
DEFAULT_DATASTORE = DATASTORES[0]
URL_BYTES_MAX = 4096
SHOWN_MAX = 80
REMOTE = ("wasb", "wasbs", "abfs", "abfss", "adl", "s3", "s3a", "gs", "gcs")
"""Schemes of stores that only a registered datastore can reach."""
SIGNATURES = frozenset({"sig", "signature", "x-amz-signature", "x-goog-signature"})
"""Parameters of URLs that are as good as a password."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_PATHS = re.compile(
    r"azureml://(?:subscriptions/[^/]+/resource[gG]roups/[^/]+/"
    r"(?:providers/Microsoft\.MachineLearningServices/)?workspaces/[^/]+/)?"
    r"datastores/([^/]+)(?:/paths(?:/(.*))?)?/?",
    re.DOTALL,
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")


class Location(Message):
    """Where data lies: the URL of one file, or a path on a datastore."""

    url: str = ""
    """http(s): one file. Everything else is empty then."""
    datastore: str = ""
    root: str = ""
    """Where a registered datastore lies: a `file:` URL or one that fsspec opens. Empty: the workspace's
    own folder of that name, wherever the executor has it."""
    path: str = ""
    """Below the datastore: "/" between parts, never "..", "" is all of it."""

    def text(self) -> str:
        """Return it as people write it."""
        return self.url or f"azureml://datastores/{self.datastore}/paths/{self.path}"


class Asset(Message):
    """The name under which a tree is registered once it is there."""

    name: str
    kind: Literal["data", "model"] = "data"
    type: str = "uri_folder"
    version: str = ""
    """Empty: the next one."""
    file: str = ""
    """Name of the one file of a `uri_file`."""


class Datastore(Strict):
    """A named place of files, as it is registered. Credentials are no part of it."""

    url: str = ""
    """`file:///…`, or what fsspec opens, such as `s3://bucket/prefix`. Empty: a folder of the workspace."""
    type: str = ""
    """What it is in Azure, for the record: azure_blob, azure_file, azure_data_lake_gen2, …"""
    aliases: tuple[str, ...] = ()
    """Beginnings of URLs that mean this datastore: `https://account.blob.core.windows.net/container/`."""
    description: str = ""


def location_of(text: str, *, where: str = "path") -> Location | None:
    """Return the location that a text names; None: it names none (a literal, a registered asset, …).

    Raises:
        Invalid: E_PATH, it names one that cannot be.
    """
    scheme = _SCHEME.match(text)
    kind = scheme.group(1).lower() if scheme else ""
    if kind in ("http", "https"):
        return Location(url=_checked_url(text, where))
    if kind != "azureml":
        return None
    found = _PATHS.fullmatch(text)
    if found is None:
        return None
    name, path = found.group(1), (found.group(2) or "").strip("/")
    if not is_name(name):
        raise Invalid(f"{_shown(name)} names no datastore", code="E_PATH", where=where)
    return Location(datastore=name, path=checked_data_path(path, where=where))


def checked_data_path(path: str, *, where: str = "path") -> str:
    """Return a path that stays below its datastore.

    Raises:
        Invalid: E_PATH.
    """
    parts = path.split("/") if path else []
    if (
        any(part in ("", ".", "..") for part in parts)
        or _CONTROL.search(path)
        or len(path.encode("utf-8", "surrogatepass")) > URL_BYTES_MAX
    ):
        raise Invalid(
            f"{_shown(path)} is no path on a datastore; allowed: names with '/' between them, no '..'",
            code="E_PATH",
            where=where,
        )
    return path


def is_elsewhere(text: str) -> bool:
    """Say whether a data path names something that is not a file or folder of this machine."""
    if text.startswith(("artifact:", "azureml:")):
        return True
    scheme = _SCHEME.match(text)
    return scheme is not None and scheme.group(1).lower() != "file"


def local_text(text: str) -> str:
    """Return a local path without `file:` before it, as `file:x`, `file:./x` or `file:///x` are written."""
    if not text.startswith("file:"):
        return text
    return unquote(text.removeprefix("file:").removeprefix("//"))


def remote_scheme(text: str) -> str:
    """Return the scheme of a URL into a store that only a datastore can reach, or an empty text."""
    scheme = _SCHEME.match(text)
    found = scheme.group(1).lower() if scheme else ""
    return found if found in REMOTE else ""


def behind_alias(
    text: str, aliases: Iterable[tuple[str, str]], *, where: str = "path"
) -> Location | None:
    """Return the location of a URL below one of `aliases` (beginning, datastore): the longest one.

    What stands behind "?" is no part of a path: most often it is a signature, which would be kept in the
    plan. A path of http(s) is written with escapes, that of other schemes as it is.

    Raises:
        Invalid: E_PATH, a query, or no path below a datastore.
    """
    found = None
    longest = -1
    for beginning, datastore in aliases:
        start = beginning.rstrip("/")
        if (text == start or text.startswith(start + "/")) and len(start) > longest:
            found, longest = (datastore, text[len(start) :].strip("/")), len(start)
    if found is None:
        return None
    name, path = found
    escaped = text.lower().startswith(("http:", "https:"))
    if "?" in path or (escaped and "#" in path):
        raise Invalid(
            f"a URL below datastore {name!r} with more than a path in it ('?' or '#')",
            code="E_PATH",
            where=where,
            hint=f"a pattern is written azureml://datastores/{name}/paths/P; signatures are the executor's",
        )
    if escaped:
        path = _unescaped(path, where)
    return Location(datastore=name, path=checked_data_path(path.strip("/"), where=where))


def azure_aliases(account: str, container: str) -> tuple[str, ...]:
    """Return the beginnings of URLs under which Azure knows a container of a storage account."""
    blob, lake = f"{account}.blob.core.windows.net", f"{account}.dfs.core.windows.net"
    return (
        f"https://{blob}/{container}/",
        f"wasbs://{container}@{blob}/",
        f"wasb://{container}@{blob}/",
        f"abfss://{container}@{lake}/",
        f"abfs://{container}@{lake}/",
    )


def _unescaped(path: str, where: str) -> str:
    """Return a URL's path as the names that it stands for; one whose names look like a pattern is refused."""
    try:
        plain = unquote(path, errors="strict")
    except UnicodeDecodeError:
        plain = None
    if plain is None or any(plain.count(sign) != path.count(sign) for sign in "*?"):
        raise Invalid(
            f"{_shown(path)} is no path on a datastore; allowed: escapes of UTF-8, none of '*' or '?'",
            code="E_PATH",
            where=where,
        )
    return plain


def _checked_url(text: str, where: str) -> str:
    try:
        parts = urlsplit(text)
        host, login = parts.hostname, parts.username or parts.password
        signed = any(name.lower() in SIGNATURES for name, _ in parse_qsl(parts.query))
    except ValueError:
        host, login, signed = None, None, False
    if not host or _CONTROL.search(text) or len(text.encode()) > URL_BYTES_MAX:
        bare = text.partition("?")[0]  # what follows may be a secret
        raise Invalid(f"{_shown(bare)} is no URL", code="E_PATH", where=where)
    if login or signed:
        raise Invalid(
            f"a URL with {'a password' if login else 'a signature'} in it",
            code="E_PATH",
            where=where,
            hint="a run's record is readable to all: make it a datastore, whose executor has the password",
        )
    return text


def _shown(text: str) -> str:
    line = repr(text)
    return line if len(line) <= SHOWN_MAX else line[: SHOWN_MAX - 1] + "…"
