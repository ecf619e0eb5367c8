"""Calls of `@step` functions become steps, and a `@pipeline` function a definition."""

import inspect
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

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
    building,
    kind_of,
)
from penstock.sdk.names import name_from
from penstock.sdk.pipeline import Pipeline
from penstock.sdk.steps import PipelineStep


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
        default = None if parameter.default is parameter.empty else parameter.default
        parameters[name] = Parameter(name, default)
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
    """Return the definition with what the function's annotations say of its parameters."""
    from dataclasses import replace

    from penstock.contracts.spec import Input

    kinds: dict[Any, str] = {int: "integer", float: "number", bool: "boolean", str: "string"}
    inputs = dict(definition.spec.inputs)
    for name, parameter in parameters.items():
        if name not in inputs or parameter.default is not None:
            continue
        kind = kinds.get(hints.get(name))
        if kind is None:
            kind = "uri_file" if kind_of(hints.get(name)) == "file" else "uri_folder"
        inputs[name] = msgspec.convert({"type": kind}, Input)
    spec = msgspec.structs.replace(definition.spec, inputs=inputs)
    return replace(definition, spec=spec)


def _inputs(call: Call, made: Mapping[int, FunctionStep]) -> tuple[dict[str, Any], list[str]]:
    """Return a step's inputs, and the names of the arguments that it is called with."""
    step = call.step
    inputs: dict[str, Any] = {}
    hints = step.hints
    for name, value in call.arguments.items():
        where = f"{step.name}({name})"
        kind = kind_of(hints.get(name, Any))
        if isinstance(value, Result):
            output = value._name or _only(value, where)  # noqa: SLF001 - hidden from users' names
            inputs[name] = made[id(value._call)].outputs[output].as_input(name)  # noqa: SLF001
        elif isinstance(value, Parameter):
            inputs[name] = PipelineParameter(
                value.name, "" if value.default is None else value.default
            )
        elif isinstance(value, Path):
            inputs[name] = value.absolute()
        elif isinstance(value, bool | int | float | str):
            inputs[name] = Path(str(value)).absolute() if kind in ("file", "folder") else value
        elif value is None:
            continue
        else:
            inputs[name] = _as_json(value, where)
    return inputs, list(inputs)


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
        text = path.read_text(encoding="utf-8")
        if given.endswith(".txt"):
            lines = [line.split(" #")[0].strip() for line in text.splitlines()]
            return EnvironmentSpec(pip=tuple(x for x in lines if x and not x.startswith("#")))
        return EnvironmentSpec(conda=yaml.safe_load(text))
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
