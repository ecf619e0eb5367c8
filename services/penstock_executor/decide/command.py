"""Expressions of a command line, replaced as Azure ML's CLI v2 does it (azure-compat §1.2).

    ${{inputs.x}}  ${{inputs.x.path}}     text of a literal, or local path of the data
    ${{outputs.y}}  ${{outputs.y.path}}   local path to write
    $[[ … ]]                              kept without brackets if every input inside has a value

Values are inserted as they are: what a value means to the shell is the author's business, as in
Azure ML. Whoever must pass hostile text reads it from PENSTOCK_PARAMETERS or AZUREML_PARAMETER_<n>.
"""

import re
from collections.abc import Mapping

from penstock.contracts.spec import Scalar
from penstock.errors import Invalid
from penstock.ids import did_you_mean

_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}", re.DOTALL)
_OPTIONAL = re.compile(r"\$\[\[(.*?)\]\]", re.DOTALL)


def text_of(value: Scalar) -> str:
    """Return a literal as a command sees it: True, 1.8, 0.001, text as it is."""
    return str(value)


def substituted(
    text: str, inputs: Mapping[str, str], outputs: Mapping[str, str], where: str
) -> str:
    """Return `text` with groups resolved and expressions replaced by paths and values.

    `inputs` and `outputs` hold what has a value; an absent name has none.

    Raises:
        Invalid: E_COMMAND for an expression that names nothing known.
    """

    def group(match: re.Match[str]) -> str:
        expressions = (m.group(1) for m in _EXPRESSION.finditer(match.group(1)))
        kept = all(_input_name(e, inputs) is not None for e in expressions if _is_input(e))
        return match.group(1) if kept else ""

    def value(match: re.Match[str]) -> str:
        expression = match.group(1)
        kind, _, name = expression.partition(".")
        known = {"inputs": inputs, "outputs": outputs}.get(kind)
        found = None if known is None else _name(name, known)
        if known is None or found is None:
            raise Invalid(
                f"{match.group(0)} has no value",
                code="E_COMMAND",
                where=where,
                hint=_hint(expression, inputs, outputs),
            )
        return known[found]

    return _EXPRESSION.sub(value, _OPTIONAL.sub(group, text))


def _is_input(expression: str) -> bool:
    return expression.startswith("inputs.")


def _input_name(expression: str, inputs: Mapping[str, str]) -> str | None:
    return _name(expression.removeprefix("inputs."), inputs)


def _name(name: str, known: Mapping[str, str]) -> str | None:
    if name in known:
        return name
    short = name.removesuffix(".path")
    return short if short in known else None


def _hint(expression: str, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> str:
    known = [f"inputs.{n}" for n in inputs] + [f"outputs.{n}" for n in outputs]
    if not known:
        return "the step has neither inputs nor outputs"
    return did_you_mean(expression, known) or f"known: {', '.join(sorted(known)[:10])}"
