"""`azureml.core.Datastore`: a name, in a step. Data comes in as inputs and leaves as outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..exceptions import UserErrorException

if TYPE_CHECKING:
    from .workspace import Workspace


class Datastore:
    """A datastore by name."""

    def __init__(self, workspace: Workspace, name: str = "workspaceblobstore") -> None:
        self.workspace = workspace
        self.name = name

    @staticmethod
    def get(workspace: Workspace, datastore_name: str) -> Datastore:
        """Return one by name."""
        return Datastore(workspace, datastore_name)

    @staticmethod
    def get_default(workspace: Workspace) -> Datastore:
        """Return the default one."""
        return workspace.get_default_datastore()

    def path(self, path: str = "", **options: Any) -> tuple[Datastore, str]:
        """Return a place in it."""
        return self, path

    def upload(self, *arguments: Any, **options: Any) -> None:
        """Say that a step hands on files as outputs.

        Raises:
            UserErrorException: always.
        """
        raise UserErrorException(_NO_ACCESS.format("upload to"))

    def upload_files(self, *arguments: Any, **options: Any) -> None:
        """As `upload`.

        Raises:
            UserErrorException: always.
        """
        raise UserErrorException(_NO_ACCESS.format("upload to"))

    def download(self, *arguments: Any, **options: Any) -> int:
        """Say that a step gets files as inputs.

        Raises:
            UserErrorException: always.
        """
        raise UserErrorException(_NO_ACCESS.format("download from"))


_NO_ACCESS = (
    "a step cannot {} a datastore: give it the path as an input (azureml://datastores/D/paths/P), "
    "or declare an output with such a path"
)
