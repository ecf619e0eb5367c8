"""What may be a schedule, and how the rest is refused."""

import msgspec
import pytest

from penstock.contracts.queries import PipelineView
from penstock.contracts.schedules import Schedule
from penstock.contracts.spec import Input, PipelineSpec, Scalar
from penstock.errors import Invalid
from penstock_trigger.rules import check_against, checked, next_dues, notes_on

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
NIGHTLY = Schedule(name="nightly", pipeline="digits", cron="30 2 * * *", time_zone="Europe/Berlin")


def changed(**changes: object) -> Schedule:
    return msgspec.structs.replace(NIGHTLY, **changes)


REFUSED = [
    ({"name": "a.b"}, "E_ID", "schedule.name", ""),
    ({"name": ""}, "E_ID", "schedule.name", ""),
    ({"name": "nаme"}, "E_ID", "schedule.name", ""),  # noqa: RUF001 - a Cyrillic a
    ({"pipeline": ""}, "E_ID", "schedule.pipeline", "pipeline list"),
    ({"pipeline": "a*b"}, "E_ID", "schedule.pipeline", ""),
    ({"pipeline": "digits@"}, "E_ID", "schedule.pipeline", ""),
    ({"pipeline": "digits@1 2"}, "E_ID", "schedule.pipeline", ""),
    ({"cron": ""}, "E_SCHEDULE", "schedule.cron", "every: 30"),
    ({"every": 5.0}, "E_SCHEDULE", "schedule.cron", "every: 30"),
    ({"cron": "61 * * * *"}, "E_CRON", "schedule.cron.minute", ""),
    ({"cron": "@reboot"}, "E_CRON", "schedule.cron.minute", ""),
    ({"cron": "0 0 30 2 *"}, "E_CRON", "schedule.cron.day-of-month", ""),
    ({"cron": "", "every": 0.5}, "E_INTERVAL", "schedule.every", "inside a step"),
    ({"cron": "", "every": -1.0}, "E_INTERVAL", "schedule.every", ""),
    ({"cron": "", "every": float("nan")}, "E_INTERVAL", "schedule.every", ""),
    ({"cron": "", "every": float("inf")}, "E_INTERVAL", "schedule.every", ""),
    ({"time_zone": "Mars/Base"}, "E_ZONE", "schedule.time_zone", "tz_database"),
    ({"time_zone": "Europe/Berln"}, "E_ZONE", "schedule.time_zone", "'Europe/Berlin'"),
    ({"time_zone": "europe/berlin"}, "E_ZONE", "schedule.time_zone", "'Europe/Berlin'"),
    ({"time_zone": "New York"}, "E_ZONE", "schedule.time_zone", "'America/New_York'"),
    ({"time_zone": "../../etc/passwd"}, "E_ZONE", "schedule.time_zone", ""),
    ({"time_zone": "localtime"}, "E_ZONE", "schedule.time_zone", ""),
    ({"time_zone": ""}, "E_ZONE", "schedule.time_zone", ""),
    ({"start": "tomorrow"}, "E_TIME", "schedule.start", "2027-03-28T02:30:00Z"),
    ({"start": "2027-01-01T00:00:00"}, "E_TIME", "schedule.start", "+01:00"),
    ({"start": "2027-02-30T00:00:00Z"}, "E_TIME", "schedule.start", ""),
    ({"end": "2027-13-01T00:00:00Z"}, "E_TIME", "schedule.end", ""),
    ({"end": "2027-01-01T00:00:00Z"}, "E_TIME", "schedule.end", ""),
    ({"start": "2028-01-01T00:00:00Z", "end": "2027-12-01T00:00:00Z"}, "E_TIME", "schedule.end", ""),
    ({"catch_up_max": 0}, "E_SCHEDULE", "schedule.catch_up_max", ""),
    ({"catch_up_max": 101}, "E_SCHEDULE", "schedule.catch_up_max", ""),
    ({"priority": 101}, "E_SCHEDULE", "schedule.priority", ""),
    ({"description": "x" * 70_000}, "E_TOO_LARGE", "schedule", "artifact"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "code", "where", "hint"), REFUSED)
def test_a_bad_field_is_refused_with_its_place_and_what_is_allowed(
    changes: dict[str, object], code: str, where: str, hint: str
) -> None:
    with pytest.raises(Invalid) as caught:
        checked(changed(**changes), NOW)
    assert (caught.value.code, caught.value.where) == (code, where)
    assert hint in caught.value.hint
    assert caught.value.message


def test_a_good_schedule_is_kept_and_windows_zones_are_translated() -> None:
    assert checked(NIGHTLY, NOW) == NIGHTLY
    azure = changed(time_zone="Pacific Standard Time", pipeline="digits@1.0.2")
    assert checked(azure, NOW) == changed(time_zone="America/Los_Angeles", pipeline="digits@1.0.2")


def test_the_next_firings_and_the_clock_changes_are_shown() -> None:
    assert next_dues(NIGHTLY, NOW)[:2] == (1_800_063_000.0, 1_800_149_400.0)
    assert notes_on(NIGHTLY, NOW)[0] == (
        "02:30 does not exist on 2027-03-28 in Europe/Berlin; fires at 03:00"
    )
    ending = changed(end="2027-01-15T09:00:00Z")
    assert notes_on(ending, NOW) == ("it does not fire any more",)


def test_an_interval_counts_from_its_start_or_its_creation() -> None:
    every = changed(cron="", every=3600.0, created_at=NOW - 600)
    assert next_dues(every, NOW)[:2] == (NOW + 3000, NOW + 6600)
    started = changed(cron="", every=3600.0, start="2027-01-15T12:34:56+01:00", created_at=NOW)
    assert next_dues(started, NOW)[:2] == (NOW + 12_896, NOW + 16_496)


def test_the_creation_itself_is_never_a_firing() -> None:
    for number in range(500):
        created_at = NOW + number * 0.123456789  # between two microseconds, on either side
        every = changed(cron="", every=60.0, created_at=created_at)
        assert next_dues(every, created_at)[0] - created_at > 59.99


def test_parameters_are_compared_with_the_inputs_of_the_pipeline() -> None:
    inputs: dict[str, Input | Scalar] = {
        "rate": 0.1,
        "data": Input(type="uri_folder"),
        "seed": Input(type="integer"),
    }
    view = PipelineView(
        name="digits", version="1", spec="", definition=PipelineSpec(inputs=inputs)
    )  # fmt: skip
    given: dict[str, Scalar] = {"data": "artifact:00", "seed": 1}
    check_against(changed(parameters=given), view)
    with pytest.raises(Invalid) as unknown:
        check_against(changed(parameters=given | {"rte": 1}), view)
    assert (unknown.value.where, unknown.value.hint) == (
        "schedule.parameters.rte",
        "did you mean 'rate'?",
    )
    with pytest.raises(Invalid, match="needs a value for 'seed'"):
        check_against(changed(parameters={"data": "artifact:00"}), view)
