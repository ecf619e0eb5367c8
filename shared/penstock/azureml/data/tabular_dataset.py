"""`TabularDataset`, where v1 has it."""

from penstock.azureml.data.datasets import TabularDataset

__all__ = ["TabularDataset"]
