"""One script or command as a run of its own."""

from pathlib import Path
from typing import Any

from penstock.azureml.core.distributing import distributed
from penstock.azureml.core.environment import Environment
from penstock.azureml.core.runconfig import RunConfiguration


class ScriptRunConfig:
    """A script (or command), its arguments, and how it runs."""

    def __init__(
        self,
        source_directory: str | Path | None = None,
        script: str | None = None,
        arguments: Any = None,
        run_config: RunConfiguration | None = None,
        compute_target: Any = None,
        environment: Environment | None = None,
        distributed_job_config: Any = None,
        resume_from: Any = None,
        max_run_duration_seconds: float | None = 2592000,
        command: Any = None,
        docker_runtime_config: Any = None,
        **unused: Any,
    ) -> None:
        self.source_directory = source_directory or "."
        self.script = script
        self.arguments = list(arguments or ())
        self.command = command
        self.run_config = distributed(run_config or RunConfiguration(), distributed_job_config)
        if compute_target is not None:
            self.run_config.target = compute_target
        if environment is not None:
            self.run_config.environment = environment
        if docker_runtime_config is not None:
            self.run_config.docker = docker_runtime_config
        if max_run_duration_seconds:
            self.run_config.max_run_duration_seconds = max_run_duration_seconds


__all__ = ["ScriptRunConfig"]
