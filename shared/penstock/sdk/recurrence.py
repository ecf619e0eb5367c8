"""Azure ML's recurrences as what our schedules know: an interval, or five fields of cron.

The one translator of YAML files and of both SDKs. Times are those of the clocks in the schedule's zone: one
without an offset is meant there, one with an offset is the same moment by the clocks there.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from penstock.errors import Invalid

MONTHS = (1, 2, 3, 4, 6, 12)
"""Every so many months is a list of months, the same in every year."""
_GO_WITH = {
    "minutes": ("hour", "day", "week", "month"),
    "hours": ("day", "week", "month"),
    "week_days": ("week",),
    "month_days": ("month",),
}
"""Which frequencies the parts of a pattern say something about."""
SECONDS = {"minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}
DAYS = {
    "monday": "mon",
    "tuesday": "tue",
    "wednesday": "wed",
    "thursday": "thu",
    "friday": "fri",
    "saturday": "sat",
    "sunday": "sun",
}


class TimeZone(Enum):
    """Some zones by their Windows names; a text of either kind does as well."""

    UTC = "UTC"
    GMTStandardTime = "GMT Standard Time"
    WEuropeStandardTime = "W. Europe Standard Time"
    CentralEuropeStandardTime = "Central Europe Standard Time"
    RomanceStandardTime = "Romance Standard Time"
    EasternStandardTime = "Eastern Standard Time"
    CentralStandardTime = "Central Standard Time"
    MountainStandardTime = "Mountain Standard Time"
    PacificStandardTime = "Pacific Standard Time"
    IndiaStandardTime = "India Standard Time"
    ChinaStandardTime = "China Standard Time"
    TokyoStandardTime = "Tokyo Standard Time"
    AUSEasternStandardTime = "AUS Eastern Standard Time"


def recurring(
    frequency: str,
    interval: int,
    *,
    hours: Sequence[int] = (),
    minutes: Sequence[int] = (),
    week_days: Sequence[str] = (),
    month_days: Sequence[int] = (),
    start: datetime | None = None,
    zone: str = "UTC",
    where: str = "recurrence",
) -> dict[str, Any]:
    """Return the fields `cron` or `every` of a schedule that fires as the recurrence says.

    Wherever its ticks are times of the day they become cron, so that a change of the clocks moves nothing.
    With a pattern (hours, minutes, days) the interval must be 1: cron cannot say "every second week".

    Raises:
        Invalid: E_RANGE, E_UNSUPPORTED; E_ZONE, no zone is known by that name.
    """
    kind = frequency.lower()
    if kind not in (*SECONDS, "month") or interval < 1:
        raise Invalid(
            f"every {interval} {frequency!r}; allowed: a whole number of minute, hour, day, week, month",
            code="E_RANGE",
            where=where,
        )
    if not (hours or minutes or week_days or month_days):
        return _from_its_start(kind, interval, start, zone, where)
    if interval != 1:
        raise Invalid(
            f"every {interval} {kind}s at times of the day is not supported in this release",
            code="E_UNSUPPORTED",
            where=where,
            hint="an interval of 1, or no times (it fires every interval from its start)",
        )
    parts = {"hours": hours, "minutes": minutes, "week_days": week_days, "month_days": month_days}
    for name, given in parts.items():
        if given and kind not in _GO_WITH[name]:
            raise Invalid(
                f"{name} of a recurrence by the {kind}",
                code="E_UNSUPPORTED",
                where=where,
                hint=f"{name} go with the frequency {' or '.join(_GO_WITH[name])}",
            )
    begin = partial(
        _begin, start, zone, where
    )  # only where it says something must the zone be known
    minute = _listed(minutes, 0, 59, where) or ("0" if hours else str(begin().minute))
    hour = "*" if kind == "hour" else _listed(hours, 0, 23, where) or str(begin().hour)
    day, weekday = "*", "*"
    if kind == "week":
        weekday = _days(week_days, where) or _weekday(begin())
    if kind == "month":
        day = _listed(month_days, 1, 31, where) or str(begin().day)
    return {"cron": f"{minute} {hour} {day} * {weekday}"}


def _from_its_start(
    kind: str, interval: int, start: datetime | None, zone: str, where: str
) -> dict[str, Any]:
    """Return a recurrence without a pattern: every so often from its start on."""
    if kind == "month":
        if interval not in MONTHS:
            raise Invalid(
                f"every {interval} months is not supported in this release",
                code="E_UNSUPPORTED",
                where=where,
                hint="1, 2, 3, 4, 6 or 12",
            )
        begin = _begin(start, zone, where)
        first = (begin.month - 1) % interval + 1
        months = ",".join(str(month) for month in range(first, 13, interval))
        return {
            "cron": f"{begin.minute} {begin.hour} {begin.day} {'*' if interval == 1 else months} *"
        }
    if start is not None and interval == 1 and kind in ("day", "week"):
        begin = _begin(start, zone, where)
        weekday = _weekday(begin) if kind == "week" else "*"
        return {"cron": f"{begin.minute} {begin.hour} * * {weekday}"}
    return {"every": float(interval * SECONDS[kind])}


def _begin(start: datetime | None, zone: str, where: str) -> datetime:
    """Return a start by the clocks of a zone; now, where there is none."""
    there = zone_info(zone, where)
    if start is None:
        return datetime.now(there)
    return start.replace(tzinfo=there) if start.tzinfo is None else start.astimezone(there)


def moment(value: str | datetime, zone: str, where: str) -> datetime:
    """Return a time with its offset; one without is meant by the clocks of `zone`.

    Raises:
        Invalid: E_TIME, it is none; E_ZONE, the zone is needed and not known.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip().upper())
        except ValueError as error:
            raise Invalid(
                f"{value!r} is no time",
                code="E_TIME",
                where=where,
                hint="such as 2026-03-10T10:15:00",
            ) from error
    return value if value.tzinfo is not None else value.replace(tzinfo=zone_info(zone, where))


