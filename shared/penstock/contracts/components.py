"""A step that uses a component: the component's declarations, filled with what the step gives.

Used by the client for component files and by the planner for registered components, so that both mean
the same. As in Azure ML the step goes before its component, key by key.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from penstock.contracts.spec import DATA, Input, Output, PipelineSpec, Scalar, StepSpec

Value = Input | Scalar | None
T = TypeVar("T", bound=msgspec.Struct)

INTERFACE = ("inputs", "outputs", "environment_variables", "needs", "component")
"""Fields of a step that are merged by rules of their own; of all others, the step's goes first if it is set."""
NESTING_MAX = 16
"""Pipelines within pipelines: more is a component that contains itself."""


def filled(component: StepSpec, step: StepSpec) -> StepSpec:
    """Return the step with everything it does not say itself taken from its component.

    An input that the component does not declare stays: Azure ML's client lets it pass as well.
    """
    plain = {
        name: _first_set(name, step, component)
        for name in StepSpec.__struct_fields__
        if name not in INTERFACE
    }
    plain["is_deterministic"] = step.is_deterministic and component.is_deterministic
    plain["limits"] = _over(step.limits, component.limits)
    return StepSpec(
        **plain,
        inputs=filled_inputs(component.inputs, step.inputs),
        outputs={
            name: filled_output(component.outputs.get(name), step.outputs.get(name))
            for name in {**component.outputs, **step.outputs}
        },
        environment_variables={**component.environment_variables, **step.environment_variables},
        needs=step.needs,
        component=component.component,
    )


def filled_inputs(declared: Mapping[str, Value], given: Mapping[str, Value]) -> dict[str, Value]:
    """Return declared inputs with the values that are given; undeclared ones come last."""
    result = {name: filled_input(entry, given.get(name)) for name, entry in declared.items()}
    return result | {name: value for name, value in given.items() if name not in declared}


def filled_input(declared: Value, given: Value) -> Value:
    """Return a declared input with a value; without one (null counts as none) as it is declared."""
    if given is None:
        return declared
    if not isinstance(declared, Input):
        return given
    if not isinstance(given, Input):
        if declared.type in DATA and isinstance(given, str):
            return msgspec.structs.replace(declared, path=given)
        return msgspec.structs.replace(declared, value=given)
    if declared.type not in DATA:
        # `path: ${{parent.inputs.x}}` is allowed for literals as well
        value = given.path or (given.value if given.value is not None else given.default)
        return declared if value is None else msgspec.structs.replace(declared, value=value)
    mode = given.mode or declared.mode
    if not given.path or "${{" in given.path:
        return msgspec.structs.replace(declared, path=given.path or declared.path, mode=mode)
    return msgspec.structs.replace(
        given, mode=mode
    )  # files are what they are, whatever is declared


def filled_output(declared: Output | str | None, given: Output | str | None) -> Output | str | None:
    """Return a declared output with what the step says about it."""
    if declared is None or isinstance(declared, str):
        return declared if given is None else given
    if given is None:
        return declared
    if isinstance(given, str):
        return msgspec.structs.replace(declared, path=given)
    return _over(given, declared)


def depth_of(spec: PipelineSpec) -> int:
    """Return how many pipelines stand within one another, the outer one counted."""
    depth, level = 0, [spec]
    while level:
        depth += 1
        level = [step.pipeline for one in level for step in one.steps.values() if step.pipeline]
    return depth


def _first_set(name: str, step: StepSpec, component: StepSpec) -> Any:
    own = getattr(step, name)
    return own if own != _DEFAULTS[name] else getattr(component, name)


def _over(upper: T, lower: T) -> T:
    """Return `upper` where it says something, `lower` elsewhere."""
    said = {
        field.name: value
        for field in msgspec.structs.fields(type(upper))
        if (value := getattr(upper, field.name)) != field.default
    }
    return msgspec.structs.replace(lower, **said)


_DEFAULTS = {
    field.name: field.default
    if field.default is not msgspec.NODEFAULT
    else field.default_factory()
    if field.default_factory is not msgspec.NODEFAULT
    else None
    for field in msgspec.structs.fields(StepSpec)
}
