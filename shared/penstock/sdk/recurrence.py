"""Azure ML's recurrences as what our schedules know: an interval, or five fields of cron."""

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from penstock.errors import Invalid

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
    where: str = "recurrence",
) -> dict[str, Any]:
    """Return the fields `cron` or `every` of a schedule that fires as the recurrence says.

    With a pattern (hours, minutes, days) the interval must be 1: cron cannot say "every second week".

    Raises:
        Invalid: E_RANGE, E_UNSUPPORTED.
    """
    kind = frequency.lower()
    if kind not in (*SECONDS, "month") or interval < 1:
        raise Invalid(
            f"every {interval} {frequency!r}; allowed: a whole number of minute, hour, day, week, month",
            code="E_RANGE",
            where=where,
        )
    if not (hours or minutes or week_days or month_days) and kind in SECONDS:
        return {"every": float(interval * SECONDS[kind])}
    if interval != 1:
        raise Invalid(
            f"every {interval} {kind}s at given times",
            code="E_UNSUPPORTED",
            where=where,
            hint="leave the times out (it fires every interval from its start), or say every 1",
        )
    begin = start or datetime.now(UTC)
    minute = _listed(minutes, 0, 59, where) or str(begin.minute if not hours else 0)
    hour = "*" if kind == "hour" else _listed(hours, 0, 23, where) or str(begin.hour)
    day, weekday = "*", "*"
    if kind == "week":
        weekday = _days(week_days, where) or begin.strftime("%a").lower()
    if kind == "month":
        day = _listed(month_days, 1, 31, where) or str(begin.day)
    return {"cron": f"{minute} {hour} {day} * {weekday}"}


def zone_of(name: str) -> str:
    """Return the IANA name of a time zone that is given by its Windows name, or by the one itself."""
    try:
        from tzlocal.windows_tz import win_tz
    except ImportError:  # whoever has no trigger needs no table of zones; the service looks it up
        return name
    return str(win_tz.get(name, name))


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