def spelled(at: datetime) -> str:
    """Return a moment as schedules have it: RFC 3339, to the second."""
    return at.isoformat(timespec="seconds")


def zone_info(name: str, where: str) -> ZoneInfo:
    """Return a time zone by its IANA name, or by its Windows name where the table of those is installed.

    Raises:
        Invalid: E_ZONE.
    """
    try:
        return ZoneInfo(zone_of(name))
    except (KeyError, ValueError, OSError) as error:
        raise Invalid(
            f"{name!r} is no time zone that is known here",
            code="E_ZONE",
            where=where,
            hint="an IANA name such as Europe/Berlin, or write the times with an offset",
        ) from error


def zone_of(name: str) -> str:
    """Return the IANA name of a time zone that is given by its Windows name, or by the one itself."""
    try:
        from tzlocal.windows_tz import win_tz
    except ImportError:  # whoever has no trigger needs no table of zones; the service looks it up
        return name
    if name.strip().upper() == "UTC":  # both tables have it; theirs says Etc/UTC
        return "UTC"
    known = {windows.lower(): zone for windows, zone in win_tz.items()}
    return str(known.get(name.strip().lower(), name))


def _weekday(at: datetime) -> str:
    return tuple(DAYS.values())[at.weekday()]


def _listed(numbers: Sequence[int], least: int, most: int, where: str) -> str:
    for number in numbers:
        if not least <= int(number) <= most:
            raise Invalid(f"{number}; allowed: {least} to {most}", code="E_RANGE", where=where)
    return ",".join(str(number) for number in sorted({int(number) for number in numbers}))


def _days(names: Sequence[str], where: str) -> str:
    found = []
    for name in names:
        if name.lower() not in DAYS:
            raise Invalid(
                f"{name!r} is no day of the week",
                code="E_RANGE",
                where=where,
                hint="Monday, Tuesday …",
            )
        found.append(DAYS[name.lower()])
    return ",".join(dict.fromkeys(found))
