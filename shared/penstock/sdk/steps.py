"""Steps in Python, named and shaped as in SDK v1."""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from penstock.contracts.resources import Resources
from penstock.contracts.spec import EnvironmentSpec, Limits
from penstock.errors import Invalid
from penstock.ids import checked_name
from penstock.sdk.arguments import (
    Argument,
    DataInput,
    OutputFileDatasetConfig,
    OutputInput,
    PipelineParameter,
)
from penstock.sdk.names import distinct, name_from


class PipelineStep:
    """What all steps have. Use `PythonScriptStep` or `CommandStep`."""

    def __init__(
        self,
        *,
        name: str,
        inputs: Sequence[Argument] | Mapping[str, Argument] | None,
        outputs: Sequence[OutputFileDatasetConfig] | None,
        params: Mapping[str, Argument] | None,
        source_directory: str | Path | None,
        allow_reuse: bool,
        version: str | None,
        hash_paths: Sequence[str] | None,
        compute_target: object,
        environment: "str | EnvironmentSpec | PipelineParameter | None",
        resources: Resources | None,
        environment_variables: Mapping[str, Argument] | None,
        timeout_seconds: float,
        retries: int,
        deadline_seconds: float,
        expected_seconds: float,
    ) -> None:
        self.display_name = name
        self.name = name_from(name)
        self.source_directory = None if source_directory is None else Path(source_directory)
        self.allow_reuse = allow_reuse
        self.hash_paths = tuple(hash_paths or ())
        self.compute = _compute_name(compute_target)
        self.limits = Limits(
            timeout=timeout_seconds,
            retries=retries,
            deadline=deadline_seconds,
            expected=expected_seconds,
        )
        self.after: list[PipelineStep] = []
        self.inputs: dict[str, Argument] = {}
        self.outputs: dict[str, OutputFileDatasetConfig] = {}
        self.variables: dict[str, str] = {}
        if version:
            self.variables["AML_STEP_VERSION"] = version  # another version is another step
        self._listed: list[object] = []
        for key, value in _pairs(inputs):
            self._listed.append(value.output if isinstance(value, OutputInput) else value)
            self._input(_as_input(value), key)
        for output in outputs or ():
            self._output(output)
        self.resources = resources or Resources()
        self.environment: str | EnvironmentSpec = ""
        if isinstance(environment, PipelineParameter):
            self.environment = self._text(environment)
        elif environment is not None:
            self.environment = environment
        for key, value in (environment_variables or {}).items():
            self.variables[key] = self._text(value)
        for key, value in (params or {}).items():
            self.variables[f"AML_PARAMETER_{key}"] = self._text(value)

    def run_after(self, step: "PipelineStep") -> None:
        """Start only after `step` has ended, without data from it."""
        self.after.append(step)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.display_name!r})"

    # -- what the step's command is made of -----------------------------------------------------------

    def command(self) -> str:
        """Return the command line, with its ${{…}} still inside."""
        raise NotImplementedError

    def _text(self, value: Argument) -> str:
        """Return a value as text with expressions, for a variable."""
        match value:
            case PipelineParameter() | OutputInput() | Path() | DataInput():
                return f"${{{{inputs.{self._input(value)}}}}}"
            case OutputFileDatasetConfig():
                return self._reference(value)
        return str(value)

    def _word(self, value: Argument) -> str:
        """Return a value as one word of a shell command."""
        match value:
            case PipelineParameter():
                name = self._input(value)
                if isinstance(value.default_value, str):
                    # A variable is never taken apart by the shell, whatever the text holds.
                    return f'"$AZUREML_PARAMETER_{name}"'
                quote = '"' if isinstance(value.default_value, Path | DataInput) else ""
                return f"{quote}${{{{inputs.{name}}}}}{quote}"
            case OutputInput() | Path() | DataInput():
                return f'"${{{{inputs.{self._input(value)}}}}}"'
            case OutputFileDatasetConfig():
                return f'"{self._reference(value)}"'
        return shlex.quote(str(value))

    def _reference(self, value: OutputFileDatasetConfig) -> str:
        """Return the expression of an output that stands as it is: ours to write, or listed as input."""
        foreign = value.producer is not None and value.producer is not self
        if foreign or value in self._listed:
            return f"${{{{inputs.{self._input(value.as_input())}}}}}"
        return f"${{{{outputs.{self._output(value)}}}}}"

    def _input(self, value: Argument, name: str = "") -> str:
        """Make `value` an input, if it is none yet, and return its name."""
        for known, other in self.inputs.items():
            if _same(value, other) and name in ("", known):
                return known
        name = name or _input_name(value)
        if name in self.inputs:
            name = distinct(name, self.inputs)
        self.inputs[checked_name(name, f"{self.name}.inputs")] = value
        return name

    def _output(self, value: OutputFileDatasetConfig) -> str:
        if value.producer is None:
            value.producer = self
            value.name = value.name or distinct("output", self.outputs)
        elif value.producer is not self:
            raise Invalid(
                f"output {value.name!r} is written by {value.producer.name!r} already",
                code="E_OUTPUT_CLASH",
                where=self.name,
                hint="use `.as_input()` to read it",
            )
        other = self.outputs.setdefault(value.name, value)
        if other is not value:
            raise Invalid(
                f"two outputs are called {value.name!r}", code="E_OUTPUT_CLASH", where=self.name
            )
        return value.name


