"""Schedules in Azure ML's YAML (`type: schedule` in its shape: `trigger` and `create_job`).

A file becomes the schedule that the trigger service knows, and, where `create_job` is a file or written
out, the pipeline that has to be registered first. What a recurrence means is a cron line wherever its ticks
are times of the day, so that a change of the clocks moves nothing; else an interval.
"""

import copy
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from penstock.contracts.schedules import Schedule
from penstock.contracts.spec import Scalar
from penstock.ids import checked_name
from penstock.sdk.definition import Definition
from penstock.sdk.pipeline_files import pipeline_of
from penstock.sdk.yaml_reading import Reading, local_path
from penstock.sdk.yaml_section import Section
from penstock.sdk.yaml_text import Document

_UNITS_S = {"minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800}
_DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
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
        time_zone=trigger.text("time_zone") or "UTC",
        start=_moment(trigger, "start_time"),
        end=_moment(trigger, "end_time"),
        parameters=parameters,
        experiment="" if job is None or definition is not None else job.text("experiment_name"),
        tags=tags,
        reuse="refresh" if settings is not None and settings["force_rerun"] is True else "use",
        description=str(top.scalar("description") or ""),
    )
    schedule = msgspec.structs.replace(schedule, **_when(trigger, reading))
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
    if frequency not in (*_UNITS_S, "month"):
        raise trigger.unknown_choice("frequency", (*_UNITS_S, "month"))
    if trigger["schedule"] is not None and frequency not in ("minute", "hour"):
        pattern = trigger.section("schedule")
        reading.meet(pattern, "pattern")
        if interval != 1:
            raise trigger.refusal(
                "interval", "E_UNSUPPORTED",
                f"every {interval} {frequency}s at times of the day is not supported in this release",
                "an interval of 1, or no `schedule`",
            )  # fmt: skip
        return {"cron": _pattern(pattern, frequency)}
    if trigger["schedule"] is not None:
        reading.note(
            f"{trigger.where('schedule')}: schedule is ignored: only for day, week and month"
        )
    return _plain(trigger, frequency, interval, reading)


def _plain(trigger: Section, frequency: str, interval: int, reading: Reading) -> dict[str, Any]:
    """Return a recurrence without a pattern: every so often from its start on."""
    start = trigger.text("start_time")
    if not start:
        reading.note(
            f"{trigger.where('frequency')}: without start_time the first run comes one interval after "
            "the schedule is made; Azure ML runs one at once"
        )
    moment = datetime.fromisoformat(_iso(start)) if start else None
    if frequency == "month":
        if moment is None:
            raise trigger.refusal(
                "frequency", "E_MISSING", "a month after what?", "give start_time, or a schedule"
            )
        months = "*"
        if interval not in (1, 2, 3, 4, 6, 12):
            raise trigger.refusal(
                "interval", "E_UNSUPPORTED",
                f"every {interval} months is not supported in this release", "1, 2, 3, 4, 6 or 12",
            )  # fmt: skip
        if interval != 1:
            first = (moment.month - 1) % interval + 1
            months = ",".join(str(month) for month in range(first, 13, interval))
        return {"cron": f"{moment.minute} {moment.hour} {moment.day} {months} *"}
    if frequency == "day" and interval == 1 and moment is not None:
        return {"cron": f"{moment.minute} {moment.hour} * * *"}
    if frequency == "week" and interval == 1 and moment is not None:
        return {"cron": f"{moment.minute} {moment.hour} * * {moment.isoweekday() % 7}"}
    return {"every": float(_UNITS_S[frequency] * interval)}


def _pattern(pattern: Section, frequency: str) -> str:
    """Return the cron line of a pattern: hours and minutes, on days of the week or of the month."""
    hours, minutes = _numbers(pattern, "hours", 23), _numbers(pattern, "minutes", 59)
    if not hours or not minutes:
        key = "minutes" if hours else "hours"
        raise pattern.refusal(
            key, "E_MISSING", f"{key} is missing", "both hours and minutes are needed"
        )
    week, month = "*", "*"
    if pattern["week_days"] is not None and frequency == "week":
        week = ",".join(_week_day(pattern, day) for day in pattern.texts("week_days"))
    if pattern["month_days"] is not None and frequency == "month":
        month = ",".join(_numbers(pattern, "month_days", 31, low=1))
    if frequency == "week" and week == "*":
        raise pattern.refusal("week_days", "E_MISSING", "week_days is missing", "such as [monday]")
    if frequency == "month" and month == "*":
        raise pattern.refusal("month_days", "E_MISSING", "month_days is missing", "such as [1, 15]")
    return f"{','.join(minutes)} {','.join(hours)} {month} * {week}"


def _numbers(pattern: Section, key: str, high: int, low: int = 0) -> list[str]:
    found = []
    for item in pattern.items(key):
        if isinstance(item, bool) or not str(item).isdecimal() or not low <= int(item) <= high:
            raise pattern.refusal(key, "E_RANGE", f"{item!r}; allowed: {low} to {high}")
        found.append(str(int(item)))
    return found


def _week_day(pattern: Section, text: str) -> str:
    day = text.strip().lower()
    if day not in _DAYS:
        raise pattern.refusal(
            "week_days", "E_TYPE", f"{text!r} is no day", f"known: {', '.join(_DAYS)}"
        )
    return str(_DAYS.index(day))


def _moment(trigger: Section, key: str) -> str:
    """Return a time as RFC 3339; one without an offset is meant in the trigger's zone."""
    text = trigger.text(key).strip()
    if not text:
        return ""
    try:
        moment = datetime.fromisoformat(_iso(text))
    except ValueError as error:
        raise trigger.refusal(
            key, "E_TIME", f"{text!r} is no time", "such as 2026-03-10T10:15:00"
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=_zone(trigger))
    return moment.isoformat(timespec="seconds")


def _iso(text: str) -> str:
    return text.strip().replace("Z", "+00:00").replace("z", "+00:00")


def _zone(trigger: Section) -> ZoneInfo:
    """Return the trigger's zone: an IANA name, or a Windows name where the table of those is installed."""
    name = trigger.text("time_zone") or "UTC"
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        pass
    try:
        from tzlocal.windows_tz import win_tz

        known = {key.lower(): zone for key, zone in win_tz.items()}
        return ZoneInfo(known[name.strip().lower()])
    except (ImportError, KeyError) as error:
        raise trigger.refusal(
            "time_zone", "E_ZONE", f"{name!r} is no time zone that is known here",
            "an IANA name such as Europe/Berlin, or write the times with an offset",
        ) from error  # fmt: skip
