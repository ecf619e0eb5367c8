"""Azure ML's SDK v1, as far as pipelines go, on penstock: a script changes its import lines only.

    from azureml.core import Workspace        →  from penstock.azureml.core import Workspace
    import azureml.core                       →  from penstock import azureml

Names and signatures are SDK v1's; what stands behind them is `penstock.sdk`. What needs a service that
is Azure's alone is refused by name (E_UNSUPPORTED) when it is made, never in the middle of a run.
"""

from importlib import import_module
from typing import Any

_PARTS = ("core", "data", "exceptions", "pipeline", "widgets")


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return import_module(f"penstock.azureml.{name}")
    raise AttributeError(f"module 'penstock.azureml' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(_PARTS)
