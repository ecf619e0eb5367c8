"""When a schedule is due: pure arithmetic on calendars and zones; no clock is read.

Two families (reliability.md, promise 9):

* *Wall clock*: cron with neither `*` nor a step in minute and hour. A local time that does not exist
  fires at the next valid instant; one that occurs twice fires the first time only. The key of a
  tick is its local time, so it stays the same however often that time is on the clock.
* *Elapsed*: all other cron expressions and every interval. Each instant whose local time matches is
  a tick, and its key is UTC.

An instant holds at most one tick. Days on which the clocks do not change (364 of 365) need one
subtraction per tick; the others are enumerated, sorted and cleaned of repeats together with their
neighbours, because a clock set back over midnight mixes two dates.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from penstock_trigger.cron import Cron

DAY_S = 86_400
NEIGHBOURS = 4
"""Days around a change of the clocks that are sorted together."""
HORIZON_DAYS = 366 * 45
"""How far the search for a next tick looks: a 29 February on one weekday comes within 40 years."""
LAST_YEAR = 9990
"""No tick after this year: calendars of this language end in 9999."""
MICROS = 1_000_000
_EPOCH_DAY = date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class Tick:
    """A firing: `due` in seconds since 1970, `key` the same text on every replica."""

    due: float
    key: str


@dataclass(frozen=True, slots=True)
class Timing:
    """When to fire: `cron` in `zone`, or every `every_us` microseconds from `anchor_us` on.

    `first` and `last` bound the ticks, both included, in seconds since 1970.
    """

    zone: ZoneInfo
    cron: Cron | None = None
    every_us: int = 0
    anchor_us: int = 0
    first: float = 0
    last: float = float("inf")


@dataclass(frozen=True, slots=True)
class Span:
    """The ticks in a stretch of time: how many, and the newest of them, oldest first."""

    count: int
    newest: tuple[Tick, ...]


def ticks(timing: Timing, after: float) -> Iterator[Tick]:
    """Iterate over the ticks due later than `after`, in order, until the schedule ends."""
    return (Tick(due, key_of(timing, due)) for due in _dues(timing, after))


def next_ticks(timing: Timing, after: float, count: int) -> tuple[Tick, ...]:
    """Return the next `count` ticks due later than `after`; fewer when the schedule ends."""
    return tuple(islice(ticks(timing, after), count))


def span(timing: Timing, after: float, until: float, newest_max: int) -> Span:
    """Return the ticks with after < due <= until: their number and the newest `newest_max`."""
    if timing.cron is None:
        return _interval_span(timing, after, until, newest_max)
    count, newest = 0, deque[float](maxlen=newest_max)
    for due in _dues(timing, after):
        if due > until:
            break
        count += 1
        newest.append(due)
    return Span(count, tuple(Tick(due, key_of(timing, due)) for due in newest))


def notes(timing: Timing, after: float, notes_max: int = 4) -> tuple[str, ...]:
    """Return what the clock changes of the year after `after` do to a wall-clock schedule."""
    cron, zone = timing.cron, timing.zone
    if cron is None or cron.elapsed:
        return ()
    found: list[str] = []
    start = _local(after, zone).date()
    for day in (start + timedelta(days=n) for n in range(367)):
        if not cron.matches(day) or _plain_offset(day, zone) is not None:
            continue
        for minute in cron.minutes_of_day:
            local = datetime(day.year, day.month, day.day) + timedelta(minutes=minute)  # noqa: DTZ001
            instants, gap = _instants(local, zone)
            if not timing.first <= instants[0] <= timing.last or instants[0] <= after:
                continue
            place = f"on {day} in {zone.key}"
            if gap:
                fires = _local(instants[0], zone)
                moment = f"{fires:%H:%M}" if fires.date() == day else f"{fires:%Y-%m-%d %H:%M}"
                found.append(f"{local:%H:%M} does not exist {place}; fires at {moment}")
            elif len(instants) > 1:
                found.append(f"{local:%H:%M} occurs twice {place}; fires once, the first time")
            if len(found) == notes_max:
                return tuple(found)
    return tuple(found)


def key_of(timing: Timing, due: float) -> str:
    """Return the key of the tick that is due at `due`."""
    if timing.cron is None or timing.cron.elapsed:
        return rfc3339(due)
    return _local(due, timing.zone).strftime("%Y-%m-%dT%H:%M")


def rfc3339(at: float) -> str:
    """Return a moment as an RFC 3339 text in UTC, fractions only where there are some."""
    seconds, micros = divmod(round(at * MICROS), MICROS)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{micros:06d}Z" if micros else f"{text}Z"


def _dues(timing: Timing, after: float) -> Iterator[float]:
    """Iterate over the instants due later than `after`, within the schedule's start and end."""
    if timing.cron is None:
        instants: Iterator[float] = _intervals(timing, after)
    else:
        instants = _firings(timing.cron, timing.zone, max(after, timing.first - 1))
    for due in instants:
        if due > timing.last:
            return
        if due > after and due >= timing.first:
            yield due