class PythonScriptStep(PipelineStep):
    """Runs a Python script of `source_directory` (default: the current folder), which is uploaded whole.

    `arguments` are its words: texts and numbers as they are, a `Path` as an uploaded input, a
    `PipelineParameter` as its value, an `OutputFileDatasetConfig` as the path of a folder to write, its
    `.as_input()` as the path of the folder that another step wrote. `inputs` and `outputs` name what
    stands in no argument; `params` become variables AML_PARAMETER_<name>.

    `allow_reuse`: take an earlier result of the same bytes, arguments and inputs. `hash_paths`: only
    these of the source count for that. `version`: another one is another step. `compute_target`: the
    name of a target that an executor serves. `timeout_seconds`: of one attempt, 0: none. `retries`:
    attempts after the first. `deadline_seconds`: from the step's turn to its end, waiting and retries
    included. `expected_seconds`: an attempt that takes longer is told as overdue. `environment`: what it
    runs in, by name or spec; a `PipelineParameter` chooses its name at submission. `resources`: what it
    asks of its machine. `runconfig` and
    `runconfig_pipeline_params` are not used here; `penstock.azureml` reads them.

    Raises:
        Invalid: E_ID, a name that is none; E_OUTPUT_CLASH, another step writes this output.
    """

    def __init__(  # noqa: PLR0917 - SDK v1's order
        self,
        script_name: str,
        name: str | None = None,
        arguments: Sequence[Argument] | None = None,
        compute_target: object = None,
        runconfig: object = None,
        runconfig_pipeline_params: object = None,
        inputs: Sequence[Argument] | Mapping[str, Argument] | None = None,
        outputs: Sequence[OutputFileDatasetConfig] | None = None,
        params: Mapping[str, Argument] | None = None,
        source_directory: str | Path | None = None,
        allow_reuse: bool = True,
        version: str | None = None,
        hash_paths: Sequence[str] | None = None,
        *,
        environment: str | EnvironmentSpec | PipelineParameter | None = None,
        resources: Resources | None = None,
        environment_variables: Mapping[str, Argument] | None = None,
        timeout_seconds: float = 0,
        retries: int = 0,
        deadline_seconds: float = 0,
        expected_seconds: float = 0,
    ) -> None:
        super().__init__(
            name=name or script_name,
            inputs=inputs,
            outputs=outputs,
            params=params,
            source_directory=source_directory or ".",
            allow_reuse=allow_reuse,
            version=version,
            hash_paths=hash_paths,
            compute_target=compute_target,
            environment=environment,
            resources=resources,
            environment_variables=environment_variables,
            timeout_seconds=timeout_seconds,
            retries=retries,
            deadline_seconds=deadline_seconds,
            expected_seconds=expected_seconds,
        )
        self.script_name = script_name
        self.words = [self._word(value) for value in arguments or ()]

    def command(self) -> str:
        """Return the command line: python, the script, its arguments."""
        return " ".join(["python", shlex.quote(self.script_name), *self.words])


