"""What can be submitted, who submits it, and where in the author's file a refusal belongs."""

import getpass
import os
import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from penstock.contracts.spec import Scalar
from penstock.errors import Invalid, NotFound, PenstockError
from penstock.ids import did_you_mean
from penstock.sdk.definition import Definition

_FILE = re.compile(r"[/\\]|\.(ya?ml|json)$")


class Composed(Protocol):
    """Something that can be submitted: a `Pipeline`."""

    def definition(self) -> Definition:
        """Return the pipeline with its local references."""
        ...


Submittable = Definition | Composed | str | Path
"""A definition, a `Pipeline`, the path of a YAML or Python file, or a registered name ("digits", "digits@3")."""


def definition_of(
    what: Submittable, *, strict: bool = False, values: Sequence[str] = ()
) -> Definition | None:
    """Return what is to be submitted as a definition; None for the name of a registered pipeline.

    `strict` and `values` (`a.b.c=value`) are for files: pipeline_files.py.

    Raises:
        Invalid: E_PARAM, values for what is no file; or whatever is wrong with the file.
    """
    if isinstance(what, Definition):
        return what
    if isinstance(what, str | Path) and str(what).endswith(".py"):
        from penstock.sdk.function_steps import pipeline_in

        if not Path(what).is_file():
            raise NotFound("no such file", where=str(what))
        return pipeline_in(Path(what)).definition()
    if isinstance(what, str | Path):
        from penstock.sdk.pipeline_files import read_pipeline

        if isinstance(what, Path) or _FILE.search(what) or Path(what).is_file():
            return read_pipeline(what, strict=strict, values=values)
        if values:
            raise Invalid(
                f"{what} is no file",
                code="E_PARAM",
                where=f"--set {values[0]}",
                hint="set inputs of a registered pipeline with -p",
            )
        return None
    return what.definition()


def who() -> str:
    """Return user@host, for the record."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def not_found(kind: str, name: str, run: str, known: Sequence[str]) -> NotFound:
    """Return the error for a step or output that a run does not have."""
    hint = did_you_mean(name, known) or (f"it has: {', '.join(known[:20])}" if known else "")
    return NotFound(f"run {run} has no {kind} {name!r}", where=run, hint=hint)


def scalars(values: Mapping[str, Scalar | Path]) -> dict[str, Scalar]:
    """Return parameters as a request carries them: paths as texts."""
    return {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}


_ALSO = re.compile(r"^(  E_[A-Z_]+ )([^\s:]+)(?=:)", re.MULTILINE)
"""A further problem in the planner's message: code, place."""


def placed(error: PenstockError, definition: Definition | None) -> PenstockError:
    """Return the planner's refusal with the lines of the file that it is about."""
    if definition is None:
        return error
    message = _ALSO.sub(
        lambda match: match.group(1) + _place_in(definition, match.group(2)), error.message
    )
    where = _place_in(definition, error.where)
    return type(error)(message, code=error.code, where=where, hint=error.hint)


def _place_in(definition: Definition, where: str) -> str:
    """Return `file:line:column (place)` for a place in the spec; other places as they are."""
    parts = re.split(r"[.\[\]]+", where)
    while parts and parts[0] in ("", "request", "spec", "pipeline", definition.spec.name):
        parts.pop(0)
    if not parts or parts[0] not in ("steps", "jobs", "inputs", "outputs", "settings"):
        return where
    place = ("steps" if parts[0] == "jobs" else parts[0], *parts[1:])
    found = definition.where(*place)
    return where if found == ".".join(place) else f"{found} ({'.'.join(place)})"
