"""Schedule files in Azure ML's shape: what they become, key by key."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock.contracts.schedules import Schedule
from penstock.errors import Invalid
from penstock.sdk.azure_keys import ROOMS
from penstock.sdk.azure_schedules import Scheduled
from penstock.sdk.schedule_files import read_schedule
from penstock_trigger.rules import checked

NOW = 1_700_000_000.0
CRON = {"type": "cron", "expression": "15 10 * * 1"}


def read(folder: Path, *, strict: bool = False, **changes: Any) -> Scheduled:
    body = {
        "$schema": "https://azuremlschemas.azureedge.net/latest/schedule.schema.json",
        "name": "nightly",
        "trigger": CRON,
        "create_job": "azureml:digits",
        **changes,
    }
    file = folder / "s.yml"
    file.write_text(
        yaml.safe_dump({key: value for key, value in body.items() if value is not None})
    )
    return read_schedule(file, strict=strict)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/src").mkdir()
    (tmp_path / "jobs/job.yml").write_text(
        "type: pipeline\nexperiment_name: e\ninputs: {n: 1, m: 2}\n"
        "jobs: {a: {command: 'echo ${{inputs.n}}', code: ./src, inputs: {n: '${{parent.inputs.n}}'}}}\n"
    )
    return tmp_path


def when(found: Scheduled) -> str | float:
    checked(found.schedule, NOW)  # the trigger service takes it
    return found.schedule.cron or found.schedule.every


@pytest.mark.parametrize(
    ("trigger", "expected"),
    [
        (CRON, "15 10 * * 1"),
        ({"type": "cron", "expression": "0 9 * * MON-FRI"}, "0 9 * * MON-FRI"),
        ({"type": "recurrence", "frequency": "minute", "interval": 5}, 300.0),
        ({"type": "recurrence", "frequency": "Hour", "interval": 2}, 7200.0),
        ({"type": "recurrence", "frequency": "day", "interval": 3}, 259_200.0),
        (
            {"type": "recurrence", "frequency": "day", "interval": 1,
             "schedule": {"hours": [4, 5, 10], "minutes": [0, 30]}},
            "0,30 4,5,10 * * *",
        ),
        (
            {"type": "recurrence", "frequency": "week", "interval": 1,
             "schedule": {"hours": 10, "minutes": 15, "week_days": ["monday", "Friday"]}},
            "15 10 * * mon,fri",
        ),
        (
            {"type": "recurrence", "frequency": "month", "interval": 1,
             "schedule": {"hours": [4], "minutes": [0], "month_days": [1, 15]}},
            "0 4 1,15 * *",
        ),
        (
            {"type": "recurrence", "frequency": "day", "interval": 1, "start_time": "2027-03-10T10:15:00"},
            "15 10 * * *",
        ),
        (
            {"type": "recurrence", "frequency": "week", "interval": 1, "start_time": "2027-03-10T10:15:00"},
            "15 10 * * wed",
        ),
        (
            {"type": "recurrence", "frequency": "month", "interval": 3, "start_time": "2027-05-10T10:15:00"},
            "15 10 10 2,5,8,11 *",
        ),
    ],
)  # fmt: skip
def test_a_trigger_becomes_a_cron_line_or_an_interval(
    trigger: dict[str, Any], expected: str | float, folder: Path
) -> None:
    assert when(read(folder, trigger=trigger)) == expected


def test_times_without_an_offset_are_meant_in_the_zone_which_may_be_named_as_in_windows(
    folder: Path,
) -> None:
    found = read(
        folder,
        trigger={
            **CRON,
            "start_time": "2027-03-10T10:15:00",
            "end_time": "2027-07-10T10:15:00Z",
            "time_zone": "Pacific Standard Time",
        },
    )
    assert found.schedule.start == "2027-03-10T10:15:00-08:00"
    assert found.schedule.end == "2027-07-10T10:15:00+00:00"
    assert checked(found.schedule, NOW).time_zone == "America/Los_Angeles"


@pytest.mark.parametrize(
    ("frequency", "line"),
    [("day", "15 19 * * *"), ("week", "15 19 * * tue"), ("month", "15 19 9 * *")],
)
def test_a_start_with_an_offset_is_the_same_moment_by_the_clocks_of_the_zone(
    frequency: str, line: str, folder: Path
) -> None:
    found = read(
        folder,
        trigger={
            "type": "recurrence",
            "frequency": frequency,
            "interval": 1,
            "start_time": "2027-03-10T03:15:00Z",
            "time_zone": "Pacific Standard Time",
        },
    )
    assert (when(found), found.schedule.start) == (line, "2027-03-10T03:15:00+00:00")


def test_a_registered_job_gets_the_inputs_as_parameters(folder: Path) -> None:
    found = read(
        folder,
        description="d",
        tags={"a": 1},
        create_job={
            "type": "pipeline",
            "job": "azureml:digits:3",
            "experiment_name": "e",
            "inputs": {
                "n": 3,
                "at": {"type": "string", "value": "${{creation_context.trigger_time}}"},
                "data": {"type": "uri_folder", "path": "azureml:rows:1"},
            },
            "settings": {"force_rerun": True},
            "tags": {"b": "c"},
        },
    )
    assert found == Scheduled(
        Schedule(
            name="nightly",
            pipeline="digits@3",
            cron="15 10 * * 1",
            parameters={
                "n": 3,
                "at": "${{creation_context.trigger_time}}",
                "data": "azureml:rows:1",
            },
            experiment="e",
            tags={"a": "1", "b": "c"},
            reuse="refresh",
            description="d",
        )
    )


def test_a_job_in_a_file_is_read_with_what_the_schedule_puts_over_it(folder: Path) -> None:
    found = read(
        folder,
        create_job={
            "type": "pipeline",
            "job": "./jobs/job.yml",
            "inputs": {"n": 5},
            "settings": {"default_compute": "azureml:gpu"},
            "experiment_name": "other",
        },
    )
    assert found.definition is not None
    spec = found.definition.spec
    assert (spec.inputs, spec.experiment) == ({"n": 5, "m": 2}, "other")
    assert spec.settings.default_compute == "gpu"
    assert [local.path for local in found.definition.locals] == [folder / "jobs/src"]


@pytest.mark.parametrize("spelled", ["./jobs/job.yml", "jobs/job.yml"])
def test_a_job_may_be_a_file_and_nothing_else(spelled: str, folder: Path) -> None:
    found = read(folder, create_job=spelled)
    assert found.definition is not None
    assert found.definition.spec.inputs == {"n": 1, "m": 2}


def test_a_job_may_be_written_into_the_schedule(folder: Path) -> None:
    found = read(folder, create_job={"type": "pipeline", "jobs": {"a": {"command": "x"}}})
    assert found.definition is not None
    assert found.definition.spec.steps["a"].command == "x"
    assert found.definition.where("steps", "a").startswith(str(folder / "s.yml"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"create_job": None}, "create_job is missing"),
        ({"trigger": {"type": "weekly"}}, "'weekly' is not a known type"),
        ({"trigger": {"type": "recurrence", "frequency": "year"}}, "'year' is not a known frequency"),
        (
            {"trigger": {"type": "recurrence", "frequency": "day", "interval": 2,
                         "schedule": {"hours": 1, "minutes": 2}}},
            "every 2 days at times of the day is not supported",
        ),
        (
            {"trigger": {"type": "recurrence", "frequency": "day", "schedule": {"hours": 25, "minutes": 2}}},
            "25; allowed: 0 to 23",
        ),
        ({"trigger": {"type": "recurrence", "frequency": "day", "schedule": {"hours": 2}}}, "minutes is missing"),
        (
            {"trigger": {"type": "recurrence", "frequency": "week",
                         "schedule": {"hours": 2, "minutes": 3, "week_days": ["someday"]}}},
            "'someday' is no day",
        ),
        ({"trigger": {**CRON, "start_time": "soon"}}, "'soon' is no time"),
        ({"trigger": {**CRON, "start_time": "2027-03-10T10:15:00", "time_zone": "Mars"}}, "'Mars' is no time zone"),
        ({"create_monitor": {}, "create_job": None}, "create_monitor is not supported"),
        ({"create_job": "./none.yml"}, "./none.yml does not exist"),
    ],
)  # fmt: skip
def test_what_no_schedule_can_be_is_refused(
    changes: dict[str, Any], words: str, folder: Path
) -> None:
    with pytest.raises(Invalid, match=words.replace(".", r"\.")) as caught:
        read(folder, **changes)
    assert "s.yml" in caught.value.where


EXAMPLES: dict[str, dict[str, Any]] = {
    "schedule": {
        "$schema": "x", "type": "schedule", "name": "other", "display_name": "D", "description": "d",
        "tags": {"a": "b"}, "trigger": {"type": "cron", "expression": "0 1 * * *"},
        "create_job": "azureml:other", "properties": {"a": "b"}, "comment": "c",
    },
    "trigger": {
        "type": "recurrence", "expression": "0 1 * * *", "frequency": "hour", "interval": 3,
        "schedule": {"hours": 1, "minutes": 2}, "start_time": "2027-03-10T10:15:00",
        "end_time": "2027-03-10T10:15:00", "time_zone": "Europe/Berlin",
    },
    "pattern": {"hours": [7], "minutes": [8], "week_days": ["sunday"], "month_days": [9]},
    "create_job": {
        "type": "pipeline", "job": "azureml:other", "inputs": {"a": 1}, "settings": {"force_rerun": True},
        "experiment_name": "e", "tags": {"c": "d"}, "compute": "azureml:gpu", "outputs": {"o": None},
        "display_name": "D", "description": "d", "name": "n", "properties": {"a": "b"},
        "identity": {"type": "managed"}, "$schema": "x",
    },
}  # fmt: skip
DAY = {"type": "recurrence", "frequency": "day", "interval": 1}
SAME = {
    ("schedule", "type"),
    ("create_job", "type"),
    ("create_job", "outputs"),
    ("create_job", "compute"),
}
"""They say nothing by themselves; compute and outputs go into the job's file (tested above)."""


