"""References of a spec to what is registered: found, and replaced by what they mean. Pure.

a step's component            must be known
a step's environment          may also be a curated name: left as it is when it is not registered
inputs and parameters         data or a model: must be known
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from penstock.contracts.components import filled
from penstock.contracts.data import location_of
from penstock.contracts.registry import (
    LATEST,
    VERSION_PATTERN,
    AssetCommand,
    AssetKind,
    AssetView,
    Reference,
    is_version,
    reference_of,
)
from penstock.contracts.spec import Input, PipelineSpec, Scalar, StepSpec
from penstock.errors import Invalid
from penstock_planner.decide.problems import Problems, nearest, shown
from penstock_planner.decide.values import artifact_of

MODELS = ("mlflow_model", "custom_model", "triton_model")
DATA_FIRST: tuple[AssetKind, ...] = ("data", "model")
MODEL_FIRST: tuple[AssetKind, ...] = ("model", "data")
_BARE = re.compile(r"(?P<name>[A-Za-z0-9_-]+)(?:@(?P<label>[^:@/]+)|:(?P<version>[^:@/]+))?")

Entry = Input | Scalar | None


@dataclass(frozen=True, slots=True)
class Looked:
    """Something to look up: under which kinds, in order. `needed`: nobody else may know it."""

    text: str
    name: str
    version: str
    kinds: tuple[AssetKind, ...]
    needed: bool = field(default=True, compare=False)


def wanted_in(spec: PipelineSpec, parameters: Mapping[str, Scalar]) -> dict[Looked, str]:
    """Return what has to be looked up, each with the first place that names it."""
    found: dict[Looked, str] = {}
    for name, given in parameters.items():
        _take(found, _data(given), f"request.parameters.{name}")
    level: list[tuple[str, PipelineSpec]] = [("", spec)]
    while level:
        place, one = level.pop()
        for name, entry in one.inputs.items():
            _take(found, _data(entry), f"{place}inputs.{name}")
        for name, step in one.steps.items():
            where = f"{place}steps.{name}"
            if step.component:
                _take(found, component_in(step.component), f"{where}.component")
            if isinstance(step.environment, str) and step.environment:
                _take(found, environment_in(step.environment), f"{where}.environment")
            for key, value in step.inputs.items():
                _take(found, _data(value), f"{where}.inputs.{key}")
            if step.pipeline is not None:
                level.append((f"{where}.pipeline.", step.pipeline))
    return found


def component_in(text: str) -> Looked:
    """Return what a step's `component` means; any text is a name."""
    found = reference_of(text) or _bare(text) or Reference(text)
    return Looked(text, found.name, found.version, ("component",))


def environment_in(text: str) -> Looked | None:
    """Return the registered environment that a text may mean."""
    found = reference_of(text) or _bare(text)
    if found is None:
        return None
    return Looked(text, found.name, found.version, ("environment",), needed=False)


def data_in(text: str, kinds: tuple[AssetKind, ...] = DATA_FIRST) -> Looked | None:
    """Return the registered data that a text means."""
    if not text.startswith("azureml:"):
        return None
    found = reference_of(text)
    if found is None:
        return None
    if found.kind in ("data", "model"):
        kinds = ("data",) if found.kind == "data" else ("model",)
    return Looked(text, found.name, found.version, kinds)


def spec_with(spec: PipelineSpec, found: Mapping[Looked, AssetView | None]) -> PipelineSpec:
    """Return a spec with what is known in the places of its references."""
    steps = {name: _step_with(step, found) for name, step in spec.steps.items()}
    inputs = {name: _entry_with(entry, found) for name, entry in spec.inputs.items()}
    if steps == spec.steps and inputs == spec.inputs:
        return spec
    return msgspec.structs.replace(spec, steps=steps, inputs=inputs)


def parameters_with(
    parameters: Mapping[str, Scalar], found: Mapping[Looked, AssetView | None]
) -> dict[str, Scalar]:
    """Return parameters with paths in the places of references."""
    result = {}
    for name, value in parameters.items():
        looked = _data(value)
        view = found.get(looked) if looked else None
        result[name] = view.data.path if view is not None and view.data else value
    return result


def steps_in(spec: PipelineSpec) -> int:
    """Return how many steps there are, those of pipelines within pipelines counted."""
    steps, level = 0, [spec]
    for one in level:  # grows while it is walked
        steps += len(one.steps)
        level += [step.pipeline for step in one.steps.values() if step.pipeline is not None]
    return steps


def notes_of(
    wanted: Mapping[Looked, str], found: Mapping[Looked, AssetView | None]
) -> Iterator[str]:
    """Yield what `latest` is, and which archived versions are used."""
    for looked in wanted:
        view = found.get(looked)
        if view is None:
            continue
        if looked.version == LATEST:
            yield f"{looked.text} is {view.kind} {view.name}, version {view.version}"
        elif view.archived_at:
            yield f"{looked.text} is archived"


