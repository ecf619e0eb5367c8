"""`MLClient.components`, `.environments`, `.data`, `.models`, `.datastores`: what is registered in the workspace.

An entity is registered as the YAML file that it would be, read by the same reader.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from penstock.azure.ai.ml.components import Component
from penstock.azure.ai.ml.entities import AzureBlobDatastore, Data, Environment, Model
from penstock.azure.ai.ml.exceptions import absence_told
from penstock.azure.ai.ml.nodes import Node
from penstock.azure.ai.ml.values import plain_mapping
from penstock.contracts.data import Datastore, azure_aliases
from penstock.contracts.queries import DatastoreCommand, DatastoreView
from penstock.contracts.registry import LATEST, AssetCommand, AssetKind, AssetView
from penstock.contracts.spec import EnvironmentSpec, Output, PipelineSpec, StepSpec
from penstock.contracts.spec import Input as Declared
from penstock.errors import Invalid
from penstock.sdk.assets import Registering, asset_of, read_asset
from penstock.sdk.submissions import who
from penstock.sdk.yaml_text import Document

if TYPE_CHECKING:
    from penstock.azure.ai.ml.client import MLClient


class Registered:
    """Operations on what is registered of one kind."""

    kind: AssetKind

    def __init__(self, owner: "MLClient") -> None:
        self._client = owner.client

    def create_or_update(self, entity: Any, *, version: str | None = None, **unused: Any) -> Any:
        """Register an entity and return it as it is registered; equal content is the same version.

        Raises:
            Invalid: E_TYPE, an entity of another kind; what is wrong with it; E_EXISTS, the version is
                there with another content.
        """
        found = self._registering(entity)
        if version:
            changed = msgspec.structs.replace(found.command, version=version)
            found = Registering(changed, found.definition)
        for note in found.definition.notes:
            print(f"note: {note}", file=sys.stderr)  # noqa: T201 - as the command line does
        view = self._client.background.call(
            self._client.asynchronous.register_asset(found.command, found.definition)
        )
        return self._entity(view)

    def get(self, name: str, version: str | None = None, label: str | None = None) -> Any:
        """Return an entity by name: a version, or the newest.

        Raises:
            NotFound: there is none.
            Invalid: E_INPUT, version and label.
        """
        return self._entity(self._view(name, self._version(version, label)))

    def list(
        self, name: str | None = None, *, list_view_type: Any = None, **unused: Any
    ) -> Iterator[Any]:
        """Iterate over the newest version of each name, or over all versions of one, newest first."""
        wished = str(getattr(list_view_type, "value", list_view_type or "")).lower()
        hidden = wished.replace("_", "") in ("archivedonly", "all")
        for view in reversed(self._asked("list", name or "", "", archived=hidden)):
            if wished.startswith("archived") and not view.archived_at:
                continue
            yield self._entity(self._view(view.name, view.version))

    def archive(self, name: str, version: str | None = None, label: str | None = None) -> None:
        """Hide a version, or all of a name, from lists and from `latest`."""
        self._asked("archive", name, self._version(version, label))

    def restore(self, name: str, version: str | None = None, label: str | None = None) -> None:
        """Undo `archive`."""
        self._asked("restore", name, self._version(version, label))

    def _version(self, version: str | None, label: str | None) -> str:
        if version and label:
            raise Invalid("version and label exclude each other", code="E_INPUT", where=self.kind)
        if label and label != LATEST:
            raise Invalid(
                f"{label!r} is no label; allowed: {LATEST}", code="E_INPUT", where=self.kind
            )
        return str(version or label or "")

    def _view(self, name: str, version: str) -> AssetView:
        wish = AssetCommand(kind=self.kind, name=name, version=version)
        with absence_told():
            return self._client.background.call(self._client.asynchronous.asset(wish))

    def _asked(
        self, verb: str, name: str, version: str, *, archived: bool = False
    ) -> tuple[AssetView, ...]:
        wish = AssetCommand(
            kind=self.kind, name=name, version=version, archived=archived, who=who()
        )
        with absence_told():
            return self._client.background.call(self._client.asynchronous.assets(verb, wish))

    def _registering(self, entity: Any) -> Registering:
        raise NotImplementedError

    def _entity(self, view: AssetView) -> Any:
        raise NotImplementedError

    def _of_tree(self, entity: Any, **content: Any) -> Registering:
        head = {key: getattr(entity, key, None) for key in ("name", "version", "description")}
        tree = {**head, "tags": dict(entity.tags), **content}
        tree = {key: value for key, value in tree.items() if value not in (None, {})}
        here = Path.cwd()
        document = Document(tree, f"{entity.name} (Python)", {}, {}, here)
        return asset_of(self.kind, document, here / f"{entity.name}.yml")

    def _refuse(self, entity: Any) -> Invalid:
        return Invalid(
            f"{type(entity).__name__} is no {self.kind}",
            code="E_TYPE",
            where="create_or_update",
        )


class Components(Registered):
    """Operations on components."""

    kind = "component"

    def _registering(self, entity: Any) -> Registering:
        component = entity.component if isinstance(entity, Node) else entity
        if not isinstance(component, Component):
            raise self._refuse(entity)
        source = component._source
        if isinstance(source, dict):
            return self._of_tree(component, **{k: v for k, v in source.items() if k not in _HEAD})
        if isinstance(source, Document):
            found = asset_of("component", source, source.folder / Path(source.file).name)
        elif source.startswith("azureml:"):
            raise Invalid(f"{source} is registered already", code="E_TYPE", where="components")
        else:
            found = read_asset("component", source)
        changes = {
            "name": component.name,
            "version": component.version or "",
            "description": component.description or "",
        }
        return Registering(msgspec.structs.replace(found.command, **changes), found.definition)

    def _entity(self, view: AssetView) -> Component:
        step = view.component or StepSpec()
        inside: StepSpec | PipelineSpec = step if step.pipeline is None else step.pipeline
        tree = {
            "name": view.name,
            "version": view.version,
            "description": view.description or None,
            "display_name": view.display_name or None,
            "tags": dict(view.tags),
            "type": "command" if step.pipeline is None else "pipeline",
            "inputs": {name: _declaration(entry) for name, entry in inside.inputs.items()},
            "outputs": {name: _declaration(entry) for name, entry in inside.outputs.items()},
        }
        return Component(tree, f"azureml:{view.name}:{view.version}")


class Environments(Registered):
    """Operations on environments."""

    kind = "environment"

    def _registering(self, entity: Any) -> Registering:
        if not isinstance(entity, Environment):
            raise self._refuse(entity)
        content = entity.content()
        content.pop("name", None)
        return self._of_tree(entity, **content)

    def _entity(self, view: AssetView) -> Environment:
        spec = view.environment or EnvironmentSpec()
        found = Environment(
            name=view.name,
            version=view.version,
            description=view.description or None,
            image=spec.image or None,
            conda_file=spec.conda,
            tags=view.tags,
        )
        found.registered = True
        return found


class DataAssets(Registered):
    """Operations on data."""

    kind: AssetKind = "data"
    made: type[Data] | type[Model] = Data

    def _registering(self, entity: Any) -> Registering:
        if not isinstance(entity, self.made):
            raise self._refuse(entity)
        return self._of_tree(
            entity, type=entity.type, path=None if entity.path is None else str(entity.path)
        )

    def _entity(self, view: AssetView) -> Any:
        content = view.data
        return self.made(
            name=view.name,
            version=view.version,
            description=view.description or None,
            tags=view.tags,
            path=None if content is None else content.path,
            type=None if content is None else content.type,
        )


class Models(DataAssets):
    """Operations on models."""

    kind: AssetKind = "model"
    made = Model


class Datastores:
    """Operations on datastores."""

    def __init__(self, owner: "MLClient") -> None:
        self._client = owner.client

    def create_or_update(self, datastore: Any, **unused: Any) -> Any:
        """Register a datastore of Azure's: a folder of the workspace, known by the container's addresses.

        One that is registered keeps its place: `penstock datastore create` says where its files really are.

        Raises:
            Invalid: E_UNSUPPORTED, credentials: they belong to the executor's settings.
        """
        if not isinstance(datastore, AzureBlobDatastore):
            raise Invalid(
                f"{type(datastore).__name__} is no datastore", code="E_TYPE", where="datastores"
            )
        if datastore.credentials is not None and plain_mapping(datastore.credentials):
            raise Invalid(
                "a datastore with credentials in the program is not supported",
                code="E_UNSUPPORTED",
                where=f"datastore {datastore.name}",
                hint="`penstock datastore create` names the place; its executor has the key",
            )
        known = {view.name: view for view in self._client.datastores()}
        if datastore.name in known:
            return _datastore(known[datastore.name])
        place = Datastore(
            type=datastore.type,
            aliases=azure_aliases(datastore.account_name, datastore.container_name),
            description=datastore.description or "",
        )
        command = DatastoreCommand(name=datastore.name, datastore=place, who=who())
        return _datastore(self._client.datastore("create", command))

    def get(self, name: str, *, include_secrets: bool = False) -> Any:
        """Return a datastore.

        Raises:
            NotFound: there is none.
        """
        with absence_told():
            return _datastore(self._client.datastore("show", DatastoreCommand(name=name)))

    def get_default(self, *, include_secrets: bool = False) -> Any:
        """Return the datastore that data without one lies on."""
        return self.get("workspaceblobstore")

    def list(self, *, include_secrets: bool = False) -> Iterator[Any]:
        """Iterate over datastores by name."""
        for view in self._client.datastores():
            yield _datastore(view)

    def delete(self, name: str) -> None:
        """Forget a datastore; its files stay where they are."""
        self._client.datastore("delete", DatastoreCommand(name=name, who=who()))


_HEAD = ("name", "version", "description", "tags")


def _datastore(view: DatastoreView) -> AzureBlobDatastore:
    account = container = ""
    for alias in view.datastore.aliases:
        if alias.startswith("https://"):
            host, _, path = alias.removeprefix("https://").partition("/")
            account, container = host.partition(".")[0], path.strip("/")
            break
    return AzureBlobDatastore(
        name=view.name,
        account_name=account,
        container_name=container,
        description=view.datastore.description or None,
    )


def _declaration(entry: Any) -> dict[str, Any]:
    """Return a declaration of a registered component as YAML has it."""
    if not isinstance(entry, Declared | Output):
        return {}
    return {str(key): value for key, value in msgspec.to_builtins(entry).items()}
