"""`azureml.core`: the workspace, what is in it, and runs."""

from importlib.metadata import version as _version

from penstock.azureml.core.compute import ComputeTarget
from penstock.azureml.core.dataset import Dataset
from penstock.azureml.core.datastore import Datastore
from penstock.azureml.core.environment import Environment
from penstock.azureml.core.experiment import Experiment
from penstock.azureml.core.model import Model
from penstock.azureml.core.run import Run
from penstock.azureml.core.runconfig import RunConfiguration
from penstock.azureml.core.script_run_config import ScriptRunConfig
from penstock.azureml.core.workspace import Workspace

VERSION = _version("penstock")

__all__ = [
    "VERSION",
    "ComputeTarget",
    "Dataset",
    "Datastore",
    "Environment",
    "Experiment",
    "Model",
    "Run",
    "RunConfiguration",
    "ScriptRunConfig",
    "Workspace",
]
