"""What is registered under a name: components, environments, data and models; and how it is referred to.

    azureml:name:version · azureml:name@latest · azureml:name
    azureml://registries/R/<kind>s/N/versions/V · …/labels/L     R's name is not looked at: what came from
                                                                 another registry is registered here

A version never changes. `latest` is the newest one that is not archived.
"""

import re
from dataclasses import dataclass
from typing import Literal, get_args

import msgspec

from penstock.contracts.base import Message, Strict
from penstock.contracts.spec import DataType, EnvironmentSpec, GitInfo, StepSpec
from penstock.ids import digest_of

AssetKind = Literal["component", "environment", "data", "model"]
KINDS: tuple[AssetKind, ...] = get_args(AssetKind)
LATEST = "latest"
VERSION_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}"
VERSIONS_MAX = 10_000
"""Of one name."""

_VERSION = re.compile(VERSION_PATTERN)
_SHORT = re.compile(r"azureml:(?P<name>[^:@/]+)(?::(?P<version>[^:@/]+)|@(?P<label>[^:@/]+))?")
_LONG = re.compile(
    r"azureml://(?:registries/[^/]+|locations/[^/]+/workspaces/[^/]+)/"
    r"(?P<kind>component|environment|data|model)s?/(?P<name>[^/]+)"
    r"(?:/versions/(?P<version>[^/]+)|/labels/(?P<label>[^/]+))?/?"
)


class DataContent(Strict):
    """What registered data or a registered model is: a stored tree, or a place that is read when a step needs it."""

    type: DataType = "uri_folder"
    path: str = ""
    """`artifact:<digest>`, `https:…` or `azureml://datastores/D/paths/P`."""


class AssetCommand(Strict):
    """create (with the one content that belongs to `kind`), show, archive, restore (`version`: empty is latest), list."""

    kind: AssetKind
    name: str = ""
    version: str = ""
    """Empty in create: the version that has this content, else the next number."""
    component: StepSpec | None = None
    environment: EnvironmentSpec | None = None
    data: DataContent | None = None
    """Of data and of models."""
    description: str = ""
    display_name: str = ""
    tags: dict[str, str] = {}
    git: GitInfo = GitInfo()
    who: str = ""
    archived: bool = False
    """In list: archived ones, too."""


class AssetView(Message):
    """A registered version: bucket `assets`, key = <kind>.<name>.<version with "~" for ".">."""

    kind: AssetKind
    name: str
    version: str
    content: str = ""
    """Digest of what is registered; equal content is registered once."""
    created_at: float = 0
    archived_at: float = 0
    """0: it is not archived."""
    who: str = ""
    description: str = ""
    display_name: str = ""
    tags: dict[str, str] = {}
    git: GitInfo = GitInfo()
    component: StepSpec | None = None
    environment: EnvironmentSpec | None = None
    data: DataContent | None = None
    created: bool = False
    """In the answer to create: false when it was registered already."""


class AssetsAnswer(Message):
    """Every name's latest version, or all versions of one name; without their contents."""

    assets: tuple[AssetView, ...] = ()


@dataclass(frozen=True, slots=True)
class Reference:
    """A name in the registry. `kind` is empty where the text does not say it."""

    name: str
    version: str = LATEST
    kind: str = ""


def reference_of(text: str) -> Reference | None:
    """Return the registered thing that a text refers to; None: it is no such text.

    `azureml:name` alone means the latest.
    """
    found = _SHORT.fullmatch(text) or _LONG.fullmatch(text)
    if found is None:
        return None
    parts = found.groupdict()
    return Reference(
        name=parts["name"],
        version=parts.get("version") or parts.get("label") or LATEST,
        kind=parts.get("kind") or "",
    )


def is_version(text: str) -> bool:
    """Say whether a text can be a version."""
    return _VERSION.fullmatch(text) is not None and text != LATEST


def content_digest(asset: AssetCommand) -> str:
    """Return the digest of what would be registered, whatever it is called and whoever did it."""
    plain = (asset.component, asset.environment, asset.data)
    return digest_of(msgspec.json.encode(plain, order="sorted"))
