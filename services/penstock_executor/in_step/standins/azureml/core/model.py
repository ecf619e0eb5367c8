"""`azureml.core.Model`: models that the step was given, and what it offers as one."""

from __future__ import annotations

import os
import shutil
from typing import Any

from ..exceptions import ModelNotFoundException
from .dataset import given_inputs


class Model:
    """A model: one that is an input of the step, or one that the step has registered."""

    def __init__(
        self,
        workspace: Any,
        name: str | None = None,
        id: str | None = None,
        version: Any = None,
        **options: Any,
    ) -> None:
        name = name or (id or "").partition(":")[0]
        self._set(name, self.get_model_path(name), {})

    def _set(self, name: str, path: str, tags: dict[str, Any]) -> None:
        self.name = name
        self.version = 1
        self.id = f"{name}:1"
        self.path = self._path = path
        self.tags = dict(tags)
        self.properties: dict[str, str] = {}
        self.description = ""

    @staticmethod
    def get_model_path(model_name: str, version: Any = None, _workspace: Any = None) -> str:
        """Return the path of a model: of the input of that name, or of the only model that there is.

        Raises:
            ModelNotFoundException: the step has no such input.
        """
        known = given_inputs()
        for key in (model_name, model_name.replace("-", "_"), "model"):
            if key in known:
                return str(known[key])
        folder = os.environ.get("AZUREML_MODEL_DIR", "")
        if folder:
            return folder
        raise ModelNotFoundException(
            f"no model {model_name!r} in this step, whose inputs are: {', '.join(known) or 'none'}; "
            f"give it as an input: {model_name}: {{type: custom_model, path: azureml:{model_name}@latest}}"
        )

    @staticmethod
    def register(
        workspace: Any,
        model_path: str,
        model_name: str,
        tags: dict[str, Any] | None = None,
        **options: Any,
    ) -> Model:
        """Keep a local file or folder in `./outputs/<name>`, and say in the run's tags that it is a model."""
        from .run import Run

        kept = os.path.join("outputs", "models", model_name)
        if os.path.isdir(model_path):
            shutil.copytree(model_path, kept, dirs_exist_ok=True)
        else:
            os.makedirs(kept, exist_ok=True)
            shutil.copy2(model_path, kept)
        run = Run.get_context()
        run.tag(f"model:{model_name}", kept)
        made = object.__new__(Model)
        made._set(model_name, kept, tags or {})
        print(
            f"penstock: model {model_name!r} is kept with the run's files, in {kept}; to have it registered, "
            f"write it to an output that is declared with `name: {model_name}` and a model type"
        )
        return made

    @staticmethod
    def list(workspace: Any, name: str | None = None, **options: Any) -> list[Model]:
        """Return the model of that name, if the step was given it."""
        try:
            return [Model(workspace, name)] if name else []
        except ModelNotFoundException:
            return []

    def download(self, target_dir: str = ".", exist_ok: bool = False, **options: Any) -> str:
        """Copy its files; return where they are."""
        os.makedirs(target_dir, exist_ok=True)
        target = os.path.join(target_dir, os.path.basename(self._path.rstrip("/")))
        if os.path.isdir(self._path):
            shutil.copytree(self._path, target, dirs_exist_ok=exist_ok)
        else:
            shutil.copyfile(self._path, target)
        return target

    def add_tags(self, tags: dict[str, Any]) -> None:
        """Add tags."""
        self.tags.update(tags)

    def update(
        self, tags: dict[str, Any] | None = None, description: str | None = None, **options: Any
    ) -> None:
        """Change tags and description."""
        self.tags = dict(tags or self.tags)
        self.description = description or self.description
