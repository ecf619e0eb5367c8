"""Cron expressions: five fields with crontab(5)'s meaning, and a refusal that helps for all else."""

from datetime import date

import pytest

from penstock.errors import Invalid
from penstock_trigger.cron import parsed


@pytest.mark.parametrize(
    ("expression", "minutes", "days", "months", "weekdays"),
    [
        ("30 2 * * *", [150], range(1, 32), range(1, 13), range(7)),
        ("0 0 * * 0", [0], range(1, 32), range(1, 13), [6]),
        ("0 0 * * 7", [0], range(1, 32), range(1, 13), [6]),
        ("0 0 * * 1", [0], range(1, 32), range(1, 13), [0]),
        ("0 0 * * sun", [0], range(1, 32), range(1, 13), [6]),
        ("0 0 * * FRI-SUN", [0], range(1, 32), range(1, 13), [4, 5, 6]),
        ("0 0 * * 5-7", [0], range(1, 32), range(1, 13), [4, 5, 6]),
        ("0 0 * * SUN-TUE", [0], range(1, 32), range(1, 13), [6, 0, 1]),
        ("0 0 * * mon-fri/2", [0], range(1, 32), range(1, 13), [0, 2, 4]),
        ("0 0 * jan,JUL-sep *", [0], range(1, 32), [1, 7, 8, 9], range(7)),
        ("*/20 8-9 */10 * *", [480, 500, 520, 540, 560, 580], [1, 11, 21, 31], range(1, 13), range(7)),
        ("5,5,3-4 0 1 1 *", [3, 4, 5], [1], [1], range(7)),
        ("10-30/7 1 * * *", [70, 77, 84], range(1, 32), range(1, 13), range(7)),
    ],
)  # fmt: skip
def test_an_expression_means_what_crontab_says(
    expression: str, minutes: list[int], days: range, months: range, weekdays: range
) -> None:
    cron = parsed(expression)
    assert list(cron.minutes_of_day) == minutes
    assert cron.days == frozenset(days)
    assert cron.months == frozenset(months)
    assert cron.weekdays == frozenset(weekdays)


def test_two_restricted_day_fields_are_alternatives_and_one_star_makes_them_conditions() -> None:
    either = parsed("0 0 13 * fri")
    assert [d for d in range(1, 20) if either.matches(date(2026, 2, d))] == [6, 13]
    assert either.matches(date(2026, 4, 13))  # a Monday
    both = parsed("0 0 */2 * mon")  # begins with a star: crontab(5) then asks for both
    assert [d for d in range(1, 31) if both.matches(date(2026, 6, d))] == [1, 15, 29]


def test_a_star_or_a_step_in_minute_or_hour_follows_elapsed_time() -> None:
    assert [parsed(e).elapsed for e in ("* 2 * * *", "0 * * * *", "0-30/10 2 * * *", "0 */2 * * *")]
    assert not parsed("0,30 2,3 */2 * *").elapsed


REFUSED = [
    # expression, place, what must be in the message, what must be in the hint
    ("0 0 30 2 *", "cron.day-of-month", "never fires", "28 to 31"),
    ("0 0 31 4,6,9,11 *", "cron.day-of-month", "never fires", "28 to 31"),
    ("61 * * * *", "cron.minute", "'61'; allowed: 0 to 59", ""),
    ("0 24 * * *", "cron.hour", "'24'; allowed: 0 to 23", ""),
    ("0 0 0 * *", "cron.day-of-month", "'0'; allowed: 1 to 31", ""),
    ("0 0 32 * *", "cron.day-of-month", "'32'; allowed: 1 to 31", ""),
    ("0 0 * 13 *", "cron.month", "'13'; allowed: 1 to 12", ""),
    ("0 0 * * 8", "cron.day-of-week", "'8'; allowed: 0 to 7", ""),
    ("*/0 * * * *", "cron.minute", "'0' in '*/0'; allowed: 1 to 59", ""),
    ("*/60 * * * *", "cron.minute", "'60' in '*/60'; allowed: 1 to 59", ""),
    ("*/99999999999999999999 * * * *", "cron.minute", "allowed: 1 to 59", ""),
    ("5/15 * * * *", "cron.minute", "'5/15'", "5-59/15"),
    ("0 22-2 * * *", "cron.hour", "'22-2'", "22-23,0-2"),
    ("0 0 * * fri-mon", "cron.day-of-week", "'fri-mon'", ""),
    ("", "cron", "empty; allowed: five fields", '"30 2 * * *"'),
    ("   ", "cron", "empty; allowed: five fields", '"30 2 * * *"'),
    ("*/0", "cron", "1 field ", "fill"),
    ("* * * *", "cron", "4 fields", "fill"),
    ("* * * * * *", "cron", "6 fields", "every"),
    ("0 0 12 ? * MON *", "cron", "7 fields", "every"),
    ("@reboot", "cron.minute", "'@reboot'", "reboot"),
    ("@daily", "cron.minute", "'@daily'", "0 0 * * *"),
    ("0 0 L * *", "cron.day-of-month", "'L'", ""),
    ("0 0 15W * *", "cron.day-of-month", "'15W'", "nearest weekday"),
    ("0 0 * * mon#2", "cron.day-of-week", "'mon#2'", "n-th weekday"),
    ("0 0 ? * 1", "cron.day-of-month", "'?'", "'*'"),
    ("0 0 * jum *", "cron.month", "'jum'", "did you mean 'jun'?"),
    ("0 0 * * thurs", "cron.day-of-week", "'thurs'", "did you mean 'thu'?"),
    ("1,,2 * * * *", "cron.minute", "'' in '1,,2'", ""),
    ("-1 * * * *", "cron.minute", "'-1'", ""),
    ("1.5 * * * *", "cron.minute", "'1.5'", ""),
    ("*-5 * * * *", "cron.minute", "'*-5'", "alone"),
    ("٣ * * * *", "cron.minute", "'٣'", ""),
    ("1e3 * * * *", "cron.minute", "'1e3'", ""),
    ("0 0 * * *; rm -rf /", "cron", "8 fields", ""),
    ("1" * 600 + " * * * *", "cron", "characters; allowed: 512", ""),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "where", "message", "hint"), REFUSED)
def test_a_refusal_names_the_field_what_was_found_and_what_is_allowed(
    expression: str, where: str, message: str, hint: str
) -> None:
    with pytest.raises(Invalid) as caught:
        parsed(expression)
    assert (caught.value.code, caught.value.where) == ("E_CRON", where)
    assert message in caught.value.message
    assert "allowed" in caught.value.message or "never fires" in caught.value.message
    assert hint in caught.value.hint


def test_the_29th_of_february_fires_even_on_one_weekday_only() -> None:
    assert parsed("0 0 29 2 *").matches(date(2028, 2, 29))
    assert parsed("0 0 */28 2 sun").matches(date(2032, 2, 29))  # 1 and 29: begins with a star
