"""Names made from what people call things: "train model.py" becomes a name that may stand in a subject."""

import re
from collections.abc import Container, MutableMapping

from penstock.ids import is_name

_OTHER = re.compile(r"[^A-Za-z0-9_-]+")


def name_from(text: str) -> str:
    """Return `text` if it is a name, else the nearest one: without a .py, other characters as "_"."""
    if is_name(text):
        return text
    short = re.split(r"[/\\]", text)[-1].removesuffix(".py") or text
    return _OTHER.sub("_", short).strip("-")[:63] or "step"


def distinct(
    name: str, taken: Container[str], numbers: MutableMapping[str, int] | None = None
) -> str:
    """Return `name`, or with the first number that makes it new: train, train_2 and so on.

    `numbers` remembers how far each name has come, so that a thousand equal names are not a million looks.
    """
    number, result = 1, name
    if name in taken and numbers is not None:
        number = numbers.get(name, 1)
    while result in taken:
        number += 1
        result = f"{name[: 60 - len(str(number))]}_{number}"
    if numbers is not None:
        numbers[name] = number
    return result
