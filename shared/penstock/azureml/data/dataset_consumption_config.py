"""A dataset as one of a step's inputs."""

from typing import TYPE_CHECKING, Any, Self

from penstock.azureml.exceptions import UserErrorException
from penstock.sdk.arguments import DataInput, PipelineParameter

if TYPE_CHECKING:
    from penstock.azureml.data.datasets import FileDataset, TabularDataset


class DatasetConsumptionConfig(DataInput):
    """A dataset under a name of the step's; `dataset` may be a `PipelineParameter` that holds one."""

    def __init__(
        self,
        name: str,
        dataset: "FileDataset | TabularDataset | PipelineParameter",
        mode: str = "direct",
        path_on_compute: str | None = None,
    ) -> None:
        parameter = dataset if isinstance(dataset, PipelineParameter) else None
        held: Any = parameter.default_value if parameter else dataset
        source = held if isinstance(held, DataInput) else held.source()
        super().__init__(name, source.place, type=source.type, parameter=parameter)
        self.dataset = dataset

    def as_mount(self, path_on_compute: str | None = None) -> Self:
        """Return itself: how a step gets at its files is the executor's business."""
        return self

    def as_download(self, path_on_compute: str | None = None) -> Self:
        """Return itself: how a step gets at its files is the executor's business."""
        return self

    def as_hdfs(self) -> Self:
        """Refused: there is no Spark here.

        Raises:
            UserErrorException: E_UNSUPPORTED.
        """
        raise UserErrorException("as_hdfs is not supported", code="E_UNSUPPORTED", where=self.name)


__all__ = ["DatasetConsumptionConfig"]
