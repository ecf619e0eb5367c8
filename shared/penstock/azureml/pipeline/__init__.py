"""`azureml.pipeline`: pipelines (`core`) and the kinds of their steps (`steps`)."""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    if name in ("core", "steps"):
        return import_module(f"penstock.azureml.pipeline.{name}")
    raise AttributeError(f"module 'penstock.azureml.pipeline' has no attribute {name!r}")