class CommandStep(PipelineStep):
    """Runs a command by the shell: a text, or a list of texts and data."""

    def __init__(  # noqa: PLR0917 - SDK v1's order
        self,
        command: str | Sequence[Argument] | None = None,
        name: str | None = None,
        compute_target: object = None,
        runconfig: object = None,
        runconfig_pipeline_params: object = None,
        inputs: Sequence[Argument] | Mapping[str, Argument] | None = None,
        outputs: Sequence[OutputFileDatasetConfig] | None = None,
        params: Mapping[str, Argument] | None = None,
        source_directory: str | Path | None = None,
        allow_reuse: bool = True,
        version: str | None = None,
        *,
        hash_paths: Sequence[str] | None = None,
        environment: str | EnvironmentSpec | PipelineParameter | None = None,
        resources: Resources | None = None,
        environment_variables: Mapping[str, Argument] | None = None,
        timeout_seconds: float = 0,
        retries: int = 0,
        deadline_seconds: float = 0,
        expected_seconds: float = 0,
    ) -> None:
        if not command:
            raise Invalid("no command", code="E_MISSING", where="CommandStep")
        parts: list[Argument] = [command] if isinstance(command, str) else list(command)
        super().__init__(
            name=name or re.split(r"\s", str(parts[0]).strip())[0],
            inputs=inputs,
            outputs=outputs,
            params=params,
            source_directory=source_directory,
            allow_reuse=allow_reuse,
            version=version,
            hash_paths=hash_paths,
            compute_target=compute_target,
            environment=environment,
            resources=resources,
            environment_variables=environment_variables,
            timeout_seconds=timeout_seconds,
            retries=retries,
            deadline_seconds=deadline_seconds,
            expected_seconds=expected_seconds,
        )
        # Texts are pieces of a shell command, as in SDK v1; only values are made safe.
        self._command = " ".join(p if isinstance(p, str) else self._word(p) for p in parts)

    def command(self) -> str:
        """Return the command line."""
        return self._command


def _pairs(
    inputs: Sequence[Argument] | Mapping[str, Argument] | None,
) -> Iterable[tuple[str, Argument]]:
    if inputs is None:
        return ()
    if isinstance(inputs, Mapping):
        return inputs.items()
    return [("", value) for value in inputs]


def _as_input(value: Argument) -> Argument:
    return value.as_input() if isinstance(value, OutputFileDatasetConfig) else value


def _input_name(value: Argument) -> str:
    match value:
        case PipelineParameter():
            return value.name
        case OutputInput():
            return value.name or value.output.name or "input"
        case DataInput():
            return value.name or (value.parameter.name if value.parameter else "data")
        case Path():
            return name_from(value.stem).replace("-", "_") or "data"
    return "input"


def _same(one: Argument, other: Argument) -> bool:
    """Say whether two arguments are one input; an `as_input` without a name is any of that output."""
    if isinstance(one, OutputInput) and isinstance(other, OutputInput):
        return one.output is other.output and (one.name in ("", other.name) or not other.name)
    if isinstance(one, PipelineParameter) and isinstance(other, PipelineParameter):
        return one.name == other.name
    if isinstance(one, DataInput) and isinstance(other, DataInput):
        return one.name == other.name and one.same(other)
    return isinstance(one, Path) and isinstance(other, Path) and one == other


def _compute_name(target: object) -> str:
    if target is None:
        return ""
    name = str(getattr(target, "name", target))
    return "" if name in ("local", "serverless") else checked_name(name, "compute_target")
