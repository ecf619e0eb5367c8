"""What may be a schedule: every field checked, every refusal with place, found, allowed, hint. Pure."""

import math
import re
from datetime import datetime
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

import msgspec
from tzlocal.windows_tz import win_tz

from penstock.contracts.codec import encoded
from penstock.contracts.queries import PipelineView
from penstock.contracts.schedules import Schedule
from penstock.contracts.spec import Input
from penstock.errors import Invalid, PenstockError
from penstock.ids import checked_name, did_you_mean
from penstock.units import KIB
from penstock_trigger.cron import parsed
from penstock_trigger.ticks import MICROS, Timing, next_ticks, notes

SCHEDULE_BYTES_MAX = 64 * KIB
CATCH_UP_MAX = 100
PRIORITY_MAX = 100
EVERY_MIN_S = 1.0
EVERY_MAX_S = 366 * 86_400.0
VERSION_MAX = 64
NEXT_SHOWN = 5

_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_NOT_EVERYWHERE = frozenset({"localtime", "Factory", "posixrules"})
"""Zones that mean something else on another machine."""


def checked(schedule: Schedule, now: float) -> Schedule:
    """Return a schedule that may be stored: zone spelled as IANA does, all fields within bounds.

    Raises:
        Invalid: E_ID, E_CRON, E_ZONE, E_TIME, E_INTERVAL, E_SCHEDULE or E_TOO_LARGE.
    """
    checked_name(schedule.name, "schedule.name")
    _check_pipeline(schedule.pipeline)
    if bool(schedule.cron.strip()) == bool(schedule.every):
        found = "both" if schedule.every else "neither"
        raise Invalid(
            f"found {found}; allowed: exactly one of cron and every",
            code="E_CRON" if schedule.cron and not schedule.every else "E_SCHEDULE",
            where="schedule.cron",
            hint='every night at 02:30 is cron: "30 2 * * *"; every half minute is every: 30',
        )
    schedule = msgspec.structs.replace(schedule, time_zone=zone_of(schedule.time_zone).key)
    timing = timing_of(schedule)
    if timing.last < timing.first:
        raise Invalid(
            f"found end {schedule.end!r} before start {schedule.start!r}; allowed: a later end",
            code="E_TIME",
            where="schedule.end",
        )
    if timing.last <= now:
        raise Invalid(
            f"found {schedule.end!r}, which has passed; allowed: a time to come",
            code="E_TIME",
            where="schedule.end",
        )
    for name, value, low, high in (
        ("catch_up_max", schedule.catch_up_max, 1, CATCH_UP_MAX),
        ("priority", schedule.priority, -PRIORITY_MAX, PRIORITY_MAX),
    ):
        if not low <= value <= high:
            raise Invalid(
                f"found {value}; allowed: {low} to {high}",
                code="E_SCHEDULE",
                where=f"schedule.{name}",
            )
    size = len(encoded(schedule))
    if size > SCHEDULE_BYTES_MAX:
        raise Invalid(
            f"{size:,} bytes; allowed: {SCHEDULE_BYTES_MAX:,}",
            code="E_TOO_LARGE",
            where="schedule",
            hint="store large values as an artifact and pass its digest",
        )
    return schedule


def timing_of(schedule: Schedule) -> Timing:
    """Return when a schedule fires.

    Raises:
        Invalid: E_CRON, E_ZONE, E_TIME or E_INTERVAL.
    """
    zone = zone_of(schedule.time_zone)
    first = moment_of(schedule.start, "schedule.start") if schedule.start else 0.0
    last = moment_of(schedule.end, "schedule.end") if schedule.end else float("inf")
    if not schedule.every:
        cron = parsed(schedule.cron, "schedule.cron")
        return Timing(zone=zone, cron=cron, first=first, last=last)
    if not math.isfinite(schedule.every) or not EVERY_MIN_S <= schedule.every <= EVERY_MAX_S:
        raise Invalid(
            f"found {schedule.every:g} s; allowed: {EVERY_MIN_S:g} to {EVERY_MAX_S:,.0f} s",
            code="E_INTERVAL",
            where="schedule.every",
            hint="what must happen more often belongs inside a step",
        )
    every_us = round(schedule.every * MICROS)
    anchor_us = round((first if schedule.start else schedule.created_at) * MICROS)
    if not schedule.start:
        # The creation itself is no firing, also where rounding puts the anchor just behind it.
        first = (anchor_us + every_us) / MICROS
    return Timing(zone=zone, every_us=every_us, anchor_us=anchor_us, first=first, last=last)


