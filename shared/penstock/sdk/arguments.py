"""What may stand among a step's arguments besides texts and numbers. Named and shaped as in SDK v1."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from penstock.contracts.spec import Input, Scalar
from penstock.ids import checked_name

if TYPE_CHECKING:
    from penstock.sdk.steps import PipelineStep


class PipelineParameter:
    """A value that is given anew at each submission; `default_value` otherwise.

    The default of data is a `Path` of this machine, or a `DataInput`.
    """

    def __init__(self, name: str, default_value: "Scalar | Path | DataInput") -> None:
        self.name = checked_name(name, "PipelineParameter")
        self.default_value = default_value

    def __repr__(self) -> str:
        return f"PipelineParameter({self.name!r}, {self.default_value!r})"


class DataInput:
    """Data that is there before the run: a file or folder of this machine, or what `path` names.

    `path` as text: `artifact:<digest>`, `azureml://datastores/D/paths/P`, `https://…`, `azureml:name:version`.
    With `parameter` the data is chosen at submission, and this is what it is called in the step.
    """

    def __init__(
        self,
        name: str,
        path: str | Path,
        *,
        type: str = "uri_folder",  # noqa: A002 - as YAML calls it
        mode: str = "",
        parameter: PipelineParameter | None = None,
    ) -> None:
        self.name = checked_name(name, "input") if name else ""
        self.path = path
        self.type = type
        self.mode = mode
        self.parameter = parameter

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {str(self.path)!r})"

    def declared(self) -> Input:
        """Return the input of a spec that this is; without `path` when that is to be uploaded first."""
        path = "" if isinstance(self.path, Path) else self.path
        return Input(type=cast("Any", self.type), path=path, mode=self.mode)

    def same(self, other: "DataInput") -> bool:
        """Say whether both are the same data in the same mode."""
        one = (self.path, self.type, self.mode, self.parameter)
        return one == (other.path, other.type, other.mode, other.parameter)


class OutputFileDatasetConfig:
    """A folder that one step writes and others may read.

    `destination`: (datastore, path) where a copy is put when the step has succeeded; `{run-id}` and
    `{output-name}` in the path are replaced. Steps read the stored output, whatever becomes of the copy.
    `type` may be "uri_file".
    """

    def __init__(
        self,
        name: str | None = None,
        destination: object = None,
        source: object = None,
        partition_format: str | None = None,
        *,
        type: str = "uri_folder",  # noqa: A002 - as YAML calls it
    ) -> None:
        self.name = checked_name(name, "OutputFileDatasetConfig") if name else ""
        self.destination = destination
        self.type = type
        self.mode = ""
        self.producer: PipelineStep | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def as_input(self, name: str | None = None) -> "OutputInput":
        """Return this output as an input of another step, called `name`."""
        return OutputInput(self, name or "")

    def as_mount(self, disable_metadata_cache: bool = False) -> "OutputFileDatasetConfig":
        """Return itself: how a step gets at its files is the executor's business."""
        return self

    def as_upload(
        self, overwrite: bool = False, source_globs: object = None
    ) -> "OutputFileDatasetConfig":
        """Return itself: how a step gets at its files is the executor's business."""
        return self


class OutputInput:
    """An output of one step as an input of another."""

    def __init__(self, output: OutputFileDatasetConfig, name: str) -> None:
        self.output = output
        self.name = checked_name(name, "as_input") if name else ""

    def __repr__(self) -> str:
        return f"{self.output!r}.as_input({self.name!r})"

    def as_mount(self) -> "OutputInput":
        """Return itself."""
        return self

    def as_download(self, path_on_compute: str | None = None) -> "OutputInput":
        """Return itself."""
        return self


Argument = Scalar | Path | PipelineParameter | OutputFileDatasetConfig | OutputInput | DataInput
"""What may stand among a step's arguments."""
