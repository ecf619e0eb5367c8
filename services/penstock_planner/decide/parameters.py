"""Inputs of a pipeline: declared ones met by the values of a request."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from penstock.contracts.artifacts import PREFIX
from penstock.contracts.plans import Bound
from penstock.contracts.spec import DATA, Input, PipelineSpec, Scalar
from penstock.errors import Invalid
from penstock.ids import checked_name
from penstock_planner.decide.places import ANYWHERE, NO_DIGEST, Pending, Places
from penstock_planner.decide.problems import Problems, shown
from penstock_planner.decide.values import accepted, artifact_of, is_literal

INPUT_MODES = ("", "ro_mount", "download", "direct", "eval_mount", "eval_download")


@dataclass(slots=True)
class Given:
    """Values of a pipeline's inputs. An unset optional input is None.

    `faulty` names inputs whose problem has been told already: what uses them is not told again.
    """

    values: dict[str, Bound | None] = field(default_factory=dict)
    faulty: set[str] = field(default_factory=set)

    def scalars(self) -> dict[str, Scalar]:
        """Return what a run remembers of its inputs: literals, data as `artifact:<digest>` or where it lies."""
        result: dict[str, Scalar] = {}
        for name, bound in self.values.items():
            if bound is None or name in self.faulty:
                continue
            if bound.artifact:
                result[name] = PREFIX + bound.artifact
            elif isinstance(bound, Pending):
                result[name] = bound.location.text()
            elif bound.value is not None:
                result[name] = bound.value
        return result


def given(
    spec: PipelineSpec,
    parameters: Mapping[str, Scalar],
    problems: Problems,
    *,
    complete: bool = True,
    places: Places = ANYWHERE,
) -> Given:
    """Return the value of every declared input.

    `complete` false (registration) lets required inputs be without a value.
    """
    result = Given()
    for name in parameters:
        if name not in spec.inputs:
            problems.add_unknown(
                "E_PARAM", f"parameters.{name[:64]}", "no such input", name, spec.inputs
            )
    for name, entry in spec.inputs.items():
        where = f"inputs.{name}"
        before = problems.count
        check_name(name, where, problems)
        declared = _declared(entry)
        if name in parameters:
            bound: Bound | None = _bound(
                declared, parameters[name], f"parameters.{name}", problems, places
            )
        else:
            bound = _default(declared, where, problems, places, complete=complete)
        check_mode(declared.mode, INPUT_MODES, where, problems)
        result.values[name] = bound
        if problems.count > before:
            result.faulty.add(name)
    return result


def check_name(name: str, where: str, problems: Problems) -> None:
    """Note what is wrong with a name (E_ID)."""
    try:
        checked_name(name, where)
    except Invalid as error:
        problems.add(error.code, f"{where[:100]}", error.message)


def check_mode(mode: str, allowed: tuple[str, ...], where: str, problems: Problems) -> None:
    """Note a mode that does not exist (E_TYPE). Modes are compared without their case."""
    if mode.lower() not in allowed:
        problems.add_unknown(
            "E_TYPE", f"{where}.mode", f"unknown mode {shown(mode)}", mode.lower(), allowed[1:]
        )


def _declared(entry: Input | Scalar) -> Input:
    if isinstance(entry, Input):
        return entry
    if isinstance(entry, str) and artifact_of(entry):
        return Input(path=entry)
    return Input(value=entry)  # no type: whatever is given is taken


def _default(
    declared: Input, where: str, problems: Problems, places: Places, *, complete: bool
) -> Bound | None:
    if declared.path and declared.type in DATA:
        name = where.rpartition(".")[2]
        return places.bound(declared.type, declared.path, f"{where}.path", problems, name)
    value = declared.value if declared.value is not None else declared.default
    if value is not None:
        return Bound(value=accepted(declared, value, where, problems))
    if declared.optional:
        return None
    if complete:
        what = "artifact:<digest>" if declared.type in DATA else f"a {declared.type}"
        problems.add(
            "E_MISSING_INPUT",
            where,
            f"required, and neither a value nor a default; allowed: {what}",
            f"set it with -p {where.removeprefix('inputs.')}=…",
        )
    if declared.type in DATA:
        return Bound(type=declared.type, artifact=NO_DIGEST)
    return Bound(value=_placeholder(declared))


def _bound(declared: Input, value: Scalar, where: str, problems: Problems, places: Places) -> Bound:
    if isinstance(value, str) and artifact_of(value) and declared.type in DATA:
        return Bound(type=declared.type, artifact=artifact_of(value))
    if is_literal(declared):
        return Bound(value=accepted(declared, value, where, problems))
    name = where.rpartition(".")[2]
    return places.bound(declared.type, str(value), where, problems, name)


def _placeholder(declared: Input) -> Scalar:
    if declared.enum:
        return declared.enum[0]
    match declared.type:
        case "boolean":
            return False
        case "integer" | "number":
            return declared.min if declared.min is not None else declared.max or 0
        case _:
            return ""
