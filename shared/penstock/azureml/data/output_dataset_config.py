"""Outputs of steps."""

from collections.abc import Mapping
from typing import Any, Self

from penstock.azureml.data.reading import delimited, reading, whole_files
from penstock.azureml.exceptions import unsupported
from penstock.sdk.arguments import OutputFileDatasetConfig as FileOutput
from penstock.sdk.arguments import OutputInput


class OutputFileDatasetConfig(FileOutput):
    """A folder that a step writes."""

    def read_delimited_files(
        self,
        include_path: bool = False,
        separator: str = ",",
        header: Any = True,
        partition_format: str | None = None,
        path_glob: str | None = None,
        set_column_types: Mapping[str, Any] | None = None,
    ) -> "OutputTabularDatasetConfig":
        """Return what is written as a table of delimited files, which later steps get as an MLTable.

        Raises:
            UserErrorException: E_UNSUPPORTED, a `partition_format` or `path_glob`; E_TYPE.
        """
        whole_files(partition_format, path_glob)
        options = delimited(separator=separator, header=header)
        reader, *steps = reading(
            "read_delimited", options, include_path=include_path, set_column_types=set_column_types
        )
        return OutputTabularDatasetConfig(self, reader, steps)

    def read_parquet_files(
        self,
        include_path: bool = False,
        partition_format: str | None = None,
        path_glob: str | None = None,
        set_column_types: Mapping[str, Any] | None = None,
    ) -> "OutputTabularDatasetConfig":
        """Return what is written as a table of parquet files, as `read_delimited_files` does."""
        whole_files(partition_format, path_glob)
        reader, *steps = reading(
            "read_parquet", {}, include_path=include_path, set_column_types=set_column_types
        )
        return OutputTabularDatasetConfig(self, reader, steps)


class OutputTabularDatasetConfig(FileOutput):
    """A table in what a step writes. Steps that read it get the files and an MLTable beside them."""

    def __init__(self, written: FileOutput, reader: Mapping[str, Any], steps: Any = ()) -> None:
        super().__init__(written.name or None)
        self.written = written
        self._reader = dict(reader)
        self._steps = tuple(steps)

    def keep_columns(self, columns: Any) -> "OutputTabularDatasetConfig":
        """Return the table with these columns only."""
        return self._with(
            {"keep_columns": [columns] if isinstance(columns, str) else list(columns)}
        )

    def drop_columns(self, columns: Any) -> "OutputTabularDatasetConfig":
        """Return the table without these columns."""
        return self._with(
            {"drop_columns": [columns] if isinstance(columns, str) else list(columns)}
        )

    def random_split(self, percentage: float, seed: int | None = None) -> Any:
        """Refused.

        Raises:
            UserErrorException: E_UNSUPPORTED.
        """
        raise unsupported("OutputTabularDatasetConfig.random_split", "split in a step")

    def register_on_complete(
        self, name: str, description: str | None = None, tags: Mapping[str, str] | None = None
    ) -> Self:
        """Register what the step has written as data of this name."""
        self.written.register_on_complete(name, description, tags)
        return self

    def as_input(self, name: str | None = None) -> OutputInput:
        """Return it as an input of another step, called `name`."""
        if self._reader == {"read_delimited": {}} and not self._steps:
            return self.written.as_input(name)
        return OutputInput(self._gathered(), name or self.written.name)

    def _with(self, step: dict[str, Any]) -> "OutputTabularDatasetConfig":
        return OutputTabularDatasetConfig(self.written, self._reader, (*self._steps, step))

    def _gathered(self) -> FileOutput:
        import json

        from penstock.azureml.data.datasets import GATHERING
        from penstock.sdk.steps import PythonScriptStep

        table = {"type": "mltable", "transformations": [self._reader, *self._steps]}
        output = FileOutput("data")
        PythonScriptStep(
            "gather.py",
            name=f"gather_{self.written.name or 'data'}",
            arguments=[
                output,
                "--table",
                json.dumps(table, sort_keys=True),
                self.written.as_input(),
            ],
            source_directory=GATHERING,
        )
        return output


def written_by(output: Any) -> FileOutput:
    """Return the output that a step writes for a thing among its outputs or arguments."""
    return output.written if isinstance(output, OutputTabularDatasetConfig) else output


class LinkFileOutputDatasetConfig:
    """Refused: a step's output is its bytes, not a link to other data."""

    def __init__(self, name: str | None = None, **unused: Any) -> None:
        raise unsupported(type(self).__name__, "write to an OutputFileDatasetConfig")


class LinkTabularOutputDatasetConfig(LinkFileOutputDatasetConfig):
    """Refused as well."""


__all__ = [
    "LinkFileOutputDatasetConfig",
    "LinkTabularOutputDatasetConfig",
    "OutputFileDatasetConfig",
    "OutputTabularDatasetConfig",
]
