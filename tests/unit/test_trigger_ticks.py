"""When schedules are due, against a minute-by-minute model of years in six zones (promise 9)."""

import math
from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from apscheduler.triggers.cron import CronTrigger
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock_trigger.cron import parsed
from penstock_trigger.ticks import Timing, next_ticks, notes, span, ticks

ZONES = (
    "UTC",
    "Europe/Berlin",  # +1 h at 02:00
    "America/New_York",
    "Australia/Lord_Howe",  # 30 minutes, southern hemisphere
    "Asia/Kolkata",  # half-hour offset, no changes
    "Pacific/Apia",  # skipped a whole day: 2011-12-30
    "America/St_Johns",  # until 2011 the clock went back over midnight, at 00:01
)
SLICES = (
    30  # minutes: every change in these zones and years falls on a multiple of it, but St John's
)
YEARS = {"Pacific/Apia": (2010, 2013), "America/St_Johns": (2009, 2012)}
DEFAULT_YEARS = (2027, 2029)  # 2028 has a 29 February

EXPRESSIONS = (
    "30 2 * * *",
    "0,30 2 * * *",
    "0 2,3 * * *",
    "45 1 * * *",
    "15 2 * * 7",
    "0 0 * * *",
    "59 23 * * *",
    "1 0 30,31 * *",
    "0 12 29 2 *",
    "0 9 13 * fri",
    "30 1 25-31 3,10 sun",
    "*/30 * * * *",
    "0 * * * *",
    "*/15 2 * * *",
    "10-50/20 1-3 * * *",
    "7 */6 1-7 * mon",
)


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def timing(expression: str, zone: str = "UTC") -> Timing:
    return Timing(zone=ZoneInfo(zone), cron=parsed(expression))


@cache
def local_minutes(zone: str) -> tuple[int, "np.ndarray[tuple[int], np.dtype[np.int64]]"]:
    """The first UTC minute of the zone's years, and what its clock shows in each, in minutes."""
    first_year, last_year = YEARS.get(zone, DEFAULT_YEARS)
    first = int(datetime(first_year, 1, 1, tzinfo=UTC).timestamp()) // 60
    last = int(datetime(last_year, 1, 1, tzinfo=UTC).timestamp()) // 60
    step = 1 if zone == "America/St_Johns" else SLICES
    info = ZoneInfo(zone)
    offsets = [
        int(datetime.fromtimestamp(60 * minute, info).utcoffset().total_seconds()) // 60  # type: ignore[union-attr]
        for minute in range(first, last, step)
    ]
    return first, np.arange(first, last) + np.repeat(np.array(offsets), step)


