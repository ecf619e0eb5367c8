"""Values of parameters and literal inputs: what a declared type accepts, and what it makes of it.

As lenient as Azure ML's own client where nothing is lost: a number may be given as text, an integer
input may get a float, a text may get anything. What cannot be read as the type is refused, and so
is a violation of `min`, `max` or `enum`, which Azure's service refuses late and we refuse at once.
"""

import math
import re

from penstock.contracts.artifacts import PREFIX
from penstock.contracts.spec import DATA, Input, Scalar
from penstock.ids import is_digest
from penstock_planner.decide.problems import Problems, shown

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")  # what every JSON reader keeps exactly
_FLOAT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def text_of(value: Scalar) -> str:
    """Return a literal as it stands in a command, as Azure ML writes it: True, 1.8, 0.001, 20."""
    return str(value)


def is_literal(declared: Input) -> bool:
    """Say whether an input takes a literal: a primitive type, or a plain value and no type."""
    if declared.type not in DATA:
        return True
    return not declared.path and (declared.value is not None or declared.default is not None)


def artifact_of(text: str) -> str:
    """Return the digest in `artifact:<digest>`, or an empty text."""
    digest = text.removeprefix(PREFIX)
    return digest if text.startswith(PREFIX) and is_digest(digest) else ""


def accepted(declared: Input, value: Scalar, where: str, problems: Problems) -> Scalar:
    """Return a literal as its declared type; what is wrong with it goes to `problems`.

    E_TYPE: not of the type. E_RANGE: outside `min`, `max` or `enum`. E_TEXT: a NUL character.
    """
    if isinstance(value, str) and "\x00" in value:
        problems.add("E_TEXT", where, "a NUL character", "leave it out")
        return value
    match declared.type:
        case "string":
            result: Scalar | None = text_of(value)
        case "boolean":
            result = _boolean(value)
        case "integer" | "number":
            result = _number(value)
        case _:
            result = value
    if result is None:
        problems.add("E_TYPE", where, f"{shown(value)} is no {declared.type}", _hint(declared))
        return value
    _check_range(declared, result, where, problems)
    return result


def _check_range(declared: Input, value: Scalar, where: str, problems: Problems) -> None:
    if declared.enum and not any(
        value == member or text_of(value) == text_of(member) for member in declared.enum
    ):
        allowed = ", ".join(text_of(member) for member in declared.enum)
        problems.add("E_RANGE", where, f"{shown(value)}; allowed: {shown(allowed)[1:-1]}")
    if isinstance(value, str | bool):
        return
    if declared.min is not None and value < declared.min:
        problems.add("E_RANGE", where, f"{value}; allowed: at least {_plain(declared.min)}")
    if declared.max is not None and value > declared.max:
        problems.add("E_RANGE", where, f"{value}; allowed: at most {_plain(declared.max)}")


def _boolean(value: Scalar) -> bool | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _BOOLEANS.get(value.strip().lower())
    return bool(value) if value in (0, 1) else None


def _number(value: Scalar) -> int | float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value
    text = value.strip()
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) else None
    return None


def _plain(number: float) -> str:
    return str(int(number)) if number.is_integer() else str(number)


def _hint(declared: Input) -> str:
    return {
        "boolean": "write true or false",
        "integer": "write digits, such as 20",
        "number": "write a number, such as 0.001",
    }.get(declared.type, "")
