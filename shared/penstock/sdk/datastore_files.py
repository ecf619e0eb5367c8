"""Datastores as people write them: Azure ML's YAML, with where the files are now.

    name: lake
    type: azure_blob
    account_name: account          # so that https://account.blob.core.windows.net/data/… means it
    container_name: data
    url: s3://bucket/lake          # ours: where it lies; or path: ./folder, from this file's folder

Credentials are never read: they belong to the executors, see shared/docs/data.md.
"""

from dataclasses import dataclass
from pathlib import Path

from penstock.contracts.data import Datastore, azure_aliases
from penstock.errors import Invalid
from penstock.ids import checked_name
from penstock.sdk.yaml_reading import file_read
from penstock.sdk.yaml_section import Section

_KNOWN = (
    "$schema", "name", "type", "description", "url", "path", "aliases", "account_name",
    "container_name", "filesystem", "file_share_name", "store_name",
)  # fmt: skip
_UNUSED = ("credentials", "tags", "properties", "endpoint", "protocol")


@dataclass(frozen=True, slots=True)
class Named:
    """A datastore and its name; `notes` are worth a line on the terminal each."""

    name: str
    datastore: Datastore
    notes: tuple[str, ...] = ()


def read_datastore(file: str | Path) -> Named:
    """Return the datastore in a YAML file.

    Raises:
        NotFound: E_NOT_FOUND, no such file.
        Invalid: E_ID, E_TYPE, E_PATH, E_UNKNOWN_FIELD … at file:line:column.
    """
    document, path = file_read(file)
    if document.repeated:
        raise document.repeated[0]
    top = Section(document, (), document.value)
    notes = tuple(top.unknown_notes(_KNOWN, _UNUSED))
    name = checked_name(top.text("name", required=True), top.where("name"))
    return Named(name, datastore_of(top, path.parent), notes)


def datastore_of(top: Section, folder: Path) -> Datastore:
    """Return the datastore that a section describes; a local path is taken from `folder`.

    Raises:
        Invalid: E_TYPE, both url and path.
    """
    url, path = top.text("url"), top.text("path")
    if url and path:
        raise top.refusal("path", "E_TYPE", "`url` and `path`; give one")
    account = top.text("account_name")
    container = top.text("container_name") or top.text("filesystem") or top.text("file_share_name")
    aliases = tuple(str(alias) for alias in top.items("aliases"))
    if account and container:
        aliases += azure_aliases(account, container)
    return Datastore(
        url=folder_url(folder / path) if path else url,
        type=top.text("type"),
        aliases=tuple(dict.fromkeys(aliases)),
        description=top.text("description"),
    )


def folder_url(path: Path) -> str:
    """Return the URL of a folder of this machine.

    Raises:
        Invalid: E_PATH, it is a file.
    """
    absolute = path.expanduser().resolve()
    if absolute.exists() and not absolute.is_dir():
        raise Invalid("a file; a datastore is a folder", code="E_PATH", where=str(path))
    return absolute.as_uri()