def model(expression: str, zone: str) -> list[int]:
    """The instants (UTC minutes) of an expression, by looking at every minute of the zone's clock."""
    first, clock = local_minutes(zone)
    minute_texts = expression.split()
    cron = parsed(expression)
    epoch = datetime(1970, 1, 1)  # noqa: DTZ001 - what a clock on the wall shows
    days = np.array([cron.matches((epoch + timedelta(days=day)).date()) for day in range(25_000)])
    of_day = np.zeros(1440, dtype=bool)
    of_day[list(cron.minutes_of_day)] = True
    matching = of_day[clock % 1440] & days[clock // 1440]
    if not any("*" in text or "/" in text for text in minute_texts[:2]):
        highest = np.maximum.accumulate(clock)
        repeated = np.zeros(len(clock), dtype=bool)
        repeated[1:] = clock[1:] <= highest[:-1]
        matching &= ~repeated
        for place in np.nonzero(clock[1:] - clock[:-1] > 1)[0]:
            gap = np.arange(clock[place] + 1, clock[place + 1])
            if (of_day[gap % 1440] & days[gap // 1440]).any():
                matching[place + 1] = True
    return [int(minute) for minute in np.nonzero(matching)[0] + first]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_firing_of_years_is_the_one_a_minute_by_minute_look_finds(
    expression: str, zone: str
) -> None:
    expected = [60.0 * minute for minute in model(expression, zone)]
    first, clock = local_minutes(zone)
    begin, end = 60.0 * first - 1, 60.0 * (first + len(clock))
    found = span(timing(expression, zone), begin, end - 1, 2_000_000)
    assert [tick.due for tick in found.newest] == expected
    assert found.count == len(expected)
    keys = [tick.key for tick in found.newest]
    assert len(set(keys)) == len(keys)


@st.composite
def expressions(draw: st.DrawFn) -> str:
    def field(low: int, high: int, steps: bool) -> str:
        kind = draw(st.sampled_from(["*", "n", "list", "range", *(["step"] if steps else [])]))
        numbers = st.integers(low, high)
        if kind == "n":
            return str(draw(numbers))
        if kind == "list":
            return ",".join(map(str, draw(st.lists(numbers, min_size=1, max_size=4))))
        if kind == "range":
            one, other = sorted((draw(numbers), draw(numbers)))
            return f"{one}-{other}"
        if kind == "step":
            return f"*/{draw(st.integers(1, high - low))}"
        return "*"

    # Firings near midnight and near the hours at which clocks change are worth more.
    minute = draw(st.sampled_from(["0", "30", "15,45", "59"])) if draw(st.booleans()) else ""
    hour = draw(st.sampled_from(["0", "1", "2", "3", "1-3", "23"])) if draw(st.booleans()) else ""
    return " ".join(
        [
            minute or field(0, 59, steps=True),
            hour or field(0, 23, steps=True),
            field(1, 28, steps=True),
            "*",
            field(0, 7, steps=False),
        ]
    )


@settings(max_examples=100, deadline=None)
@given(expression=expressions(), zone=st.sampled_from(ZONES), start=st.floats(0, 1))
def test_any_expression_from_any_moment_agrees_with_the_model(
    expression: str, zone: str, start: float
) -> None:
    expected = [60.0 * minute for minute in model(expression, zone)]
    first, clock = local_minutes(zone)
    after = 60.0 * (first + int(start * (len(clock) - 1)))
    following = [due for due in expected if due > after][:40]
    assert [tick.due for tick in next_ticks(timing(expression, zone), after, len(following))] == (
        following
    )


@pytest.mark.parametrize("expression", ["*/15 * * * *", "30 23 * * *", "0 0 1-10 * *"])
def test_the_next_firing_is_right_from_every_moment_of_a_night_that_is_set_back_over_midnight(
    expression: str,
) -> None:
    expected = [60.0 * minute for minute in model(expression, "America/St_Johns")]
    change = at("2010-11-07T02:31")  # 00:01 became 23:01 of the day before
    for after in range(int(change) - 600, int(change) + 4200, 30):
        following = expected[bisect_right(expected, after)]
        found = next_ticks(timing(expression, "America/St_Johns"), after, 1)
        assert found[0].due == following, after


@settings(max_examples=100, deadline=None)
@given(expression=expressions(), start=st.integers(0, 365 * 1440))
def test_without_clock_changes_firings_are_those_of_apscheduler(
    expression: str, start: int
) -> None:
    minute, hour, day, month, weekday = expression.split()
    names = ",".join(  # its 0 is Monday; names mean the same everywhere
        ["mon", "tue", "wed", "thu", "fri", "sat", "sun"][n]
        for n in sorted(parsed(expression).weekdays)
    )

    def trigger(day: str, weekday: str) -> CronTrigger:
        return CronTrigger(
            minute=minute, hour=hour, day=day, month=month, day_of_week=weekday, timezone=UTC
        )

    either = not day.startswith("*") and not weekday.startswith("*")
    triggers = [trigger(day, "*"), trigger("*", names)] if either else [trigger(day, names)]
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=start)
    found = next_ticks(timing(expression), moment.timestamp(), 25)
    for tick in found:
        following = moment + timedelta(microseconds=1)
        fires = [t.get_next_fire_time(None, following) for t in triggers]
        moment = min(fire for fire in fires if fire is not None)
        assert tick.due == moment.timestamp()
    assert len(found) == 25


def test_a_time_that_does_not_exist_fires_at_the_next_valid_instant() -> None:
    found = next_ticks(timing("30 2 * * *", "Europe/Berlin"), at("2027-03-27T12:00"), 2)
    assert [tick.key for tick in found] == ["2027-03-28T03:00", "2027-03-29T02:30"]
    assert found[0].due == at("2027-03-28T01:00")


def test_a_time_that_occurs_twice_fires_the_first_time_only() -> None:
    found = next_ticks(timing("30 1 * * *", "America/New_York"), at("2026-10-31T12:00"), 2)
    assert [tick.due for tick in found] == [at("2026-11-01T05:30"), at("2026-11-02T06:30")]
    assert [tick.key for tick in found] == ["2026-11-01T01:30", "2026-11-02T01:30"]


def test_elapsed_schedules_fire_in_both_doubled_hours_under_different_keys() -> None:
    found = next_ticks(timing("0,30 * * * *", "Europe/Berlin"), at("2026-10-24T23:59"), 6)
    assert [tick.due for tick in found] == [at("2026-10-25T00:00") + 1800 * n for n in range(6)]
    assert len({tick.key for tick in found}) == 6
    assert found[0].key == "2026-10-25T00:00:00Z"


def test_a_skipped_day_fires_when_the_next_one_begins() -> None:
    found = next_ticks(
        timing("30 2 * * *", "Pacific/Apia"), at("2011-12-29T12:00", "Pacific/Apia"), 2
    )
    assert [tick.key for tick in found] == ["2011-12-31T00:00", "2011-12-31T02:30"]


def test_notes_tell_of_the_clock_changes_to_come() -> None:
    after = at("2027-01-01T00:00")
    assert notes(timing("30 2 * * *", "Europe/Berlin"), after) == (
        "02:30 does not exist on 2027-03-28 in Europe/Berlin; fires at 03:00",
        "02:30 occurs twice on 2027-10-31 in Europe/Berlin; fires once, the first time",
    )
    assert notes(timing("15 2 * * *", "Australia/Lord_Howe"), after)[-1] == (
        "02:15 does not exist on 2027-10-03 in Australia/Lord_Howe; fires at 02:30"
    )
    assert notes(timing("*/30 2 * * *", "Europe/Berlin"), after) == ()
    assert notes(timing("30 2 * * *"), after) == ()
    assert notes(timing("30 4 * * *", "Europe/Berlin"), after) == ()


@given(
    every_us=st.integers(1_000_000, 10**11),
    anchor_us=st.integers(17 * 10**14, 19 * 10**14),
    offset_us=st.integers(-(10**11), 10**12),
    length=st.floats(0, 2e5),
)
def test_intervals_are_counted_from_their_anchor_and_never_drift(
    every_us: int, anchor_us: int, offset_us: int, length: float
) -> None:
    interval = Timing(zone=ZoneInfo("UTC"), every_us=every_us, anchor_us=anchor_us)
    after = (anchor_us + offset_us) / 1e6
    found = next_ticks(interval, after, 5)
    assert all(tick.due > after for tick in found)
    index = round((found[0].due * 1e6 - anchor_us) / every_us)
    assert [tick.due for tick in found] == [
        (anchor_us + n * every_us) / 1e6 for n in range(index, index + 5)
    ]
    assert index == 0 or (anchor_us + (index - 1) * every_us) / 1e6 <= after
    whole = [t for t in islice(ticks(interval, after), 200) if t.due <= after + length]
    if len(whole) < 200:
        counted = span(interval, after, after + length, 7)
        assert counted.count == len(whole)
        assert counted.newest == tuple(whole[-7:])


@given(
    every_us=st.integers(1_000_000, 5_000_000),
    anchor=st.floats(1.7e9, 1.8e9),
    moments=st.lists(st.floats(0, 60), min_size=3, max_size=3),
    nudges=st.lists(st.integers(-3, 3), min_size=3, max_size=3),
)
def test_no_tick_falls_between_two_stretches_of_time_or_into_both(
    every_us: int, anchor: float, moments: list[float], nudges: list[int]
) -> None:
    interval = Timing(zone=ZoneInfo("UTC"), every_us=every_us, anchor_us=round(anchor * 1e6))
    cuts = []
    for moment, nudge in zip(sorted(moments), nudges, strict=True):
        tick = next_ticks(interval, anchor + moment, 1)[0].due  # where rounding could hurt
        cuts.append(tick + nudge * math.ulp(tick))
    low, middle, high = sorted(cuts)
    whole = span(interval, low, high, 1000)
    parts = span(interval, low, middle, 1000), span(interval, middle, high, 1000)
    assert whole.newest == parts[0].newest + parts[1].newest
    assert whole.count == parts[0].count + parts[1].count == len(whole.newest)
    assert whole.newest == tuple(t for t in islice(ticks(interval, low), 200) if t.due <= high)


def test_start_and_end_belong_to_the_schedule() -> None:
    first, last = at("2027-01-01T00:00"), at("2027-01-01T00:20")
    bounded = Timing(zone=ZoneInfo("UTC"), cron=parsed("*/10 * * * *"), first=first, last=last)
    assert [tick.due for tick in ticks(bounded, 0)] == [first, first + 600, last]
    interval = Timing(
        zone=ZoneInfo("UTC"),
        every_us=600_000_000,
        anchor_us=round(first * 1e6),
        first=first,
        last=last,
    )
    assert [tick.due for tick in ticks(interval, 0)] == [first, first + 600, last]
    assert span(interval, 0, last + 9999, 2).count == 3


def test_a_rare_schedule_is_found_and_an_ended_one_is_quiet() -> None:
    rare = next_ticks(timing("0 0 */28 2 sun"), at("2026-03-01T00:00"), 8)
    assert [tick.key for tick in rare if "02-29" in tick.key]
    ended = Timing(zone=ZoneInfo("UTC"), cron=parsed("0 0 29 2 *"), last=at("2027-01-01T00:00"))
    assert next_ticks(ended, at("2026-01-01T00:00"), 1) == ()
