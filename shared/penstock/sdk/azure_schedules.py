"""Schedules in Azure ML's YAML (`type: schedule` in its shape: `trigger` and `create_job`).

A file becomes the schedule that the trigger service knows, and, where `create_job` is a file or written
out, the pipeline that has to be registered first. What a recurrence means is a cron line wherever its ticks
are times of the day, so that a change of the clocks moves nothing; else an interval.
"""

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from penstock.contracts.schedules import Schedule
from penstock.contracts.spec import Scalar
from penstock.errors import Invalid
from penstock.ids import checked_name
from penstock.sdk.definition import Definition
from penstock.sdk.pipeline_files import pipeline_of
from penstock.sdk.recurrence import DAYS, SECONDS, moment, recurring, spelled
from penstock.sdk.yaml_reading import Reading, local_path
from penstock.sdk.yaml_section import Section
from penstock.sdk.yaml_text import Document

_FREQUENCIES = (*SECONDS, "month")
_JOB_KEYS = (
    "settings",
    "experiment_name",
    "tags",
    "compute",
    "outputs",
    "display_name",
    "description",
)
"""Keys of `create_job` that go over the job's own."""
_OTHERS = ("import_data", "create_monitor")
_FIELDS = 5


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A schedule, and the pipeline that it runs if that is not registered yet."""

    schedule: Schedule
    definition: Definition | None = None
    notes: tuple[str, ...] = ()


def is_azure_schedule(section: Section) -> bool:
    """Say whether a file is a schedule in Azure ML's shape rather than in ours."""
    return any(key in section for key in ("trigger", "create_job", *_OTHERS))


def azure_schedule(top: Section, file: Path, name: str = "", *, strict: bool = False) -> Scheduled:
    """Return the schedule in a document; `name` goes before the file's own.

    Raises:
        Invalid: as a pipeline file; E_UNSUPPORTED, what no schedule of ours can be; E_TIME.
    """
    for key in _OTHERS:
        if key in top:
            raise top.unsupported(key, "a schedule runs pipelines: give `create_job`")
    reading = Reading(strict=strict)
    reading.meet(top, "schedule")
    trigger = top.section("trigger")
    reading.meet(trigger, "trigger")
    definition, pipeline, parameters = _job(top, file, reading)
    job = top.section("create_job") if isinstance(top["create_job"], dict) else None
    tags = {**_texts(top, "tags"), **(_texts(job, "tags") if job is not None else {})}
    settings = job.section("settings") if job is not None else None
    schedule = Schedule(
        name=checked_name(name or top.text("name", required=True), top.where("name")),
        pipeline=pipeline,
        parameters=parameters,
        experiment="" if job is None or definition is not None else job.text("experiment_name"),
        tags=tags,
        reuse="refresh" if settings is not None and settings["force_rerun"] is True else "use",
        description=str(top.scalar("description") or ""),
    )
    schedule = msgspec.structs.replace(schedule, **fields_of(trigger, reading))
    return Scheduled(schedule, definition, tuple(reading.notes))


# -- what runs --------------------------------------------------------------------------------------


def _job(
    top: Section, file: Path, reading: Reading
) -> tuple[Definition | None, str, dict[str, Scalar]]:
    """Return the pipeline of a schedule, or its registered name, and the parameters of its runs."""
    value = top["create_job"]
    if value is None:
        raise top.refusal("create_job", "E_MISSING", "create_job is missing", "give a job's file")
    if isinstance(value, str):
        return _named(top, "create_job", {}, reading)
    job = top.section("create_job")
    if job["job"] is None:  # the job itself is written here
        places = {
            path[1:]: place
            for path, place in top.document.places.items()
            if path[:1] == ("create_job",)
        }
        texts = {
            path[1:]: text
            for path, text in top.document.texts.items()
            if path[:1] == ("create_job",)
        }
        document = Document(value, top.document.file, places, texts, top.document.folder)
        return pipeline_of(document, file, strict=reading.strict), "", {}
    reading.meet(job, "create_job")
    return _named(job, "job", job.value, reading)


def _named(
    section: Section, key: str, over: dict[str, Any], reading: Reading
) -> tuple[Definition | None, str, dict[str, Scalar]]:
    """Return the job that a text names: a file with `over` merged into it, or a registered pipeline."""
    text = section.text(key, required=True)
    if text.startswith("azureml:"):
        name, _, version = text.removeprefix("azureml:").partition(":")
        return None, f"{name}@{version}" if version else name, _parameters(section)
    path = local_path(section, key, text)
    document = reading.document(section, key, path)
    value = copy.deepcopy(document.value)
    if isinstance(value, dict):
        for name in _JOB_KEYS:
            if over.get(name) is not None:
                value[name] = _merged(value.get(name), over[name])
        inputs = {name: one for name, one in (over.get("inputs") or {}).items() if one is not None}
        if inputs:
            value["inputs"] = {**(value.get("inputs") or {}), **inputs}
    merged = replace(document, value=value)
    return pipeline_of(merged, path.resolve(), strict=reading.strict), "", {}


def _merged(lower: Any, upper: Any) -> Any:
    return {**lower, **upper} if isinstance(lower, dict) and isinstance(upper, dict) else upper


