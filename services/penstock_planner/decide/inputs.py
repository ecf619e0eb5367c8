"""Inputs of a step, bound: to a value, to a stored tree, or to what another step will make."""

import msgspec

from penstock.contracts.plans import Bound
from penstock.contracts.spec import DATA, FILES, PRIMITIVES, Input, Scalar
from penstock_planner.decide.draft import Draft
from penstock_planner.decide.expressions import Reference, has_expression, segments_of, whole
from penstock_planner.decide.parameters import INPUT_MODES, check_mode
from penstock_planner.decide.places import NO_DIGEST, is_data
from penstock_planner.decide.problems import shown
from penstock_planner.decide.values import accepted, artifact_of, is_literal, text_of


def bound_input(entry: Input | Scalar | None, where: str, draft: Draft) -> Bound | None:
    """Return an input's value or edge; None: declared, without a value."""
    if entry is None:
        return None
    if not isinstance(entry, Input):
        return _bound_value(entry, where, draft)
    check_mode(entry.mode, INPUT_MODES, where, draft.problems)
    if entry.path and not is_literal(entry):
        bound = _bound_value(entry.path, f"{where}.path", draft, wanted=entry.type)
        if bound is None or is_data(bound):
            return _typed(bound, entry.type)
        text = text_of(bound.value if bound.value is not None else "")
        return draft.places.bound(entry.type, text, where, draft.problems, _hint(where))
    value = entry.value if entry.value is not None else entry.default
    if value is None:
        if not entry.optional:
            draft.problems.add("E_MISSING_INPUT", where, f"a {entry.type} without a value")
        return None
    bound = _bound_value(value, where, draft)
    if bound is None:  # an optional input of the pipeline that nobody gave
        return None if entry.default is None else Bound(value=entry.default)
    if is_data(bound):
        if entry.type not in DATA and bound.type not in PRIMITIVES:
            draft.problems.add("E_TYPE", where, f"files where a {entry.type} is declared")
        return bound
    if bound.value is not None:
        return Bound(value=accepted(entry, bound.value, where, draft.problems))
    return bound


def _typed(bound: Bound | None, declared: str) -> Bound | None:
    """Return an edge or a stored tree with the type its reader declared.

    Files are what they are: a folder where a file is declared stays a folder, and the reverse.
    """
    if bound is None or bound.type == declared or (bound.type in FILES) != (declared in FILES):
        return bound
    return msgspec.structs.replace(bound, type=declared)


def _hint(where: str) -> str:
    """Return "<step>--<input>" for the place of a step's input."""
    parts = where.split(".")
    return f"{parts[-3]}--{parts[-1]}" if len(parts) > 3 else parts[-1]  # noqa: PLR2004 - steps.s.inputs.i


def _bound_value(value: Scalar, where: str, draft: Draft, wanted: str = "") -> Bound | None:
    if not isinstance(value, str):
        return Bound(value=value)
    digest = artifact_of(value)
    if digest:
        return Bound(type=wanted or "uri_folder", artifact=digest)
    if not has_expression(value):
        if "\x00" in value:
            draft.problems.add("E_TEXT", where, "a NUL character", "leave it out")
        return Bound(value=value)
    reference = whole(value)
    if reference is not None:
        return _resolved(reference, where, draft)
    return Bound(value=concatenated(value, where, draft))


def _resolved(reference: Reference, where: str, draft: Draft) -> Bound | None:
    match reference.scope:
        case "parent_input" | "input":
            return _pipeline_input(reference.name, where, draft)
        case "step_output":
            return _edge(reference, where, draft)
        case _:
            draft.problems.add(
                "E_EXPRESSION",
                where,
                f"{reference.text} has no value here; allowed: ${{{{parent.inputs.x}}}}, "
                "${{parent.jobs.n.outputs.y}}",
            )
            return Bound(value="")


def _pipeline_input(name: str, where: str, draft: Draft) -> Bound | None:
    if name not in draft.given.values:
        message = f"the pipeline has no input {shown(name)}"
        draft.problems.add_unknown("E_REF", where, message, name, draft.spec.inputs)
        return Bound(value="")
    return draft.given.values[name]


def _edge(reference: Reference, where: str, draft: Draft) -> Bound:
    maker = draft.outputs.get(reference.step)
    if maker is None:
        message = f"no step {shown(reference.step)}"
        draft.problems.add_unknown("E_REF", where, message, reference.step, draft.spec.steps)
        return Bound(artifact=NO_DIGEST)
    output = maker.get(reference.name)
    if output is None:
        message = f"step {reference.step!r} has no output {shown(reference.name)}"
        draft.problems.add_unknown("E_REF", where, message, reference.name, maker)
        return Bound(artifact=NO_DIGEST)
    made = draft.made(reference.step, reference.name)
    if made is None:
        message = f"no step of {reference.step!r} makes its output {reference.name!r}"
        hint = "bind a step's output to it: ${{parent.outputs.…}}"
        draft.problems.add("E_REF", where, message, hint)
        return Bound(artifact=NO_DIGEST)
    return Bound(type=output.type, step=made[0], output=made[1])


def concatenated(text: str, where: str, draft: Draft) -> str:
    """Return a text with the pipeline's literals in place of its expressions.

    Raises:
        Invalid: as `segments_of`.
    """
    pieces: list[str] = []
    for segment in segments_of(text):
        if isinstance(segment, str):
            pieces.append(segment)
        elif segment.scope in ("parent_input", "input"):
            pieces.append(literal_text(segment, where, draft))
        else:
            draft.problems.add(
                "E_EXPRESSION",
                where,
                f"{segment.text} cannot be part of a text; allowed there: literals of the pipeline",
                "files are handed over as the whole value of an input",
            )
    return "".join(pieces)


def literal_text(reference: Reference, where: str, draft: Draft) -> str:
    """Return a pipeline input as text."""
    bound = _pipeline_input(reference.name, where, draft)
    if bound is None:
        draft.problems.add(
            "E_MISSING_INPUT",
            where,
            f"optional input {reference.name!r} has no value to write here",
        )
        return ""
    if is_data(bound):
        draft.problems.add(
            "E_TYPE",
            where,
            f"{reference.text} is files, not a text",
            "hand it over as the whole value of an input and write ${{inputs.<name>}}",
        )
        return ""
    return text_of(bound.value if bound.value is not None else "")
