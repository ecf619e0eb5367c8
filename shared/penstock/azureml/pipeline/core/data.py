"""What stands between steps: intermediate data and parameters."""

from typing import Any, Self

from penstock.azureml.data.data_reference import DataPath
from penstock.azureml.data.datasets import AbstractDataset
from penstock.azureml.data.output_dataset_config import (
    OutputFileDatasetConfig,
    OutputTabularDatasetConfig,
)
from penstock.azureml.exceptions import unsupported
from penstock.sdk import arguments as ours
from penstock.sdk.arguments import OutputInput
from penstock.sdk.names import name_from


class PipelineParameter(ours.PipelineParameter):
    """A value that is given anew at each submission: text, number, truth value, `DataPath` or dataset."""

    def __init__(self, name: str, default_value: Any) -> None:
        if isinstance(default_value, DataPath):
            default_value = ours.DataInput("", default_value.location())
        elif isinstance(default_value, AbstractDataset):
            default_value = default_value.source()
        super().__init__(name, default_value)


class PipelineData(OutputFileDatasetConfig):
    """What one step writes and others read: a folder; a file with `is_directory=False`."""

    def __init__(
        self,
        name: str,
        datastore: Any = None,
        output_name: str | None = None,
        output_mode: str = "mount",
        output_path_on_compute: str | None = None,
        output_overwrite: bool | None = None,
        data_type: str | None = None,
        is_directory: bool | None = None,
        pipeline_output_name: str | None = None,
        training_output: Any = None,
    ) -> None:
        if training_output is not None:
            raise unsupported("training_output", "write the model in a step of your own")
        super().__init__(name_from(name))
        self.type = "uri_file" if is_directory is False else "uri_folder"
        self.datastore = datastore
        self.output_name = output_name or name
        self.pipeline_output_name = pipeline_output_name

    def as_mount(self, input_name: Any = None) -> Self:
        """Return itself: how a step gets at its files is the executor's business."""
        return self

    def as_download(
        self,
        input_name: str | None = None,
        path_on_compute: str | None = None,
        overwrite: bool | None = None,
    ) -> OutputInput:
        """Return it as an input of another step."""
        return self.as_input(input_name)

    def as_dataset(self) -> "PipelineOutputFileDataset":
        """Return it as a dataset."""
        return PipelineOutputFileDataset(self)

    def get_env_variable_name(self) -> str:
        """Return the variable that holds its path in a step that reads it."""
        return f"AZUREML_DATAREFERENCE_{self.name}"

    def create_input_binding(self, input_name: str | None = None, **unused: Any) -> OutputInput:
        """Return it as an input of another step."""
        return self.as_input(input_name)


class PipelineOutputFileDataset(OutputInput):
    """A step's output as a dataset of files."""

    def __init__(self, written: OutputFileDatasetConfig, name: str = "") -> None:
        super().__init__(written, name)

    def as_named_input(self, name: str) -> "PipelineOutputFileDataset":
        """Return it as an input called `name`."""
        return PipelineOutputFileDataset(self._written(), name)

    def as_direct(self) -> Self:
        """Return itself."""
        return self

    def register(self, name: str, create_new_version: bool = True) -> Self:
        """Register what the step has written as data of this name."""
        self.output.register_on_complete(name)
        return self

    def parse_delimited_files(
        self,
        include_path: bool = False,
        separator: str = ",",
        header: Any = True,
        **unused: Any,
    ) -> OutputTabularDatasetConfig:
        """Return it as a table of delimited files."""
        return self._written().read_delimited_files(separator=separator, header=header)

    def parse_parquet_files(self, include_path: bool = False, **unused: Any) -> Any:
        """Return it as a table of parquet files."""
        return self._written().read_parquet_files()

    def _written(self) -> OutputFileDatasetConfig:
        assert isinstance(self.output, OutputFileDatasetConfig)  # noqa: S101 - the constructor's
        return self.output


class TrainingOutput:
    """Refused: it belongs to AutoMLStep and HyperDriveStep."""

    def __init__(self, *given: Any, **named: Any) -> None:
        raise unsupported("TrainingOutput", "write the model in a step of your own")


class InputPortDef:
    """A module's input."""

    def __init__(self, name: str, **named: Any) -> None:
        self.name = name
        self.is_optional = bool(named.get("is_optional"))


class OutputPortDef:
    """A module's output."""

    def __init__(self, name: str, **named: Any) -> None:
        self.name = name
        self.is_directory = bool(named.get("is_directory"))


__all__ = [
    "InputPortDef",
    "OutputPortDef",
    "PipelineData",
    "PipelineOutputFileDataset",
    "PipelineParameter",
    "TrainingOutput",
]
