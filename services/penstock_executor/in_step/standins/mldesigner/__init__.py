"""Our own stand-in for `mldesigner` in a step: functions that are components, run with the step's inputs.

    @command_component(environment=…)
    def prepare(data: Input(type="uri_folder"), out: Output(type="uri_folder"), rate: float = 0.1): …

In a step the decorator leaves the function as it is. `python -m mldesigner execute --source F --name N --inputs a=1
--outputs out=PATH`, also as the program `mldesigner`, calls it with texts made into what is annotated.
"""

from __future__ import annotations

from typing import Any, Callable


class Input:
    """An input of a component."""

    def __init__(self, *, type: str = "uri_folder", **options: Any) -> None:
        self.type = type
        self.options = options
        self.default = options.get("default")
        self.optional = bool(options.get("optional"))


class Output:
    """An output of a component: a path to write to, or what the function returns."""

    def __init__(self, *, type: str = "uri_folder", **options: Any) -> None:
        self.type = type
        self.options = options


class Meta:
    """What is said about a parameter."""

    def __init__(self, **options: Any) -> None:
        self.options = options


def command_component(func: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Mark a function as a component; it stays as it is."""

    def marked(function: Callable[..., Any]) -> Callable[..., Any]:
        function.__mldesigner_component__ = dict(options)  # type: ignore[attr-defined]
        return function

    return marked if func is None else marked(func)


dynamic = command_component


def reference_component(*arguments: Any, **options: Any) -> Any:
    """Leave the function as it is; references are resolved where pipelines are made."""
    return command_component(**options)


__all__ = ["Input", "Meta", "Output", "command_component", "dynamic", "reference_component"]
