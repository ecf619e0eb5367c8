"""What libraries of ours say with `logging` comes out as lines of the service's log."""

import json
import logging

import pytest

from penstock.runtime.logs import adopt, logger

ROOT = "penstock_test_logs"


def test_a_library_of_ours_speaks_in_the_services_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    adopt(logger("planner", "planner-1"), root=ROOT)
    speaker = logging.getLogger(f"{ROOT}.bus")
    speaker.debug("too quiet")
    speaker.info("the bus is lost", extra={"bus": "nats://here:1"})
    try:
        raise ValueError("why")
    except ValueError:
        speaker.exception("a handler failed on %s", "a.b")
    lost, failed = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (lost["event"], lost["bus"], lost["level"]) == (
        "the bus is lost",
        "nats://here:1",
        "info",
    )
    assert (lost["service"], lost["instance"]) == ("planner", "planner-1")
    assert (failed["event"], failed["level"]) == ("a handler failed on a.b", "error")
    assert "ValueError: why" in failed["exception"]


def test_a_service_that_is_told_to_be_quiet_is_quiet_about_its_libraries_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    adopt(logger("planner", "planner-1", "error"), root=ROOT)
    logging.getLogger(ROOT).warning("noise")
    assert capsys.readouterr().err == ""
