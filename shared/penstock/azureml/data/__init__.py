"""`azureml.data`: data in, data out."""

from penstock.azureml.data.data_reference import (
    DataPath,
    DataPathComputeBinding,
    DataReference,
)
from penstock.azureml.data.dataset_consumption_config import DatasetConsumptionConfig
from penstock.azureml.data.datasets import FileDataset, TabularDataset
from penstock.azureml.data.output_dataset_config import (
    LinkFileOutputDatasetConfig,
    LinkTabularOutputDatasetConfig,
    OutputFileDatasetConfig,
    OutputTabularDatasetConfig,
)
from penstock.azureml.data.types import DataType

__all__ = [
    "DataPath",
    "DataPathComputeBinding",
    "DataReference",
    "DataType",
    "DatasetConsumptionConfig",
    "FileDataset",
    "LinkFileOutputDatasetConfig",
    "LinkTabularOutputDatasetConfig",
    "OutputFileDatasetConfig",
    "OutputTabularDatasetConfig",
    "TabularDataset",
]
