"""`azureml.core.Dataset`: the step's inputs by name, and files read with pandas."""

from __future__ import annotations

import json
import os
from typing import Any

from ..data.file_dataset import FileDataset
from ..data.tabular_dataset import TabularDataset, opened
from ..exceptions import UserErrorException

_INPUTS = "PENSTOCK_INPUTS"


class GivenDataset(str):
    """An input of the step: its path, that can be used as a dataset too."""

    def __new__(cls, path: str, name: str) -> GivenDataset:
        """Be the path."""
        made = super().__new__(cls, path)
        made.name = name
        return made

    name: str
    version = 1

    @property
    def id(self) -> str:
        """The name."""
        return self.name

    def to_path(self) -> list[str]:
        """Return the paths of its files, from its folder on."""
        return FileDataset(str(self)).to_path()

    def download(
        self, target_path: str | None = None, overwrite: bool = False, **options: Any
    ) -> list[str]:
        """Copy its files; return their paths."""
        return FileDataset(str(self)).download(target_path, overwrite)

    def mount(self, mount_point: str | None = None, **options: Any) -> Any:
        """Return what `start` and `stop` do nothing with, and whose `mount_point` is its folder."""
        return FileDataset(str(self)).mount(mount_point)

    def as_named_input(self, name: str) -> GivenDataset:
        """Return itself."""
        return self

    def to_pandas_dataframe(self, *arguments: Any, **options: Any) -> Any:
        """Return its rows: CSV, TSV, parquet, JSON lines, or as an MLTable file in it says."""
        return self._table.to_pandas_dataframe()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(TabularDataset, name):
            raise AttributeError(name)
        return getattr(self._table, name)

    @property
    def _table(self) -> TabularDataset:
        return TabularDataset(lambda: opened(str(self)))


def given_inputs() -> dict[str, GivenDataset]:
    """Return the step's data inputs by name."""
    found = json.loads(os.environ.get(_INPUTS, "") or "{}")
    return {name: GivenDataset(path, name) for name, path in found.items()}


class _Tabular:
    """`Dataset.Tabular`."""

    @staticmethod
    def from_delimited_files(
        path: Any, separator: str = ",", header: Any = True, encoding: str = "utf8", **options: Any
    ) -> TabularDataset:
        """Return the rows of delimited files."""
        read = {"sep": separator, "encoding": encoding, **({} if header else {"header": None})}
        return TabularDataset(lambda: opened(_local(path), kind="csv", **read))

    @staticmethod
    def from_parquet_files(path: Any, **options: Any) -> TabularDataset:
        """Return the rows of parquet files."""
        return TabularDataset(lambda: opened(_local(path), kind="parquet"))

    @staticmethod
    def from_json_lines_files(path: Any, **options: Any) -> TabularDataset:
        """Return the rows of files of JSON lines."""
        return TabularDataset(lambda: opened(_local(path), kind="jsonl"))

    @staticmethod
    def register_pandas_dataframe(
        dataframe: Any, target: Any, name: str, **options: Any
    ) -> TabularDataset:
        """Return the frame as a dataset; it is not registered: that is what a step's outputs are for."""
        return TabularDataset(lambda: dataframe)


class _File:
    """`Dataset.File`."""

    @staticmethod
    def from_files(path: Any, *arguments: Any, **options: Any) -> FileDataset:
        """Return local files as a dataset."""
        return FileDataset(_local(path))


class Dataset:
    """Datasets by name are the step's inputs of that name."""

    Tabular = _Tabular
    File = _File

    @staticmethod
    def get_by_name(workspace: Any, name: str, version: Any = "latest") -> GivenDataset:
        """Return the step's input of that name.

        Raises:
            UserErrorException: it has none.
        """
        known = given_inputs()
        for key in (name, name.replace("-", "_")):
            if key in known:
                return known[key]
        raise UserErrorException(
            f"no dataset {name!r} in this step, which has: {', '.join(known) or 'none'}; "
            f"give it as an input: {name}: {{path: azureml:{name}@latest}}"
        )

    get_by_id = get_by_name

    @staticmethod
    def get_all(workspace: Any) -> dict[str, GivenDataset]:
        """Return the step's inputs."""
        return given_inputs()


def _local(path: Any) -> str:
    """Return one local path, or an address that pandas reads.

    Raises:
        UserErrorException: a place in a datastore.
    """
    if isinstance(path, (list, tuple)) and len(path) == 1:
        path = path[0]
    if not isinstance(path, (str, os.PathLike)):
        raise UserErrorException(
            "a step cannot read from a datastore: give it the path as an input, and use that"
        )
    return os.fspath(path)
