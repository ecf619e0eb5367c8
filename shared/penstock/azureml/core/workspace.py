"""A workspace: the stack that runs here, found as the command line finds it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.azureml.exceptions import UserErrorException, unsupported
from penstock.sdk.client import Client

if TYPE_CHECKING:
    from penstock.azureml.core.compute import ComputeTarget
    from penstock.azureml.core.datastore import Datastore
    from penstock.azureml.core.environment import Environment
    from penstock.azureml.core.experiment import Experiment
    from penstock.azureml.core.model import Model
    from penstock.azureml.core.run import Run
    from penstock.azureml.data.datasets import AbstractDataset

_PLACES = ("config.json", ".azureml/config.json", "aml_config/config.json")


class Workspace:
    """One penstock workspace. Subscription, resource group and credentials are kept and not used."""

    def __init__(
        self,
        subscription_id: str = "",
        resource_group: str = "",
        workspace_name: str = "",
        auth: Any = None,
        **unused: Any,
    ) -> None:
        self.client = Client()
        """What talks to the stack; connects when it is first used."""
        self.subscription_id = subscription_id or "local"
        self.resource_group = resource_group or "local"
        self._workspace_name = workspace_name

    def __repr__(self) -> str:
        return f"Workspace({self.name!r})"

    @staticmethod
    def from_config(path: str | Path | None = None, auth: Any = None, **unused: Any) -> "Workspace":
        """Return the workspace of this folder; a `config.json` of Azure's is read for its names.

        Raises:
            BusUnavailable: E_CONNECT, no stack runs here and none is named (PENSTOCK_BUS).
        """
        known = _config(Path(path) if path else None)
        return Workspace(
            known.get("subscription_id", ""),
            known.get("resource_group", ""),
            known.get("workspace_name", ""),
        )

    @staticmethod
    def get(
        name: str = "",
        auth: Any = None,
        subscription_id: str = "",
        resource_group: str = "",
        **unused: Any,
    ) -> "Workspace":
        """Return the workspace of this folder."""
        return Workspace(subscription_id, resource_group, name)

    @staticmethod
    def create(
        name: str,
        auth: Any = None,
        subscription_id: str = "",
        resource_group: str = "",
        **unused: Any,
    ) -> "Workspace":
        """Return the workspace of this folder: `penstock up` has made it."""
        return Workspace(subscription_id, resource_group, name)

    def write_config(self, path: str | None = None, file_name: str | None = None) -> None:
        """Write the names where `from_config` reads them."""
        folder = Path(path or ".") / ".azureml"
        folder.mkdir(parents=True, exist_ok=True)
        names = {
            "subscription_id": self.subscription_id,
            "resource_group": self.resource_group,
            "workspace_name": self.name,
        }
        (folder / (file_name or "config.json")).write_text(json.dumps(names, indent=2))

    @property
    def name(self) -> str:
        """The name in Azure's `config.json` if there was one, else the workspace's own."""
        return self._workspace_name or self.client.workspace

    @property
    def location(self) -> str:
        """Always "local"."""
        return "local"

    @property
    def id(self) -> str:
        """The workspace's name on the bus."""
        return self.client.workspace

    def get_details(self) -> dict[str, str]:
        """Return what there is to tell."""
        return {
            "id": self.id,
            "name": self.name,
            "location": self.location,
            "subscription": self.subscription_id,
            "resourceGroup": self.resource_group,
        }

    # -- what is in it ------------------------------------------------------------------------------

    @property
    def datastores(self) -> "Mapping[str, Datastore]":
        """Datastores by name."""
        from penstock.azureml.core.datastore import listed

        return listed(self)

    @property
    def environments(self) -> "Mapping[str, Environment]":
        """Registered environments, by name."""
        from penstock.azureml.core.environment import Environment

        return Environment.list(self)

    @property
    def compute_targets(self) -> "Mapping[str, ComputeTarget]":
        """Compute targets by name."""
        from penstock.azureml.core.compute import ComputeTarget

        return {target.name: target for target in ComputeTarget.list(self)}

    @property
    def datasets(self) -> "Mapping[str, AbstractDataset]":
        """The newest version of every registered dataset, by name."""
        from penstock.azureml.core.dataset import Dataset
        from penstock.azureml.core.registered import names

        return {v.name: Dataset.get_by_name(self, v.name, v.version) for v in names(self, "data")}

    @property
    def models(self) -> "Mapping[str, Model]":
        """The newest version of every registered model, by name."""
        from penstock.azureml.core.model import Model

        return {model.name: model for model in Model.list(self)}

    @property
    def experiments(self) -> "Mapping[str, Experiment]":
        """Experiments that have runs, by name."""
        from penstock.azureml.core.experiment import Experiment

        return {found.name: found for found in Experiment.list(self)}

    @property
    def webservices(self) -> "Mapping[str, Any]":
        """None: web services are no part of penstock."""
        return {}

    def get_default_datastore(self) -> "Datastore":
        """Return the datastore that data without one lies on."""
        from penstock.azureml.core.datastore import Datastore

        return Datastore.get_default(self)

    def set_default_datastore(self, name: str) -> None:
        """Set which datastore data without one lies on, for this program."""
        from penstock.azureml.core.datastore import set_default

        set_default(self, name)

    def get_default_compute_target(self, type: str = "CPU") -> None:
        """Return None: steps without a target run wherever there is room."""

    def get_default_keyvault(self) -> Any:
        """Refused: secrets are environment variables of the executor.

        Raises:
            UserErrorException: E_UNSUPPORTED.
        """
        raise unsupported("a key vault", "give secrets to executors as environment variables")

    def get_mlflow_tracking_uri(self) -> str:
        """Return the address of the stack's MLflow server, if this environment names it."""
        import os

        return os.environ.get("MLFLOW_TRACKING_URI", "")

    def get_run(self, run_id: str) -> "Run":
        """Return a run or step run by id."""
        from penstock.azureml.core.run import Run

        return Run.get(self, run_id)


def _config(named: Path | None) -> dict[str, str]:
    """Return the names in Azure's `config.json`, looked for as its SDK does; none is no error."""
    start = named or Path.cwd()
    if start.is_file():
        return _read(start)
    if named is not None and not start.is_dir():
        raise UserErrorException(f"{named} does not exist", code="E_PATH", where="from_config")
    for folder in (start.resolve(), *start.resolve().parents):
        for place in _PLACES:
            if (folder / place).is_file():
                return _read(folder / place)
    return {}


def _read(file: Path) -> dict[str, str]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserErrorException(f"no JSON: {error}", code="E_DECODE", where=str(file)) from error
    return {str(k).lower(): str(v) for k, v in found.items()} if isinstance(found, dict) else {}