@pytest.mark.parametrize(
    ("room", "name"), [(room, key.name) for room in EXAMPLES for key in ROOMS[room]]
)
def test_a_key_does_what_the_table_says(room: str, name: str, folder: Path) -> None:
    key = next(one for one in ROOMS[room] if one.name == name)
    example = {name: EXAMPLES[room][name]}
    match room:
        case "schedule":
            old, new = read(folder), read(folder, **example)
        case "trigger":
            base = DAY if name in ("frequency", "interval", "schedule") else CRON
            if name == "type":
                base, example = CRON, {**DAY, "expression": None}
            old, new = read(folder, trigger=base), read(folder, trigger={**base, **example})
        case "pattern":
            frequency = {"week_days": "week", "month_days": "month"}.get(name, "day")
            times: dict[str, Any] = {"hours": [1], "minutes": [2]}
            if frequency != "day":
                times |= {name: [3] if name == "month_days" else ["monday"]}
            old, new = (
                read(folder, trigger={**DAY, "frequency": frequency, "schedule": pattern})
                for pattern in (times, {**times, **example})
            )
        case _:
            job = {"job": "azureml:digits"}
            old, new = read(folder, create_job=job), read(folder, create_job={**job, **example})
    said = any(f": {name} is ignored" in note for note in new.notes)
    assert said == (key.fate == "ignored")
    if (room, name) not in SAME:
        assert (old.schedule != new.schedule) == (key.fate in ("honoured", "mapped"))


def test_unknown_keys_are_notes_and_with_strict_errors(folder: Path) -> None:
    found = read(folder, trigger={**CRON, "timezone": "UTC"})
    assert "unknown key 'timezone' is not used (did you mean 'time_zone'?)" in found.notes[0]
    with pytest.raises(Invalid, match="unknown key 'timezone'"):
        read(folder, strict=True, trigger={**CRON, "timezone": "UTC"})
