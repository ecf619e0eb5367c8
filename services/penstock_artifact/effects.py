"""What the decisions may ask for."""

from dataclasses import dataclass

from penstock.contracts.artifacts import TreeRef


@dataclass(frozen=True, slots=True)
class Discard:
    """Delete an object whose bytes are not what its key says."""

    key: str
    why: str


@dataclass(frozen=True, slots=True)
class StoreManifest:
    """Write a manifest under its own name: from then on the tree is committed."""

    key: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Unstage:
    """Delete a staged manifest that is stored for good now."""

    key: str


@dataclass(frozen=True, slots=True)
class Record:
    """Write the tree into the bucket `artifacts`."""

    tree: TreeRef
    owner: str


@dataclass(frozen=True, slots=True)
class Announce:
    """Publish that a dataset has this content now, unless the last such event says the same."""

    dataset: str
    tree: TreeRef
    owner: str


Effect = Discard | StoreManifest | Unstage | Record | Announce
