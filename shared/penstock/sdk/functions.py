"""Pipelines as plain Python: `@step` and `@pipeline`.

    @step(environment=["scikit-learn"])
    def fit(rows: pd.DataFrame, C: float = 1.0) -> LogisticRegression: ...

    @pipeline
    def digits(C: float = 1.0):
        return evaluate(fit(load(), C), load())

Called, both are the functions that they decorate: a unit test needs no stack. `digits.submit(C=0.5)` runs the
same on the stack, each step where there is room for it, what has not changed reused. Inside a pipeline that is
submitted a step returns a `Result`: what it will be, to be handed to other steps.

What annotations mean: int, float, str and bool are values; a pandas DataFrame is a table; `File` and `Folder` (or
`Path`) are paths, of which a step returns what it has written; what JSON can carry is JSON; everything else is
pickled. `-> tuple[A, B]` are two outputs, a NamedTuple names them.

Steps import this in their own environments: the standard library only, and of python 3.9.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, Union, overload

if TYPE_CHECKING:
    from penstock.sdk.definition import Definition
    from penstock.sdk.run import Run

File = Annotated[Path, "uri_file"]
"""A path of one file."""
Folder = Annotated[Path, "uri_folder"]
"""A path of a folder."""

building: ContextVar[list[Call] | None] = ContextVar("building", default=None)
"""The calls of the pipeline that is being submitted; None: functions are just called."""


class Call:
    """A step's function and what it is called with, in a pipeline that is being submitted."""

    def __init__(self, step: Step, arguments: Mapping[str, Any]) -> None:
        self.step = step
        self.arguments = dict(arguments)


class Later:
    """What has a value when the pipeline runs, and none while it is put together.

    Whatever would need the value is refused: compared, looked up or written into a text, this object would
    be taken for the value, and a wrong graph be submitted without a word. So it has no hash either: as one,
    `kind in {"a", "b"}` were false for every kind.
    """

    _known = ""
    """When its value is known, for people."""

    def _refusal(self) -> TypeError:
        return TypeError(f"{self!r} is {self._known}: decide in a step")

    def __bool__(self) -> bool:
        raise self._refusal()

    def __eq__(self, other: object) -> bool:
        raise self._refusal()

    def __hash__(self) -> int:
        raise self._refusal()

    def __str__(self) -> str:
        raise self._refusal()

    def __format__(self, spec: str) -> str:
        raise self._refusal()


class Result(Later):
    """What a step will return: to be handed to other steps, or returned by the pipeline."""

    _known = "known when the step has run, not while the pipeline is put together"

    def __init__(self, call: Call, name: str = "") -> None:
        self._call = call
        self._name = name

    def __repr__(self) -> str:
        return f"Result({self._call.step.name}{'.' + self._name if self._name else ''})"

    def __iter__(self) -> Iterator[Result]:
        names = self._call.step.outputs
        if self._name or len(names) < 2:  # noqa: PLR2004 - there is nothing to take apart
            raise self._refusal()
        return iter([Result(self._call, name) for name in names])

    def __getattr__(self, name: str) -> Result:
        if not name.startswith("_") and not self._name and name in self._call.step.outputs:
            return Result(self._call, name)
        raise AttributeError(f"{self!r} has no {name!r}: its value is known when the step has run")


class Parameter(Later):
    """A parameter of the pipeline that is being submitted; `default` as `inspect` tells it."""

    _known = "given when the pipeline is submitted, perhaps by a schedule"

    def __init__(self, name: str, default: Any) -> None:
        self.name = name
        self.default = default

    def __repr__(self) -> str:
        return f"Parameter({self.name!r})"

    @property
    def has_value(self) -> bool:
        """Whether there is a value when none is given: None is a default, and no value."""
        return self.default is not None and self.default is not inspect.Parameter.empty


