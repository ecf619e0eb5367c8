"""How a step runs: environment, target, variables, and how many machines."""

from pathlib import Path
from typing import Any

from penstock.azureml.core.conda_dependencies import CondaDependencies
from penstock.azureml.core.environment import (
    DEFAULT_CPU_IMAGE,
    DEFAULT_GPU_IMAGE,
    DockerSection,
    Environment,
    PythonSection,
)
from penstock.azureml.exceptions import UserErrorException, unsupported


class MpiConfiguration:
    """Several processes that speak MPI."""

    def __init__(self, process_count_per_node: int = 1, node_count: int = 1) -> None:
        self.process_count_per_node = process_count_per_node
        self.node_count = node_count


class PyTorchConfiguration:
    """Several processes of PyTorch's."""

    def __init__(
        self,
        communication_backend: str = "Nccl",
        process_count: int | None = None,
        node_count: int = 1,
    ) -> None:
        self.communication_backend = communication_backend
        self.process_count = process_count
        self.node_count = node_count


class TensorflowConfiguration:
    """Several processes of TensorFlow's."""

    def __init__(self, worker_count: int = 1, parameter_server_count: int = 1) -> None:
        self.worker_count = worker_count
        self.parameter_server_count = parameter_server_count


class DockerConfiguration:
    """Whether and how the step runs in a container. The target's kind decides whether it can."""

    def __init__(
        self,
        use_docker: bool = False,
        shared_volumes: bool = True,
        arguments: Any = None,
        shm_size: str | None = None,
    ) -> None:
        self.use_docker = use_docker
        self.shared_volumes = shared_volumes
        self.arguments = list(arguments or ())
        self.shm_size = shm_size


class AmlComputeConfiguration:
    """Kept for `runconfig.amlcompute.vm_size = …`; nothing is rented here."""

    def __init__(self) -> None:
        self.vm_size: str | None = None
        self.vm_priority: str | None = None
        self.name: str | None = None
        self.cluster_max_node_count = 1


class RunConfiguration:
    """Settings of a step or script run."""

    def __init__(
        self,
        script: str | None = None,
        arguments: Any = None,
        framework: str | None = None,
        communicator: str | None = None,
        conda_dependencies: CondaDependencies | None = None,
        command: Any = None,
        **unused: Any,
    ) -> None:
        self.script = script
        self.arguments = list(arguments or ())
        self.command = command
        self.framework = framework or "Python"
        self.communicator = communicator or "None"
        self.target: Any = "local"
        self.environment = Environment("unnamed")
        if conda_dependencies is not None:
            self.environment.python.conda_dependencies = conda_dependencies
        self.environment_variables: dict[str, Any] = {}
        self.node_count = 1
        self.priority: int | None = None
        self.docker = DockerConfiguration()
        self.mpi = MpiConfiguration()
        self.pytorch = PyTorchConfiguration()
        self.tensorflow = TensorflowConfiguration()
        self.amlcompute = AmlComputeConfiguration()
        self.data_references: dict[str, Any] = {}
        self.data: dict[str, Any] = {}
        self.output_data: dict[str, Any] = {}
        self.history = None
        self.max_run_duration_seconds: float | None = None
        self.source_directory_data_store: str | None = None

    def __repr__(self) -> str:
        return f"RunConfiguration(target={self.target!r}, environment={self.environment!r})"

    def save(self, path: str | Path | None = None, name: str | None = None, **unused: Any) -> None:
        """Write what is set into a `.runconfig` file."""
        import yaml

        saved = {
            "target": str(getattr(self.target, "name", self.target)),
            "environment": {"name": self.environment.name},
            "environmentVariables": dict(self.environment_variables),
            "nodeCount": self.node_count,
            "framework": self.framework,
            "communicator": self.communicator,
            "mpi": {"processCountPerNode": self.mpi.process_count_per_node},
            "pytorch": {"processCount": self.pytorch.process_count},
            "tensorflow": {
                "workerCount": self.tensorflow.worker_count,
                "parameterServerCount": self.tensorflow.parameter_server_count,
            },
        }
        folder = Path(path or ".") / ".azureml"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name or 'local'}.runconfig").write_text(yaml.safe_dump(saved))

    @staticmethod
    def load(path: str | Path, name: str | None = None) -> "RunConfiguration":
        """Read what `save` has written, and those keys of Azure's own files that mean something here.

        Raises:
            UserErrorException: E_PATH, there is none.
        """
        import yaml

        places = [Path(path)]
        if name:
            places = [Path(path) / d / f"{name}.runconfig" for d in (".azureml", "aml_config", ".")]
        for file in places:
            if file.is_file():
                found = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
                return _loaded({str(key).lower(): value for key, value in found.items()})
        raise UserErrorException(f"no runconfig at {places[0]}", code="E_PATH", where=str(path))


def _loaded(found: dict[str, Any]) -> RunConfiguration:
    result = RunConfiguration(
        script=found.get("script"),
        arguments=found.get("arguments"),
        framework=found.get("framework"),
        communicator=found.get("communicator"),
    )
    mpi, pytorch, tensorflow = (
        {str(key).lower(): value for key, value in (found.get(kind) or {}).items()}
        for kind in ("mpi", "pytorch", "tensorflow")
    )
    result.mpi = MpiConfiguration(int(mpi.get("processcountpernode") or 1))
    result.pytorch = PyTorchConfiguration(process_count=pytorch.get("processcount"))
    result.tensorflow = TensorflowConfiguration(
        int(tensorflow.get("workercount") or 1), int(tensorflow.get("parameterservercount") or 1)
    )
    result.target = found.get("target") or "local"
    result.node_count = int(found.get("nodecount") or 1)
    result.environment_variables = dict(found.get("environmentvariables") or {})
    environment = found.get("environment") or {}
    if environment.get("name"):
        result.environment = Environment.get(
            None, environment["name"], environment.get("version") or None
        )
    return result


def several_machines(runconfig: RunConfiguration, where: str) -> None:
    """Refuse what needs several machines for one step, whichever part of a runconfig asks for them.

    Raises:
        UserErrorException: E_UNSUPPORTED.
    """
    for asking in (runconfig, runconfig.mpi, runconfig.pytorch):
        if asking.node_count > 1:
            raise unsupported(
                f"node_count={asking.node_count} of {where}", "a step runs on one machine"
            )


__all__ = [
    "DEFAULT_CPU_IMAGE",
    "DEFAULT_GPU_IMAGE",
    "AmlComputeConfiguration",
    "CondaDependencies",
    "DockerConfiguration",
    "DockerSection",
    "Environment",
    "MpiConfiguration",
    "PyTorchConfiguration",
    "PythonSection",
    "RunConfiguration",
    "TensorflowConfiguration",
]
