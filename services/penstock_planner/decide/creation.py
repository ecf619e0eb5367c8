"""What an input may say of the creation of its run: `${{name}}` and `${{creation_context.trigger_time}}`.

Azure ML allows both in the inputs of a job; they are text, wherever in a value they stand. The trigger
service fills the time in as the moment that was due; for a run that nobody scheduled it is the request's.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TypeVar, cast

import msgspec

from penstock.contracts.spec import Input, PipelineSpec, Scalar, StepSpec

_MACRO = re.compile(r"\$\{\{\s*(name|creation_context\.trigger_time)\s*\}\}")

Value = TypeVar("Value", bound=Input | Scalar | None)


def filled_in(spec: PipelineSpec, run: str, requested_at: float) -> PipelineSpec:
    """Return the spec with what is known of its run in the values of its inputs and of its steps'."""
    moment = datetime.fromtimestamp(int(requested_at), UTC)
    words = {
        "name": run,
        "creation_context.trigger_time": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return _pipeline(spec, words)


def filled_in_values(values: Mapping[str, Scalar], run: str) -> dict[str, Scalar]:
    """Return the parameters of a request with the run's name in them."""
    return {name: _text(value, {"name": run}) for name, value in values.items()}


def _pipeline(spec: PipelineSpec, words: Mapping[str, str]) -> PipelineSpec:
    steps = {name: _step(step, words) for name, step in spec.steps.items()}
    inputs = {name: _value(value, words) for name, value in spec.inputs.items()}
    if all(steps[name] is step for name, step in spec.steps.items()) and all(
        inputs[name] is value for name, value in spec.inputs.items()
    ):
        return spec
    return msgspec.structs.replace(spec, steps=steps, inputs=inputs)


def _step(step: StepSpec, words: Mapping[str, str]) -> StepSpec:
    inputs = {name: _value(value, words) for name, value in step.inputs.items()}
    pipeline = step.pipeline and _pipeline(step.pipeline, words)
    if pipeline is step.pipeline and all(
        inputs[name] is value for name, value in step.inputs.items()
    ):
        return step
    return msgspec.structs.replace(step, inputs=inputs, pipeline=pipeline)


def _value(value: Value, words: Mapping[str, str]) -> Value:
    if isinstance(value, str):
        return _text(value, words)
    if not isinstance(value, Input):
        return value
    changed = {
        name: new
        for name in ("value", "default", "path")
        if (new := _text(old := getattr(value, name), words)) is not old
    }
    return msgspec.structs.replace(value, **changed) if changed else value


def _text(value: Value, words: Mapping[str, str]) -> Value:
    if not isinstance(value, str) or "${{" not in value:
        return value
    new = _MACRO.sub(lambda found: words.get(found.group(1), found.group(0)), value)
    return value if new == value else cast("Value", new)
