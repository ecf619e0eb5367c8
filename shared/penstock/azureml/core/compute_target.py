"""`ComputeTargetException`, where v1 has it as well."""

from penstock.azureml.core.compute import AmlCompute, ComputeTarget
from penstock.azureml.exceptions import ComputeTargetException

__all__ = ["AmlCompute", "ComputeTarget", "ComputeTargetException"]
