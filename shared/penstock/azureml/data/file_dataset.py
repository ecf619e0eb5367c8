"""`FileDataset`, where v1 has it."""

from penstock.azureml.data.datasets import FileDataset

__all__ = ["FileDataset"]
