"""`Dataset`: ways to name data."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from penstock.azureml.core.datastore import Datastore
from penstock.azureml.data.data_reference import DataPath
from penstock.azureml.data.datasets import AbstractDataset, FileDataset, Place, TabularDataset
from penstock.azureml.data.reading import (
    Transformations,
    delimited,
    encoded,
    reading,
    whole_files,
)
from penstock.azureml.exceptions import UserErrorException, unsupported
from penstock.ids import checked_name

_REMOTE = ("http://", "https://", "azureml:", "artifact:", "wasb", "abfs", "s3:", "gs:")


class FileDatasetFactory:
    """`Dataset.File`."""

    @staticmethod
    def from_files(
        path: Any,
        validate: bool = True,
        partition_format: str | None = None,
        is_file: bool = False,
    ) -> FileDataset:
        """Return the files at a URL, a (datastore, path or pattern), a local path, or a list of such."""
        whole_files(partition_format)
        places, workspace = _places(path)
        found = FileDataset(places, is_file=is_file)
        found.workspace = workspace
        return found

    @staticmethod
    def upload_directory(
        src_dir: str | Path,
        target: Any,
        pattern: str | None = None,
        overwrite: bool = False,
        show_progress: bool = True,
    ) -> FileDataset:
        """Copy a folder to a (datastore, path) and return it as a dataset."""
        datastore, path = _target(target)
        if pattern:
            files = sorted(p for p in Path(src_dir).glob(pattern) if p.is_file())
            datastore.upload_files(files, relative_root=str(src_dir), target_path=path)
        else:
            datastore.upload(src_dir, path)
        return FileDatasetFactory.from_files((datastore, path))


class TabularDatasetFactory:
    """`Dataset.Tabular`."""

    @staticmethod
    def from_delimited_files(
        path: Any,
        validate: bool = True,
        include_path: bool = False,
        infer_column_types: Any = True,
        set_column_types: Mapping[str, Any] | None = None,
        separator: str = ",",
        header: Any = True,
        partition_format: str | None = None,
        support_multi_line: bool = False,
        empty_as_string: bool = False,
        encoding: str = "utf8",
    ) -> TabularDataset:
        """Return a table in delimited text files.

        Raises:
            UserErrorException: E_UNSUPPORTED, a `partition_format`, or column types by rules; E_TYPE.
        """
        options = delimited(
            separator=separator, header=header, encoding=encoding, infer=infer_column_types
        )
        options["empty_as_string"] = empty_as_string
        return _table(
            path,
            reading(
                "read_delimited",
                options,
                include_path=include_path,
                set_column_types=set_column_types,
                partition_format=partition_format,
            ),
        )

    @staticmethod
    def from_parquet_files(
        path: Any,
        validate: bool = True,
        include_path: bool = False,
        set_column_types: Mapping[str, Any] | None = None,
        partition_format: str | None = None,
    ) -> TabularDataset:
        """Return a table in parquet files."""
        return _table(
            path,
            reading(
                "read_parquet",
                {},
                include_path=include_path,
                set_column_types=set_column_types,
                partition_format=partition_format,
            ),
        )

    @staticmethod
    def from_json_lines_files(
        path: Any,
        validate: bool = True,
        include_path: bool = False,
        set_column_types: Mapping[str, Any] | None = None,
        partition_format: str | None = None,
        invalid_lines: str = "error",
        encoding: str = "utf8",
    ) -> TabularDataset:
        """Return a table in files of one JSON object per line."""
        return _table(
            path,
            reading(
                "read_json_lines",
                {"invalid_lines": invalid_lines, "encoding": encoded(encoding)},
                include_path=include_path,
                set_column_types=set_column_types,
                partition_format=partition_format,
            ),
        )

    @staticmethod
    def from_sql_query(query: Any, **unused: Any) -> TabularDataset:
        """Refused.

        Raises:
            UserErrorException: E_UNSUPPORTED.
        """
        raise unsupported("Dataset.Tabular.from_sql_query", "query the database in a step")

    @staticmethod
    def register_pandas_dataframe(
        dataframe: Any,
        target: Any,
        name: str,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
        show_progress: bool = True,
        row_group_size: int | None = None,
        make_target_path_unique: bool = True,
    ) -> TabularDataset:
        """Write a DataFrame to a (datastore, path) and register it."""
        import tempfile

        datastore, path = _target(target)
        path = f"{path}/{name}" if make_target_path_unique else path
        with tempfile.TemporaryDirectory() as folder:
            dataframe.to_csv(Path(folder, "part-00000.csv"), index=False)
            datastore.upload(folder, path)
        found = TabularDatasetFactory.from_delimited_files((datastore, path))
        return found.register(datastore.workspace, name, description, tags, create_new_version=True)


class RegisteredDataset(TabularDataset, FileDataset):
    """Registered data, which may be read as files and as a table."""


class Dataset:
    """Where datasets are made (`Dataset.File`, `Dataset.Tabular`) and found again."""

    File = FileDatasetFactory
    Tabular = TabularDatasetFactory

    @staticmethod
    def get_by_name(workspace: Any, name: str, version: Any = "latest") -> AbstractDataset:
        """Return a registered dataset; `version`: its newest unless one is named.

        Raises:
            Refused: E_NOT_FOUND.
        """
        from penstock.azureml.data.registering import found

        view = found(workspace, "data", checked_name(name, "Dataset"), str(version))
        says_how = view.data is not None and view.data.type == "mltable"
        dataset = RegisteredDataset(
            [f"azureml:{view.name}:{view.version}"], {} if says_how else {"read_delimited": {}}
        )
        dataset.is_file = view.data is not None and view.data.type == "uri_file"
        dataset.workspace, dataset.name, dataset.version = workspace, view.name, view.version
        dataset.description, dataset.tags = view.description, dict(view.tags)
        return dataset

    @staticmethod
    def get_by_id(workspace: Any, id: str) -> AbstractDataset:
        """Return a registered dataset by "name:version"."""
        name, _, version = id.partition(":")
        return Dataset.get_by_name(workspace, name, version or "latest")


def _table(path: Any, transformations: Transformations) -> TabularDataset:
    places, workspace = _places(path)
    reader, *steps = transformations
    found = TabularDataset(places, reader, steps)
    found.workspace = workspace
    return found


def _places(path: Any) -> tuple[list[Place], Any]:
    """Return where the data lies, and the workspace that one of its datastores belongs to."""
    if isinstance(path, list) or (isinstance(path, Sequence) and not isinstance(path, str | tuple)):
        parts = [_places(item) for item in path]
        workspace = next((found for _, found in parts if found is not None), None)
        return [place for places, _ in parts for place in places], workspace
    if isinstance(path, DataPath):
        return [path.location()], path.datastore.workspace
    if isinstance(path, tuple):
        datastore, below = _target(path)
        if isinstance(below, list):
            return [datastore.location(item) for item in below], datastore.workspace
        return [datastore.location(below)], datastore.workspace
    if isinstance(path, Datastore):
        return [path.location("")], path.workspace
    if hasattr(path, "path_on_datastore"):
        return [path.datastore.location(path.path_on_datastore)], path.datastore.workspace
    text = str(path)
    if text.startswith(_REMOTE):
        return [text], None
    local = Path(text.removeprefix("file://"))
    if not local.exists():
        raise UserErrorException(f"{text} does not exist", code="E_PATH", where="Dataset")
    return [local], None


def _target(target: Any) -> tuple[Datastore, Any]:
    if isinstance(target, DataPath):
        return target.datastore, target.path_on_datastore
    if isinstance(target, Datastore):
        return target, ""
    if isinstance(target, tuple) and len(target) == 2 and isinstance(target[0], Datastore):  # noqa: PLR2004
        return target
    raise UserErrorException(
        f"{target!r} is no place on a datastore", code="E_TYPE", hint="(datastore, 'path')"
    )


__all__ = ["Dataset", "FileDatasetFactory", "TabularDatasetFactory"]
