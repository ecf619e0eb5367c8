"""A pipeline while it is being planned, and the outputs that its steps and itself declare.

A step that is a pipeline itself has a draft of its own. Inside it names mean its own inputs, outputs and
steps; what they become, steps of the run, are named `<outer step>--<inner step>`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from penstock.contracts.data import DEFAULT_DATASTORE
from penstock.contracts.plans import PlannedOutput
from penstock.contracts.spec import FILES, Output, PipelineSpec, StepSpec
from penstock.errors import Invalid
from penstock.ids import derived_id, is_name
from penstock_planner.decide.environments import Environments
from penstock_planner.decide.expressions import OPEN, Reference, whole
from penstock_planner.decide.parameters import Given, check_mode, check_name
from penstock_planner.decide.places import ANYWHERE, Places
from penstock_planner.decide.problems import Problems, shown

OUTPUT_MODES = ("", "rw_mount", "upload", "mount", "direct")

INSIDE = "--"
"""Between the name of a step that is a pipeline and the name of a step in it."""
NAME_MAX = 63
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")

Outputs = dict[str, PlannedOutput]
Made = tuple[str, str]
"""A step of the run and an output of it."""


@dataclass(frozen=True, slots=True)
class Sink:
    """Where an output goes besides the store. The settings nearest to the run win, each for itself."""

    path: str = ""
    """As it was written, macros and all; `draft` and `name` say what they mean."""
    name: str = ""
    version: str = ""
    where: str = ""
    draft: "Draft | None" = None
    output: str = ""
    step: str = ""
    """Step of the run that `path` was declared at; empty: at the pipeline."""


@dataclass(slots=True)
class Draft:
    """A pipeline while it is being planned: the run's own, or one that is a step of another."""

    spec: PipelineSpec
    given: Given
    problems: Problems
    notes: list[str] = field(default_factory=list)
    outputs: dict[str, Outputs] = field(default_factory=dict)
    """Step → its declared outputs; complete before the first step is bound."""
    bound_outputs: dict[str, Made] = field(default_factory=dict)
    """Pipeline output → the step and output that make it."""
    names: dict[str, str] = field(default_factory=dict)
    """Step → its name in the run; a step that is a pipeline has none."""
    inner: dict[str, "Draft"] = field(default_factory=dict)
    """Step that is a pipeline → that pipeline."""
    place: str = ""
    """What stands before "steps" and "inputs" in the places of this pipeline."""
    prefix: str = ""
    environments: Environments = field(default_factory=Environments)
    run: str = ""
    """The run's id: what ${{name}} means in the path of a pipeline's output."""
    datastore: str = DEFAULT_DATASTORE
    """What ${{default_datastore}} means."""
    taken: dict[str, str] = field(default_factory=dict)
    """Names of the run's steps, of all pipelines → their places."""
    places: Places = ANYWHERE
    sinks: dict[Made, Sink] = field(default_factory=dict)
    """What is to be written elsewhere or registered, of all pipelines."""

    def within(self, name: str, spec: PipelineSpec) -> "Draft":
        """Return the draft of a step that is a pipeline; its inputs are given later."""
        return Draft(
            spec=spec,
            given=Given(),
            problems=self.problems,
            notes=self.notes,
            place=f"{self.place}steps.{name}.pipeline.",
            prefix=f"{self.prefix}{name}{INSIDE}",
            environments=self.environments,
            taken=self.taken,
            places=self.places,
            run=self.run,
            datastore=self.datastore,
            sinks=self.sinks,
        )

    def made(self, step: str, output: str) -> Made | None:
        """Return who makes a step's output in the run; None: an inner pipeline in which no step does."""
        if step in self.inner:
            return self.inner[step].bound_outputs.get(output)
        return self.names[step], output

    def run_names(self, step: str) -> Iterator[str]:
        """Iterate over the names in the run of a step, or of all the steps in it."""
        if step not in self.inner:
            yield self.names[step]
            return
        for name in self.inner[step].spec.steps:
            yield from self.inner[step].run_names(name)


