"""Kinds of datasets, as far as steps use them."""

from .file_dataset import FileDataset
from .tabular_dataset import TabularDataset

__all__ = ["FileDataset", "TabularDataset"]
