"""Look-ups in the tables of environments: what a curated name, an image or a package means here. Pure."""

import difflib
import fnmatch
import re
from collections.abc import Iterable

import msgspec

from penstock.contracts.spec import EnvironmentSpec

_REGISTRY = re.compile(r"azureml://registries/[^/]+/environments/(?P<name>[^/]+)(?:/.*)?")
_SHORT = re.compile(r"(?:azureml:)?(?P<name>[^:@/]+)(?:[:@].*)?")


class Curated(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A curated environment: what of it can be installed anywhere."""

    name: str
    """A pattern in lower case."""
    python: str = ""
    pip: tuple[str, ...] = ()


class Image(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An image that means a curated environment; `{last}` is the last part of its path, without a tag."""

    image: str
    """A pattern in lower case."""
    curated: str


class Tables(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of them."""

    curated: tuple[Curated, ...] = ()
    images: tuple[Image, ...] = ()
    replaced: dict[str, tuple[str, ...]] = {}
    """Package that a stand-in takes the place of → what is installed instead."""
    conda_names: dict[str, str] = {}
    conda_native: tuple[str, ...] = ()


def laid_over(own: Tables, shipped: Tables) -> Tables:
    """Return both as one: what `own` says counts first."""
    return Tables(
        curated=own.curated + shipped.curated,
        images=own.images + shipped.images,
        replaced={**shipped.replaced, **own.replaced},
        conda_names={**shipped.conda_names, **own.conda_names},
        conda_native=own.conda_native + shipped.conda_native,
    )


def bare_name(text: str) -> str:
    """Return the name in a reference to an environment: without scheme, registry, version and label."""
    found = _REGISTRY.fullmatch(text) or _SHORT.fullmatch(text)
    return found["name"] if found else text


def curated(text: str, known: Tables) -> EnvironmentSpec | None:
    """Return what a curated name means here; None when no table has it."""
    name = bare_name(text)
    for entry in known.curated:
        if fnmatch.fnmatchcase(name.lower(), entry.name.lower()):
            return EnvironmentSpec(name=name, python=entry.python, pip=entry.pip)
    return None


def of_image(image: str, known: Tables) -> EnvironmentSpec | None:
    """Return what an image means to a target without containers; None: nothing but a system."""
    plain = image.lower().partition("@")[0]
    if ":" in plain.rpartition("/")[2]:
        plain = plain.rpartition(":")[0]
    for entry in known.images:
        if fnmatch.fnmatchcase(plain, entry.image.lower()):
            return curated(entry.curated.replace("{last}", plain.rpartition("/")[2]), known)
    return None


def nearest_names(text: str, known: Tables, registered: Iterable[str] = ()) -> list[str]:
    """Return names that were perhaps meant."""
    names = [entry.name.strip("*") for entry in known.curated] + list(registered)
    return difflib.get_close_matches(bare_name(text), names, n=3)
