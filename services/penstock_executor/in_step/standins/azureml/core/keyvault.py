"""`azureml.core.keyvault.Keyvault`."""

from .workspace import Keyvault

__all__ = ["Keyvault"]
