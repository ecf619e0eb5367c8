"""What outsiders ask for, and the answers they get (DESIGN.md §5: stable, documented, small)."""

from typing import Literal

import msgspec

from penstock.contracts.base import Message, Strict
from penstock.contracts.spec import Scalar

Reuse = Literal["use", "refresh", "off"]


class RunRequest(Strict):
    """Run a registered pipeline (`pipeline`: "digits" or "digits@3") or an inline `spec`.

    `spec` is kept raw here: the planner decodes it, so that its errors name a place inside it. It may
    also be the text `artifact:<digest>`, a stored tree holding one file `spec.json` (large specs).
    `parameters` set the pipeline's inputs by name; data inputs take `artifact:<digest>`.
    """

    pipeline: str = ""
    spec: msgspec.Raw = msgspec.Raw()
    parameters: dict[str, Scalar] = {}
    experiment: str = ""
    tags: dict[str, str] = {}
    idempotency_key: str = ""
    reuse: Reuse = "use"
    priority: int = 0
    """Higher goes first, -100 to 100."""
    compute: str = ""
    """Overrides the pipeline's default compute target."""
    deadline: float = 0
    """Seconds from accepted to ended, queued time included; 0: the pipeline's own, else the workspace's."""
    name: str = ""
    """Display name of the run."""
    who: str = ""
    """Who asked, for the record: user@host, trigger/<name>, …"""


class CancelRequest(Strict):
    """Cancel a run."""

    run: str
    reason: str = ""
    who: str = ""


class RerunRequest(Strict):
    """Run an earlier run again as a new run.

    `from`: "failed" keeps what succeeded; "start" sends everything through the reuse rules; a list
    runs the named steps again, whatever was done before, sends everything behind them through the
    reuse rules (equal outputs cut them off) and keeps the rest.
    """

    run: str
    from_: str | tuple[str, ...] = msgspec.field(name="from", default="failed")
    parameters: dict[str, Scalar] = {}
    idempotency_key: str = ""
    who: str = ""


class ErrorBody(Message):
    """A refusal: stable code, place, what was found and what is allowed, what to do next."""

    code: str
    message: str
    where: str = ""
    hint: str = ""


class RunAnswer(Message):
    """The answer to a request: the run and its state, or the error."""

    run: str = ""
    state: str = ""
    error: ErrorBody | None = None
    notes: tuple[str, ...] = ()
    """Warnings worth a line on the terminal."""
