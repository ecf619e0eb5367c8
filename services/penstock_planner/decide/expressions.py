"""Expressions of Azure ML's CLI v2, taken apart: `${{…}}` and the optional brackets `$[[…]]`.

    inputs.x · inputs.x.path            an input of the step itself
    outputs.y · outputs.y.path          an output of the step itself
    parent.inputs.x                     an input of the pipeline
    parent.outputs.y                    an output of the pipeline
    parent.jobs.n.outputs.y             an output of another step (also: parent.steps, jobs, steps)

Blanks inside the braces are allowed. Nothing here knows which names exist.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from penstock.errors import Invalid

OPEN, CLOSE = "${{", "}}"
OPTIONAL_OPEN, OPTIONAL_CLOSE = "$[[", "]]"

Scope = Literal["input", "output", "parent_input", "parent_output", "step_output"]

_EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_SHOWN_MAX = 60
_KNOWN = "inputs.x, outputs.y, parent.inputs.x, parent.outputs.y, parent.jobs.n.outputs.y"


@dataclass(frozen=True, slots=True)
class Reference:
    """One expression: what it names. `step` is set for another step's output only."""

    scope: Scope
    name: str
    step: str = ""
    text: str = ""
    """Its plainest spelling, with braces: no blanks, no `.path`."""
    optional: bool = False
    """Inside `$[[…]]`: may be without a value."""


Segment = str | Reference


@lru_cache(maxsize=65_536)
def segments_of(text: str) -> tuple[Segment, ...]:
    """Return a text as plain pieces and references, in order; joined they give the text in its plainest spelling.

    Raises:
        Invalid: E_EXPRESSION, without a place: an expression nobody knows, or braces left open.
    """
    if OPEN not in text and OPTIONAL_OPEN not in text:
        return (text,) if text else ()
    brackets = _brackets(text)
    segments: list[Segment] = []
    end = 0
    for match in _EXPRESSION.finditer(text):
        if match.start() > end:
            segments.append(_plain(text[end : match.start()]))
        inside = any(first < match.start() < last for first, last in brackets)
        segments.append(_reference(match.group(0), match.group(1), optional=inside))
        end = match.end()
    if end < len(text):
        segments.append(_plain(text[end:]))
    return tuple(segments)


def whole(text: str) -> Reference | None:
    """Return the reference that a text consists of, None if there is more or nothing to it.

    Raises:
        Invalid: as `segments_of`.
    """
    segments = segments_of(text.strip())
    if len(segments) == 1 and isinstance(segments[0], Reference):
        return segments[0]
    return None


def has_expression(text: str) -> bool:
    """Say whether there is anything to substitute in a text."""
    return OPEN in text or OPTIONAL_OPEN in text


def _reference(text: str, body: str, *, optional: bool) -> Reference:
    parts = [part.strip() for part in body.strip().split(".")]
    found: tuple[Scope, str, str] | None = None
    match parts:
        case ["inputs", name] | ["inputs", name, "path"]:
            found = ("input", name, "")
        case ["outputs", name] | ["outputs", name, "path"]:
            found = ("output", name, "")
        case ["parent", "inputs", name] | ["parent", "inputs", name, "path"]:
            found = ("parent_input", name, "")
        case ["parent", "outputs", name]:
            found = ("parent_output", name, "")
        case (
            ["parent", "jobs" | "steps", step, "outputs", name]
            | ["parent", "jobs" | "steps", step, "outputs", name, "path"]
            | ["jobs" | "steps", step, "outputs", name]
            | ["jobs" | "steps", step, "outputs", name, "path"]
        ):
            found = ("step_output", name, step)
        case ["search_space", *_]:
            raise Invalid(
                f"{_shown(text)}: only the trial of a sweep has a search space", code="E_EXPRESSION"
            )
        case _:
            pass
    if found is None or not found[1] or (found[0] == "step_output" and not found[2]):
        raise Invalid(f"unknown expression {_shown(text)}; allowed: {_KNOWN}", code="E_EXPRESSION")
    scope, name, step = found
    plain = OPEN + ".".join(parts[:-1] if parts[-1] == "path" and len(parts) > 2 else parts) + CLOSE  # noqa: PLR2004 - inputs.path is an input called path
    return Reference(scope=scope, name=name, step=step, text=plain, optional=optional)


def _plain(text: str) -> str:
    if OPEN in text:
        raise Invalid(
            f"'{OPEN}' is never closed: {_shown(text[text.index(OPEN) :])}",
            code="E_EXPRESSION",
            hint=f"close it with '{CLOSE}'",
        )
    return text


def _brackets(text: str) -> list[tuple[int, int]]:
    """Return where optional parts begin and end."""
    found: list[tuple[int, int]] = []
    at = text.find(OPTIONAL_OPEN)
    while at >= 0:
        end = text.find(OPTIONAL_CLOSE, at)
        if end < 0:
            raise Invalid(
                f"'{OPTIONAL_OPEN}' is never closed: {_shown(text[at:])}",
                code="E_EXPRESSION",
                hint=f"close it with '{OPTIONAL_CLOSE}'",
            )
        found.append((at, end))
        at = text.find(OPTIONAL_OPEN, end)
    return found


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_MAX else line[: _SHOWN_MAX - 1] + "…"
