"""What SDK v1 calls conda dependencies: packages of an environment, pip's among them."""

import copy
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from penstock.azureml.exceptions import UserErrorException

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_OURS = ("azureml-defaults", "azureml-core", "azureml-mlflow", "azureml-sdk")
"""What runs in Azure needs of Azure; here steps get stand-ins instead."""


class CondaDependencies:
    """The content of a conda file: `conda_dependencies_file_path` reads one."""

    def __init__(self, conda_dependencies_file_path: str | Path | None = None) -> None:
        self._content: dict[str, Any] = {"name": "environment", "dependencies": []}
        if conda_dependencies_file_path is not None:
            self._content = conda_file(conda_dependencies_file_path)

    @classmethod
    def of_content(cls, content: Mapping[str, Any]) -> "CondaDependencies":
        """Return dependencies of a conda file's content."""
        found = cls()
        found._content = copy.deepcopy({"dependencies": [], **content})
        return found

    @staticmethod
    def create(
        pip_indexurl: str | None = None,
        pip_packages: Iterable[str] | None = None,
        conda_packages: Iterable[str] | None = None,
        python_version: str = "",
        pin_sdk_version: bool = True,
    ) -> "CondaDependencies":
        """Return dependencies of these packages. No python is pinned unless one is named."""
        found = CondaDependencies()
        if python_version:
            found.set_python_version(python_version)
        for package in conda_packages or ():
            found.add_conda_package(package)
        for package in pip_packages or ():
            found.add_pip_package(package)
        if pip_indexurl:
            found.set_pip_option(f"-i {pip_indexurl}")
        return found

    @property
    def conda_packages(self) -> Iterable[str]:
        """Packages that conda installs."""
        return [line for line in self._content["dependencies"] if isinstance(line, str)]

    @property
    def pip_packages(self) -> Iterable[str]:
        """Packages that pip installs."""
        return [line for line in self._pip() if not line.startswith("-")]

    @property
    def pip_options(self) -> Iterable[str]:
        """Options of pip among its requirements."""
        return [line for line in self._pip() if line.startswith("-")]

    @property
    def python_version(self) -> str | None:
        """The version that `python=…` names, if any."""
        for line in self.conda_packages:
            match = re.fullmatch(r"python\s*[=<>~!]+\s*([0-9.]+).*", line)
            if match:
                return match[1]
        return None

    def add_conda_package(self, conda_package: str) -> None:
        """Add a package, instead of another version of it."""
        self.remove_conda_package(conda_package)
        self._content["dependencies"].insert(0, conda_package)

    def remove_conda_package(self, conda_package: str) -> None:
        """Leave a package out."""
        name = _name(conda_package)
        kept = [
            line
            for line in self._content["dependencies"]
            if not isinstance(line, str) or _name(line) != name
        ]
        self._content["dependencies"] = kept

    def add_pip_package(self, pip_package: str) -> None:
        """Add a package, instead of another version of it."""
        self.remove_pip_package(pip_package)
        if _name(pip_package) not in _OURS:
            self._pip(make=True).append(pip_package)

    def remove_pip_package(self, pip_package: str) -> None:
        """Leave a package out."""
        lines = self._pip()
        lines[:] = [line for line in lines if _name(line) != _name(pip_package)]

    def set_pip_requirements(self, pip_requirements: Iterable[str]) -> None:
        """Replace all packages of pip's."""
        self._pip(make=True)[:] = list(pip_requirements)

    def set_pip_option(self, pip_option: str) -> None:
        """Add an option of pip's, such as `--pre`."""
        lines = self._pip(make=True)
        if pip_option not in lines:
            lines.insert(0, pip_option)

    def set_pip_index_url(self, index_url: str) -> None:
        """Set where pip looks for packages."""
        self.set_pip_option(index_url if index_url.startswith("-") else f"-i {index_url}")

    def add_channel(self, channel: str) -> None:
        """Add a conda channel."""
        channels = self._content.setdefault("channels", [])
        if channel not in channels:
            channels.append(channel)

    def remove_channel(self, channel: str) -> None:
        """Leave a conda channel out."""
        self._content["channels"] = [c for c in self._content.get("channels", ()) if c != channel]

    def set_python_version(self, version: str) -> None:
        """Pin the interpreter."""
        self.remove_conda_package("python")
        self._content["dependencies"].insert(0, f"python={version}")

    def as_dict(self) -> dict[str, Any]:
        """Return the conda file's content."""
        return dict(self._content)

    def serialize_to_string(self) -> str:
        """Return the conda file's text."""
        return yaml.safe_dump(self._content, sort_keys=False)

    def save_to_file(self, base_directory: str | Path, conda_file_path: str | None = None) -> str:
        """Write a conda file and return its name."""
        name = conda_file_path or "conda_dependencies.yml"
        Path(base_directory, name).write_text(self.serialize_to_string(), encoding="utf-8")
        return name

    save = save_to_file

    def _pip(self, *, make: bool = False) -> list[str]:
        for line in self._content["dependencies"]:
            if isinstance(line, dict) and isinstance(line.get("pip"), list):
                pip: list[str] = line["pip"]
                return pip
        lines: list[str] = []
        if make:
            self._content["dependencies"].append({"pip": lines})
        return lines


def conda_file(path: str | Path) -> dict[str, Any]:
    """Return a conda file's content.

    Raises:
        UserErrorException: E_PATH, it cannot be read; E_TYPE, it is none.
    """
    file = Path(path)
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserErrorException(
            error.strerror or str(error), code="E_PATH", where=str(path)
        ) from error
    except yaml.YAMLError as error:
        raise UserErrorException(str(error), code="E_YAML", where=str(path)) from error
    if not isinstance(content, dict) or not isinstance(content.get("dependencies"), list):
        raise UserErrorException(
            "no conda file: it has no list of `dependencies`", code="E_TYPE", where=str(path)
        )
    return content


def _name(requirement: str) -> str:
    match = _NAME.match(requirement.strip())
    return (match[0] if match else requirement).lower().replace("_", "-")


__all__ = ["CondaDependencies"]
