"""Azure ML's SDK v2, as far as pipelines go, on penstock: a script changes its import lines only.

    from azure.ai.ml import MLClient, load_component        →  from penstock.azure.ai.ml import …
    from azure.identity import DefaultAzureCredential       →  from penstock.azure.identity import …

What Python builds here is the tree that YAML would have, read by the same reader: so the two give one graph.
"""

from typing import Any

from penstock.azure.ai.ml import dsl
from penstock.azure.ai.ml.client import MLClient
from penstock.azure.ai.ml.commands import command
from penstock.azure.ai.ml.components import load_component
from penstock.azure.ai.ml.loading import load_job
from penstock.azure.ai.ml.pipelines import group
from penstock.azure.ai.ml.values import Input, Output, Settings, source_of


def load_environment(source: Any, **unused: Any) -> Any:
    """Return the environment in a YAML file."""
    from penstock.azure.ai.ml.entities import BuildContext, Environment
    from penstock.sdk.yaml_reading import file_read

    document, path = file_read(source_of(source))
    tree = dict(document.value)
    conda, build = tree.get("conda_file"), tree.get("build")
    return Environment(
        name=tree.get("name"),
        version=None if tree.get("version") is None else str(tree["version"]),
        image=tree.get("image"),
        conda_file=path.parent / conda if isinstance(conda, str) else conda,
        build=BuildContext(
            path=path.parent / build["path"], dockerfile_path=build.get("dockerfile_path")
        )
        if build
        else None,
    )


class MpiDistribution(Settings):
    """Several processes that speak MPI."""

    def __init__(self, *, process_count_per_instance: int | None = None) -> None:
        super().__init__(type="mpi", process_count_per_instance=process_count_per_instance)


class PyTorchDistribution(Settings):
    """Several processes of PyTorch's."""

    def __init__(self, *, process_count_per_instance: int | None = None) -> None:
        super().__init__(type="pytorch", process_count_per_instance=process_count_per_instance)


class TensorFlowDistribution(Settings):
    """Several processes of TensorFlow's."""

    def __init__(self, *, parameter_server_count: int = 0, worker_count: int | None = None) -> None:
        super().__init__(
            type="tensorflow",
            parameter_server_count=parameter_server_count,
            worker_count=worker_count,
        )


__all__ = [
    "Input",
    "MLClient",
    "MpiDistribution",
    "Output",
    "PyTorchDistribution",
    "TensorFlowDistribution",
    "command",
    "dsl",
    "group",
    "load_component",
    "load_environment",
    "load_job",
]
