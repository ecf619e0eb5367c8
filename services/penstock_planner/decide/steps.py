"""One step of a spec, checked and bound: command, variables, code, limits, and what it needs."""

import math
import re
from collections.abc import Iterable, Mapping

from penstock.contracts.artifacts import PREFIX
from penstock.contracts.plans import Bound, PlannedStep
from penstock.contracts.resources import check_resources
from penstock.contracts.spec import EnvironmentSpec, Input, Scalar, StepSpec
from penstock.errors import Invalid
from penstock.ids import is_digest
from penstock.units import KIB
from penstock_planner.decide.draft import Draft
from penstock_planner.decide.environments import environment_of
from penstock_planner.decide.expressions import (
    OPEN,
    OPTIONAL_OPEN,
    Reference,
    has_expression,
    segments_of,
)
from penstock_planner.decide.inputs import bound_input, concatenated, literal_text
from penstock_planner.decide.parameters import check_name
from penstock_planner.decide.places import is_data
from penstock_planner.decide.problems import Problems, shown
from penstock_planner.decide.values import artifact_of

COMMAND_BYTES_MAX = 96 * KIB  # Linux: one argument of a process is at most 128 KiB
VARIABLE_BYTES_MAX = 32 * KIB
VARIABLES_MAX = 1_000
RETRIES_MAX = 100
RETRY_DELAY_S_MAX = 3_600.0
DEFAULT_TARGET = "default"

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_FORBIDDEN_VARIABLES = frozenset({"LD_PRELOAD", "LD_AUDIT", "DYLD_INSERT_LIBRARIES"})
_OWN_VARIABLES = "PENSTOCK_"

Entry = Input | Scalar | None


def bound_step(
    name: str, step: StepSpec, draft: Draft, compute: str, before: Iterable[str] = ()
) -> PlannedStep:
    """Return a step with everything resolved.

    `compute` is the target of steps that name none; `before` are steps of the run that it needs anyhow.
    """
    where = f"{draft.place}steps.{name}"
    problems = draft.problems
    inputs = {
        key: bound
        for key, bound in bound_inputs(step.inputs, where, draft).items()
        if bound is not None
    }
    needs = _needs(name, step, inputs, draft, before)
    command = _command(step, inputs, where, draft)
    variables = _variables(step, inputs, where, draft)
    _check_limits(step, where, problems)
    try:
        check_resources(step.resources, f"{where}.resources")
    except Invalid as error:
        problems.add(error.code, error.where, error.message, error.hint)
    return PlannedStep(
        name=draft.names[name],
        kind=step.kind,
        command=command,
        code=(code := _code(step, where, problems)),
        code_digest=_code_digest(step, code, where, problems),
        inputs=inputs,
        outputs=draft.outputs[name],
        needs=needs,
        environment=_environment(step, where, draft),
        environment_variables=variables,
        resources=step.resources,
        compute=compute_of(step, where, draft) or compute,
        timeout_s=step.limits.timeout,
        deadline_s=step.limits.deadline,
        expected_s=step.limits.expected,
        attempts_max=step.limits.retries + 1,
        retry_delay_s=step.limits.retry_delay,
        deterministic=step.is_deterministic and step.kind == "command",
    )


def bound_inputs(entries: Mapping[str, Entry], where: str, draft: Draft) -> dict[str, Bound | None]:
    """Return inputs bound; None: declared, without a value. What is wrong goes to the problems."""
    inputs: dict[str, Bound | None] = {}
    for key, entry in entries.items():
        place = f"{where}.inputs.{key}"
        check_name(key, place, draft.problems)
        try:
            inputs[key] = bound_input(entry, place, draft)
        except Invalid as error:
            draft.problems.add(error.code, place, error.message, error.hint)
            inputs[key] = Bound(value="")  # told once; whatever uses this input is fine
    return inputs