def zone_of(name: str) -> ZoneInfo:
    """Return the time zone of a name: IANA's, or what Windows (and so Azure ML) calls it.

    Raises:
        Invalid: E_ZONE, with the nearest known name.
    """
    known = _zones()
    if name in known:
        return ZoneInfo(name)
    windows = {key.lower(): value for key, value in win_tz.items()}.get(name.strip().lower())
    if windows in known:
        return ZoneInfo(windows)
    lower = {zone.lower(): zone for zone in known}
    shown = name if len(name) <= VERSION_MAX else f"{name[:VERSION_MAX]}…"
    near = lower.get(name.strip().lower().replace(" ", "_"))
    if near is None:
        cities = {zone.rpartition("/")[2].lower(): zone for zone in sorted(known)}
        near = cities.get(name.strip().lower().replace(" ", "_"))
    hint = f"did you mean {near!r}?" if near else did_you_mean(name, known)
    raise Invalid(
        f"found {shown!r}; allowed: an IANA name such as 'Europe/Berlin' or 'UTC'",
        code="E_ZONE",
        where="schedule.time_zone",
        hint=hint or "see https://en.wikipedia.org/wiki/List_of_tz_database_time_zones",
    )


def moment_of(text: str, where: str) -> float:
    """Return an RFC 3339 text as seconds since 1970.

    Raises:
        Invalid: E_TIME.
    """
    hint = "such as 2027-03-28T02:30:00Z or 2027-03-28T02:30:00+01:00"
    if _RFC3339.fullmatch(text) is None:
        bare = re.match(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?)?$", text, re.ASCII) is not None
        reason = "has no offset from UTC" if bare else "is not a time"
        raise Invalid(
            f"found {text[:VERSION_MAX]!r}, which {reason}; allowed: RFC 3339",
            code="E_TIME",
            where=where,
            hint=hint,
        )
    try:
        return datetime.fromisoformat(text.upper().replace(" ", "T")).timestamp()
    except (ValueError, OverflowError) as error:
        raise Invalid(
            f"found {text!r}: {error}; allowed: RFC 3339", code="E_TIME", where=where, hint=hint
        ) from error


def check_against(schedule: Schedule, pipeline: PipelineView) -> None:
    """Refuse parameters that the pipeline does not have.

    Raises:
        Invalid: E_PARAM, with the nearest known one.
    """
    if pipeline.definition is None:
        return
    known = pipeline.definition.inputs
    for name in schedule.parameters:
        if name not in known:
            raise Invalid(
                f"pipeline {schedule.pipeline!r} has no input {name!r}; "
                f"allowed: {', '.join(sorted(known)) or 'none'}",
                code="E_PARAM",
                where=f"schedule.parameters.{name}",
                hint=did_you_mean(name, known),
            )
    for name, value in known.items():
        if not isinstance(value, Input) or name in schedule.parameters or value.optional:
            continue
        if value.default is None and value.value is None and not value.path:
            raise Invalid(
                f"pipeline {schedule.pipeline!r} needs a value for {name!r} ({value.type})",
                code="E_PARAM",
                where=f"schedule.parameters.{name}",
                hint=f"-p {name}=…",
            )


def next_dues(schedule: Schedule, after: float) -> tuple[float, ...]:
    """Return the next firings, seconds since 1970; none for what is paused or broken."""
    try:
        return tuple(tick.due for tick in next_ticks(timing_of(schedule), after, NEXT_SHOWN))
    except PenstockError:
        return ()


def notes_on(schedule: Schedule, after: float) -> tuple[str, ...]:
    """Return what the owner of a schedule should know: clock changes, an end without a firing."""
    try:
        timing = timing_of(schedule)
    except PenstockError as error:
        return (str(error),)
    found = notes(timing, after)
    if not next_ticks(timing, after, 1):
        return ("it does not fire any more", *found)
    return found


@cache
def _zones() -> frozenset[str]:
    """Return the names of all zones; reading them takes 4 ms."""
    return frozenset(available_timezones() - _NOT_EVERYWHERE)


def _check_pipeline(text: str) -> None:
    name, at, version = text.partition("@")
    if not text:
        raise Invalid(
            "empty; allowed: the name of a registered pipeline, or name@version",
            code="E_ID",
            where="schedule.pipeline",
            hint="penstock pipeline list",
        )
    checked_name(name, "schedule.pipeline")
    plain = version.isascii() and version.isprintable() and " " not in version
    if at and not (version and plain and len(version) <= VERSION_MAX):
        raise Invalid(
            f"found version {version[:VERSION_MAX]!r}; allowed: name@version",
            code="E_ID",
            where="schedule.pipeline",
        )
