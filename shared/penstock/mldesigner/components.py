"""A function becomes a command component: the step executes it by name, with paths for data."""

import functools
import inspect
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from penstock.azure.ai.ml.components import Component
from penstock.azure.ai.ml.nodes import Tree
from penstock.azure.ai.ml.values import Input, Output, declaration, literal, placed, settled
from penstock.errors import Invalid

_CONTROL = {str: "string", int: "integer", float: "number", bool: "boolean"}


def command_component(
    func: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    version: str | None = None,
    display_name: str | None = None,
    description: str | None = None,
    is_deterministic: bool | None = None,
    tags: Mapping[str, str] | None = None,
    environment: Any = None,
    distribution: Any = None,
    resources: Any = None,
    code: str | Path | None = None,
) -> Any:
    """Make a function a component: called in a pipeline it is a step.

    Parameters annotated `Input(…)` or with plain types are inputs, those annotated `Output(…)` are outputs;
    what the function returns is the output `output`. `code`: what is uploaded; else the folder of the file.
    """
    if func is None:
        return functools.partial(
            command_component, name=name, version=version, display_name=display_name,
            description=description, is_deterministic=is_deterministic, tags=tags,
            environment=environment, distribution=distribution, resources=resources, code=code,
        )  # fmt: skip
    source = Path(func.__code__.co_filename).resolve()
    folder = source.parent if code is None else (source.parent / code).resolve()
    inputs, outputs = _ports(func)
    tree: Tree = {
        "type": "command",
        "name": name or func.__name__,
        "version": version,
        "display_name": display_name,
        "description": description or inspect.getdoc(func),
        "tags": dict(tags or {}),
        "is_deterministic": is_deterministic,
        "environment": _environment(environment, source.parent),
        "distribution": settled(distribution),
        "resources": settled(resources),
        "code": str(folder),
        "command": _command(source, folder, name or func.__name__, inputs, outputs),
        "inputs": inputs,
        "outputs": outputs,
    }
    tree = {key: value for key, value in tree.items() if value not in (None, {})}
    return Component(tree, tree)


def _ports(func: Callable[..., Any]) -> tuple[Tree, Tree]:
    """Return declared inputs and outputs of a function."""
    signature = inspect.signature(func, eval_str=True)
    inputs: Tree = {}
    outputs: Tree = {}
    for name, parameter in signature.parameters.items():
        if isinstance(parameter.annotation, Output) or parameter.annotation is Output:
            given = parameter.annotation
            outputs[name] = given.tree() if isinstance(given, Output) else {"type": "uri_folder"}
            continue
        declared = dict(declaration(parameter.annotation) or {"type": "string"})
        if parameter.annotation is Input:
            declared = {"type": "uri_folder"}
        if parameter.default is None:
            declared["optional"] = True
        elif parameter.default is not parameter.empty:
            declared["default"] = literal(parameter.default)
        inputs[name] = declared
    returned = signature.return_annotation
    if isinstance(returned, Output):
        outputs["output"] = returned.tree()
    elif returned in _CONTROL:
        outputs["output"] = {"type": _CONTROL[returned]}
    elif returned not in (None, signature.empty):
        raise Invalid(
            f"{func.__name__} returns {returned!r}; allowed: str, int, float, bool or an Output",
            code="E_TYPE",
            where=func.__name__,
            hint="data goes into a parameter annotated Output",
        )
    return inputs, outputs


def _command(source: Path, folder: Path, name: str, inputs: Tree, outputs: Tree) -> str:
    words = [
        "mldesigner", "execute", "--source", shlex.quote(str(source.relative_to(folder))),
        "--name", shlex.quote(name),
    ]  # fmt: skip
    if inputs:
        words.append("--inputs")
    for key, declared in inputs.items():
        word = f'{key}="${{{{inputs.{key}}}}}"'
        words.append(f"$[[{word}]]" if declared.get("optional") else word)
    if outputs:
        words.append("--outputs")
    words += [f'{key}="${{{{outputs.{key}}}}}"' for key in outputs]
    return " ".join(words)


def _environment(given: Any, folder: Path) -> Any:
    """Return an environment as YAML has it; files from the folder of the source."""
    if given is None or isinstance(given, str):
        return given
    if hasattr(given, "setting_tree"):
        return given.setting_tree()
    found = dict(given)
    conda = found.get("conda_file")
    if isinstance(conda, str | Path):
        found["conda_file"] = placed(folder / conda)
    return found