def refuse_unknown(
    unknown: Mapping[Looked, str],
    known: Mapping[AssetKind, Sequence[AssetView]],
    versions: Mapping[Looked, Sequence[str]],
) -> None:
    """Refuse references that nobody knows, all at once.

    Raises:
        Invalid: E_REF.
    """
    problems = Problems()
    for looked, place in unknown.items():
        names = [view.name for kind in looked.kinds for view in known.get(kind, ())]
        kind = looked.kinds[0]
        has = versions.get(looked)
        if has and looked.version == LATEST:
            message = f"every version of {kind} {shown(looked.name)} is archived"
            hint = f"name one: {', '.join(has[-10:])}"
        elif has:
            message = f"{kind} {shown(looked.name)} has no version {shown(looked.version)}"
            hint = f"it has: {', '.join(has[-10:])}"
        else:
            message = f"no {' or '.join(looked.kinds)} {shown(looked.name)} is registered"
            hint = nearest(looked.name, names) or (
                f"register it with: penstock {kind} create --file FILE"
            )
        problems.add("E_REF", place, message, hint)
    problems.refuse()


def checked_asset(command: AssetCommand) -> None:
    """Refuse what cannot be registered.

    Raises:
        Invalid: E_ID, E_EMPTY, E_TYPE or E_PATH.
    """
    if command.version and not is_version(command.version):
        raise Invalid(
            f"{shown(command.version)} is no version; allowed: {VERSION_PATTERN}, and not {LATEST!r}",
            code="E_ID",
            where="request.version",
        )
    contents = {
        "component": command.component,
        "environment": command.environment,
        "data": command.data,
    }
    wanted = "data" if command.kind == "model" else command.kind
    given = [name for name, content in contents.items() if content is not None]
    if given != [wanted]:
        raise Invalid(
            f"{' and '.join(given) or 'nothing'} given; a {command.kind} is given as {wanted!r}",
            code="E_EMPTY" if not given else "E_TYPE",
            where=f"request.{wanted}",
        )
    if command.component is not None:
        _check_component(command.component)
    if command.data is None or artifact_of(command.data.path):
        return
    if location_of(command.data.path, where="request.data.path") is None:
        raise Invalid(
            f"{shown(command.data.path)}; allowed: artifact:<digest>, https:…, "
            "azureml://datastores/D/paths/P",
            code="E_PATH",
            where="request.data.path",
            hint="the command line and the SDK upload local files",
        )


def _check_component(step: StepSpec) -> None:
    bodies = [bool(step.command), bool(step.component), step.pipeline is not None]
    if step.kind == "command" and sum(bodies) != 1:
        raise Invalid(
            "a component has a command, or a pipeline, or another component; "
            f"this one has {sum(bodies)} of them",
            code="E_TYPE",
            where="request.component",
        )


def _take(found: dict[Looked, str], looked: Looked | None, place: str) -> None:
    if looked is not None:
        found.setdefault(looked, place)


def _data(entry: Entry) -> Looked | None:
    if isinstance(entry, Input):
        kinds = MODEL_FIRST if entry.type in MODELS else DATA_FIRST
        return data_in(entry.path, kinds) if entry.path else None
    return data_in(entry) if isinstance(entry, str) else None


def _bare(text: str) -> Reference | None:
    found = _BARE.fullmatch(text)
    if found is None:
        return None
    return Reference(found["name"], found["version"] or found["label"] or LATEST)


def _step_with(step: StepSpec, found: Mapping[Looked, AssetView | None]) -> StepSpec:
    changed: dict[str, object] = {}
    inputs = {name: _entry_with(entry, found) for name, entry in step.inputs.items()}
    if inputs != step.inputs:
        changed["inputs"] = inputs
    if isinstance(step.environment, str) and step.environment:
        looked = environment_in(step.environment)
        view = found.get(looked) if looked else None
        if view is not None and view.environment is not None:
            changed["environment"] = msgspec.structs.replace(
                view.environment, name=view.name, version=view.version
            )
    if step.pipeline is not None:
        changed["pipeline"] = spec_with(step.pipeline, found)
    if changed:
        step = msgspec.structs.replace(step, **changed)
    if not step.component:
        return step
    view = found.get(component_in(step.component))
    if view is None or view.component is None:
        return step
    return filled(view.component, step)


def _entry_with(entry: Entry, found: Mapping[Looked, AssetView | None]) -> Any:
    looked = _data(entry)
    view = found.get(looked) if looked else None
    if view is None or view.data is None:
        return entry
    if isinstance(entry, Input):
        # A file where a folder is declared, and the reverse, is tolerated (azure-compat 1.12).
        return msgspec.structs.replace(entry, path=view.data.path)
    return Input(type=view.data.type, path=view.data.path)
