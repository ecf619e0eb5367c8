"""Cron expressions: five fields with the meaning crontab(5) gives them. Pure.

    minute  hour  day-of-month  month  day-of-week
    0-59    0-23  1-31          1-12   0-7 (0 and 7 = Sunday)

A field is a list of `*`, `n`, `n-m`, each but `n` with an optional `/step`; months and weekdays have
English names. When day-of-month and day-of-week are both restricted (neither begins with `*`), a
day matches when one of them does; otherwise both must (crontab(5), "Note: the day of a command's
execution").

What other parsers let through is refused with the field's name: six or seven fields, `@reboot`,
`61 * * * *`, `*/0`, `5/15`, ranges that run backwards, and expressions that never fire.
"""

import re
from dataclasses import dataclass
from datetime import date, timedelta

from penstock.errors import Invalid
from penstock.ids import did_you_mean

EXPRESSION_MAX = 512
"""Characters of an expression: 60 minutes as a list need 170."""

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_ITEM = re.compile(
    r"(?P<first>\*|[0-9]+|[A-Za-z]+)(?:-(?P<last>[0-9]+|[A-Za-z]+))?(?:/(?P<step>[0-9]+))?"
)
_ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_SUNDAY = 7
_CYCLE = (date(2000, 1, 1), date(2028, 1, 1))
"""28 years hold every combination of date, weekday and leap year that this century has."""


@dataclass(frozen=True, slots=True)
class _Field:
    """The bounds of a field; `names` count from `low`."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day-of-month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day-of-week", 0, 7, _WEEKDAYS),
)


@dataclass(frozen=True, slots=True)
class Cron:
    """A parsed expression."""

    minutes_of_day: tuple[int, ...]
    """Minutes after local midnight, ascending."""
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """0 = Monday, as `date.weekday()` counts."""
    either: bool
    """Both day fields are restricted: one of them is enough."""
    elapsed: bool
    """`*` or a step in minute or hour: follows elapsed time when the clocks change."""

    def matches(self, day: date) -> bool:
        """Say whether it fires on a local date at all."""
        if day.month not in self.months:
            return False
        if self.either:
            return day.day in self.days or day.weekday() in self.weekdays
        return day.day in self.days and day.weekday() in self.weekdays


def parsed(expression: str, where: str = "cron") -> Cron:
    """Return a parsed expression.

    Raises:
        Invalid: E_CRON, naming the field, what was found and what is allowed.
    """
    texts = _fields_of(expression, where)
    minutes, hours, days, months, weekdays = (
        _values(text, field, f"{where}.{field.name}")
        for text, field in zip(texts, _FIELDS, strict=True)
    )
    cron = Cron(
        minutes_of_day=tuple(60 * hour + minute for hour in hours for minute in minutes),
        days=frozenset(days),
        months=frozenset(months),
        weekdays=frozenset((day - 1) % 7 for day in weekdays),
        either=not texts[2].startswith("*") and not texts[4].startswith("*"),
        elapsed=any("*" in text or "/" in text for text in texts[:2]),
    )
    if not any(cron.matches(day) for day in _days(*_CYCLE)):
        raise Invalid(
            f"{expression!r} never fires: no month in {texts[3]!r} has a day {texts[2]!r}"
            + ("" if texts[4].startswith("*") else f" on {texts[4]!r}"),
            code="E_CRON",
            where=f"{where}.day-of-month",
            hint="the last days of the month are 28 to 31; February has at most 29",
        )
    return cron


def _fields_of(expression: str, where: str) -> list[str]:
    if len(expression) > EXPRESSION_MAX:
        raise Invalid(
            f"{len(expression)} characters; allowed: {EXPRESSION_MAX}", code="E_CRON", where=where
        )
    texts = expression.split()
    if not texts:
        raise Invalid(
            "empty; allowed: five fields, minute hour day-of-month month day-of-week",
            code="E_CRON",
            where=where,
            hint='every night at 02:30 is "30 2 * * *"',
        )
    if texts[0].startswith("@"):
        meaning = _ALIASES.get(texts[0].lower()) if len(texts) == 1 else None
        raise Invalid(
            f"found {texts[0]!r}; allowed: five fields, minute hour day-of-month month day-of-week",
            code="E_CRON",
            where=f"{where}.minute",
            hint=f"write {meaning!r}" if meaning else "a service has no reboot or login to follow",
        )
    if len(texts) != len(_FIELDS):
        found = f"found {len(texts)} field{'s' if len(texts) > 1 else ''} in {expression!r}"
        raise Invalid(
            f"{found}; allowed: five, minute hour day-of-month month day-of-week",
            code="E_CRON",
            where=where,
            hint="for seconds use `every`" if len(texts) > len(_FIELDS) else "fill with *",
        )
    return texts


def _values(text: str, field: _Field, where: str) -> list[int]:
    """Return the values a field's text stands for, ascending."""
    values: set[int] = set()
    for item in text.split(","):
        match = _ITEM.fullmatch(item)
        if match is None:
            raise _refusal(item, text, field, where, _hint(item))
        first, last, step = match["first"], match["last"], match["step"]
        if first == "*" and last is None:
            low, high = field.low, field.high if field.high != _SUNDAY else _SUNDAY - 1
        elif first == "*":
            raise _refusal(item, text, field, where, "write '*' alone or a range of numbers")
        else:
            low = _number(first, item, text, field, where)
            high = low if last is None else _number(last, item, text, field, where)
            if last is not None and high == 0 and low > 0 and field.high == _SUNDAY:
                high = _SUNDAY  # fri-sun: Sunday as an end is the seventh day
        if step is not None and first != "*" and last is None:
            raise _refusal(item, text, field, where, f"write '{first}-{field.high}/{step}'")
        if low > high:
            parts = f"'{first}-{field.high},{field.low}-{last}'"
            raise _refusal(item, text, field, where, f"a range runs upwards; write {parts}")
        stride = 1 if step is None else int(step[:3])
        width = field.high - field.low
        if not 1 <= stride <= width:
            raise Invalid(
                f"found step {step!r} in {text!r}; allowed: 1 to {width}",
                code="E_CRON",
                where=where,
            )
        values.update(range(low, high + 1, stride))
    return sorted(values)


def _number(text: str, item: str, whole: str, field: _Field, where: str) -> int:
    if text.isdigit():
        if len(text) > 2 or not field.low <= int(text) <= field.high:  # noqa: PLR2004 - two digits
            raise _refusal(item, whole, field, where, "")
        return int(text)
    name = text.lower()
    if name not in field.names:
        hint = did_you_mean(name, field.names) if field.names else "only digits here"
        raise _refusal(item, whole, field, where, hint or _hint(item))
    return field.low + field.names.index(name)


def _refusal(item: str, text: str, field: _Field, where: str, hint: str) -> Invalid:
    names = f" or {field.names[0]} to {field.names[-1]}" if field.names else ""
    inside = f" in {text!r}" if item != text else ""
    return Invalid(
        f"found {item!r}{inside}; allowed: {field.low} to {field.high}{names}, *, lists, ranges, steps",
        code="E_CRON",
        where=where,
        hint=hint,
    )


def _hint(item: str) -> str:
    for sign, hint in (
        ("?", "write '*' for any"),
        ("#", "the n-th weekday of a month is not offered; name the days instead"),
        ("L", "the last day is not offered; name the days instead"),
        ("W", "the nearest weekday is not offered; name the days instead"),
        ("~", "random times are not offered"),
    ):
        if sign in item.upper():
            return hint
    return ""


def _days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=n) for n in range((last - first).days)]
