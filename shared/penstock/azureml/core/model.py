"""Models: files under a name, in versions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penstock.azureml.exceptions import UserErrorException


class Model:
    """A registered model; without a version the newest."""

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
        self.version: Any = version or numbered or "latest"

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
        from penstock.sdk.arguments import DataInput

        path = Path(model_path)
        if not path.exists():
            raise UserErrorException(f"{path} does not exist", code="E_PATH", where="model_path")
        stored_as(workspace, DataInput("", path, type="custom_model"), model_name, "custom_model")
        return Model(workspace, model_name)
