"""Where a location really is, and with what credentials: this executor's settings say so.

    workspace's own     <datastores>/<name>/, a folder of this machine or below a URL (`s3://…`)
    registered          the URL that it was registered with: `file:///…`, or what fsspec opens
    options             by name, from the file that `datastores_file` names; steps never see them

Credentials come from that file, or from what fsspec and its drivers look at by themselves
(`FSSPEC_S3_KEY`, `AWS_ACCESS_KEY_ID`, a machine's role), and leave this process only towards the store.
"""

import tomllib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from penstock.contracts.artifacts import TreeRef
from penstock.contracts.data import Location
from penstock.errors import Invalid, NotFound, PenstockError, Transient
from penstock.ids import checked_name
from penstock.trees.known import Known

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

SEEN_MAX = 1000
SHOWN_MAX = 300
_NO_CREDENTIALS = frozenset({"NoCredentialsError", "PartialCredentialsError"})
"""What drivers raise when they were given none."""
FRESH: Mapping[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
"""What lies there may have changed since the last step: ask every time."""


@dataclass(frozen=True)
class Datastores:
    """The datastores as this executor reaches them."""

    root: str = ""
    """A folder or a URL that holds the workspace's own."""
    options_file: str = ""
    known: Known = field(default_factory=Known)
    """Digests of files of local datastores: what has not changed is not read again."""
    seen: "OrderedDict[Location, tuple[str, TreeRef]]" = field(default_factory=OrderedDict)
    """How a location behind a URL looked, and what came of it then."""

    def remember(self, location: Location, look: str, tree: TreeRef) -> None:
        """Remember what came of a location that looks so."""
        if look:
            self.seen[location] = (look, tree)
            while len(self.seen) > SEEN_MAX:
                self.seen.popitem(last=False)

    def url(self, location: Location) -> str:
        """Return where a location's datastore lies: an absolute folder, or a URL.

        Raises:
            Invalid: E_ID, E_PATH.
        """
        name = checked_name(location.datastore, "datastore")
        url = location.root or f"{self.root.rstrip('/')}/{name}"
        parts = urlsplit(url)
        if "://" not in url:
            folder = url
        elif parts.scheme == "file":
            folder = unquote(parts.path) if parts.netloc in ("", "localhost") else url
        else:
            return url.rstrip("/")
        if not folder.startswith("/"):
            raise Invalid(f"{folder[:80]!r} is no absolute path", code="E_PATH", where=name)
        return folder

    def folder(self, location: Location) -> Path | None:
        """Return the folder of a datastore of this machine; None: it is reached by a URL."""
        url = self.url(location)
        return None if "://" in url else Path(url)

    def filesystem(self, location: Location) -> "tuple[AbstractFileSystem, str]":
        """Return the filesystem of a datastore's URL and the path of its root there.

        Raises:
            Invalid: E_EXTRA, a package is missing; E_CONFIG, E_PATH.
            Transient: E_SOURCE.
        """
        url = self.url(location)
        where = f"datastore {location.datastore}"
        try:
            from fsspec.core import url_to_fs
        except ImportError as error:
            raise _extra(where) from error
        options = {**FRESH, **self._options(location.datastore)}
        try:
            filesystem, path = url_to_fs(url, **options)
        except ImportError as error:
            raise _extra(where, str(error)) from error
        except ValueError as error:
            raise Invalid(f"{url[:80]!r}: {error}", code="E_PATH", where=where) from error
        except Exception as error:
            raise Transient(
                f"{type(error).__name__}: {error}", code="E_SOURCE", where=where
            ) from error
        return filesystem, str(path).rstrip("/")

    def _options(self, name: str) -> dict[str, Any]:
        if not self.options_file:
            return {}
        try:
            tables = tomllib.loads(Path(self.options_file).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not TOML"  # its text may quote a secret
            raise Invalid(
                f"cannot be read: {reason}", code="E_CONFIG", where=self.options_file
            ) from error
        options = tables.get(name, {})
        if not isinstance(options, dict):
            raise Invalid(f"{name} is no table", code="E_CONFIG", where=self.options_file)
        return options


def translated(error: Exception, location: Location) -> PenstockError:
    """Return what a filesystem of fsspec raised as an error of ours."""
    where = location.text()
    if isinstance(error, PenstockError):
        return error
    if isinstance(error, FileNotFoundError):
        return NotFound(
            "there is nothing at this place",
            code="E_DATA_MISSING",
            where=where,
            hint=str(error)[:SHOWN_MAX],
        )
    reason = f"{type(error).__name__}: {error}"[:SHOWN_MAX]
    if isinstance(error, PermissionError) or type(error).__name__ in _NO_CREDENTIALS:
        return Invalid(
            reason,
            code="E_DATA_PERMISSION",
            where=where,
            hint="the executor's datastores_file, or its environment, holds the credentials",
        )
    return Transient(reason, code="E_SOURCE", where=where)


def _extra(where: str, reason: str = "fsspec is not installed") -> Invalid:
    return Invalid(
        reason,
        code="E_EXTRA",
        where=where,
        hint="pip install 'penstock[executor]' beside the executor",
    )
