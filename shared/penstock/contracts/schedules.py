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
    revision: int = 1


class ScheduleState(Message):
    """The cursor of a schedule: everything up to `last_due` is dealt with."""

    name: str
    revision: int
    last_due: float = 0
    last_run: str = ""
    queued: tuple[float, ...] = ()
    """Firings that wait for the run before them (overlap: queue), oldest first."""


class ScheduleView(Message):
    """What `schedule show` answers."""

    schedule: Schedule
    last_due: float = 0
    last_run: str = ""
    next_due: tuple[float, ...] = ()
    """The next five firings, seconds since 1970."""
    notes: tuple[str, ...] = ()


class ScheduleCommand(Strict):
    """create · pause · resume · run-now · delete, sent to `<workspace>.query.schedule.<verb>`."""

    name: str = ""
    schedule: Schedule | None = None
    replace: bool = False
    who: str = ""
