"""What the end of an attempt means."""

import signal

import pytest

from penstock.contracts.work import Failure
from penstock.errors import BlobUnavailable, NotFound, Transient
from penstock_executor.decide.outcome import (
    Ended,
    Memory,
    Stop,
    ended_failure,
    error_failure,
    input_code,
    log_tail,
    retriable,
    stop_failure,
)


def failure_of(status: int, *, out_of_memory: bool = False) -> Failure | None:
    return ended_failure(Ended(status, 1.25, Memory(kills=int(out_of_memory))), "train attempt 1")


def test_only_zero_is_success() -> None:
    assert failure_of(0) is None
    assert failure_of(1 << 8) is not None


@pytest.mark.parametrize("code", [1, 2, 3, 64, 125, 255])
def test_an_exit_code_is_told_as_it_is(code: int) -> None:
    failure = failure_of(code << 8)
    assert failure is not None
    assert (failure.code, failure.exit_code, failure.signal) == ("E_EXIT", code, "")
    assert f"exit code {code} " in failure.message


@pytest.mark.parametrize(
    ("number", "name"), [(6, "SIGABRT"), (9, "SIGKILL"), (11, "SIGSEGV"), (15, "SIGTERM")]
)
def test_a_signal_is_told_by_its_name(number: int, name: str) -> None:
    failure = failure_of(number)
    assert failure is not None
    assert (failure.code, failure.exit_code, failure.signal) == ("E_SIGNAL", None, name)
    assert failure.message.startswith(f"killed by signal {number} ({name})")


def test_a_core_dump_flag_does_not_hide_the_signal() -> None:
    failure = failure_of(signal.SIGSEGV | 0x80)
    assert failure is not None
    assert failure.signal == "SIGSEGV"


def test_a_real_time_signal_has_a_name_too() -> None:
    failure = failure_of(36)
    assert failure is not None
    assert failure.signal == "SIG36"


@pytest.mark.parametrize(
    ("status", "out_of_memory", "hint"),
    [
        (127 << 8, False, "command not found"),
        (126 << 8, False, "cannot be executed"),
        (137 << 8, False, "often out of memory"),
        (137 << 8, True, "the kernel ran out of memory"),
        (139 << 8, False, "SIGSEGV"),
        (9, False, "often means out of memory"),
        (9, True, "the kernel ran out of memory"),
        (11, False, "PYTHONFAULTHANDLER"),
    ],
)
def test_the_hint_says_what_usually_lies_behind_it(
    status: int, out_of_memory: bool, hint: str
) -> None:
    failure = failure_of(status, out_of_memory=out_of_memory)
    assert failure is not None
    assert hint in failure.hint


def test_a_stop_tells_what_was_going_on() -> None:
    assert stop_failure(Stop("timeout", "running", 3600), "a").code == "E_TIMEOUT"
    assert "3600 s" in stop_failure(Stop("timeout", "running", 3600), "a").message
    assert stop_failure(Stop("cancelled", "preparing"), "a") == Failure(
        code="E_CANCELLED", message="cancelled while preparing", where="a"
    )
    assert "newer attempt" in stop_failure(Stop("superseded", "running"), "a").message


def test_what_can_be_tried_again_is_and_what_cannot_is_not() -> None:
    for status, expected in ((1 << 8, True), (127 << 8, False), (126 << 8, False), (11, True)):
        failure = failure_of(status)
        assert failure is not None
        assert retriable(failure) is expected
    assert retriable(stop_failure(Stop("timeout", "running", 1), "a"))
    assert not retriable(stop_failure(Stop("cancelled", "running"), "a"))
    assert retriable(Failure(code="E_STORE", message="away"))
    assert not retriable(Failure(code="E_COMMAND", message="no value"))


def test_a_store_that_is_away_is_not_the_inputs_fault() -> None:
    assert input_code(BlobUnavailable("away"), "E_INPUT") == "E_STORE"
    assert input_code(Transient("full", code="E_DISK"), "E_INPUT") == "E_DISK"
    assert input_code(NotFound("no such tree"), "E_CODE") == "E_CODE"


def test_our_errors_keep_their_words() -> None:
    error = NotFound("no such tree", where="artifact:12", hint="was it deleted?")
    assert error_failure(error, "train", "E_INPUT") == Failure(
        code="E_INPUT", message="no such tree", where="artifact:12", hint="was it deleted?"
    )


def test_the_log_tail_is_bounded_and_begins_with_stderr() -> None:
    assert log_tail(b"out", b"err") == "errout"
    tail = log_tail(b"o" * 5000, b"e" * 1000)
    assert tail == "e" * 1000 + "o" * 1048
    assert log_tail(b"", b"\xff\x00x") == "\ufffd\\0x"
