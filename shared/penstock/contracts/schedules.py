"""Schedules: what fires when, and what happens to firings that were missed or collide."""

from typing import Literal

from penstock.contracts.base import Message, Strict
from penstock.contracts.requests import Reuse
from penstock.contracts.spec import Scalar


class Schedule(Strict):
    """A named schedule.

    Exactly one of `cron` (five fields, 0 and 7 = Sunday, names allowed) and `every` (seconds) is set.
    `time_zone` is an IANA name; `start` and `end` are RFC 3339 texts.
    """

    name: str
    pipeline: str
    cron: str = ""
    every: float = 0
    time_zone: str = "UTC"
    start: str = ""
    end: str = ""
    catch_up: Literal["none", "last", "all"] = "none"
    catch_up_max: int = 10
    """Bound on `all`: at most this many missed firings are made good, the newest ones."""
    overlap: Literal["allow", "skip", "queue", "replace"] = "allow"
    paused: bool = False
    parameters: dict[str, Scalar] = {}
    experiment: str = ""
    tags: dict[str, str] = {}
    reuse: Reuse = "use"
    priority: int = 0
    description: str = ""
    created_at: float = 0
    """Set by the service, as are `revision` and `resumed_at`: nothing before it is due."""
    revision: int = 1
    resumed_at: float = 0
    """End of the last pause: firings of the paused time are nobody's."""


class Firing(Message):
    """One decided firing that is still to be carried out.

    fire: ask for a run · skip: say why not · missed: say so of all firings after `after` up to `due`.
    """

    what: Literal["fire", "skip", "missed"]
    due: float
    key: str = ""
    """The part of the idempotency key that names the tick."""
    after: float = 0
    count: int = 0
    replace: bool = False
    """Cancel the schedule's last run first (overlap: replace)."""
    reason: str = ""


class ScheduleState(Message):
    """The cursor of a schedule: everything up to `last_due` is decided.

    One compare-and-set both moves the cursor and records what was decided, so every tick has one
    decision however many replicas judge it; `pending` is carried out in order, each entry
    idempotently, and taken off by the next compare-and-set.
    """

    name: str
    revision: int
    last_due: float = 0
    last_run: str = ""
    queued: tuple[float, ...] = ()
    """Firings that wait for the run before them (overlap: queue), oldest first."""
    pending: tuple[Firing, ...] = ()
    """Decided and not yet carried out, oldest first."""
    definition: Schedule | None = None
    """The schedule as it was when `pending` was decided; only while there is some."""
    by: str = ""
    """The replica that wrote this; the others wait a while before they help."""


class ScheduleView(Message):
    """What `schedule show` answers."""

    schedule: Schedule
    last_due: float = 0
    last_run: str = ""
    next_due: tuple[float, ...] = ()
    """The next five firings, seconds since 1970."""
    notes: tuple[str, ...] = ()
    run: str = ""
    """The run that `run-now` started."""


class ScheduleCommand(Strict):
    """create · pause · resume · run-now · delete, sent to `<workspace>.query.schedule.<verb>`."""

    name: str = ""
    schedule: Schedule | None = None
    replace: bool = False
    who: str = ""