def declare(draft: Draft) -> None:
    """Take in the steps of a pipeline and of those in it: their names in the run and their outputs."""
    for name, step in draft.spec.steps.items():
        where = f"{draft.place}steps.{name}"
        check_name(name, where, draft.problems)
        if step.pipeline is None:
            draft.names[name] = _run_name(draft.prefix, name, where, draft)
            _declare_outputs(name, step, draft)
        else:
            draft.inner[name] = inner = draft.within(name, step.pipeline)
            declare(inner)
            _declare_inner(name, step, inner, draft)
    for name, output in draft.spec.outputs.items():
        check_name(name, f"{draft.place}outputs.{name}", draft.problems)
        _bind_own_output(name, output, draft)
    for name, maker in draft.bound_outputs.items():
        where = f"{draft.place}outputs.{name}"
        _note_sink(maker, name, draft.spec.outputs.get(name), where, draft, "")


def bind_output(target: str, maker: Made, where: str, draft: Draft) -> None:
    """Say which step's output becomes a pipeline output; two makers are E_OUTPUT_CLASH."""
    known = draft.bound_outputs.setdefault(target, maker)
    if known != maker:
        draft.problems.add(
            "E_OUTPUT_CLASH",
            where,
            f"pipeline output {target!r} is already made by steps.{known[0]}.outputs.{known[1]}",
            "declare a second pipeline output",
        )


def shortened(name: str) -> str:
    """Return a made-up name of a step so that it is not too long to be one."""
    if len(name) <= NAME_MAX:
        return name
    tail = derived_id(name, length=8)
    return f"{name[: NAME_MAX - len(tail) - 1]}-{tail}"


def _own_path(output: Output | None) -> str:
    """Return the place that a pipeline output names, not what it is bound to."""
    return output.path if output is not None and not _is_binding(output.path) else ""


def _is_binding(path: str) -> bool:
    try:
        return whole(path) is not None
    except Invalid:
        return False


def _note_sink(  # noqa: PLR0917 - all there is to say of one output
    maker: Made,
    output: str,
    declared: Output | str | None,
    where: str,
    draft: Draft,
    step: str,
) -> None:
    """Note where an output goes besides the store; what is noted later is nearer to the run and wins."""
    if not isinstance(declared, Output):
        return
    path = _own_path(declared)
    if path and not _SCHEME.match(path):
        if declared.type not in FILES or not step:  # of a file its last part is the name
            draft.notes.append(f"{where}.path: {shown(path)} is ignored: it is on no datastore")
        path = ""
    if not path and not declared.name:
        if declared.version:
            draft.problems.add("E_TYPE", where, "a version without a name", "give `name`, too")
        return
    sink = draft.sinks.get(maker) or Sink()
    if path:
        sink = replace(sink, path=path, where=where, draft=draft, output=output, step=step)
    if declared.name:
        sink = replace(sink, name=declared.name, version=declared.version, where=where)
    draft.sinks[maker] = sink


def _run_name(prefix: str, name: str, where: str, draft: Draft) -> str:
    full = shortened(prefix + name) if prefix else name
    if full in draft.taken:
        draft.problems.add(
            "E_ID", where, f"{full!r} is already the name of {draft.taken[full]}", "rename one"
        )
    draft.taken.setdefault(full, where)
    return full if is_name(full) else "step"  # told already


def _declare_outputs(name: str, step: StepSpec, draft: Draft) -> None:
    declared: Outputs = {}
    for output, entry in step.outputs.items():
        where = f"{draft.place}steps.{name}.outputs.{output}"
        target, path = _target(entry, output, where, draft)
        if target:
            bind_output(target, (draft.names[name], output), where, draft)
        own = entry if isinstance(entry, Output) else draft.spec.outputs.get(target)
        if not path or target:
            path = _own_path(draft.spec.outputs.get(target))
        declared[output] = _planned_output(output, own, path)
        maker = (draft.names[name], output)
        _note_sink(maker, output, entry, where, draft, draft.names[name])
    draft.outputs[name] = declared


