"""Outputs that are values: a step writes a text into a file, and a later step gets it as a literal.

Azure ML calls them control outputs. What does not read as its declared type fails the step that wrote it.
"""

import math

from penstock.contracts.spec import PRIMITIVES, Scalar
from penstock.units import KIB

VALUE_BYTES_MAX = 64 * KIB
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def is_value(kind: str) -> bool:
    """Say whether an input or output of this type is a value."""
    return kind in PRIMITIVES


def value_of(kind: str, data: bytes) -> Scalar | None:
    """Return the value that a file's bytes are; None when they are none of that type."""
    try:
        text = data.decode("utf-8").strip() if kind != "string" else data.decode("utf-8")
        match kind:
            case "integer":
                return int(text)
            case "number":
                number = float(text)
                return number if math.isfinite(number) else None
            case "boolean":
                return _BOOLEANS.get(text.lower())
    except ValueError:
        return None
    text = text.removesuffix("\n").removesuffix("\r")
    return None if "\x00" in text else text
