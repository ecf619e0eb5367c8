"""Steps that the planner adds: what lies elsewhere is brought in, what is to lie elsewhere is written there.

    reads a location    import ──▶ reader       one import for all readers of a place that may share it
    writes a location   maker ──▶ copy          also when the maker is reused

They are steps like others: seen, logged, retried, never reused; equal bytes cut off what stands behind.
An import of a datastore's path is made as late as its reader would have read it on Azure ML: after what
the reader needs by name or by its pipeline's border, and after the copies of the run that write to the same
place, but for those that wait for the reader itself.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from penstock.contracts.data import DEFAULT_DATASTORE, Asset, Location
from penstock.contracts.plans import Bound, PlannedOutput, PlannedStep
from penstock.contracts.registry import is_version
from penstock.contracts.spec import PRIMITIVES, PipelineSpec
from penstock.errors import Invalid
from penstock.ids import is_name
from penstock_planner.decide.draft import INSIDE, Draft, Made, Sink, shortened
from penstock_planner.decide.expressions import has_expression
from penstock_planner.decide.graph import behind_each, closure, cycle_of, order_of
from penstock_planner.decide.inputs import concatenated
from penstock_planner.decide.places import Pending
from penstock_planner.decide.problems import Problems, shown

ATTEMPTS_MAX = 4
RETRY_DELAY_S = 2.0
"""Networks and servers have bad moments: 2, 4, 8 seconds."""
DATA = "data"
NO_RUN = "run"
"""Stands for the run's id where there is none: a forecast, or a pipeline that is only registered."""
MODELS = ("mlflow_model", "custom_model", "triton_model")

_MACRO = re.compile(
    r"\$\{\{\s*(name|output_name|default_datastore)\s*\}\}|\{(run-id|output-name)\}", re.IGNORECASE
)

Steps = dict[str, PlannedStep]


def with_transfers(steps: Steps, draft: Draft) -> Steps:
    """Return the steps of a run with those that carry data in and out; what is wrong is told."""
    steps = dict(steps)
    for maker, sink in draft.sinks.items():
        if maker[0] in steps and maker[1] in steps[maker[0]].outputs:
            _add_copy(steps, maker, sink, draft)
    pending = [
        (name, key)
        for name, step in steps.items()
        if any(isinstance(bound, Pending) for bound in step.inputs.values())
        for key, bound in step.inputs.items()
        if isinstance(bound, Pending)
    ]
    if pending and not cycle_of({name: step.needs for name, step in steps.items()}):
        _add_imports(steps, pending, draft)
    return steps


def datastore_of(spec: PipelineSpec, problems: Problems) -> str:
    """Return the name of the datastore that ${{default_datastore}} means."""
    name = spec.settings.default_datastore.removeprefix("azureml:") or DEFAULT_DATASTORE
    if not is_name(name):
        problems.add("E_ID", "settings.default_datastore", f"{shown(name)} is not a name")
        return DEFAULT_DATASTORE
    return name


# -- out ---------------------------------------------------------------------------------------------
def _add_copy(steps: Steps, maker: Made, sink: Sink, draft: Draft) -> None:
    step, output = steps[maker[0]], steps[maker[0]].outputs[maker[1]]
    destination = _destination(maker, sink, draft) if sink.path else None
    asset = _asset(sink, output, maker, draft) if sink.name else None
    if destination is None and asset is None:
        return
    if step.kind == "copy":
        steps[step.name] = replace(step, destination=destination, asset=asset)
        return
    name = _new_name(f"copy{INSIDE}{step.name}{INSIDE}{maker[1]}", steps, draft, {})
    steps[name] = PlannedStep(
        name=name,
        command="",
        kind="copy",
        destination=destination,
        asset=asset,
        inputs={DATA: Bound(type=output.type, step=step.name, output=maker[1])},
        outputs={
            DATA: PlannedOutput(type=output.type, file=output.file or _file_of(output, maker))
        },
        needs=(step.name,),
        compute=step.compute,
        attempts_max=ATTEMPTS_MAX,
        retry_delay_s=RETRY_DELAY_S,
        deterministic=False,
    )


def _destination(maker: Made, sink: Sink, draft: Draft) -> Location | None:
    own = sink.draft or draft
    where = f"{sink.where}.path"
    run = draft.run or NO_RUN
    job = f"{run}.{sink.step}" if sink.step else run
    values = {
        "name": job,
        "run-id": job,
        "output_name": sink.output,
        "output-name": sink.output,
        "default_datastore": draft.datastore,
    }
    text = _MACRO.sub(lambda found: values[(found[1] or found[2]).lower()], sink.path)
    if has_expression(text):
        try:
            text = concatenated(text, where, own)
        except Invalid as error:
            draft.problems.add(error.code, where, error.message, error.hint)
            return None
    location = draft.places.location(text, where, draft.problems)
    if location is None:
        return None
    if location.url or any(character in location.path for character in "*?"):
        draft.problems.add(
            "E_PATH",
            where,
            f"nothing can be written to {shown(text)}; allowed: azureml://datastores/D/paths/P",
        )
        return None
    return location


