"""Azure's recurrences become intervals and cron, from Python by either SDK as from YAML."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from penstock.azure.ai.ml.client import fields_of_trigger
from penstock.azure.ai.ml.constants import TimeZone
from penstock.azure.ai.ml.entities import CronTrigger, RecurrencePattern, RecurrenceTrigger
from penstock.azureml.pipeline.core.schedule import ScheduleRecurrence
from penstock.errors import Invalid
from penstock.sdk.recurrence import recurring, zone_of

START = datetime(2026, 11, 26, 7, 45, tzinfo=UTC)  # a Thursday


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"frequency": "Minute", "interval": 15}, {"every": 900.0}),
        ({"frequency": "Hour", "interval": 4}, {"every": 14_400.0}),
        ({"frequency": "Week", "interval": 2}, {"every": 1_209_600.0}),
        (
            {"frequency": "Day", "interval": 1, "hours": [22, 6], "minutes": [30]},
            {"cron": "30 6,22 * * *"},
        ),
        ({"frequency": "Day", "interval": 1, "hours": [2]}, {"cron": "0 2 * * *"}),
        (
            {"frequency": "Week", "interval": 1, "week_days": ["Monday", "Friday"], "hours": [3]},
            {"cron": "0 3 * * mon,fri"},
        ),
        ({"frequency": "Week", "interval": 1, "week_days": ["sunday"]}, {"cron": "45 7 * * sun"}),
        ({"frequency": "Month", "interval": 1}, {"cron": "45 7 26 * *"}),
        (
            {"frequency": "month", "interval": 1, "month_days": [1, 15], "hours": [0]},
            {"cron": "0 0 1,15 * *"},
        ),
        ({"frequency": "Day", "interval": 1}, {"cron": "45 7 * * *"}),
        (
            {"frequency": "Day", "interval": 1, "zone": "America/New_York"},
            {"cron": "45 2 * * *"},
        ),
        ({"frequency": "Month", "interval": 6}, {"cron": "45 7 26 5,11 *"}),
        ({"frequency": "Hour", "interval": 1, "minutes": [5]}, {"cron": "5 * * * *"}),
    ],
)
def test_a_recurrence_is_an_interval_or_cron(
    given: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert recurring(**given, start=START) == expected


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"frequency": "Fortnight", "interval": 1}, "E_RANGE"),
        ({"frequency": "Day", "interval": 0}, "E_RANGE"),
        ({"frequency": "Day", "interval": 2, "hours": [1]}, "E_UNSUPPORTED"),
        ({"frequency": "Day", "interval": 1, "hours": [24]}, "E_RANGE"),
        ({"frequency": "Week", "interval": 1, "week_days": ["Mo"]}, "E_RANGE"),
        ({"frequency": "Month", "interval": 5}, "E_UNSUPPORTED"),
        ({"frequency": "Hour", "interval": 1, "hours": [5]}, "E_UNSUPPORTED"),
        ({"frequency": "Day", "interval": 1, "week_days": ["Monday"]}, "E_UNSUPPORTED"),
        ({"frequency": "Month", "interval": 1, "zone": "Mars"}, "E_ZONE"),
    ],
)
def test_what_cannot_be_said_is_refused(given: dict[str, Any], code: str) -> None:
    with pytest.raises(Invalid) as refused:
        recurring(**given)
    assert refused.value.code == code


def test_windows_names_of_zones_are_known() -> None:
    assert zone_of("Pacific Standard Time") == "America/Los_Angeles"
    assert zone_of("Europe/Berlin") == "Europe/Berlin"


EASTERN = timezone(timedelta(hours=-5))
TEN = datetime(2027, 1, 11, 10, 0)  # noqa: DTZ001 - a Monday; without an offset is what it is about
NEW_YORK = "America/New_York"


@pytest.mark.parametrize(
    ("start", "cron"),
    [
        (TEN, "0 10 * * *"),
        ("2027-01-11T10:00:00", "0 10 * * *"),
        ("2027-01-11T10:00:00-05:00", "0 10 * * *"),
        ("2027-01-11T15:00:00Z", "0 10 * * *"),
        (TEN.replace(tzinfo=EASTERN), "0 10 * * *"),
    ],
)
def test_ten_in_new_york_is_ten_in_new_york_whoever_says_it(start: Any, cron: str) -> None:
    first = ScheduleRecurrence("Day", 1, start_time=start, time_zone="Eastern Standard Time")
    trigger = RecurrenceTrigger(
        frequency="day", interval=1, start_time=start, time_zone=TimeZone.EasternStandardTime
    )
    for found in (first.fields(), fields_of_trigger(trigger, "s")):
        assert (found["cron"], found["time_zone"]) == (cron, NEW_YORK)
        assert datetime.fromisoformat(found["start"]) == TEN.replace(tzinfo=EASTERN)


def test_a_trigger_in_python_is_read_as_in_yaml() -> None:
    pattern = RecurrencePattern(hours=10, minutes=[0, 30], week_days=["Monday", "friday"])
    weekly = RecurrenceTrigger(
        frequency="week", interval=1, schedule=pattern, end_time="2028-01-01T00:00:00"
    )
    assert fields_of_trigger(weekly, "s") == {
        "time_zone": "UTC",
        "start": "",
        "end": "2028-01-01T00:00:00+00:00",
        "cron": "0,30 10 * * mon,fri",
    }
    cron = CronTrigger(expression="0 1 * * *", start_time=TEN, time_zone=NEW_YORK)
    assert fields_of_trigger(cron, "s") == {
        "time_zone": NEW_YORK,
        "start": "2027-01-11T10:00:00-05:00",
        "end": "",
        "cron": "0 1 * * *",
    }
    with pytest.raises(Invalid, match="a month after what") as refused:
        fields_of_trigger(RecurrenceTrigger(frequency="month", interval=1), "nightly")
    assert refused.value.where == "schedule nightly (Python)"


def test_what_is_no_time_is_refused() -> None:
    with pytest.raises(Invalid, match="'soon' is no time") as refused:
        ScheduleRecurrence("Day", 1, start_time="soon")
    assert refused.value.code == "E_TIME"