def named_needs(step: StepSpec, where: str, draft: Draft) -> set[str]:
    """Return the steps of the run that a step names as its needs."""
    needs: set[str] = set()
    for need in step.needs:
        if need in draft.spec.steps:
            needs.update(draft.run_names(need))
        else:
            message = f"no step {shown(need)}"
            draft.problems.add_unknown("E_REF", f"{where}.needs", message, need, draft.spec.steps)
    return needs


def _needs(
    name: str, step: StepSpec, inputs: Mapping[str, Bound], draft: Draft, before: Iterable[str]
) -> tuple[str, ...]:
    where = f"{draft.place}steps.{name}"
    needs = {bound.step for bound in inputs.values() if bound.step}
    needs |= named_needs(step, where, draft)
    needs.update(before)
    if draft.names[name] in needs:
        needs.discard(draft.names[name])
        draft.problems.add("E_REF", where, "a step cannot need itself")
    return tuple(sorted(needs))


def _command(step: StepSpec, inputs: Mapping[str, Bound], where: str, draft: Draft) -> str:
    place = f"{where}.command"
    if step.component:
        draft.problems.add(
            "E_REF",
            f"{where}.component",
            f"{shown(step.component)} is not known",
            "list what is registered: penstock component list",
        )
        return ""
    if step.kind == "copy":
        if step.command or len(step.outputs) != 1 or not _copies_one(inputs):
            draft.problems.add(
                "E_TYPE", where, "a copy has one input of files, one output, and no command"
            )
        return ""
    if not step.command.strip():
        draft.problems.add("E_EMPTY", place, "no command", "write what a shell would run")
        return ""
    size = len(step.command.encode("utf-8", "surrogatepass"))
    if size > COMMAND_BYTES_MAX:
        draft.problems.add(
            "E_TOO_LARGE",
            place,
            f"{size:,} bytes; allowed: {COMMAND_BYTES_MAX:,}",
            "put it into a script in the step's code",
        )
        return ""
    return _substituted(step.command, step, inputs, place, draft)


def _copies_one(inputs: Mapping[str, Bound]) -> bool:
    return len(inputs) == 1 and all(is_data(bound) for bound in inputs.values())


def _variables(
    step: StepSpec, inputs: Mapping[str, Bound], where: str, draft: Draft
) -> dict[str, str]:
    if len(step.environment_variables) > VARIABLES_MAX:
        draft.problems.add(
            "E_LIMIT",
            f"{where}.environment_variables",
            f"{len(step.environment_variables):,}; allowed: {VARIABLES_MAX:,}",
        )
        return {}
    variables: dict[str, str] = {}
    for name, value in step.environment_variables.items():
        place = f"{where}.environment_variables.{name[:64]}"
        if not _VARIABLE.fullmatch(name):
            draft.problems.add(
                "E_ENV",
                place,
                f"{shown(name)} cannot name a variable; allowed: letters, digits and '_', "
                "not beginning with a digit",
            )
        elif name in _FORBIDDEN_VARIABLES or name.startswith(_OWN_VARIABLES):
            draft.problems.add("E_ENV", place, f"{name} cannot be set by a step")
        elif len(value.encode("utf-8", "surrogatepass")) > VARIABLE_BYTES_MAX:
            draft.problems.add(
                "E_ENV", place, f"{len(value):,} characters; allowed: {VARIABLE_BYTES_MAX:,} bytes"
            )
        else:
            variables[name] = _substituted(value, step, inputs, place, draft)
    return variables


def _substituted(
    text: str, step: StepSpec, inputs: Mapping[str, Bound], where: str, draft: Draft
) -> str:
    """Return a text with the pipeline's literals in it; what the executor fills in stays."""
    if "\x00" in text:
        draft.problems.add("E_TEXT", where, "a NUL character", "leave it out")
    if not has_expression(text):
        return text
    try:
        segments = segments_of(text)
    except Invalid as error:
        draft.problems.add(error.code, where, error.message, error.hint)
        return text
    return "".join(
        segment if isinstance(segment, str) else _filled(segment, step, inputs, where, draft)
        for segment in segments
    )


