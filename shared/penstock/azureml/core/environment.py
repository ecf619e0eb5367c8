"""What steps run in, as SDK v1 has it; becomes the `EnvironmentSpec` of the steps."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penstock.azureml.core import registered
from penstock.azureml.core.conda_dependencies import CondaDependencies, conda_file
from penstock.azureml.exceptions import UserErrorException, unsupported
from penstock.contracts.spec import BuildContext, EnvironmentSpec

DEFAULT_CPU_IMAGE = "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:latest"
DEFAULT_GPU_IMAGE = "mcr.microsoft.com/azureml/openmpi4.1.0-cuda11.8-cudnn8-ubuntu22.04:latest"


class PythonSection:
    """The Python part of an environment."""

    def __init__(self) -> None:
        self.user_managed_dependencies = False
        """True: packages are there already, in the image or with the executor."""
        self.interpreter_path = "python"
        self.conda_dependencies_file: str | None = None
        self.conda_dependencies: CondaDependencies | None = None
        self.base_conda_environment: str | None = None


class DockerSection:
    """The image part of an environment."""

    def __init__(self) -> None:
        self.enabled = False
        self.base_image: str | None = None
        self.base_dockerfile: str | None = None
        self.build_context: DockerBuildContext | None = None
        self.base_image_registry = None
        self.arguments: list[str] = []
        self.shared_volumes = True
        self.shm_size: str | None = None
        self.platform: Any = None


class DockerBuildContext:
    """A folder that an image is built from."""

    def __init__(self, location: str, dockerfile_path: str = "Dockerfile") -> None:
        self.location = location
        self.dockerfile_path = dockerfile_path

    @classmethod
    def from_local_directory(
        cls, workspace: Any, path: str | Path, dockerfile_path: str = "Dockerfile"
    ) -> "DockerBuildContext":
        """Return a folder of this machine as a build context."""
        if not Path(path, dockerfile_path).is_file():
            raise UserErrorException(
                f"there is no {dockerfile_path} in {path}", code="E_PATH", where="build context"
            )
        return cls(str(path), dockerfile_path)


class Environment:
    """A named environment: packages for conda and pip, an image, variables."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.version: str | None = None
        self.python = PythonSection()
        self.docker = DockerSection()
        self.environment_variables: dict[str, str] = {}
        self.inferencing_stack_version = None
        self._reference = ""
        self._pip: tuple[str, ...] = ()
        self._python = ""

    def __repr__(self) -> str:
        return f"Environment({self.name!r}, version={self.version!r})"

    # -- how it is made -----------------------------------------------------------------------------

    @staticmethod
    def from_conda_specification(name: str, file_path: str | Path) -> "Environment":
        """Return an environment of a conda file."""
        found = Environment(name)
        found.python.conda_dependencies = CondaDependencies(file_path)
        return found

    @staticmethod
    def from_pip_requirements(
        name: str, file_path: str | Path, pip_version: str | None = None
    ) -> "Environment":
        """Return an environment of a requirements file."""
        found = Environment(name)
        found._pip = requirements(file_path)
        return found

    @staticmethod
    def from_docker_image(
        name: str,
        image: str,
        container_registry: Any = None,
        conda_specification: str | Path | None = None,
        pip_requirements: str | Path | None = None,
    ) -> "Environment":
        """Return an environment of an image, with packages on top where they are named."""
        found = Environment(name)
        found.docker.base_image = image
        found._add(conda_specification, pip_requirements)
        return found

    @staticmethod
    def from_dockerfile(
        name: str,
        dockerfile: str | Path,
        conda_specification: str | Path | None = None,
        pip_requirements: str | Path | None = None,
    ) -> "Environment":
        """Return an environment whose image is built from a Dockerfile: its path, or its text."""
        found = Environment(name)
        text = str(dockerfile)
        is_file = "\n" not in text and Path(text).is_file()
        found.docker.base_dockerfile = Path(text).read_text(encoding="utf-8") if is_file else text
        found._add(conda_specification, pip_requirements)
        return found

    @staticmethod
    def from_docker_build_context(
        name: str, docker_build_context: DockerBuildContext, **unused: Any
    ) -> "Environment":
        """Return an environment whose image is built from a folder."""
        found = Environment(name)
        found.docker.build_context = docker_build_context
        found.python.user_managed_dependencies = True
        return found

    @staticmethod
    def from_existing_conda_environment(name: str, conda_environment_name: str) -> "Environment":
        """Refused: what is installed on one machine is no description for another.

        Raises:
            UserErrorException: E_UNSUPPORTED.
        """
        raise unsupported(
            "an environment made from a conda environment of this machine",
            f"`conda env export -n {conda_environment_name} > conda.yml`, then "
            "Environment.from_conda_specification",
        )

    @staticmethod
    def load_from_directory(path: str | Path) -> "Environment":
        """Return the environment that `save_to_directory` has written."""
        import json

        saved = json.loads(Path(path, "azureml_environment.json").read_text(encoding="utf-8"))
        found = Environment(saved["name"])
        found.environment_variables = dict(saved.get("environmentVariables") or {})
        found.docker.base_image = (saved.get("docker") or {}).get("baseImage")
        conda = Path(path, "conda_dependencies.yml")
        if conda.is_file():
            found.python.conda_dependencies = CondaDependencies(conda)
        return found

    def save_to_directory(self, path: str | Path, overwrite: bool = False) -> None:
        """Write the environment into a folder."""
        import json

        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=overwrite)
        saved = {
            "name": self.name,
            "environmentVariables": self.environment_variables,
            "docker": {"baseImage": self.docker.base_image},
        }
        (folder / "azureml_environment.json").write_text(json.dumps(saved, indent=2))
        if self.python.conda_dependencies is not None:
            self.python.conda_dependencies.save_to_file(folder)

    def clone(self, new_name: str) -> "Environment":
        """Return a copy under another name."""
        found = copy.deepcopy(self)
        found.name, found.version = new_name, None
        return found

    # -- registered ones ----------------------------------------------------------------------------

    @staticmethod
    def get(
        workspace: Any, name: str, version: str | None = None, label: str | None = None
    ) -> "Environment":
        """Return an environment by name: a registered one, or a curated one that is looked up at submission."""
        if workspace is not None:
            view = registered.asked(workspace, "environment", name, str(version or label or ""))
            if view is not None:
                return registered.fill(Environment(view.name), view)
        known = _known.get((getattr(workspace, "id", ""), name))
        if known is not None and version is None:
            return known
        found = Environment(name)
        found.version = version
        found._reference = f"azureml:{name}:{version}" if version else f"azureml:{name}@latest"
        return found

    def register(self, workspace: Any) -> "Environment":
        """Register it in the workspace, build context or Dockerfile included; equal content is the same version.

        One that asks for nothing is known in this program only.

        Raises:
            Refused: it cannot be stored, or the planner's answer.
        """
        spec = self._spec_of(self._build_wished())
        if workspace is None or not isinstance(spec, EnvironmentSpec):
            _known[getattr(workspace, "id", ""), self.name] = self
            return self
        local = self.docker.build_context if not self._is_stored() else None
        view = registered.stored_environment(
            workspace,
            self.name,
            spec,
            "" if local is None else local.location,
            self.docker.base_dockerfile or "",
        )
        self.version = view.version
        if view.environment is not None and view.environment.build is not None:
            build = view.environment.build
            self.docker.base_dockerfile = None
            self.docker.build_context = DockerBuildContext(build.context, build.dockerfile)
        return self

    def build(self, workspace: Any, **unused: Any) -> "Built":
        """Return at once: it is built where the first step needs it, once for all."""
        return Built()

    @staticmethod
    def list(workspace: Any) -> Mapping[str, "Environment"]:
        """Return the registered environments and those that only this program knows, by name."""
        here = {
            name: one for (at, name), one in _known.items() if at == getattr(workspace, "id", "")
        }
        views = registered.names(workspace, "environment")
        return here | {view.name: Environment.get(workspace, view.name) for view in views}

    # -- what it becomes ----------------------------------------------------------------------------

    def spec(self) -> str | EnvironmentSpec:
        """Return what steps say of it: a name to look up, or everything that is in it.

        Raises:
            UserErrorException: E_UNSUPPORTED, a Dockerfile that is not registered; E_PATH.
        """
        build = self._build_wished()
        if build is not None and not self._is_stored():
            raise unsupported(
                f"environment {self.name!r}: a Dockerfile or build context that is not registered",
                "environment.register(workspace) stores it; then give the environment to steps",
            )
        return self._spec_of(build)

    def pinned(self, pip: tuple[str, ...], python: str) -> None:
        """Set pip's requirement lines, and the interpreter's version."""
        self._pip, self._python = pip, python

    def _spec_of(self, build: BuildContext | None) -> str | EnvironmentSpec:
        conda, pip = self._packages()
        if self._reference and conda is None and not pip and not self._has_image():
            return self._reference
        if (
            conda is None
            and not (pip or self._python or self._has_image())
            and not self.environment_variables
        ):
            return ""  # nothing is asked for: the executor's own interpreter
        return EnvironmentSpec(
            name=self.name,
            version=self.version or "",
            image=self.docker.base_image or "",
            build=build,
            conda=conda,
            pip=pip,
            python=self._python,
            variables={str(k): str(v) for k, v in self.environment_variables.items()},
        )

    def _build_wished(self) -> BuildContext | None:
        context = self.docker.build_context
        if context is not None:
            stored = context.location if self._is_stored() else ""
            return BuildContext(context=stored, dockerfile=context.dockerfile_path)
        return BuildContext(context="") if self.docker.base_dockerfile else None

    def _is_stored(self) -> bool:
        context = self.docker.build_context
        return context is not None and context.location.startswith(registered.ARTIFACT)

    def _has_image(self) -> bool:
        docker = self.docker
        return bool(docker.base_image or docker.base_dockerfile or docker.build_context)

    def _packages(self) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
        if self.python.user_managed_dependencies:
            return None, ()
        if self.python.conda_dependencies_file:
            return conda_file(self.python.conda_dependencies_file), self._pip
        dependencies = self.python.conda_dependencies
        return (dependencies.as_dict() if dependencies is not None else None), self._pip

    def _add(self, conda: str | Path | None, pip: str | Path | None) -> None:
        if conda is None and pip is None:
            self.python.user_managed_dependencies = True
        if conda is not None:
            self.python.conda_dependencies = CondaDependencies(conda)
        if pip is not None:
            self._pip = requirements(pip)


_known: dict[tuple[str, str], Environment] = {}
"""(workspace, name) → environments that ask for nothing, as `register` was told in this program."""


class Built:
    """An image that is built when it is needed."""

    status = "Succeeded"

    def wait_for_completion(self, show_output: bool = True) -> "Built":
        """Return at once."""
        return self


def requirements(file: str | Path) -> tuple[str, ...]:
    """Return the requirements in a file, without comments.

    Raises:
        UserErrorException: E_PATH, it cannot be read.
    """
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserErrorException(
            error.strerror or str(error), code="E_PATH", where=str(file)
        ) from error
    return tuple(
        line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")
    )


__all__ = [
    "DEFAULT_CPU_IMAGE",
    "DEFAULT_GPU_IMAGE",
    "DockerBuildContext",
    "DockerSection",
    "Environment",
    "PythonSection",
]
