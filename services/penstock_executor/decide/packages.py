"""What is to be installed on top of an image, as lines of a requirements file."""

import re
from typing import Any

from penstock.contracts.spec import EnvironmentSpec
from penstock.errors import Invalid

_CONDA = re.compile(r"(?:[\w.-]+::)?([A-Za-z0-9][\w.-]*)\s*([=<>!~].*)?")
_OF_THE_IMAGE = frozenset({"python", "pip", "setuptools", "wheel"})
"""What an image with Python has anyway; another Python is another image."""


def packages_of(environment: EnvironmentSpec, where: str) -> tuple[str, ...]:
    """Return requirement lines for the conda file's packages and the pip ones, in their order.

    Raises:
        Invalid: E_ENVIRONMENT, a line that is none.
    """
    lines: list[str] = []
    conda: Any = (environment.conda or {}).get("dependencies") or ()
    for entry in conda:
        if isinstance(entry, dict):
            lines += [str(line) for line in entry.get("pip") or ()]
            continue
        match = _CONDA.fullmatch(str(entry).strip())
        if match is None:
            raise Invalid(
                f"{str(entry)[:80]!r} names no package", code="E_ENVIRONMENT", where=where
            )
        if match[1].lower() not in _OF_THE_IMAGE:
            lines.append(match[1] + _version(match[2] or ""))
    return tuple(dict.fromkeys([*lines, *environment.pip]))


def _version(conda: str) -> str:
    """Return a version as pip has it: conda's `=1.2` means 1.2 and everything below it, `=1.2=py_0` a build."""
    text = conda.strip()
    if re.match(r"=[^=]", text):
        version = text[1:].partition("=")[0].strip()
        return f"=={version}" if version.endswith("*") else f"=={version}.*"
    return text
