"""Azure's recurrences become intervals and cron."""

from datetime import UTC, datetime
from typing import Any

import pytest

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
    ],
)
def test_what_cannot_be_said_is_refused(given: dict[str, Any], code: str) -> None:
    with pytest.raises(Invalid) as refused:
        recurring(**given)
    assert refused.value.code == code


def test_windows_names_of_zones_are_known() -> None:
    assert zone_of("Pacific Standard Time") == "America/Los_Angeles"
    assert zone_of("Europe/Berlin") == "Europe/Berlin"
