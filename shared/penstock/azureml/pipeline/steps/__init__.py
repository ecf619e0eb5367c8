"""`azureml.pipeline.steps`: kinds of steps. Those that need a service of Azure's are refused by name."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from penstock.azureml.exceptions import UserErrorException, unsupported
from penstock.azureml.pipeline.steps.settings import (
    argument,
    arguments,
    listed_inputs,
    outputs,
    processes,
    taken_from,
)
from penstock.sdk import steps as ours
from penstock.sdk.distribution import side_by_side


class PythonScriptStep(ours.PythonScriptStep):
    """Runs a Python script, in as many processes as its runconfig asks for."""

    def __init__(
        self,
        script_name: str,
        name: str | None = None,
        arguments: Sequence[Any] | None = None,
        compute_target: Any = None,
        runconfig: Any = None,
        runconfig_pipeline_params: Mapping[str, Any] | None = None,
        inputs: Any = None,
        outputs: Any = None,
        params: Mapping[str, Any] | None = None,
        source_directory: str | Path | None = None,
        allow_reuse: bool = True,
        version: str | None = None,
        hash_paths: Sequence[str] | None = None,
    ) -> None:
        self.runconfig = runconfig
        self._processes = processes(runconfig, name or script_name)
        super().__init__(
            script_name,
            name,
            _arguments(arguments, outputs),
            inputs=listed_inputs(inputs),
            outputs=_outputs(outputs),
            params={key: argument(value) for key, value in (params or {}).items()},
            source_directory=source_directory,
            allow_reuse=allow_reuse,
            version=version,
            hash_paths=hash_paths,
            **taken_from(runconfig, compute_target, runconfig_pipeline_params, name or script_name),
        )

    def command(self) -> str:
        """Return the command line."""
        return _started(super().command(), self)


_arguments, _outputs = arguments, outputs  # hidden inside the constructors by v1's names


class CommandStep(ours.CommandStep):
    """Runs a command; `runconfig` may be a `ScriptRunConfig` that holds all of it."""

    def __init__(
        self,
        command: Any = None,
        name: str | None = None,
        compute_target: Any = None,
        runconfig: Any = None,
        runconfig_pipeline_params: Mapping[str, Any] | None = None,
        inputs: Any = None,
        outputs: Any = None,
        params: Mapping[str, Any] | None = None,
        source_directory: str | Path | None = None,
        allow_reuse: bool = True,
        version: str | None = None,
    ) -> None:
        self.runconfig = runconfig
        self._processes = processes(runconfig, name or "command")
        command = command or getattr(runconfig, "command", None)
        source_directory = source_directory or getattr(runconfig, "source_directory", None)
        parts = [command] if isinstance(command, str) else _arguments(command, outputs)
        super().__init__(
            parts or None,
            name,
            inputs=listed_inputs(inputs),
            outputs=_outputs(outputs),
            params={key: argument(value) for key, value in (params or {}).items()},
            source_directory=source_directory,
            allow_reuse=allow_reuse,
            version=version,
            **taken_from(runconfig, compute_target, runconfig_pipeline_params, name or "command"),
        )

    def command(self) -> str:
        """Return the command line."""
        return _started(super().command(), self)


class ModuleStep(ours.PythonScriptStep):
    """A step made of a `Module`: `inputs_map` and `outputs_map` give its ports their data."""

    def __init__(
        self,
        module: Any = None,
        version: str | None = None,
        module_version: Any = None,
        inputs_map: Mapping[str, Any] | None = None,
        outputs_map: Mapping[str, Any] | None = None,
        compute_target: Any = None,
        runconfig: Any = None,
        runconfig_pipeline_params: Mapping[str, Any] | None = None,
        arguments: Sequence[Any] | None = None,
        params: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> None:
        if module is None and module_version is None:
            raise UserErrorException("no module", code="E_MISSING", where="ModuleStep")
        chosen = module_version if module_version is not None else module.resolve(version)
        self._processes = processes(runconfig or chosen.runconfig, name or chosen.name)
        given_inputs = {port: argument(v) for port, v in (inputs_map or {}).items()}
        given_outputs = {port: argument(v) for port, v in (outputs_map or {}).items()}
        words = arguments if arguments is not None else chosen.arguments
        ports = {**given_inputs, **given_outputs}
        super().__init__(
            chosen.script_name,
            name or chosen.name,
            [
                ports.get(word, word) if isinstance(word, str) else argument(word)
                for word in chosen.words(words)
            ],
            inputs=given_inputs,
            outputs=list(given_outputs.values()),
            params={k: argument(v) for k, v in {**chosen.params, **(params or {})}.items()},
            source_directory=chosen.source_directory,
            **taken_from(
                runconfig or chosen.runconfig,
                compute_target,
                runconfig_pipeline_params,
                name or chosen.name,
            ),
        )

    def command(self) -> str:
        """Return the command line."""
        return _started(super().command(), self)


def _started(command: str, step: "PythonScriptStep | CommandStep | ModuleStep") -> str:
    """Return a step's command, once for each of its processes."""
    told = step._processes  # noqa: SLF001 - one room
    return side_by_side(command, told, step.name) if told else command


class _Refused:
    """A kind of step that is not there; refused when it is made, with what to do instead."""

    instead = "run the work in a PythonScriptStep or CommandStep"

    def __init__(self, *given: Any, **named: Any) -> None:
        raise unsupported(type(self).__name__, self.instead)


class ParallelRunStep(_Refused):
    """A parallel step is one of YAML, or of SDK v2: v1's is configured by other words."""

    instead = (
        "write the pipeline in YAML, with a step of type parallel, or with azure.ai.ml.parallel"
    )


class ParallelRunConfig(_Refused):
    """Goes with a `ParallelRunStep`."""

    instead = ParallelRunStep.instead


class HyperDriveStep(_Refused):
    """A sweep is a step of YAML, or of SDK v2: v1's is configured by other words."""

    instead = "write the pipeline in YAML, with a step of type sweep, or with azure.ai.ml.sweep"


class AutoMLStep(_Refused):
    """Needs Azure's AutoML."""

    instead = "search in a PythonScriptStep"


class MpiStep(_Refused):
    """Needs several machines for one step."""


class EstimatorStep(_Refused):
    """Retired by Azure as well."""

    instead = "use PythonScriptStep with a RunConfiguration"


class RScriptStep(_Refused):
    """Use a command."""

    instead = 'use CommandStep(command=["Rscript", "script.R", …])'


class DataTransferStep(_Refused):
    """Needs Azure Data Factory."""

    instead = "give an OutputFileDatasetConfig a destination"


class DatabricksStep(_Refused):
    """Needs Databricks."""


class SynapseSparkStep(_Refused):
    """Needs Synapse."""


class KustoStep(_Refused):
    """Needs Azure Data Explorer."""


class AdlaStep(_Refused):
    """Its service is gone."""


class AzureBatchStep(_Refused):
    """Needs Azure Batch."""


class NotebookRunnerStep(_Refused):
    """Use papermill in a command."""

    instead = 'use CommandStep(command=["papermill", …])'


__all__ = [
    "AdlaStep",
    "AutoMLStep",
    "AzureBatchStep",
    "CommandStep",
    "DataTransferStep",
    "DatabricksStep",
    "EstimatorStep",
    "HyperDriveStep",
    "KustoStep",
    "ModuleStep",
    "MpiStep",
    "NotebookRunnerStep",
    "ParallelRunConfig",
    "ParallelRunStep",
    "PythonScriptStep",
    "RScriptStep",
    "SynapseSparkStep",
]
