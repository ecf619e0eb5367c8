"""The same world told otherwise: nothing that matters may come out differently (metamorphic tests).

rename    steps have other names
permute   steps stand in another order in the spec
split     every fact of the log is a message of its own
"""

import dataclasses

import msgspec
from tests.simulation.world.faults import Shape
from tests.simulation.world.wishes import Wishes

from penstock.contracts.events import RunEvent, StepEvent
from penstock.contracts.spec import Input, PipelineSpec

TWISTS = ("rename", "permute", "split")
_NAMES = {f"s{n}": f"{letter}-step" for n, letter in enumerate("zaybxc")}
_BACK = {new: old for old, new in _NAMES.items()}


def twisted(twist: str, shape: Shape, wanted: Wishes) -> tuple[Shape, Wishes]:
    """Return a world's shape and wishes, told otherwise."""
    if twist == "split":
        return dataclasses.replace(shape, commit_bytes_max=1), wanted
    change = {"rename": _renamed, "permute": _permuted}[twist]
    changed = [dataclasses.replace(s, spec=change(s.spec)) for s in wanted.submissions]
    return shape, dataclasses.replace(wanted, submissions=changed)


def original(step: str) -> str:
    """Return a step's name before `rename`."""
    return _BACK.get(step, step)


def _permuted(spec: PipelineSpec) -> PipelineSpec:
    return msgspec.structs.replace(spec, steps=dict(reversed(spec.steps.items())))


def _renamed(spec: PipelineSpec) -> PipelineSpec:
    steps = {}
    for name, step in spec.steps.items():
        inputs = {}
        for key, given in step.inputs.items():
            assert isinstance(given, Input)
            maker = given.path.removeprefix("${{parent.jobs.").partition(".")[0]
            path = given.path.replace(f"jobs.{maker}.", f"jobs.{_NAMES[maker]}.")
            inputs[key] = msgspec.structs.replace(given, path=path)
        needs = tuple(_NAMES[need] for need in step.needs)
        steps[_NAMES[name]] = msgspec.structs.replace(step, inputs=inputs, needs=needs)
    return msgspec.structs.replace(spec, steps=steps)


Results = dict[str, tuple[str, str]]


def results_of(events: list[RunEvent | StepEvent]) -> Results:
    """Return how each step of a run ended and what it made, under its original name."""
    found: Results = {}
    for event in events:
        if isinstance(event, StepEvent) and event.what in ("reused", "succeeded"):
            found[original(event.step)] = ("well", event.outputs["o"].digest)
        elif isinstance(event, StepEvent) and event.what in ("failed", "cancelled", "skipped"):
            found[original(event.step)] = (event.what, "")
    return found
