"""Calls of `@step` functions become steps, and a `@pipeline` function a definition."""

import inspect
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from penstock.contracts.resources import Resources
from penstock.contracts.spec import EnvironmentSpec
from penstock.errors import Invalid
from penstock.sdk.arguments import OutputFileDatasetConfig, PipelineParameter
from penstock.sdk.definition import Definition
from penstock.sdk.functions import (
    Call,
    Parameter,
    PipelineFunction,
    Result,
    argument_kind,
    building,
    kind_of,
    members_of,
)
from penstock.sdk.names import name_from
from penstock.sdk.pipeline import Pipeline
from penstock.sdk.steps import PipelineStep
from penstock.sdk.yaml_environments import conda_content, conda_document, requirement_lines

_TYPES: dict[Any, str] = {int: "integer", float: "number", bool: "boolean", str: "string"}
"""What an annotation of a pipeline's parameter declares; everything else is data."""


class FunctionStep(PipelineStep):
    """A step that calls a function of a source file, whose folder is uploaded whole."""

    def __init__(self, call: Call, made: Mapping[int, "FunctionStep"]) -> None:
        step, settings = call.step, call.step.settings
        source = Path(step.function.__code__.co_filename).resolve()
        inputs, given = _inputs(call, made)
        super().__init__(
            name=step.name,
            inputs=inputs,
            outputs=[
                OutputFileDatasetConfig(
                    name, type="uri_file" if kind_of(hint) == "file" else "uri_folder"
                )
                for name, hint in step.outputs.items()
            ],
            params=None,
            source_directory=source.parent,
            allow_reuse=settings["reuse"],
            version=None,
            hash_paths=None,
            compute_target=settings["compute"] or None,
            environment=_environment(settings["environment"], source.parent, step.name),
            resources=Resources(
                cores=settings["cores"], memory=settings["memory"], gpus=settings["gpus"]
            ),
            environment_variables=settings["variables"],
            timeout_seconds=settings["timeout_seconds"],
            retries=settings["retries"],
            deadline_seconds=0,
            expected_seconds=0,
        )
        self.script_name = source.name
        self._given = given

    def command(self) -> str:
        """Return the command line: our module, the file, the function."""
        words = [
            "python",
            "-m",
            "penstock.sdk.calling",
            self.script_name,
            self.display_name,
            *self._given,
        ]
        return shlex.join(words)


def definition_of(function: PipelineFunction) -> Definition:
    """Return the pipeline that a function puts together.

    Raises:
        Invalid: E_EMPTY, E_INPUT, E_TYPE and what any pipeline may lack.
    """
    parameters: dict[str, Parameter] = {}
    for name, parameter in inspect.signature(function.function).parameters.items():
        parameters[name] = Parameter(name, parameter.default)
    calls: list[Call] = []
    token = building.set(calls)
    try:
        returned = function.function(**parameters)
    finally:
        building.reset(token)
    made: dict[int, FunctionStep] = {}
    for call in calls:
        made[id(call)] = FunctionStep(call, made)
    outputs = {
        name: made[id(call)].outputs[output] for name, call, output in _offered(returned, function)
    }
    settings = function.settings
    pipeline = Pipeline(
        steps=list(made.values()),
        description=settings["description"] or inspect.getdoc(function.function),
        name=name_from(function.name),
        outputs=outputs,
        continue_on_step_failure=settings["continue_on_step_failure"],
    )
    found = pipeline.definition()
    hints = inspect.get_annotations(function.function, eval_str=True)
    return _with_types(found, parameters, hints)


def _with_types(
    definition: Definition, parameters: Mapping[str, Parameter], hints: Mapping[str, Any]
) -> Definition:
    """Return the definition with what the function's annotations say of its parameters.

    A default of None is none that could travel: such a parameter is optional, and steps get None.
    """
    from dataclasses import replace

    from penstock.contracts.spec import Input

    inputs = dict(definition.spec.inputs)
    for name, parameter in parameters.items():
        if name not in inputs or parameter.has_value:
            continue
        if name not in hints:
            raise Invalid(
                f"parameter {name!r} has neither an annotation nor a default that tells what it is",
                code="E_TYPE",
                where=f"{definition.spec.name}({name})",
                hint=f"write {name}: int, {name}: File, …",
            )
        kind = _type_of(hints[name], f"{definition.spec.name}({name})")
        declared = {"type": kind, "optional": parameter.default is None}
        inputs[name] = msgspec.convert(declared, Input)
    spec = msgspec.structs.replace(definition.spec, inputs=inputs)
    return replace(definition, spec=spec)


def _type_of(annotation: Any, where: str) -> str:
    """Return the type of a pipeline's input; None in a union says nothing of it."""
    members = members_of(annotation)
    found = {_TYPES.get(member, "") for member in members}
    if found <= {"integer", "number"}:
        return "integer" if found == {"integer"} else "number"
    if found == {""}:
        return "uri_file" if argument_kind(annotation) == "file" else "uri_folder"
    if len(found) == 1:
        return found.pop()
    raise Invalid(
        f"{annotation} may be several things; a parameter without a default is one",
        code="E_TYPE",
        where=where,
        hint="annotate it as one of them",
    )


