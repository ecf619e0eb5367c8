"""Models: files under a name, in versions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from penstock.azureml.exceptions import UserErrorException


class Model:
    """A registered model; without a version the newest.

    Raises:
        Refused: E_NOT_FOUND.
    """

    def __init__(
        self,
        workspace: Any,
        name: str | None = None,
        id: str | None = None,
        tags: Any = None,
        properties: Any = None,
        version: Any = None,
        run_id: str | None = None,
        model_framework: str | None = None,
        **unused: Any,
    ) -> None:
        name, _, numbered = (id or name or "").partition(":")
        self.workspace = workspace
        self.name = name
        from penstock.azureml.data.registering import found

        view = found(workspace, "model", name, str(version or numbered or "latest"))
        self.version: Any = view.version
        self.description = view.description
        self.tags = dict(view.tags)

    @property
    def id(self) -> str:
        """name:version."""
        return f"{self.name}:{self.version}"

    def __repr__(self) -> str:
        return f"Model({self.id!r})"

    @staticmethod
    def list(workspace: Any, name: str | None = None, **unused: Any) -> "Sequence[Model]":
        """Return the newest version of each model, or all versions of one, newest first."""
        from penstock.azureml.core.registered import names

        views = names(workspace, "model", name or "")
        return [Model(workspace, view.name, version=view.version) for view in views]

    def download(
        self, target_dir: str | Path = ".", exist_ok: bool = False, exists_ok: bool | None = None
    ) -> str:
        """Copy its files below a folder and return where they are.

        Raises:
            ModelNotFoundException: E_EXISTS, something is there.
        """
        from penstock.azureml.core.registered import fetched
        from penstock.azureml.data.registering import found

        view = found(self.workspace, "model", self.name, str(self.version))
        return str(
            fetched(self.workspace, view, Path(target_dir), replace=exist_ok or bool(exists_ok))
        )

    @staticmethod
    def register(
        workspace: Any,
        model_path: str | Path,
        model_name: str,
        tags: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        description: str | None = None,
        **unused: Any,
    ) -> "Model":
        """Register a file or folder of this machine.

        Raises:
            UserErrorException: E_PATH, there is none.
        """
        from penstock.azureml.data.registering import stored_as

        path = Path(model_path)
        if not path.exists():
            raise UserErrorException(f"{path} does not exist", code="E_PATH", where="model_path")
        view = stored_as(
            workspace, "model", model_name, "custom_model", path,
            description=description or "",
            tags={str(key): str(value) for key, value in (tags or {}).items()},
        )  # fmt: skip
        return Model(workspace, view.name, version=view.version)
