"""`PromoteHeadersBehavior` and the factories, where v1 has them."""

from penstock.azureml.core.dataset import FileDatasetFactory, TabularDatasetFactory
from penstock.azureml.data.types import DataType, PromoteHeadersBehavior

__all__ = ["DataType", "FileDatasetFactory", "PromoteHeadersBehavior", "TabularDatasetFactory"]
