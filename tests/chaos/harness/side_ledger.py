"""What really ran: one line per execution, appended by the steps themselves."""

from dataclasses import dataclass
from pathlib import Path

FIELDS = 5


@dataclass(frozen=True)
class Execution:
    """One execution of user code."""

    run: str
    step: str
    attempt: int
    pid: int
    at: float


def executions(ledger: Path) -> list[Execution]:
    """Return all executions so far. A line is written by one `write`, so none is half."""
    found = []
    text = ledger.read_text(encoding="utf-8") if ledger.exists() else ""
    for line in text.splitlines():
        words = line.split()
        if len(words) == FIELDS - 1:
            words.append("0")  # its `date` was killed alone
        assert len(words) == FIELDS, f"not a line of the ledger: {line!r}"
        run, step, attempt, pid, at = words
        found.append(Execution(run, step, int(attempt), int(pid), float(at)))
    return found
