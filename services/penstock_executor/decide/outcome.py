"""What the end of an attempt means, told plainly to whoever reads it at three in the morning."""

import signal
from dataclasses import dataclass
from typing import Literal

from penstock.contracts.resources import in_words
from penstock.contracts.work import Failure
from penstock.errors import PenstockError, Transient

NOT_EXECUTABLE = 126
NOT_FOUND = 127
KILLED = 137  # 128 + SIGKILL, as a shell reports it
SHELL_SIGNALS = 128
LOG_TAIL_BYTES = 2048
DELIVERIES_MAX = 30
"""Takes after which an attempt is not run any more: thrice the starts that the scheduler lets
pass, so this is for what ends its executors before they can report a start, within some eight minutes."""

Reason = Literal["cancelled", "timeout", "superseded"]

_FINAL = frozenset(
    {
        "E_CANCELLED",
        "E_CODE",
        "E_COMMAND",
        "E_CONFIG",
        "E_DATA_MISSING",
        "E_DATA_PERMISSION",
        "E_DATA_TYPE",
        "E_ENVIRONMENT",
        "E_EXISTS",
        "E_EXTRA",
        "E_ID",
        "E_INPUT_CHANGED",
        "E_LIMIT",
        "E_PATH",
        "E_RESOURCES",
    }
)
"""Failures that another attempt would meet again."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What the kernel did for want of memory while the command ran."""

    kills: int = 0
    """Processes killed: of the container where there is a limit, otherwise of this whole machine."""
    limit_bytes: int = 0
    peak_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Ended:
    """How the command ended."""

    status: int
    """As wait(2) gives it."""
    seconds: float
    memory: Memory = Memory()

    @property
    def out_of_memory(self) -> bool:
        """Say whether the kernel killed some process of this machine for memory meanwhile."""
        return self.memory.kills > 0


@dataclass(frozen=True, slots=True)
class Stop:
    """Why it was told to end, and what it was doing then."""

    reason: Reason
    phase: str
    limit_s: float = 0
    """The timeout, if that was ours."""


def exit_code_of(status: int) -> int | None:
    """Return the exit code of a wait status; None when a signal ended it."""
    return (status >> 8) & 0xFF if status & 0x7F == 0 else None


def signal_name(number: int) -> str:
    """Return "SIGSEGV" for 11; "SIG35" for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"


def ended_failure(ended: Ended, where: str) -> Failure | None:
    """Return why the command failed; None when it ended with 0."""
    code = exit_code_of(ended.status)
    if code == 0:
        return None
    if ended.out_of_memory and ended.memory.limit_bytes:
        return _memory_failure(ended, code, where)
    if code is None:
        number = ended.status & 0x7F
        name = signal_name(number)
        return Failure(
            code="E_SIGNAL",
            message=f"killed by signal {number} ({name}) after {ended.seconds:.1f} s",
            where=where,
            hint=_signal_hint(number, out_of_memory=ended.out_of_memory),
            signal=name,
        )
    message = f"the command ended with exit code {code} after {ended.seconds:.1f} s"
    return Failure(
        code="E_EXIT", message=message, where=where, hint=_exit_hint(code, ended), exit_code=code
    )


def _memory_failure(ended: Ended, code: int | None, where: str) -> Failure:
    """Return that the step had used up the memory of its container."""
    memory = ended.memory
    name = "" if code is not None else signal_name(ended.status & 0x7F)
    what = f"exit code {code}" if code is not None else f"signal {name}"
    used = f", {in_words(memory.peak_bytes)} used at most" if memory.peak_bytes else ""
    killed = "a process" if memory.kills == 1 else f"{memory.kills} processes"
    return Failure(
        code="E_MEMORY",
        message=f"out of memory after {ended.seconds:.1f} s: {in_words(memory.limit_bytes)} allowed{used}; "
        f"the kernel killed {killed}, and the command ended with {what}",
        where=where,
        hint="ask for more with resources.memory, or hold less in memory at a time",
        exit_code=code,
        signal=name,
    )


def stop_failure(stop: Stop, where: str) -> Failure:
    """Return why an attempt that was told to end has no result."""
    if stop.reason == "timeout":
        limit = f"{stop.limit_s:g} s" if stop.limit_s else "its time limit"
        return Failure(
            code="E_TIMEOUT",
            message=f"stopped while {stop.phase}: {limit} of run time used up",
            where=where,
            hint="raise limits.timeout, or make the step do less",
        )
    by = "superseded by a newer attempt" if stop.reason == "superseded" else "cancelled"
    return Failure(code="E_CANCELLED", message=f"{by} while {stop.phase}", where=where)


def error_failure(error: PenstockError, where: str, code: str = "") -> Failure:
    """Return one of our errors as an attempt's failure; `code` replaces the error's own."""
    return Failure(
        code=code or error.code,
        message=error.message,
        where=error.where or where,
        hint=error.hint,
    )


def lost_failure(taken: int, where: str) -> Failure | None:
    """Return the failure of an attempt that executors took again and again, and did not even begin.

    `taken` counts who took it, this time included (takes.py), not who was offered it: an executor that is
    too small gives it back, which wears nothing out however long the bigger one is busy.
    """
    if taken <= DELIVERIES_MAX:
        return None
    return Failure(
        code="E_LOST",
        message=f"executors took the attempt {taken - 1} times and none reported it",
        where=where,
        hint="do its inputs and its snapshot fit their machines? look at the executors' logs",
    )


def retriable(failure: Failure) -> bool:
    """Say whether another attempt may do better."""
    if failure.code in _FINAL:
        return False
    return failure.exit_code not in (NOT_EXECUTABLE, NOT_FOUND)


def input_code(error: PenstockError, otherwise: str) -> str:
    """Return the code of what hindered fetching an input or a snapshot: the store's, or `otherwise`."""
    if isinstance(error, Transient):
        return "E_DISK" if error.code == "E_DISK" else "E_STORE"
    return otherwise


def log_tail(stdout: bytes, stderr: bytes) -> str:
    """Return at most LOG_TAIL_BYTES of what was written last, stderr first."""
    first = stderr[-LOG_TAIL_BYTES:]
    rest = LOG_TAIL_BYTES - len(first)
    both = first + (stdout[-rest:] if rest else b"")
    return both.decode("utf-8", errors="replace").replace("\x00", "\\0")


def _signal_hint(number: int, *, out_of_memory: bool) -> str:
    if number == signal.SIGKILL:
        if out_of_memory:
            return "the kernel ran out of memory meanwhile and killed a process: use less memory"
        return "SIGKILL often means out of memory; see the kernel's log on the executor's machine"
    if number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE):
        return "a crash in native code; PYTHONFAULTHANDLER=1 prints where"
    return ""


def _exit_hint(code: int, ended: Ended) -> str:
    if code == NOT_FOUND:
        return "127 is the shell's \"command not found\": see the step's stderr for its name"
    if code == NOT_EXECUTABLE:
        return '126 is the shell\'s "found but cannot be executed": check mode and first line'
    if code == KILLED and ended.out_of_memory:
        return "137 = SIGKILL, and the kernel ran out of memory meanwhile: use less memory"
    if code == KILLED:
        return "137 = 128 + 9: a process of the command was killed by SIGKILL, often out of memory"
    if SHELL_SIGNALS < code <= SHELL_SIGNALS + signal.NSIG:
        number = code - SHELL_SIGNALS
        return (
            f"{code} = 128 + {number}: a process of the command was killed by {signal_name(number)}"
        )
    return ""
