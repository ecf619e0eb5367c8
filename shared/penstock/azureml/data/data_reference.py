"""References to what lies on a datastore, as v1 had them before datasets."""

from typing import Any

from penstock.sdk.arguments import DataInput
from penstock.sdk.names import name_from


class DataReference(DataInput):
    """A path on a datastore as a step's input."""

    def __init__(
        self,
        datastore: Any,
        data_reference_name: str | None = None,
        path_on_datastore: str | None = None,
        mode: str = "mount",
        path_on_compute: str | None = None,
        overwrite: bool = False,
    ) -> None:
        self.datastore = datastore
        self.path_on_datastore = path_on_datastore or ""
        name = data_reference_name or name_from(self.path_on_datastore or datastore.name)
        super().__init__(name.replace("-", "_"), datastore.location(self.path_on_datastore))
        self.data_reference_name = self.name

    def path(
        self, path: str | None = None, data_reference_name: str | None = None
    ) -> "DataReference":
        """Return what lies at `path` below this."""
        below = "/".join(part for part in (self.path_on_datastore, path or "") if part)
        return DataReference(self.datastore, data_reference_name, below)

    def as_mount(self) -> "DataReference":
        """Return itself: how a step gets at its files is the executor's business."""
        return self

    def as_download(
        self, path_on_compute: str | None = None, overwrite: bool = False
    ) -> "DataReference":
        """Return itself: how a step gets at its files is the executor's business."""
        return self

    as_upload = as_download


class DataPath:
    """A path on a datastore that a `PipelineParameter` may hold."""

    def __init__(
        self,
        datastore: Any = None,
        path_on_datastore: str | None = None,
        name: str | None = None,
    ) -> None:
        self.datastore = datastore
        self.datastore_name = getattr(datastore, "name", "")
        self.path_on_datastore = path_on_datastore or ""
        self.name = name

    def location(self) -> str:
        """Return it as a spec says it."""
        return str(self.datastore.location(self.path_on_datastore))


class DataPathComputeBinding:
    """How a step gets at a `DataPath`."""

    def __init__(
        self, mode: str = "mount", path_on_compute: str | None = None, overwrite: bool = False
    ) -> None:
        self.mode = mode
        self.path_on_compute = path_on_compute
        self.overwrite = overwrite


__all__ = ["DataPath", "DataPathComputeBinding", "DataReference"]
