"""Schedules as people write them: a YAML file with the options of `penstock schedule create` as keys.

name: nightly
pipeline: digits
cron: "30 2 * * *"        # or every: 5m
time_zone: Europe/Berlin
parameters: {learning_rate: 0.05}

A file in Azure ML's shape (`trigger`, `create_job`) is read by azure_schedules.py. What a schedule may
hold is decided by the trigger service; here is only its spelling.
"""

import re
from pathlib import Path

import msgspec

from penstock.contracts.codec import validation_error
from penstock.contracts.schedules import Schedule
from penstock.errors import Invalid, NotFound
from penstock.sdk.azure_schedules import Scheduled, azure_schedule, is_azure_schedule
from penstock.sdk.yaml_section import Section
from penstock.sdk.yaml_text import document_of

_OURS = ("created_at", "revision", "resumed_at")
"""Set by the service, never by people."""
_KNOWN = tuple(name for name in Schedule.__struct_fields__ if name not in _OURS)
_INTERVAL = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(s|sec|m|min|h|d)?", re.ASCII)
_SECONDS = {None: 1, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


def seconds_of(text: str, where: str = "--every") -> float:
    """Return an interval such as "30s", "5m", "1.5h", "1d" or "90" in seconds.

    Raises:
        Invalid: E_INTERVAL.
    """
    match = _INTERVAL.fullmatch(text.strip())
    if match is None:
        raise Invalid(
            f"found {text[:40]!r}; allowed: a number and s, m, h or d",
            code="E_INTERVAL",
            where=where,
            hint="for example 30s, 5m, 1h",
        )
    return float(match[1]) * _SECONDS[match[2]]


def interval(seconds: float) -> str:
    """Return an interval for people: 30s, 5m, 1h, 2d."""
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"


def read_schedule(file: str | Path, name: str = "", *, strict: bool = False) -> Scheduled:
    """Return the schedule in a YAML file; `name` goes before the file's own.

    `strict`: unknown keys of a file in Azure ML's shape are errors; of one in ours they always are.

    Raises:
        NotFound: no such file.
        Invalid: E_UNKNOWN_FIELD, E_UNSUPPORTED, E_MISSING, E_INTERVAL or E_TYPE, at file:line:column.
    """
    path = Path(file)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NotFound(
            f"{path}: {error.strerror}", where="--file", hint="give a YAML file"
        ) from error
    document = document_of(data, str(path), path.resolve().parent)
    if document.repeated:
        raise document.repeated[0]
    section = Section(document, (), document.value)
    if is_azure_schedule(section):
        return azure_schedule(section, path.resolve(), name, strict=strict)
    section.refuse_unknown(_KNOWN)
    values = dict(section.value)
    if name:
        values["name"] = name
    if not name:
        section.text("name", required=True)
    section.text("pipeline", required=True)
    if isinstance(values.get("every"), str):
        values["every"] = seconds_of(values["every"], section.where("every"))
    for key in ("parameters", "tags"):
        if values.get(key) is None:
            values.pop(key, None)
    try:
        return Scheduled(msgspec.convert(values, type=Schedule))
    except msgspec.ValidationError as error:
        refused = validation_error(error, Schedule, "")
        place = document.where(*refused.where.strip(".").split("."))
        raise Invalid(refused.message, code=refused.code, where=place) from error
