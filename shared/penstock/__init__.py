"""penstock: event-driven machine-learning pipelines.

The names below are the whole public SDK. Importing this package opens nothing and loads no network
library: each name is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.sdk.arguments import OutputFileDatasetConfig as OutputFileDatasetConfig
    from penstock.sdk.arguments import PipelineParameter as PipelineParameter
    from penstock.sdk.client import Client as Client
    from penstock.sdk.experiment import Experiment as Experiment
    from penstock.sdk.functions import File as File
    from penstock.sdk.functions import Folder as Folder
    from penstock.sdk.functions import pipeline as pipeline
    from penstock.sdk.functions import step as step
    from penstock.sdk.in_step import current_run as current_run
    from penstock.sdk.pipeline import Pipeline as Pipeline
    from penstock.sdk.run import Run as Run
    from penstock.sdk.steps import CommandStep as CommandStep
    from penstock.sdk.steps import PythonScriptStep as PythonScriptStep

_HOMES = {
    "Client": "penstock.sdk.client",
    "CommandStep": "penstock.sdk.steps",
    "Experiment": "penstock.sdk.experiment",
    "File": "penstock.sdk.functions",
    "Folder": "penstock.sdk.functions",
    "OutputFileDatasetConfig": "penstock.sdk.arguments",
    "Pipeline": "penstock.sdk.pipeline",
    "PipelineParameter": "penstock.sdk.arguments",
    "PythonScriptStep": "penstock.sdk.steps",
    "Run": "penstock.sdk.run",
    "current_run": "penstock.sdk.in_step",
    "pipeline": "penstock.sdk.functions",
    "step": "penstock.sdk.functions",
}

__all__ = [
    "Client",
    "CommandStep",
    "Experiment",
    "File",
    "Folder",
    "OutputFileDatasetConfig",
    "Pipeline",
    "PipelineParameter",
    "PythonScriptStep",
    "Run",
    "current_run",
    "pipeline",
    "step",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'penstock' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