def _asset(sink: Sink, output: PlannedOutput, maker: Made, draft: Draft) -> Asset | None:
    where = f"{sink.where}.name"
    if not is_name(sink.name):
        draft.problems.add("E_ID", where, f"{shown(sink.name)} is not a name")
        return None
    if sink.version and not is_version(sink.version):
        draft.problems.add("E_ID", where, f"{shown(sink.version)} is not a version")
        return None
    return Asset(
        name=sink.name,
        kind="model" if output.type in MODELS else "data",
        type="uri_file" if output.type in PRIMITIVES else output.type,
        version=sink.version,
        file=_file_of(output, maker),
    )


def _file_of(output: PlannedOutput, maker: Made) -> str:
    return (output.file or maker[1]) if output.type == "uri_file" else ""


# -- in ----------------------------------------------------------------------------------------------
@dataclass(slots=True)
class _Import:
    location: Location
    hint: str
    readers: list[tuple[str, str]] = field(default_factory=list)


def _add_imports(steps: Steps, pending: list[tuple[str, str]], draft: Draft) -> None:
    """Add the imports. The graph has no circle yet, and what is added here closes none."""
    needs = {name: set(step.needs) for name, step in steps.items()}
    place = {name: number for number, name in enumerate(order_of(_sorted(needs)))}
    behind = behind_each(_sorted(needs))
    writers = _Writers(steps)
    imports: dict[tuple[str, str, frozenset[str]], _Import] = {}
    for reader, key in sorted(pending, key=lambda each: (place[each[0]], each)):
        bound = steps[reader].inputs[key]
        assert isinstance(bound, Pending)  # noqa: S101 - pending holds nothing else
        before = _before(steps[reader], behind, bound.location, writers)
        for new in before - needs[reader]:  # by way of the import
            behind[new].append(reader)
        needs[reader] |= before
        group = (bound.location.text(), bound.location.root, frozenset(before))
        imports.setdefault(group, _Import(bound.location, bound.hint)).readers.append((reader, key))
    numbers: dict[str, int] = {}
    for (_, _, before_all), each in imports.items():
        name = _new_name(f"import{INSIDE}{each.hint or 'data'}", steps, draft, numbers)
        steps[name] = PlannedStep(
            name=name,
            command="",
            kind="import",
            source=each.location,
            outputs={DATA: PlannedOutput()},
            needs=tuple(sorted(before_all)),
            compute=steps[each.readers[0][0]].compute,
            attempts_max=ATTEMPTS_MAX,
            retry_delay_s=RETRY_DELAY_S,
            deterministic=False,
        )
        for reader, key in each.readers:
            step = steps[reader]
            bound = Bound(type=step.inputs[key].type, step=name, output=DATA)
            steps[reader] = replace(
                step,
                inputs={**step.inputs, key: bound},
                needs=tuple(sorted({*step.needs, name})),
            )


def _before(
    step: PlannedStep,
    behind: Mapping[str, Sequence[str]],
    location: Location,
    writers: "_Writers",
) -> set[str]:
    """Return the steps that have to end before a reader's data is brought in; `behind`: the graph so far."""
    if location.url:
        return set()
    before = set(step.needs) - {bound.step for bound in step.inputs.values() if bound.step}
    overlapping = writers.overlapping(location)
    if overlapping:
        before |= overlapping - closure([step.name], behind)
    return before


class _Writers:
    """The steps that write to places, found by the place: a large run has many, and as many readers."""

    def __init__(self, steps: Steps) -> None:
        self._at: dict[_Place, list[str]] = {}
        self._below: dict[_Place, list[str]] = {}
        """Those that write to a place or to one in it."""
        for name, step in steps.items():
            if step.destination is None:
                continue
            *around, itself = _ways(step.destination)
            self._at.setdefault(itself, []).append(name)
            for place in (*around, itself):
                self._below.setdefault(place, []).append(name)

    def overlapping(self, location: Location) -> set[str]:
        """Return who writes to a place that lies in this one, is it, or around it.

        A pattern counts as the folder it begins in.
        """
        *around, itself = _ways(location)
        found = set(self._below.get(itself, ()))
        for place in around:
            found.update(self._at.get(place, ()))
        return found


_Place = tuple[str, str, tuple[str, ...]]


def _ways(location: Location) -> list[_Place]:
    """Return the datastore, and all folders on the way to a place of it, itself last."""
    parts = tuple(_parts(location.path))
    return [(location.datastore, location.root, parts[:length]) for length in range(len(parts) + 1)]


def _parts(path: str) -> list[str]:
    parts: list[str] = []
    for part in path.split("/") if path else ():
        if "*" in part or "?" in part:
            break
        parts.append(part)
    return parts


def _sorted(needs: Mapping[str, set[str]]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(sorted(needed)) for name, needed in needs.items()}


def _new_name(wanted: str, steps: Steps, draft: Draft, numbers: dict[str, int]) -> str:
    """Return a name that no step of the run has; `numbers`: how far each wanted name has got."""
    number = numbers.get(wanted, 1)
    name = shortened(f"{wanted}-{number}" if number > 1 else wanted)
    while name in steps or name in draft.taken:
        number += 1
        name = shortened(f"{wanted}-{number}")
    numbers[wanted] = number
    return name
