"""Modules: steps under a name, in versions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from penstock.azureml.exceptions import UserErrorException, unsupported
from penstock.sdk.client import client_of


class ModuleVersion:
    """One version of a module: a script, its arguments, and the ports among them."""

    def __init__(self, module: "Module", version: str, **parts: Any) -> None:
        self.module = module
        self.name = module.name
        self.version = version
        self.module_version_id = f"{module.id}:{version}"
        self.status = "Active"
        self.script_name: str = parts["script_name"]
        self.source_directory: str | Path = parts["source_directory"]
        self.inputs: Sequence[Any] = parts["inputs"]
        self.outputs: Sequence[Any] = parts["outputs"]
        self.params: dict[str, Any] = parts["params"]
        self.arguments: Sequence[Any] = parts["arguments"]
        self.runconfig: Any = parts["runconfig"]

    def words(self, arguments: Sequence[Any]) -> list[Any]:
        """Return arguments with ports by their names."""
        return [getattr(word, "name", word) if _is_port(word) else word for word in arguments]


class Module:
    """A module of this program: what `publish_python_script` has put into it.

    It lives as long as the program. What others should run by name is a published pipeline or a
    registered component.
    """

    def __init__(self, workspace: Any, name: str, description: str = "") -> None:
        self.workspace = workspace
        self.name = name
        self.description = description
        self.status = "Active"
        self.versions: dict[str, ModuleVersion] = {}
        self.default_version: str | None = None

    @property
    def id(self) -> str:
        """The name."""
        return self.name

    @staticmethod
    def create(workspace: Any, name: str, description: str, **unused: Any) -> "Module":
        """Make a module."""
        module = Module(workspace, name, description)
        _known[client_of(workspace).workspace, name] = module
        return module

    @staticmethod
    def get(
        workspace: Any, module_id: str | None = None, name: str | None = None, **unused: Any
    ) -> "Module":
        """Return a module that this program has made.

        Raises:
            UserErrorException: E_NOT_FOUND.
        """
        wanted = name or module_id or ""
        found = _known.get((client_of(workspace).workspace, wanted))
        if found is None:
            raise UserErrorException(
                f"there is no module {wanted!r} in this program",
                code="E_NOT_FOUND",
                where="Module.get",
                hint="Module.create and publish_python_script make it",
            )
        return found

    def publish_python_script(
        self,
        script_name: str,
        description: str,
        inputs: Sequence[Any],
        outputs: Sequence[Any],
        params: dict[str, Any] | None = None,
        create_sequencing_ports: bool = True,
        version: str | None = None,
        is_default: bool = False,
        source_directory: str | Path | None = None,
        hash_paths: Sequence[str] | None = None,
        category: str | None = None,
        arguments: Sequence[Any] | None = None,
        runconfig: Any = None,
        **unused: Any,
    ) -> ModuleVersion:
        """Put a version into the module."""
        number = version or str(len(self.versions) + 1)
        found = ModuleVersion(
            self,
            number,
            script_name=script_name,
            source_directory=source_directory or ".",
            inputs=inputs,
            outputs=outputs,
            params=params or {},
            arguments=arguments or (),
            runconfig=runconfig,
        )
        self.versions[number] = found
        if is_default or self.default_version is None:
            self.default_version = number if is_default else self.default_version
        return found

    def publish_azure_batch(self, *given: Any, **named: Any) -> Any:
        """Refused: needs Azure Batch.

        Raises:
            UserErrorException: E_UNSUPPORTED.
        """
        raise unsupported("publish_azure_batch", "use publish_python_script")

    publish = publish_adla_script = publish_azure_batch

    def resolve(self, version: str | None = None) -> ModuleVersion:
        """Return a version: the one named, else the default, else the newest.

        Raises:
            UserErrorException: E_NOT_FOUND.
        """
        wanted = version or self.default_version or next(reversed(self.versions), "")
        if wanted not in self.versions:
            raise UserErrorException(
                f"module {self.name!r} has no version {wanted!r}", code="E_NOT_FOUND"
            )
        return self.versions[wanted]

    def get_default(self) -> ModuleVersion:
        """Return the version that a step without one uses."""
        return self.resolve()

    def get_default_version(self) -> str:
        """Return the number of that version."""
        return self.resolve().version

    def set_default_version(self, version_id: str) -> None:
        """Set the version that a step without one uses."""
        self.default_version = self.resolve(version_id.rpartition(":")[2]).version

    def set_description(self, description: str) -> None:
        """Say what it is for."""
        self.description = description

    def module_version_list(self) -> list[ModuleVersion]:
        """Return its versions, oldest first."""
        return list(self.versions.values())


_known: dict[tuple[str, str], Module] = {}


def _is_port(word: Any) -> bool:
    from penstock.azureml.pipeline.core.data import InputPortDef, OutputPortDef

    return isinstance(word, InputPortDef | OutputPortDef)


__all__ = ["Module", "ModuleVersion"]
