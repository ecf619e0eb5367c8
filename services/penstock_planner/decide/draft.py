"""A pipeline while it is being planned, and the outputs that its steps and itself declare."""

from dataclasses import dataclass, field

from penstock.contracts.plans import PlannedOutput
from penstock.contracts.spec import Output, PipelineSpec, StepSpec
from penstock.errors import Invalid
from penstock_planner.decide.expressions import OPEN, whole
from penstock_planner.decide.parameters import Given, check_mode, check_name
from penstock_planner.decide.problems import Problems, shown

OUTPUT_MODES = ("", "rw_mount", "upload", "mount", "direct")

Outputs = dict[str, PlannedOutput]


@dataclass(slots=True)
class Draft:
    """A pipeline while it is being planned."""

    spec: PipelineSpec
    given: Given
    problems: Problems
    notes: list[str] = field(default_factory=list)
    outputs: dict[str, Outputs] = field(default_factory=dict)
    """Step → its declared outputs; complete before the first step is bound."""
    bound_outputs: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Pipeline output → the step and output that make it."""


def declare_outputs(name: str, step: StepSpec, draft: Draft) -> None:
    """Take in a step's outputs and which pipeline outputs they make."""
    declared: Outputs = {}
    for output, entry in step.outputs.items():
        where = f"steps.{name}.outputs.{output}"
        check_name(output, where, draft.problems)
        path = entry.path if isinstance(entry, Output) else entry or ""
        if isinstance(entry, Output):
            check_mode(entry.mode, OUTPUT_MODES, where, draft.problems)
        target = _pipeline_output(path, where, draft)
        if target:
            bind_output(target, (name, output), where, draft)
        elif isinstance(entry, str) and entry:
            draft.problems.add(
                "E_EXPRESSION",
                where,
                f"{shown(entry)} binds nothing; allowed: ${{{{parent.outputs.<name>}}}} or nothing",
            )
        own = entry if isinstance(entry, Output) else draft.spec.outputs.get(target)
        declared[output] = _planned_output(output, own, "" if target else path)
    draft.outputs[name] = declared


def bind_output(target: str, maker: tuple[str, str], where: str, draft: Draft) -> None:
    """Say which step's output becomes a pipeline output; two makers are E_OUTPUT_CLASH."""
    known = draft.bound_outputs.setdefault(target, maker)
    if known != maker:
        draft.problems.add(
            "E_OUTPUT_CLASH",
            where,
            f"pipeline output {target!r} is already made by steps.{known[0]}.outputs.{known[1]}",
            "declare a second pipeline output",
        )


def _pipeline_output(path: str, where: str, draft: Draft) -> str:
    """Return the pipeline output that a path binds to, or an empty text."""
    if OPEN not in path:
        return ""
    try:
        reference = whole(path)
    except Invalid:
        return ""  # ${{name}}, ${{default_datastore}} …: places in Azure's stores, which we ignore
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
    if declared is None or declared.type != "uri_file":
        return PlannedOutput(type=declared.type if declared else "uri_folder")
    # Azure ML: the last segment of the path is the file's name, by default the output's own.
    last = path.rstrip("/").rpartition("/")[2]
    file = "" if OPEN in last or last in (".", "..") or "\x00" in last else last
    return PlannedOutput(type="uri_file", file="" if file == name else file)
