"""Python steps become specs: names are resolved, local files noted for upload. Pure but for looking at paths."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from penstock.contracts.spec import EnvironmentSpec, Input, Output, Scalar, StepSpec
from penstock.errors import Invalid
from penstock.sdk.arguments import (
    DataInput,
    OutputFileDatasetConfig,
    OutputInput,
    PipelineParameter,
)
from penstock.sdk.definition import Local, Place
from penstock.sdk.steps import PipelineStep


@dataclass
class Lowering:
    """What is learnt while the steps of one pipeline become specs."""

    names: Mapping[int, str]
    """id of a step → its name in this pipeline."""
    published: Mapping[int, str]
    """id of an output → its name as an output of the pipeline."""
    parameters: dict[str, PipelineParameter] = field(default_factory=dict)
    local: list[Local] = field(default_factory=list)
    sources: set[tuple[Path, str]] = field(default_factory=set)
    """(folder, script) that were looked at: a thousand steps often share one."""


def step_spec(step: PipelineStep, name: str, known: Lowering) -> StepSpec:
    """Return a step's spec; its parameters and local files are added to `known`.

    Raises:
        Invalid: E_PATH, E_REF or E_PARAM.
    """
    names, local = known.names, known.local
    place: Place = ("steps", name)
    if step.source_directory is not None:
        local.append(Local((*place, "code"), _source(step, known), step.hash_paths))
    inputs: dict[str, Input | Scalar | None] = {}
    for key, value in step.inputs.items():
        match value:
            case PipelineParameter():
                inputs[key] = _parameter(value, known, f"{name}.inputs.{key}")
            case DataInput(parameter=PipelineParameter() as chosen):
                _parameter(chosen, known, f"{name}.inputs.{key}")
                bound = f"${{{{parent.inputs.{chosen.name}}}}}"
                inputs[key] = msgspec.structs.replace(value.declared(), path=bound)
            case DataInput():
                inputs[key] = data_input(value, (*place, "inputs", key), local)
            case OutputInput():
                inputs[key] = _edge(value, names, f"{name}.inputs.{key}")
            case Path():
                inputs[key] = local_input(value, (*place, "inputs", key), local)
            case OutputFileDatasetConfig():
                raise AssertionError(value)  # _as_input has wrapped it
            case _:
                inputs[key] = value
    outputs: dict[str, Output | str | None] = {}
    for key, output in step.outputs.items():
        binding = known.published.get(id(output))
        if binding is None:
            outputs[key] = _output(output, "")
        else:
            outputs[key] = _output(output, f"${{{{parent.outputs.{binding}}}}}")
    return StepSpec(
        command=step.command(),
        hash_paths=step.hash_paths,
        inputs=inputs,
        outputs=outputs,
        environment=_environment(step),
        resources=step.resources,
        environment_variables=step.variables,
        compute=step.compute,
        limits=step.limits,
        needs=tuple(dict.fromkeys(_name_in(other, names, name) for other in step.after)),
        is_deterministic=step.allow_reuse,
        display_name=step.display_name if step.display_name != name else "",
    )


def _environment(step: PipelineStep) -> str | EnvironmentSpec:
    """Return what a step runs in; a name chosen at submission is the pipeline's parameter."""
    text = step.environment
    if isinstance(text, str) and text.startswith("${{inputs."):
        return text.replace("${{inputs.", "${{parent.inputs.")
    return text


def _parameter(value: PipelineParameter, known: Lowering, where: str) -> str:
    """Note a parameter of the pipeline and return the expression of its value."""
    other = known.parameters.setdefault(value.name, value)
    if other is not value and not _equal(other.default_value, value.default_value):
        raise Invalid(
            f"two parameters are called {value.name!r}, with different defaults",
            code="E_PARAM",
            where=where,
        )
    return f"${{{{parent.inputs.{value.name}}}}}"


def _equal(one: object, other: object) -> bool:
    if isinstance(one, DataInput) and isinstance(other, DataInput):
        return one.same(other)
    return one == other


def _output(output: OutputFileDatasetConfig, binding: str) -> Output | str | None:
    """Return a step's output; one that is the pipeline's as well says there where it goes."""
    if not binding:
        return declared_output(output)
    if output.type == "uri_folder":
        return binding
    return Output(type=output.declared().type, path=binding)


def declared_output(output: OutputFileDatasetConfig) -> Output | None:
    """Return an output as a spec declares it; None for a folder of which nothing else is said."""
    declared = output.declared()
    return None if declared == Output() else declared


def _edge(value: OutputInput, names: Mapping[int, str], where: str) -> str:
    producer = value.output.producer
    if producer is None:
        raise Invalid(
            f"no step writes {value.output.name or 'the output'!r}", code="E_REF", where=where
        )
    return f"${{{{parent.jobs.{_name_in(producer, names, where)}.outputs.{value.output.name}}}}}"


def _name_in(step: PipelineStep, names: Mapping[int, str], where: str) -> str:
    if id(step) not in names:
        raise Invalid(
            f"step {step.name!r} is needed and not part of the pipeline", code="E_REF", where=where
        )
    return names[id(step)]


def _source(step: PipelineStep, known: Lowering) -> Path:
    folder = step.source_directory
    assert folder is not None  # noqa: S101 - asked before
    script = getattr(step, "script_name", "")
    if (folder, script) in known.sources:
        return folder
    if not folder.is_dir():
        raise Invalid(
            f"{folder} is no folder", code="E_PATH", where=f"{step.name}.source_directory"
        )
    if script and not (folder / script).is_file():
        raise Invalid(
            f"there is no {script} in {folder.resolve()}",
            code="E_PATH",
            where=f"{step.name}.script_name",
            hint="script_name is relative to source_directory",
        )
    known.sources.add((folder, script))
    return folder


def data_input(data: DataInput, place: Place, local: list[Local]) -> Input:
    """Return the input that data is; a file or folder of this machine is noted in `local` for upload.

    Raises:
        Invalid: E_PATH, there is none.
    """
    if isinstance(data.place, Path):
        found = local_input(data.place, place, local)
        kind = data.declared().type if data.type else found.type
        return msgspec.structs.replace(found, type=kind, mode=data.mode)
    return data.declared()


def local_input(path: Path, place: Place, local: list[Local]) -> Input:
    """Return the input that a local file or folder is, noted in `local` for upload.

    Raises:
        Invalid: E_PATH, there is none.
    """
    if not path.exists():
        raise Invalid(f"{path} does not exist", code="E_PATH", where=".".join(place))
    local.append(Local(place, path))
    return Input(type="uri_folder" if path.is_dir() else "uri_file")
