"""What may stand among a step's arguments besides texts and numbers. Named and shaped as in SDK v1."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from penstock.contracts.spec import Input, Output, Scalar
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
    """Data that is there before the run: a file or folder of this machine, or what `place` names.

    `place` as text: `artifact:<digest>`, `azureml://datastores/D/paths/P`, `https://…`, `azureml:name:version`.
    With `parameter` the data is chosen at submission, and this is what it is called in the step.
    """

    def __init__(
        self,
        name: str,
        place: str | Path,
        *,
        type: str = "",  # noqa: A002 - as YAML calls it; what it is, or a folder
        mode: str = "",
        parameter: PipelineParameter | None = None,
    ) -> None:
        self.name = checked_name(name, "input") if name else ""
        self.place = place
        self.type = type
        self.mode = mode
        self.parameter = parameter

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {str(self.place)!r})"

    def declared(self) -> Input:
        """Return the input of a spec that this is; without `path` when that is to be uploaded first."""
        path = "" if isinstance(self.place, Path) else self.place
        return Input(type=cast("Any", self.type or "uri_folder"), path=path, mode=self.mode)

    def same(self, other: "DataInput") -> bool:
        """Say whether both are the same data in the same mode."""
        one = (self.place, self.type, self.mode, self.parameter)
        return one == (other.place, other.type, other.mode, other.parameter)


class OutputFileDatasetConfig:
    """A folder that one step writes and others may read.

    `destination`: (datastore, path) where it is written as well when the step has succeeded; `{run-id}` and
    `{output-name}` in the path are replaced. Steps read the stored output, whatever becomes of that copy.
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
        self.registered_as = ""
        self.producer: PipelineStep | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def as_input(self, name: str | None = None) -> "OutputInput":
        """Return this output as an input of another step, called `name`."""
        return OutputInput(self, name or "")

    def as_mount(self, disable_metadata_cache: bool = False) -> Self:
        """Return itself: how a step gets at its files is the executor's business."""
        return self

    def as_upload(self, overwrite: bool = False, source_globs: object = None) -> Self:
        """Return itself: how a step gets at its files is the executor's business."""
        return self

    def register_on_complete(
        self, name: str, description: str | None = None, tags: Mapping[str, str] | None = None
    ) -> Self:
        """Register what the step has written as data of this name, a new version each time it changes."""
        self.registered_as = checked_name(name, "register_on_complete")
        return self

    def declared(self) -> Output:
        """Return the output of a spec that this is."""
        return Output(
            type=cast("Any", self.type),
            path=_destination(self.destination, self.name),
            name=self.registered_as,
        )


def _destination(destination: object, output: str) -> str:
    """Return where a destination lies, as a spec says it; a name without a path is a folder per run."""
    if destination is None:
        return ""
    datastore, path = destination if isinstance(destination, tuple) else (destination, None)
    if datastore is None:
        return ""
    store = str(getattr(datastore, "name", datastore))
    path = path or "dataset/{run-id}/{output-name}"
    path = path.replace("{run-id}", "${{name}}").replace("{output-name}", output).strip("/")
    return f"azureml://datastores/{checked_name(store, 'destination')}/paths/{path}"


class OutputInput:
    """An output of one step as an input of another."""

    def __init__(self, output: OutputFileDatasetConfig, name: str) -> None:
        self.output = output
        self.name = checked_name(name, "as_input") if name else ""

    def __repr__(self) -> str:
        return f"{self.output!r}.as_input({self.name!r})"

    def as_mount(self, path_on_compute: str | None = None) -> Self:
        """Return itself."""
        return self

    def as_download(self, path_on_compute: str | None = None) -> Self:
        """Return itself."""
        return self


Argument = Scalar | Path | PipelineParameter | OutputFileDatasetConfig | OutputInput | DataInput
"""What may stand among a step's arguments."""