def _declare_inner(name: str, step: StepSpec, inner: Draft, draft: Draft) -> None:
    """Take in the outputs of a step that is a pipeline: those that its pipeline declares."""
    declared: Outputs = {}
    for output, entry in inner.spec.outputs.items():
        maker = inner.bound_outputs.get(output)
        made = _output_of(maker, inner) if maker else None
        declared[output] = made or _planned_output(output, entry, "")
    draft.outputs[name] = declared
    for output, given in step.outputs.items():
        where = f"{draft.place}steps.{name}.outputs.{output}"
        target, _ = _target(given, output, where, draft)
        if output not in declared:
            message = f"pipeline {inner.spec.name!r} has no output {shown(output)}"
            draft.problems.add_unknown("E_REF", where, message, output, declared)
            continue
        maker = inner.bound_outputs.get(output)
        if maker is None:
            continue
        if target:
            bind_output(target, maker, where, draft)
        _note_sink(maker, output, given, where, draft, maker[0])


def _output_of(maker: Made, draft: Draft) -> PlannedOutput | None:
    """Return the declared output that `maker` names, in this pipeline or in one of its steps."""
    for name, own in draft.names.items():
        if own == maker[0]:
            return draft.outputs[name].get(maker[1])
    for inner in draft.inner.values():
        found = _output_of(maker, inner)
        if found is not None:
            return found
    return None


def _bind_own_output(name: str, output: Output | None, draft: Draft) -> None:
    """Bind a pipeline output that names its maker itself; another path is a place (`Sink`)."""
    if output is None or not output.path:
        return
    where = f"{draft.place}outputs.{name}"
    reference: Reference | None = None
    try:
        reference = whole(output.path)
    except Invalid:
        return
    if reference is None or reference.scope != "step_output":
        return
    maker = draft.outputs.get(reference.step)
    if maker is None:
        message = f"no step {shown(reference.step)}"
        draft.problems.add_unknown("E_REF", where, message, reference.step, draft.spec.steps)
    elif reference.name not in maker:
        message = f"step {reference.step!r} has no output {shown(reference.name)}"
        draft.problems.add_unknown("E_REF", where, message, reference.name, maker)
    else:
        made = draft.made(reference.step, reference.name)
        if made is not None:
            bind_output(name, made, where, draft)


def _target(entry: Output | str | None, name: str, where: str, draft: Draft) -> tuple[str, str]:
    """Return the pipeline output that a step's output becomes, or an empty text; and its path."""
    check_name(name, where, draft.problems)
    path = entry.path if isinstance(entry, Output) else entry or ""
    if isinstance(entry, Output):
        check_mode(entry.mode, OUTPUT_MODES, where, draft.problems)
    target = _pipeline_output(path, where, draft)
    if not target and isinstance(entry, str) and entry:
        draft.problems.add(
            "E_EXPRESSION",
            where,
            f"{shown(entry)} binds nothing; allowed: ${{{{parent.outputs.<name>}}}} or nothing",
        )
    return target, path


def _pipeline_output(path: str, where: str, draft: Draft) -> str:
    """Return the pipeline output that a path binds to, or an empty text."""
    if OPEN not in path:
        return ""
    try:
        reference = whole(path)
    except Invalid:
        return ""  # ${{name}}, ${{default_datastore}} …: a place on a datastore
    if reference is None or reference.scope not in ("parent_output", "output"):
        if reference is not None:
            draft.problems.add(
                "E_EXPRESSION", where, f"{reference.text}; allowed: ${{{{parent.outputs.<name>}}}}"
            )
        return ""
    if reference.name not in draft.spec.outputs:
        message = f"the pipeline has no output {shown(reference.name)}"
        draft.problems.add_unknown("E_REF", where, message, reference.name, draft.spec.outputs)
    return reference.name


def _planned_output(name: str, declared: Output | None, path: str) -> PlannedOutput:
    if declared is None or declared.type not in FILES:
        mode = "direct" if declared and declared.mode.lower() == "direct" else ""
        return PlannedOutput(type=declared.type if declared else "uri_folder", mode=mode)
    # Azure ML: the last segment of the path is the file's name, by default the output's own.
    last = path.rstrip("/").rpartition("/")[2]
    file = "" if OPEN in last or last in (".", "..") or "\x00" in last else last
    return PlannedOutput(type="uri_file", file="" if file == name else file)
