"""How many processes a runconfig asks for: v1's `communicator` and what is said of each."""

import copy
from typing import Any

from penstock.azureml.core.runconfig import (
    MpiConfiguration,
    PyTorchConfiguration,
    RunConfiguration,
    TensorflowConfiguration,
    several_machines,
)
from penstock.azureml.exceptions import UserErrorException, unsupported
from penstock.sdk.distribution import ranked, tensorflow

Processes = list[dict[str, str]]
_MPI = ("mpi", "openmpi", "intelmpi")
_PYTORCH = ("nccl", "gloo")
_TENSORFLOW = ("parameterserver",)


def distributed(config: RunConfiguration, wish: Any) -> RunConfiguration:
    """Return a copy of a runconfig whose processes are those of a `distributed_job_config`.

    A copy, as v1 makes one: another script of the same runconfig is not to get these processes.

    Raises:
        UserErrorException: E_TYPE, it is none; E_UNSUPPORTED, it asks for several machines.
    """
    config = copy.copy(config)
    match wish:
        case None:
            return config
        case MpiConfiguration():
            config.mpi, config.communicator = wish, "OpenMpi"
        case PyTorchConfiguration():
            config.pytorch, config.communicator = wish, wish.communication_backend
            config.framework = "PyTorch"
        case TensorflowConfiguration():
            config.tensorflow, config.communicator = wish, "ParameterServer"
            config.framework = "TensorFlow"
        case _:
            raise UserErrorException(
                f"{type(wish).__name__} is no distributed_job_config",
                code="E_TYPE",
                where="ScriptRunConfig",
                hint="MpiConfiguration, PyTorchConfiguration or TensorflowConfiguration",
            )
    several_machines(config, "ScriptRunConfig")
    return config


def processes_of(config: RunConfiguration, where: str) -> Processes:
    """Return the variables of each process that a runconfig asks for; none: the command as it is.

    Raises:
        UserErrorException: E_UNSUPPORTED, an unknown communicator, or processes without one.
        Invalid: E_RANGE, a number of processes that cannot be.
    """
    spoken = str(config.communicator or "None").lower()
    mpi = _counted(config.mpi.process_count_per_node, 1, "process_count_per_node", where)
    pytorch = _counted(config.pytorch.process_count or 1, 1, "process_count", where)
    workers = _counted(config.tensorflow.worker_count, 1, "worker_count", where)
    servers = _counted(config.tensorflow.parameter_server_count, 0, "parameter_server_count", where)
    several_machines(config, where)
    if spoken in _MPI:
        return ranked("mpi", mpi, mpi, 1)
    if spoken in _PYTORCH:
        return ranked("pytorch", pytorch, pytorch, 1)
    if spoken in _TENSORFLOW:
        return tensorflow(workers, servers)
    if spoken != "none":
        raise unsupported(
            f"communicator {config.communicator!r} of {where}",
            "OpenMpi, IntelMpi, Nccl, Gloo or ParameterServer",
        )
    for asked, kind, communicator in (
        (mpi, "mpi", "OpenMpi"),
        (pytorch, "pytorch", "Nccl"),
        (workers, "tensorflow", "ParameterServer"),
    ):
        if asked > 1:
            raise unsupported(
                f"{asked} processes in runconfig.{kind} of {where}, without a communicator,",
                f"runconfig.communicator = {communicator!r}, or distributed_job_config=…",
            )
    return []


def chosen_environment(chosen: Any, environment: Any, where: str) -> Any:
    """Return the environment of a step, where `runconfig_pipeline_params` may choose another.

    Raises:
        UserErrorException: E_UNSUPPORTED, a parameter that chooses anything else.
    """
    for name, parameter in (chosen or {}).items():
        if name.lower() not in ("environment", "environmentname"):
            raise unsupported(
                f"{name!r} among the runconfig_pipeline_params of {where}",
                "only the environment is chosen at submission; set the rest in the RunConfiguration",
            )
        environment = parameter
    return environment


def _counted(count: Any, least: int, name: str, where: str) -> int:
    if isinstance(count, bool) or not isinstance(count, int) or count < least:
        raise UserErrorException(
            f"{name}={count!r}; allowed: a whole number from {least} on",
            code="E_RANGE",
            where=where,
        )
    return count


__all__ = ["chosen_environment", "distributed", "processes_of"]