class Step:
    """A function that is a step of pipelines; calling it outside of one calls the function."""

    def __init__(self, function: Callable[..., Any], settings: Mapping[str, Any]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = function.__name__
        self.settings = dict(settings)

    def __repr__(self) -> str:
        return f"<step {self.name}>"

    def __call__(self, *given: Any, **named: Any) -> Any:
        """Call the function; in a pipeline that is being submitted, note the call."""
        calls = building.get()
        if calls is None:
            return self.function(*given, **named)
        bound = inspect.signature(self.function).bind(*given, **named)
        call = Call(self, bound.arguments)
        calls.append(call)
        return Result(call)

    @property
    def hints(self) -> dict[str, Any]:
        """Annotations of its parameters and of what it returns."""
        return (
            inspect.get_annotations(self.function, eval_str=True)
            if hasattr(inspect, "get_annotations")
            else _older_hints(self.function)
        )

    @property
    def outputs(self) -> dict[str, Any]:
        """Annotation of each of its outputs by name."""
        return outputs_of(self.hints.get("return", None))


def outputs_of(annotation: Any) -> dict[str, Any]:
    """Return the outputs that a return annotation means, by name."""
    if annotation in (None, type(None), inspect.Signature.empty):
        return {}
    fields = getattr(annotation, "_fields", None)
    if fields is not None:  # a NamedTuple
        hints = getattr(annotation, "__annotations__", {})
        return {name: hints.get(name, Any) for name in fields}
    if getattr(annotation, "__origin__", None) is tuple:
        parts = annotation.__args__
        if Ellipsis not in parts:
            return {f"output_{number}": part for number, part in enumerate(parts)}
    return {"output": annotation}


def kind_of(annotation: Any) -> str:
    """Return how data of an annotation travels: value, table, file, folder, json or pickle."""
    marks = getattr(annotation, "__metadata__", ())
    if "uri_file" in marks:
        return "file"
    if "uri_folder" in marks or annotation is Path:
        return "folder"
    if annotation in (int, float, str, bool):
        return "value"
    if (getattr(annotation, "__module__", "") or "").startswith("pandas") and (
        annotation.__name__ == "DataFrame"
    ):
        return "table"
    origin = getattr(annotation, "__origin__", annotation)
    if origin in (dict, list, tuple, type(None)):
        return "json"
    return "pickle"


def members_of(annotation: Any) -> tuple[Any, ...]:
    """Return what an argument of an annotation may be, besides None: (int,) of `int | None`."""
    origin = getattr(annotation, "__origin__", None)
    if origin is Union or type(annotation).__name__ == "UnionType":  # 3.9 has no types.UnionType
        return tuple(each for each in annotation.__args__ if each is not type(None))
    return (annotation,)


def argument_kind(annotation: Any) -> str:
    """Return how an argument of an annotation travels; None beside it changes nothing.

    An output is different: what is None once and a table the next time is pickled.
    """
    kinds = {kind_of(each) for each in members_of(annotation)}
    return kinds.pop() if len(kinds) == 1 else "pickle"


class PipelineFunction:
    """A function that puts steps together; calling it runs everything here, `submit` on the stack."""

    def __init__(self, function: Callable[..., Any], settings: Mapping[str, Any]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.settings = dict(settings)
        self.name: str = settings.get("name") or function.__name__

    def __repr__(self) -> str:
        return f"<pipeline {self.name}>"

    def __call__(self, *given: Any, **named: Any) -> Any:
        """Call the function: the steps run here, one after the other, in this process."""
        return self.function(*given, **named)

    def definition(self) -> Definition:
        """Return the pipeline as everything else knows it.

        Raises:
            Invalid: something is handed to a step that cannot travel.
        """
        from penstock.sdk.function_steps import definition_of

        return definition_of(self)

    def submit(
        self,
        *given: Any,
        experiment: str = "",
        tags: Mapping[str, str] | None = None,
        reuse: str = "use",
        workspace: Any = None,
        **named: Any,
    ) -> Run:
        """Run the pipeline on the stack and return its run; arguments are those of the function.

        Raises:
            Refused: the pipeline or an argument is not acceptable.
            BusUnavailable: no stack runs here.
        """
        if os.environ.get("PENSTOCK_STEP_SOCKET"):
            raise RuntimeError(
                f"{self.name}.submit() was reached inside a step, which imports this file: "
                'put it below `if __name__ == "__main__":`'
            )
        from penstock.sdk.client import client_of

        signature = inspect.signature(self.function)
        arguments = {
            name: value
            for name, value in signature.bind(*given, **named).arguments.items()
            if value is not None or signature.parameters[name].default is not None
        }
        client = client_of(workspace)
        return client.submit(
            self, parameters=arguments, experiment=experiment, tags=tags, reuse=reuse,  # type: ignore[arg-type]
        )  # fmt: skip


F = TypeVar("F", bound=Callable[..., Any])


@overload
def step(function: F) -> F: ...
@overload
def step(
    *,
    environment: Any = None,
    compute: str = "",
    reuse: bool = True,
    retries: int = 0,
    timeout_seconds: float = 0,
    cores: float = 0,
    memory: str = "",
    gpus: int = 0,
    variables: Mapping[str, str] | None = None,
) -> Callable[[F], F]: ...
def step(
    function: Callable[..., Any] | None = None,
    *,
    environment: Any = None,
    compute: str = "",
    reuse: bool = True,
    retries: int = 0,
    timeout_seconds: float = 0,
    cores: float = 0,
    memory: str = "",
    gpus: int = 0,
    variables: Mapping[str, str] | None = None,
) -> Any:
    """Make a function a step. Without arguments, or with what it needs around it.

    `environment`: requirements as a list, a requirements or conda file beside the source, or a name. `compute`:
    a compute target. `reuse`: take an earlier result of the same code and inputs. `retries`: attempts after
    the first. `timeout_seconds`: of one attempt. `cores`, `memory` ("2g"), `gpus`: what it asks for.
    """
    settings = {
        "environment": environment,
        "compute": compute,
        "reuse": reuse,
        "retries": retries,
        "timeout_seconds": timeout_seconds,
        "cores": cores,
        "memory": memory,
        "gpus": gpus,
        "variables": dict(variables or {}),
    }
    if function is None:
        return lambda later: Step(later, settings)
    return Step(function, settings)


@overload
def pipeline(function: Callable[..., Any]) -> PipelineFunction: ...
@overload
def pipeline(
    *, name: str = "", description: str = "", continue_on_step_failure: bool = False
) -> Callable[[Callable[..., Any]], PipelineFunction]: ...
def pipeline(
    function: Callable[..., Any] | None = None,
    *,
    name: str = "",
    description: str = "",
    continue_on_step_failure: bool = False,
) -> Any:
    """Make a function a pipeline: it calls steps and returns what should be offered as outputs."""
    settings = {
        "name": name,
        "description": description,
        "continue_on_step_failure": continue_on_step_failure,
    }
    if function is None:
        return lambda later: PipelineFunction(later, settings)
    return PipelineFunction(function, settings)


def _older_hints(function: Callable[..., Any]) -> dict[str, Any]:
    from typing import get_type_hints

    return get_type_hints(function, include_extras=True)
