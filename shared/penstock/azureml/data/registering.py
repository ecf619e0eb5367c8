"""Registered data and models: versions in the workspace's registry, which never change."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from penstock.azureml.data.datasets import AbstractDataset
from penstock.contracts.registry import AssetCommand, AssetKind, AssetView
from penstock.ids import checked_name
from penstock.sdk.assets import data_definition
from penstock.sdk.client import client_of
from penstock.sdk.submissions import who

D = TypeVar("D", bound=AbstractDataset)


def stored_as(
    workspace: Any, kind: AssetKind, name: str, type_: str, place: str | Path, **told: Any
) -> AssetView:
    """Register data or a model, stored first when it is local; equal content is the same version.

    Raises:
        Refused: it cannot be stored, or the planner's answer.
    """
    client = client_of(workspace)
    wish = AssetCommand(kind=kind, name=checked_name(name, "register"), who=who(), **told)
    definition = data_definition(kind, type_, place, Path.cwd())
    return client.background.call(client.asynchronous.register_asset(wish, definition))


def registered(
    dataset: D, workspace: Any, name: str, description: str, tags: Mapping[str, str]
) -> D:
    """Register a dataset and return it under its name."""
    dataset.workspace = dataset.workspace or workspace
    with tempfile.TemporaryDirectory() as folder:
        kind, place = dataset.registrable(Path(folder))
        view = stored_as(
            workspace,
            "data",
            name,
            kind,
            place,
            description=description,
            tags={str(key): str(value) for key, value in tags.items()},
        )
    dataset.workspace, dataset.name, dataset.version = workspace, view.name, view.version
    return dataset


def found(workspace: Any, kind: AssetKind, name: str, version: str) -> AssetView:
    """Return a registered version.

    Raises:
        Refused: E_NOT_FOUND.
    """
    client = client_of(workspace)
    wish = AssetCommand(kind=kind, name=name, version="" if version == "latest" else version)
    return client.background.call(client.asynchronous.asset(wish))
