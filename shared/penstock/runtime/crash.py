"""Points at which a service can be made to die, so that a kill lands where it hurts.

    PENSTOCK_CRASH_AT=executor.before-ack:2,scheduler.after-append:5

The process kills itself with SIGKILL when it reaches a point for the n-th time (the first, without a
number), and says so in one line on stderr before. Only the chaos harness sets this; a service
without it is handed `never`, which does nothing. A supervisor does not hand it to a service that it
starts again, so that each point is died at once.

Each point lies between two durable effects, in a shell, never in a decision. `POINTS` is the list;
tests/house compares it with the code.
"""

import os
import signal
from collections.abc import Callable
from typing import Literal, get_args

from penstock.errors import Invalid
from penstock.ids import did_you_mean

VARIABLE = "PENSTOCK_CRASH_AT"

Point = Literal[
    # planner: a request becomes a plan
    "planner.after-take",  # a request is in hand, nothing is done
    "planner.after-spec",  # the spec is kept, its key is not claimed
    "planner.after-key",  # the idempotency key is claimed, no part is in the inbox
    "planner.after-parts",  # all parts are in the inbox, the key does not say so
    "planner.before-answer",  # the run is planned, nobody knows
    "planner.before-ack",  # the caller knows, the request is still ours
    "planner.after-version",  # a pipeline's version is kept, "latest" does not name it
    # scheduler: inputs become commits, commits become effects
    "scheduler.after-takeover",  # the fence stands, nothing is replayed
    "scheduler.before-append",  # decided, not stored
    "scheduler.after-append",  # stored, nothing of it is done
    "scheduler.after-claim",  # a fingerprint is claimed, no commit says so
    "scheduler.after-effect",  # one of several effects is on the wire
    "scheduler.after-events",  # events are stored, their inputs are not acknowledged
    "scheduler.before-ack",  # everything is done, nothing is acknowledged
    "scheduler.after-ack",  # acknowledged, and an ended run is not forgotten
    "scheduler.before-compact",  # the log says more than anybody needs
    # executor: work becomes a result
    "executor.after-take",  # an attempt is on loan, nothing is done
    "executor.in-environment",  # an environment is half built, nothing says that it is whole
    "executor.after-prepare",  # code and inputs lie ready, nobody was told of a start
    "executor.after-start",  # the start was reported, or is about to be; user code runs
    "executor.after-end",  # user code has ended, no output is stored
    "executor.after-store",  # outputs are committed, no result says so
    "executor.after-bring",  # data was brought in from elsewhere, nothing of it is stored
    "executor.mid-write",  # a file is at its place on a datastore, the next one may not be
    "executor.after-write",  # a tree is at its place on a datastore, no result says so
    "executor.before-report",  # logs are archived, the result is not published
    "executor.before-ack",  # the result is published, the attempt is still on loan
    "executor.after-ack",  # all is said, the folder is still there
    # artifact: bytes become a tree
    "artifact.after-grant",  # uploads are granted, nobody knows
    "artifact.after-carry",  # what came with the commit is stored, no manifest names it
    "artifact.after-verify",  # every object is verified, no manifest names them
    "artifact.after-manifest",  # the manifest is stored, no record says whose it is
    "artifact.after-record",  # recorded, not announced
    "artifact.before-answer",  # committed, the caller does not know
    # trigger: a tick becomes a run
    "trigger.after-decide",  # the cursor holds a decision, nothing of it is done
    "trigger.after-request",  # the run is there, no event tells of it
    "trigger.after-event",  # told, the cursor still holds the decision
]

Crash = Callable[[Point], None]

POINTS: tuple[str, ...] = get_args(Point)


def never(point: Point) -> None:
    """Go on: nobody asked for a crash."""


def crash_at(text: str, service: str, die: Callable[[str], None] | None = None) -> Crash:
    """Return what to call at each point of `service`, as `text` asks: <point>[:<n>], by commas.

    Raises:
        Invalid: E_CONFIG, no such point or no such number.
    """
    left: dict[str, int] = {}
    for word in filter(None, (word.strip() for word in text.split(","))):
        point, colon, number = word.partition(":")
        if point not in POINTS:
            raise Invalid(
                f"no crash point {point!r}",
                code="E_CONFIG",
                where=VARIABLE,
                hint=did_you_mean(point, POINTS) or f"known: {', '.join(POINTS)}",
            )
        if colon and not (number.isdecimal() and int(number) > 0):
            raise Invalid(
                f"{number!r} is no count; allowed: 1 and more", code="E_CONFIG", where=VARIABLE
            )
        if point.startswith(f"{service}."):
            left[point] = int(number or 1)
    if not left:
        return never

    def crash(point: Point) -> None:
        if point in left:
            left[point] -= 1
            if left[point] == 0:
                (die or killed)(point)

    return crash


def killed(point: str) -> None:
    """Die as if killed from outside: nothing is flushed, closed or told but this one line."""
    os.write(2, f"crash point {point} reached\n".encode())
    os.kill(os.getpid(), signal.SIGKILL)
