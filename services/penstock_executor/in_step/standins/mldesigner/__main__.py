"""`mldesigner execute`: call one component of a source file."""

from __future__ import annotations

import argparse
import enum
import importlib.util
import inspect
import os
import sys
from typing import Any, Callable

from . import Output


def main(words: list[str] | None = None) -> int:
    """Run a component; return the exit code."""
    parser = argparse.ArgumentParser(prog="mldesigner")
    commands = parser.add_subparsers(dest="command", required=True)
    execute = commands.add_parser("execute")
    execute.add_argument("--source", required=True)
    execute.add_argument("--name", required=True)
    execute.add_argument("--inputs", nargs="*", default=[])
    execute.add_argument("--outputs", nargs="*", default=[])
    given = parser.parse_args(words)
    function = component(given.source, given.name)
    texts = dict(pair.split("=", 1) for pair in (*given.inputs, *given.outputs) if "=" in pair)
    returned = function(**arguments(function, texts))
    path = texts.get("output", "")
    if returned is not None and path and "output" not in inspect.signature(function).parameters:
        with open(path, "w", encoding="utf-8") as file:  # a control output is text
            file.write(str(returned))
    return 0


def component(source: str, name: str) -> Callable[..., Any]:
    """Return the component `name` of a file: by the name it was given, or its function's."""
    sys.path.insert(0, os.path.dirname(os.path.abspath(source)))
    stem = os.path.splitext(os.path.basename(source))[0]
    spec = importlib.util.spec_from_file_location(stem, source)
    if spec is None or spec.loader is None:
        raise SystemExit(f"mldesigner: {source} is no python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[stem] = module
    spec.loader.exec_module(module)
    known: dict[str, Callable[..., Any]] = {
        (one.__mldesigner_component__.get("name") or key): one
        for key, one in vars(module).items()
        if callable(one) and hasattr(one, "__mldesigner_component__")
    }
    for key, one in vars(module).items():
        if hasattr(one, "__mldesigner_component__"):
            known.setdefault(key, one)
    if name not in known:
        raise SystemExit(
            f"mldesigner: no component {name!r} in {source}; it has: {', '.join(known) or 'none'}"
        )
    return known[name]


def arguments(function: Callable[..., Any], texts: dict[str, str]) -> dict[str, Any]:
    """Return what a component is called with: texts as what its parameters are annotated with."""
    module = sys.modules.get(function.__module__)
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name not in texts:
            continue
        kind = parameter.annotation
        if isinstance(kind, str):
            kind = eval(kind, vars(module) if module else {})  # noqa: S307 - what the file itself says
        found[name] = valued(texts[name], kind, parameter.default)
    return found


def valued(text: str, kind: Any, default: Any) -> Any:
    """Return a text as a parameter's type."""
    named = {"integer": int, "number": float, "boolean": bool, "string": str}
    if isinstance(kind, Output):
        return text
    if hasattr(kind, "type") and isinstance(kind.type, str):
        kind = named.get(kind.type, str)
    if kind is inspect.Parameter.empty and default not in (inspect.Parameter.empty, None):
        kind = type(default)
    if inspect.isclass(kind) and issubclass(kind, enum.Enum):
        return kind[text] if text in kind.__members__ else kind(text)
    if kind is bool:
        return text.strip().lower() in ("true", "1", "yes")
    return kind(text) if kind in (int, float) else text


if __name__ == "__main__":
    sys.exit(main())
