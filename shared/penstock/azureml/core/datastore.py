"""Datastores: named places of files.

Moving files to and from them is an ordinary run, so that it works
wherever the stack is, is seen in its list, and is tried again when something fails.
"""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from penstock.azureml.exceptions import UserErrorException, unsupported
from penstock.contracts.data import DEFAULT_DATASTORE, azure_aliases
from penstock.contracts.data import Datastore as Place
from penstock.contracts.queries import DatastoreCommand
from penstock.contracts.spec import Input, Output, PipelineSpec, StepSpec
from penstock.ids import checked_name, is_name
from penstock.sdk.client import client_of
from penstock.sdk.definition import Definition, Local
from penstock.sdk.submissions import who

_defaults: dict[str, str] = {}
"""Workspace → the datastore that `set_default_datastore` has chosen, in this program."""


class Datastore:
    """A datastore by name; without one the workspace's default."""

    def __init__(self, workspace: Any, name: str | None = None) -> None:
        self.workspace = workspace
        self.name = checked_name(name or _default_of(workspace), "datastore")

    def __repr__(self) -> str:
        return f"Datastore({self.name!r})"

    @staticmethod
    def get(workspace: Any, datastore_name: str) -> "Datastore":
        """Return the datastore of that name."""
        return Datastore(workspace, datastore_name)

    @staticmethod
    def get_default(workspace: Any) -> "Datastore":
        """Return the datastore that data without one lies on."""
        return Datastore(workspace)

    def set_as_default(self) -> None:
        """Make it the default, for this program."""
        set_default(self.workspace, self.name)

    # -- made here ----------------------------------------------------------------------------------

    @staticmethod
    def register_azure_blob_container(
        workspace: Any,
        datastore_name: str,
        container_name: str,
        account_name: str,
        sas_token: str | None = None,
        account_key: str | None = None,
        **unused: Any,
    ) -> "Datastore":
        """Return the datastore of that name, registered if it is not: a folder of the workspace.

        `penstock datastore create` says before or afterwards where its files really are. The container's
        addresses (`https:`, `wasbs:`, `abfss:`) mean it from then on.

        Raises:
            UserErrorException: E_UNSUPPORTED, credentials: they belong to the executor's settings.
        """
        if sas_token or account_key:
            raise unsupported(
                "a datastore with a key in the program",
                "`penstock datastore create` names the place; its executor has the key",
            )
        found = Datastore(workspace, datastore_name)
        client = client_of(workspace)
        if found.name not in {view.name for view in client.datastores()}:
            place = Place(type="azure_blob", aliases=azure_aliases(account_name, container_name))
            command = DatastoreCommand(name=found.name, datastore=place, who=who())
            client.datastore("create", command)
        return found

    def unregister(self) -> None:
        """Forget a registered datastore; its files stay where they are.

        Raises:
            NotFound: there is none of this name.
        """
        client_of(self.workspace).datastore("delete", DatastoreCommand(name=self.name, who=who()))

    # -- what lies there ----------------------------------------------------------------------------

    def path(self, path: str | None = None, data_reference_name: str | None = None) -> Any:
        """Return what lies at `path` as data of a step."""
        from penstock.azureml.data.data_reference import DataReference

        return DataReference(self, data_reference_name, path)

    def as_mount(self) -> Any:
        """Return all of it as data of a step."""
        return self.path().as_mount()

    def as_download(self, path_on_compute: str | None = None, overwrite: bool = False) -> Any:
        """Return all of it as data of a step."""
        return self.path().as_download(path_on_compute, overwrite)

    def location(self, path: str) -> str:
        """Return a path on it as a spec says it."""
        return f"azureml://datastores/{self.name}/paths/{path.strip('/').removeprefix('./')}"

    def upload(
        self,
        src_dir: str | Path,
        target_path: str | None = None,
        overwrite: bool = False,
        show_progress: bool = True,
    ) -> Any:
        """Copy a folder's files to `target_path` and return them as data of a step."""
        self._put(Path(src_dir), target_path or "")
        return self.path(target_path)

    def upload_files(
        self,
        files: Sequence[str | Path],
        relative_root: str | None = None,
        target_path: str | None = None,
        overwrite: bool = False,
        show_progress: bool = True,
    ) -> Any:
        """Copy files to `target_path`, by their names below `relative_root`."""
        with tempfile.TemporaryDirectory() as folder:
            for file in map(Path, files):
                if not file.is_file():
                    raise UserErrorException(
                        f"{file} does not exist", code="E_PATH", where="upload_files"
                    )
                name = file.name
                if relative_root is not None:
                    name = str(file.resolve().relative_to(Path(relative_root).resolve()))
                into = Path(folder, name)
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, into)
            self._put(Path(folder), target_path or "")
        return self.path(target_path)

    def download(
        self,
        target_path: str | Path,
        prefix: str | None = None,
        overwrite: bool = False,
        show_progress: bool = True,
    ) -> int:
        """Copy what lies below `prefix` into a folder and return how many files it has."""
        into = fetched(self.workspace, self.location(prefix or ""), Path(target_path))
        return sum(1 for file in into.rglob("*") if file.is_file())

    def _put(self, folder: Path, path: str) -> None:
        if not folder.is_dir():
            raise UserErrorException(f"{folder} is no folder", code="E_PATH", where="upload")
        step = StepSpec(
            kind="copy",
            inputs={"files": Input()},
            outputs={"files": Output(path=self.location(path))},
        )
        spec = PipelineSpec(name="datastore-upload", steps={"upload": step})
        local = Local(("steps", "upload", "inputs", "files"), folder)
        _done(self.workspace, Definition(spec, (local,)))


def fetched(workspace: Any, location: str, into: Path) -> Path:
    """Copy what a spec's path names into a folder of this machine and return the folder."""
    spec = PipelineSpec(
        name="datastore-download",
        steps={
            "download": StepSpec(
                kind="copy",
                inputs={"files": Input(path=location)},
                outputs={"files": Output()},
            )
        },
    )
    run = _done(workspace, Definition(spec))
    found: Path = run.download_output("download", "files", into)
    return found


def listed(workspace: Any) -> Mapping[str, Datastore]:
    """Return the datastores of a workspace by name."""
    views = client_of(workspace).datastores()
    return {view.name: Datastore(workspace, view.name) for view in views}


def set_default(workspace: Any, name: str) -> None:
    """Set the datastore that data without one lies on, for this program."""
    if not is_name(name):
        raise UserErrorException(f"{name!r} names no datastore", code="E_ID", where="datastore")
    _defaults[client_of(workspace).workspace] = name


def _default_of(workspace: Any) -> str:
    if not _defaults:
        return DEFAULT_DATASTORE
    return _defaults.get(client_of(workspace).workspace, DEFAULT_DATASTORE)


def _done(workspace: Any, definition: Definition) -> Any:
    run = client_of(workspace).submit(definition, experiment="datastores")
    run.wait_for_completion(show_output=False)
    return run


__all__ = ["Datastore"]