# -- intervals --------------------------------------------------------------------------------------


def _index_after(timing: Timing, after: float) -> int:
    """Return the index of the first interval tick with a due time above `after`, at least 0.

    Moments are compared as the floats they are: rounding them to microseconds first would let a
    tick fall between two stretches of time, or into both.
    """
    index = max(0, (int(after * MICROS) - timing.anchor_us) // timing.every_us)
    while _due_at(timing, index) <= after:
        index += 1
    return index


def _first_index(timing: Timing, after: float) -> int:
    """Return the index of the first tick that is later than `after` and not before `first`."""
    index = _index_after(timing, after)
    return index if _due_at(timing, index) >= timing.first else _index_at(timing, timing.first)


def _index_at(timing: Timing, moment: float) -> int:
    """Return the index of the first interval tick at `moment` or later."""
    index = _index_after(timing, moment)
    return index - 1 if index and _due_at(timing, index - 1) >= moment else index


def _due_at(timing: Timing, index: int) -> float:
    return (timing.anchor_us + index * timing.every_us) / MICROS


def _intervals(timing: Timing, after: float) -> Iterator[float]:
    index = _first_index(timing, after)
    while True:
        yield _due_at(timing, index)
        index += 1


def _interval_span(timing: Timing, after: float, until: float, newest_max: int) -> Span:
    low = _first_index(timing, after)
    end = _index_after(timing, min(until, timing.last))
    count = max(0, end - low)
    first = max(low, end - newest_max)
    dues = (_due_at(timing, index) for index in range(first, end))
    return Span(count, tuple(Tick(due, rfc3339(due)) for due in dues))


# -- cron -------------------------------------------------------------------------------------------


def _firings(cron: Cron, zone: ZoneInfo, after: float) -> Iterator[float]:
    """Iterate over the instants later than `after`, ascending, each once."""
    day = _local(after, zone).date() - timedelta(days=2)
    last = after
    mixed: list[float] = []
    mixed_day = day
    silent = 0
    while silent < HORIZON_DAYS and day.year <= LAST_YEAR:
        if not cron.matches(day):
            step = 1 if day.month in cron.months else _days_left(day)
            silent, day = silent + step, day + timedelta(days=step)
            continue
        silent = 0
        offset = _plain_offset(day, zone)
        if offset is None and (not mixed or (day - mixed_day).days <= NEIGHBOURS):
            mixed.extend(_mixed(cron, zone, day))
            mixed_day = day
            day += timedelta(days=1)
            continue
        for due in sorted(mixed):
            if due > last:
                yield due
                last = due
        mixed = []
        if offset is None:
            continue  # the next change of the clocks, months later
        base = (day.toordinal() - _EPOCH_DAY) * DAY_S - offset
        minutes = cron.minutes_of_day
        for minute in minutes[bisect_right(minutes, (last - base) / 60) :]:
            last = float(base + 60 * minute)
            yield last
        day += timedelta(days=1)
    for due in sorted(mixed):
        if due > last:
            yield due
            last = due


def _mixed(cron: Cron, zone: ZoneInfo, day: date) -> Iterator[float]:
    """Iterate over the instants of a day near a change of the clocks, in no order, with repeats."""
    for minute in cron.minutes_of_day:
        local = datetime(day.year, day.month, day.day) + timedelta(minutes=minute)  # noqa: DTZ001
        instants, gap = _instants(local, zone)
        if cron.elapsed:
            yield from () if gap else instants
        else:
            yield instants[0]


def _instants(local: datetime, zone: ZoneInfo) -> tuple[tuple[float, ...], bool]:
    """Return the instants at which the clock shows `local`, or, for a gap, the instant after it."""
    early = local.replace(tzinfo=zone, fold=0).timestamp()
    late = local.replace(tzinfo=zone, fold=1).timestamp()
    if early == late:
        return (early,), False
    if early < late:
        return (early, late), False
    # PEP 495: in a gap fold=0 reads with the offset before it and lands after it, fold=1 before it.
    low, high = int(late), int(early)
    before = _offset(low, zone)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(middle, zone) == before:
            low = middle
        else:
            high = middle
    return (float(high),), True


def _plain_offset(day: date, zone: ZoneInfo) -> int | None:
    """Return the zone's offset (seconds) when no clock changes within a day of `day`, else None."""
    noon = (day.toordinal() - _EPOCH_DAY) * DAY_S + DAY_S // 2
    offset = _offset(noon - 2 * DAY_S, zone)
    for days in (-1, 0, 1, 2):
        if _offset(noon + days * DAY_S, zone) != offset:
            return None
    return offset


def _offset(at: float, zone: ZoneInfo) -> int:
    difference = _local(at, zone).utcoffset()
    assert difference is not None  # noqa: S101 - a ZoneInfo always knows
    return int(difference.total_seconds())


def _local(at: float, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(at, zone)


def _days_left(day: date) -> int:
    """Return the days until the next month begins."""
    following = (day.replace(day=28) + timedelta(days=4)).replace(day=1)
    return (following - day).days