def _inputs(call: Call, made: Mapping[int, FunctionStep]) -> tuple[dict[str, Any], list[str]]:
    """Return a step's inputs, and the arguments that it is called with, as penstock.sdk.calling reads them."""
    step = call.step
    inputs: dict[str, Any] = {}
    words: list[str] = []
    hints = step.hints
    for name, value in call.arguments.items():
        where = f"{step.name}({name})"
        kind = argument_kind(hints.get(name, Any))
        optional = isinstance(value, Parameter) and value.default is None
        if value is None:
            words.append(f"{name}=")
            continue
        words.append(f"{name}={value.name}" if optional else name)
        if isinstance(value, Result):
            output = value._name or _only(value, where)  # noqa: SLF001 - hidden from users' names
            inputs[name] = made[id(value._call)].outputs[output].as_input(name)  # noqa: SLF001
        elif isinstance(value, Parameter):
            inputs[name] = PipelineParameter(value.name, value.default if value.has_value else "")
        elif isinstance(value, Path):
            inputs[name] = value.absolute()
        elif isinstance(value, bool | int | float | str):
            inputs[name] = Path(str(value)).absolute() if kind in ("file", "folder") else value
        else:
            inputs[name] = _as_json(value, where)
    return inputs, words


def _as_json(value: Any, where: str) -> str:
    try:
        return json.dumps(value)
    except (TypeError, ValueError) as error:
        raise Invalid(
            f"a {type(value).__name__} cannot be handed to a step while the pipeline is put together",
            code="E_TYPE",
            where=where,
            hint="make it in a step, or hand over values, paths and what other steps return",
        ) from error


def _only(value: Result, where: str) -> str:
    outputs = list(value._call.step.outputs)  # noqa: SLF001 - hidden from users' names
    if len(outputs) != 1:
        raise Invalid(
            f"{value!r} is {len(outputs)} values" if outputs else f"{value!r} is nothing",
            code="E_INPUT",
            where=where,
            hint="take it apart: a, b = …" if outputs else "declare what it returns: -> …",
        )
    return outputs[0]


def _offered(returned: Any, function: PipelineFunction) -> list[tuple[str, Call, str]]:
    """Return what a pipeline offers as outputs: (name, call, output of its step)."""
    if returned is None:
        return []
    if isinstance(returned, Mapping):
        items = list(returned.items())
    elif isinstance(returned, tuple):
        items = [(f"output_{number}", item) for number, item in enumerate(returned)]
    else:
        items = [("output", returned)]
    found = []
    for name, item in items:
        if not isinstance(item, Result):
            raise Invalid(
                f"pipeline {function.name!r} returns {item!r}; allowed: what its steps return",
                code="E_TYPE",
                where=function.name,
            )
        call = item._call  # noqa: SLF001 - hidden from users' names
        if item._name:  # noqa: SLF001
            found.append((name, call, item._name))  # noqa: SLF001
        else:
            several = len(call.step.outputs) > 1
            found += [
                (f"{name}_{output}" if several else name, call, output)
                for output in call.step.outputs
            ]
    return found


def _environment(given: Any, folder: Path, where: str) -> str | EnvironmentSpec | None:
    """Return an environment: requirements, a file of them, a conda file, or a name."""
    if given is None or isinstance(given, EnvironmentSpec):
        return given
    if not isinstance(given, str):
        return EnvironmentSpec(pip=tuple(str(line) for line in given))
    path = folder / given
    if given.endswith((".txt", ".yml", ".yaml")):
        if not path.is_file():
            raise Invalid(f"there is no {path}", code="E_PATH", where=f"{where}.environment")
        if given.endswith(".txt"):
            return EnvironmentSpec(pip=tuple(requirement_lines(path)))
        return EnvironmentSpec(conda=conda_content(conda_document(path)))
    return given


def pipeline_in(file: Path, name: str = "") -> PipelineFunction:
    """Return the `@pipeline` function of a Python file; `name` chooses among several.

    Raises:
        Invalid: E_EMPTY, there is none; E_REQUEST, there are several.
    """
    from penstock.sdk.calling import loaded

    module = loaded(str(file))
    found = {one.name: one for one in vars(module).values() if isinstance(one, PipelineFunction)}
    if name:
        found = {key: one for key, one in found.items() if key == name}
    if len(found) != 1:
        names = ", ".join(found) or "none"
        raise Invalid(
            f"{file} has {len(found)} pipelines ({names}); allowed: one",
            code="E_REQUEST" if found else "E_EMPTY",
            where=str(file),
            hint="decorate the function that calls the steps with @pipeline",
        )
    return next(iter(found.values()))
