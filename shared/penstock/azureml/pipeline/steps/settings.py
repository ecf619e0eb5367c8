"""What a step takes from its runconfig, and how its arguments become ours."""

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.azureml.core.distributing import Processes, chosen_environment, processes_of
from penstock.azureml.core.environment import Environment
from penstock.azureml.core.runconfig import RunConfiguration
from penstock.azureml.data.data_reference import DataPathComputeBinding
from penstock.azureml.data.datasets import AbstractDataset
from penstock.azureml.data.output_dataset_config import OutputTabularDatasetConfig, written_by
from penstock.azureml.exceptions import UserErrorException
from penstock.contracts.resources import Resources
from penstock.sdk.arguments import DataInput, OutputInput, PipelineParameter


def taken_from(
    runconfig: Any, compute_target: Any, chosen: Mapping[str, Any] | None, where: str
) -> dict[str, Any]:
    """Return what our steps are told of a runconfig: environment, target, variables, resources, time."""
    config = _configuration(runconfig, where)
    if config is None:
        if chosen:
            environment = chosen_environment(chosen, None, where)
            return {"compute_target": compute_target, "environment": environment}
        return {"compute_target": compute_target}
    target = compute_target if compute_target is not None else config.target
    environment = chosen_environment(chosen, config.environment, where)
    if isinstance(environment, Environment):
        environment = environment.spec() or None
    docker = config.docker
    return {
        "compute_target": target,
        "environment": environment,
        "environment_variables": config.environment_variables,
        "resources": Resources(shm_size=docker.shm_size or "", docker_args=tuple(docker.arguments)),
        "timeout_seconds": float(config.max_run_duration_seconds or 0),
    }


def processes(runconfig: Any, where: str) -> Processes:
    """Return the variables of each process that a runconfig asks for; none: one, without any."""
    config = _configuration(runconfig, where)
    return [] if config is None else processes_of(config, where)


def _configuration(runconfig: Any, where: str) -> RunConfiguration | None:
    config = getattr(runconfig, "run_config", runconfig)  # a ScriptRunConfig has one
    if config is not None and not isinstance(config, RunConfiguration):
        raise UserErrorException(
            f"{type(config).__name__} is no RunConfiguration", code="E_TYPE", where=where
        )
    return config


def argument(value: Any) -> Any:
    """Return one argument of a step as ours."""
    if isinstance(value, tuple) and len(value) == 2:  # noqa: PLR2004 - (parameter, its binding)
        parameter, binding = value
        if isinstance(parameter, PipelineParameter) and isinstance(binding, DataPathComputeBinding):
            held = parameter.default_value
            assert isinstance(held, DataInput), held  # noqa: S101 - our PipelineParameter made it
            return DataInput(parameter.name, held.place, parameter=parameter)
    if isinstance(value, PipelineParameter) and isinstance(value.default_value, DataInput):
        return DataInput(value.name, value.default_value.place, parameter=value)
    if isinstance(value, AbstractDataset):
        raise UserErrorException(
            "a dataset without a name", code="E_TYPE", hint="dataset.as_named_input('name')"
        )
    return written_by(value)


def arguments(values: Sequence[Any] | None, written: Any = None) -> list[Any]:
    """Return the arguments of a step as ours; None among them is left out as v1 does.

    `written`: what the step lists as its outputs; a dataset of such an output is the output here.
    """
    mine = {id(value.output) for value in written or () if isinstance(value, OutputInput)}
    found = [argument(value) for value in values or () if value is not None]
    return [
        value.output if isinstance(value, OutputInput) and id(value.output) in mine else value
        for value in found
    ]


def listed_inputs(values: Any) -> Any:
    """Return the inputs of a step as ours."""
    if isinstance(values, Mapping):
        return {key: listed_input(value) for key, value in values.items()}
    return [listed_input(value) for value in values or ()]


def listed_input(value: Any) -> Any:
    """Return one input of a step as ours; a table output is read as the table that it is."""
    if isinstance(value, OutputTabularDatasetConfig):
        return value.as_input()
    return argument(value)


def outputs(values: Any) -> list[Any]:
    """Return the outputs of a step as ours."""
    return [
        value.output if isinstance(value, OutputInput) else written_by(value)
        for value in values or ()
    ]
