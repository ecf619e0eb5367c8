"""`azureml.core.Workspace`: as much of one as a step can see."""

from __future__ import annotations

import os
from typing import Any

from ..exceptions import UserErrorException
from .dataset import Dataset, given_inputs
from .datastore import Datastore


class Keyvault:
    """Secrets are variables of the step."""

    def get_secret(self, name: str) -> str:
        """Return the variable of that name, as it is or in capitals with underscores.

        Raises:
            UserErrorException: there is none.
        """
        for variable in (name, name.upper().replace("-", "_")):
            if variable in os.environ:
                return os.environ[variable]
        raise UserErrorException(
            f"no secret {name!r}: give it to the step as an environment variable of that name"
        )

    def get_secrets(self, secrets: list[str]) -> dict[str, str]:
        """Return several."""
        return {name: self.get_secret(name) for name in secrets}


class Workspace:
    """The workspace that the step runs in, whatever is asked for."""

    def __init__(
        self,
        subscription_id: str = "",
        resource_group: str = "",
        workspace_name: str = "",
        **options: Any,
    ) -> None:
        self.name = workspace_name or os.environ.get("AZUREML_ARM_WORKSPACE_NAME", "penstock")
        self.subscription_id = subscription_id
        self.resource_group = resource_group
        self.location = "local"
        self.compute_targets: dict[str, Any] = {}
        self.experiments: dict[str, Any] = {}
        self.environments: dict[str, Any] = {}
        self.webservices: dict[str, Any] = {}
        self.models: dict[str, Any] = {}

    @staticmethod
    def from_config(*arguments: Any, **options: Any) -> Workspace:
        """Return the workspace that the step runs in."""
        return Workspace()

    @staticmethod
    def get(name: str, *arguments: Any, **options: Any) -> Workspace:
        """Return the workspace that the step runs in."""
        return Workspace(workspace_name=name)

    @property
    def datasets(self) -> dict[str, Any]:
        """The step's inputs by name."""
        return dict(given_inputs())

    @property
    def datastores(self) -> dict[str, Datastore]:
        """The default one."""
        store = self.get_default_datastore()
        return {store.name: store}

    def get_default_datastore(self) -> Datastore:
        """Return the default datastore: a name that paths can be made with."""
        return Datastore(self, "workspaceblobstore")

    def get_default_keyvault(self) -> Keyvault:
        """Return the secrets."""
        return Keyvault()

    def get_mlflow_tracking_uri(self, **options: Any) -> str:
        """Return where MLflow logs to in this step."""
        return os.environ.get("MLFLOW_TRACKING_URI", "")

    def get_details(self) -> dict[str, str]:
        """Return its name."""
        return {"name": self.name, "location": self.location}

    def get_run(self, run_id: str) -> Any:
        """Return the current run, the only one that a step can see."""
        from .run import Run

        return Run.get_context()

    def __repr__(self) -> str:
        return f"Workspace.create(name={self.name!r})"


__all__ = ["Dataset", "Keyvault", "Workspace"]