def _filled(
    reference: Reference, step: StepSpec, inputs: Mapping[str, Bound], where: str, draft: Draft
) -> str:
    name = reference.name
    match reference.scope:
        case "input" if name not in step.inputs:
            message = f"the step has no input {shown(name)}"
            draft.problems.add_unknown("E_REF", where, message, name, step.inputs)
        case "input" if name not in inputs and not reference.optional:
            draft.problems.add(
                "E_MISSING_INPUT",
                where,
                f"input {name!r} has no value",
                f"give it one, or write $[[… {reference.text} …]] to leave the words out",
            )
        case "output" if name not in step.outputs:
            message = f"the step has no output {shown(name)}"
            draft.problems.add_unknown("E_REF", where, message, name, step.outputs)
        case "input" | "output":
            pass
        case "parent_input":
            literal = literal_text(reference, where, draft)
            if OPEN in literal or OPTIONAL_OPEN in literal:
                draft.problems.add(
                    "E_EXPRESSION", where, f"the value of {reference.text} is an expression itself"
                )
            return literal
        case _:
            draft.problems.add(
                "E_EXPRESSION",
                where,
                f"{reference.text} has no value here; allowed: ${{{{inputs.x}}}}, ${{{{outputs.y}}}}",
                "declare an input or output of the step and name that",
            )
    return reference.text


def _whole_text(text: str, where: str, draft: Draft) -> str:
    if not has_expression(text):
        return text
    try:
        return concatenated(text, where, draft)
    except Invalid as error:
        draft.problems.add(error.code, where, error.message, error.hint)
        return ""


def compute_of(step: StepSpec, where: str, draft: Draft) -> str:
    """Return the compute target that a step names, or an empty text."""
    place = f"{where}.compute"
    return target_of(_whole_text(step.compute, place, draft), place, draft.problems)


def target_of(text: str, where: str, problems: Problems) -> str:
    """Return the name of a compute target, in Azure's spelling or ours; empty: none is named."""
    target = text.removeprefix("azureml:")
    if target == "local":
        return DEFAULT_TARGET
    if target:
        check_name(target, where, problems)
    return target


def _environment(step: StepSpec, where: str, draft: Draft) -> EnvironmentSpec | None:
    if isinstance(step.environment, EnvironmentSpec):
        return step.environment
    place = f"{where}.environment"
    text = _whole_text(step.environment, place, draft)
    return environment_of(text, draft.environments, place, draft.problems)


def _code(step: StepSpec, where: str, problems: Problems) -> str:
    if not step.code:
        return ""
    digest = artifact_of(step.code)
    if not digest:
        problems.add(
            "E_PATH",
            f"{where}.code",
            f"{shown(step.code)} is not stored; allowed: {PREFIX}<64 hexadecimal digits>",
            "the command line and the SDK upload source folders at submission",
        )
    return digest


def _code_digest(step: StepSpec, code: str, where: str, problems: Problems) -> str:
    if not step.hash_digest:
        return code
    digest = step.hash_digest.removeprefix(PREFIX)
    if not is_digest(digest):
        problems.add(
            "E_TYPE", f"{where}.hash_digest", f"{shown(digest)}; allowed: 64 hexadecimal digits"
        )
    return digest


def _check_limits(step: StepSpec, where: str, problems: Problems) -> None:
    limits = step.limits
    for name in ("timeout", "deadline", "expected"):
        seconds = getattr(limits, name)
        if not (seconds >= 0 and math.isfinite(seconds)):
            problems.add("E_RANGE", f"{where}.limits.{name}", f"{seconds}; allowed: 0 or more")
    if not 0 <= limits.retries <= RETRIES_MAX:
        problems.add(
            "E_RANGE", f"{where}.limits.retries", f"{limits.retries}; allowed: 0 to {RETRIES_MAX}"
        )
    if not 0 <= limits.retry_delay <= RETRY_DELAY_S_MAX:
        problems.add(
            "E_RANGE",
            f"{where}.limits.retry_delay",
            f"{limits.retry_delay}; allowed: 0 to {RETRY_DELAY_S_MAX:.0f}",
        )