def _parameters(job: Section) -> dict[str, Scalar]:
    """Return the inputs of `create_job` as parameters: literals, and paths of data."""
    inputs = job.section("inputs") if "inputs" in job else None
    found: dict[str, Scalar] = {}
    for name in inputs or ():
        assert inputs is not None  # noqa: S101 - or there were no name
        value = inputs[name]
        if isinstance(value, dict):
            entry = inputs.section(name)
            value = entry.scalar("value" if "value" in entry else "path")
        if value is not None:
            found[name] = value
    return found


def _texts(section: Section, key: str) -> dict[str, str]:
    tags = section.section(key)
    return {name: str(tags.scalar(name) or "") for name in tags}


# -- when -------------------------------------------------------------------------------------------


def fields_of(trigger: Section, reading: Reading) -> dict[str, Any]:
    """Return when a schedule fires, for a trigger: `cron` or `every`, its zone, from when and until when.

    Raises:
        Invalid: E_TYPE, E_RANGE, E_MISSING, E_UNSUPPORTED; E_TIME, E_ZONE.
    """
    return {
        "time_zone": _zone(trigger),
        "start": _moment(trigger, "start_time"),
        "end": _moment(trigger, "end_time"),
        **_when(trigger, reading),
    }


def _when(trigger: Section, reading: Reading) -> dict[str, Any]:
    """Return `cron` or `every` of a trigger."""
    kind = trigger.text("type", required=True).lower()
    if kind == "cron":
        line = trigger.text("expression", required=True)
        fields = line.split()
        if len(fields) == _FIELDS and (fields[2], fields[3]) != ("*", "*"):
            reading.note(
                f"{trigger.where('expression')}: days and months are kept; Azure ML takes them as *"
            )
        return {"cron": line}
    if kind != "recurrence":
        raise trigger.unknown_choice("type", ("cron", "recurrence"))
    frequency = trigger.text("frequency", required=True).lower()
    interval = trigger.whole("interval") or 1
    if frequency not in _FREQUENCIES:
        raise trigger.unknown_choice("frequency", _FREQUENCIES)
    start = trigger.text("start_time")
    pattern: dict[str, Any] = {}
    if trigger["schedule"] is not None and frequency in ("minute", "hour"):
        reading.note(
            f"{trigger.where('schedule')}: schedule is ignored: only for day, week and month"
        )
    elif trigger["schedule"] is not None:
        section = trigger.section("schedule")
        reading.meet(section, "pattern")
        pattern = _pattern(section, frequency)
    elif not start and frequency == "month":
        raise trigger.refusal(
            "frequency", "E_MISSING", "a month after what?", "give start_time, or a schedule"
        )
    elif not start:
        reading.note(
            f"{trigger.where('frequency')}: without start_time the first run comes one interval after "
            "the schedule is made; Azure ML runs one at once"
        )
    where, zone = trigger.where("interval"), _zone(trigger)
    begin = moment(start, zone, trigger.where("start_time")) if start else None
    return recurring(frequency, interval, start=begin, zone=zone, where=where, **pattern)


def _pattern(pattern: Section, frequency: str) -> dict[str, Any]:
    """Return the parts of a pattern that count: hours and minutes, on days of the week or of the month."""
    parts: dict[str, Any] = {
        "hours": _numbers(pattern, "hours", 23),
        "minutes": _numbers(pattern, "minutes", 59),
    }
    if frequency == "week":
        parts["week_days"] = [_week_day(pattern, day) for day in pattern.texts("week_days")]
    if frequency == "month":
        parts["month_days"] = _numbers(pattern, "month_days", 31, low=1)
    hints = {
        "hours": "both hours and minutes are needed",
        "minutes": "both hours and minutes are needed",
        "week_days": "such as [monday]",
        "month_days": "such as [1, 15]",
    }
    for key, found in parts.items():
        if not found:
            raise pattern.refusal(key, "E_MISSING", f"{key} is missing", hints[key])
    return parts


def _numbers(pattern: Section, key: str, high: int, low: int = 0) -> list[int]:
    found = []
    for item in pattern.items(key):
        if isinstance(item, bool) or not str(item).isdecimal() or not low <= int(item) <= high:
            raise pattern.refusal(key, "E_RANGE", f"{item!r}; allowed: {low} to {high}")
        found.append(int(item))
    return found


def _week_day(pattern: Section, text: str) -> str:
    day = text.strip().lower()
    if day not in DAYS:
        raise pattern.refusal(
            "week_days", "E_TYPE", f"{text!r} is no day", f"known: {', '.join(DAYS)}"
        )
    return day


def _moment(trigger: Section, key: str) -> str:
    """Return a time as RFC 3339; one without an offset is meant in the trigger's zone."""
    text = trigger.text(key).strip()
    if not text:
        return ""
    try:
        return spelled(moment(text, _zone(trigger), trigger.where(key)))
    except Invalid as error:
        if error.code != "E_ZONE":
            raise
        raise trigger.refusal("time_zone", error.code, error.message, error.hint) from error


def _zone(trigger: Section) -> str:
    return trigger.text("time_zone") or "UTC"
