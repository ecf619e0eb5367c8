"""How often an attempt was taken: counted by those who take it, not by the queue, which also offers it to misfits."""

import os
import time
from pathlib import Path

import pytest

from penstock.contracts.resources import Resources
from penstock.contracts.work import WorkItem
from penstock_executor.decide.outcome import DELIVERIES_MAX, lost_failure
from penstock_executor.takes import FORGOTTEN_S, TAKEN, Takes

PLAIN = WorkItem(run="r", step="s", attempt=1, pipeline="p")
LARGE = WorkItem(run="r", step="l", attempt=1, pipeline="p", resources=Resources(cores=8))
KEY = ("r", "l", 1)
OFTEN = DELIVERIES_MAX + 1


def test_work_that_asks_for_nothing_was_taken_whenever_it_was_delivered(tmp_path: Path) -> None:
    takes = Takes(tmp_path)
    assert takes.taken(PLAIN, 1) == 1
    assert takes.taken(PLAIN, OFTEN) == OFTEN
    assert lost_failure(OFTEN, "s") is not None
    assert not (tmp_path / TAKEN).exists(), "an ordinary step costs no file"


def test_what_misfits_gave_back_however_often_is_not_lost(tmp_path: Path) -> None:
    assert lost_failure(Takes(tmp_path).taken(LARGE, 100 * DELIVERIES_MAX), "l") is None


def test_what_its_executors_die_of_is_lost_although_misfits_gave_it_back_as_well(
    tmp_path: Path,
) -> None:
    for delivery in range(OFTEN, 2 * OFTEN - 1):  # each a new process on the same folder
        assert lost_failure(Takes(tmp_path).taken(LARGE, 7 * delivery), "l") is None
    lost = lost_failure(Takes(tmp_path).taken(LARGE, 1000), "l")
    assert lost is not None
    assert (lost.code, lost.message) == (
        "E_LOST",
        f"executors took the attempt {DELIVERIES_MAX} times and none reported it",
    )


def test_an_executor_that_survives_an_attempt_forgets_its_count(tmp_path: Path) -> None:
    for _ in range(DELIVERIES_MAX):
        takes = Takes(tmp_path)
        assert takes.taken(LARGE, OFTEN) == 1
        takes.forget(KEY)
    assert list((tmp_path / TAKEN).iterdir()) == []
    takes.forget(KEY)


def test_counts_of_attempts_that_others_ended_do_not_stay_for_ever(tmp_path: Path) -> None:
    Takes(tmp_path).taken(LARGE, OFTEN)
    (file,) = (tmp_path / TAKEN).iterdir()
    assert Takes(tmp_path).taken(LARGE, OFTEN) == 2
    os.utime(file, (0, time.time() - FORGOTTEN_S - 60))
    assert Takes(tmp_path).taken(LARGE, OFTEN) == 1


@pytest.mark.parametrize("there", ["file", "nothing"])
def test_where_nothing_can_be_counted_the_attempt_is_tried(tmp_path: Path, there: str) -> None:
    if there == "file":
        (tmp_path / TAKEN).touch()
    takes = Takes(tmp_path if there == "file" else Path("/proc"))
    assert takes.taken(LARGE, OFTEN) == 0
