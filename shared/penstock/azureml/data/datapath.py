"""`DataPath` and its binding, where v1 has them."""

from penstock.azureml.data.data_reference import DataPath, DataPathComputeBinding

__all__ = ["DataPath", "DataPathComputeBinding"]
