"""The list of crash points is true: each is in the code, once, in the shell of its own service."""

import re
from pathlib import Path

import pytest

from penstock.errors import Invalid
from penstock.runtime.crash import POINTS, crash_at, never

ROOT = Path(__file__).parents[2]
CALL = re.compile(r"""crash\(\s*"([a-z.-]+)"\s*\)""")


def _calls() -> list[tuple[str, str]]:
    found = []
    for file in sorted((ROOT / "services").rglob("*.py")):
        service = file.relative_to(ROOT / "services").parts[0].removeprefix("penstock_")
        text = file.read_text(encoding="utf-8")
        found += [(service, point) for point in CALL.findall(text)]
    return found


def test_every_point_is_reached_from_one_place_of_its_own_service() -> None:
    calls = _calls()
    assert sorted(point for _, point in calls) == sorted(POINTS)
    assert all(point.startswith(f"{service}.") for service, point in calls)


def test_no_decision_knows_of_crashes() -> None:
    for folder in (ROOT / "services").iterdir():
        for room in ("decide", "effects"):
            for file in (*folder.glob(f"{room}.py"), *folder.glob(f"{room}/*.py")):
                assert "runtime.crash" not in file.read_text(encoding="utf-8"), file


def test_a_service_dies_at_the_asked_passing_and_at_no_other() -> None:
    died: list[str] = []
    text = "planner.before-ack:2, scheduler.before-ack, planner.after-key"
    crash = crash_at(text, "planner", died.append)
    crash("planner.before-ack")
    crash("scheduler.before-ack")
    assert died == []
    crash("planner.after-key")
    crash("planner.before-ack")
    crash("planner.before-ack")
    assert died == ["planner.after-key", "planner.before-ack"]


def test_a_service_of_which_no_crash_is_asked_is_handed_the_one_that_does_nothing() -> None:
    assert crash_at("", "planner") is never
    assert crash_at("scheduler.before-ack:3", "planner") is never


@pytest.mark.parametrize(
    ("text", "found", "hint"),
    [
        ("planner.before-akc", "no crash point", "planner.before-ack"),
        ("planner.before-ack:0", "no count", ""),
        ("planner.before-ack:x", "no count", ""),
    ],
)
def test_a_misspelt_point_stops_the_start(text: str, found: str, hint: str) -> None:
    with pytest.raises(Invalid, match=found) as caught:
        crash_at(text, "planner")
    assert hint in caught.value.hint
