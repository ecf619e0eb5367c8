"""A pipeline as its author has it: the spec, and the local folders and files it speaks of.

YAML files and Python objects both become a `Definition`; at submission its local references are
stored as artifacts and their digests written into the spec.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from penstock.contracts.spec import EnvironmentSpec, Input, PipelineSpec, StepSpec
from penstock.errors import Invalid
from penstock.ids import did_you_mean

_PARENT_JOB = re.compile(r"\$\{\{\s*parent\.jobs\.([^.}\s]+)\.")

T = TypeVar("T")

Place = tuple[str, ...]
"""Keys from the root of the spec: ("steps", "train", "code")."""


class Include(NamedTuple):
    """A folder or file that lies beside a step's code under a name; `packed`: as a zip of it."""

    name: str
    path: Path
    packed: bool = False


@dataclass(frozen=True, slots=True)
class Local:
    """A folder or file of this machine that stands at `place` of the spec.

    Places: ("steps", step, "code" or "environment") · ("steps", step, "inputs", name) · ("inputs", name);
    those of a pipeline within a step begin with ("steps", step, "pipeline").
    """

    place: Place
    path: Path
    hash_paths: tuple[str, ...] = ()
    includes: tuple[Include, ...] = ()
    """Of code: what lies beside it."""
    bare: bool = False
    """Of code: there is nothing but the includes."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A pipeline before its local files are stored. `notes` are worth a line on the terminal each."""

    spec: PipelineSpec
    locals: tuple[Local, ...] = ()
    notes: tuple[str, ...] = ()
    root: Path | None = None
    """The folder that relative paths start from; git is asked there."""
    places: Mapping[Place, str] = field(default_factory=dict)
    """Place → file:line:column of the key, as far as known."""

    def where(self, *place: str) -> str:
        """Return where a place of the spec was written, or its dotted name."""
        for length in range(len(place), 0, -1):
            if place[:length] in self.places:
                return self.places[place[:length]]
        return ".".join(place)


_defaults: dict[type, tuple[tuple[str, object], ...]] = {}
"""By type: the fields and their defaults. Asking msgspec costs more than the tidying of a step."""


def _defaults_of(kind: type[msgspec.Struct]) -> tuple[tuple[str, object], ...]:
    known = _defaults.get(kind)
    if known is None:
        fields = msgspec.structs.fields(kind)
        known = _defaults[kind] = tuple((field_.name, field_.default) for field_ in fields)
    return known


def tidied(value: T) -> T:
    """Return a message whose fields that equal their defaults are the defaults, so its bytes are canonical.

    msgspec leaves out a field when it *is* its default, not when it merely equals it.
    """
    if isinstance(value, msgspec.Struct):
        changed: dict[str, object] = {}
        for name, default in _defaults_of(type(value)):
            item = getattr(value, name)
            if item is default:
                continue
            tidy = tidied(item) if isinstance(item, msgspec.Struct | dict) else item
            if default is not msgspec.NODEFAULT and tidy == default:
                tidy = default
            if tidy is not item:
                changed[name] = tidy
        return msgspec.structs.replace(value, **changed) if changed else value
    if isinstance(value, dict):
        return type(value)((key, tidied(item)) for key, item in value.items())
    return value


def checked(definition: Definition) -> Definition:
    """Return the definition, its spec tidied, if its steps and references make a graph.

    Raises:
        Invalid: E_EMPTY (no steps), E_REF (unknown step) or E_CYCLE.
    """
    spec = tidied(definition.spec)
    if not spec.steps:
        raise Invalid("no steps", code="E_EMPTY", where=definition.where("steps"))
    graph: dict[str, set[str]] = {}
    for name, step in spec.steps.items():
        graph[name] = set()
        for place, needed in needs_of(step):
            if needed not in spec.steps or needed == name:
                known = [other for other in spec.steps if other != name]
                raise Invalid(
                    f"step {name!r} needs {needed!r}, which is "
                    + ("itself" if needed == name else "no step of this pipeline"),
                    code="E_REF",
                    where=definition.where("steps", name, *place),
                    hint=did_you_mean(needed, known) or _listed(known),
                )
            graph[name].add(needed)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        steps = list(reversed(error.args[1]))
        raise Invalid(
            " -> ".join(steps), code="E_CYCLE", where=definition.where("steps", steps[0])
        ) from error
    return replace(definition, spec=spec)


def _listed(known: list[str]) -> str:
    return f"known: {', '.join(known[:10])}" if known else ""


def needs_of(step: StepSpec) -> Iterable[tuple[Place, str]]:
    """Return (place inside the step, step needed) for explicit needs and for data."""
    for needed in step.needs:
        yield ("needs",), needed
    for name, value in step.inputs.items():
        text = value.path if isinstance(value, Input) else value
        if isinstance(text, str):
            for match in _PARENT_JOB.finditer(text):
                yield ("inputs", name), match.group(1)


def with_artifacts(spec: PipelineSpec, stored: Mapping[Place, str]) -> PipelineSpec:
    """Return the spec with `artifact:<digest>` at every place of `stored` (values: the text to put).

    A place ("steps", s, "hash_digest") takes a bare digest.
    """
    inputs = dict(spec.inputs)
    steps = dict(spec.steps)
    within: dict[str, dict[Place, str]] = {}
    for place, text in stored.items():
        match place:
            case ("inputs", name):
                inputs[name] = _with_path(inputs[name], text)
            case ("steps", step, "inputs", name):
                values = dict(steps[step].inputs)
                values[name] = _with_path(values[name], text)
                steps[step] = msgspec.structs.replace(steps[step], inputs=values)
            case ("steps", step, "code" | "hash_digest" as what):
                steps[step] = msgspec.structs.replace(steps[step], **{what: text})
            case ("steps", step, "environment"):
                steps[step] = _with_context(steps[step], text)
            case ("steps", step, "pipeline", *inner):
                within.setdefault(step, {})[tuple(inner)] = text
            case _:
                raise AssertionError(place)
    for step, places in within.items():
        pipeline = steps[step].pipeline
        assert pipeline is not None, step  # noqa: S101 - whoever made the Local put a pipeline there
        steps[step] = msgspec.structs.replace(
            steps[step], pipeline=with_artifacts(pipeline, places)
        )
    return msgspec.structs.replace(spec, inputs=inputs, steps=steps)


def _with_context(step: StepSpec, text: str) -> StepSpec:
    environment = step.environment
    assert isinstance(environment, EnvironmentSpec), environment  # noqa: S101 - as below
    assert environment.build is not None, environment  # noqa: S101 - as below
    build = msgspec.structs.replace(environment.build, context=text)
    return msgspec.structs.replace(
        step, environment=msgspec.structs.replace(environment, build=build)
    )


def _with_path(value: object, text: str) -> Input:
    assert isinstance(value, Input), value  # noqa: S101 - whoever made the Local put an Input there
    return msgspec.structs.replace(value, path=text)
