"""Scheduler ⇄ executor: one attempt of one step, and what became of it.

A result names run, step and attempt. The first terminal result of the current attempt counts;
everything later is late news and changes nothing.
"""

from typing import Literal

from penstock.contracts.artifacts import TreeRef
from penstock.contracts.base import Message
from penstock.contracts.data import Asset, Location
from penstock.contracts.plans import PlannedOutput
from penstock.contracts.resources import Offer, Resources
from penstock.contracts.spec import EnvironmentSpec, Scalar

WAITING_MAX = 100


class WorkInput(Message):
    """An input of an attempt: a literal value or a stored tree.

    The tree of a primitive `type` holds one file, whose text is the value.
    """

    type: str = "literal"
    value: Scalar | None = None
    artifact: str = ""


class WorkItem(Message, tag="work.item.v1"):
    """Everything an executor needs to run one attempt."""

    run: str
    step: str
    attempt: int
    pipeline: str
    experiment: str = ""
    target: str = "default"
    kind: Literal["command", "import", "copy"] = "command"
    source: Location | None = None
    destination: Location | None = None
    asset: Asset | None = None
    command: str = ""
    code: str = ""
    inputs: dict[str, WorkInput] = {}
    outputs: dict[str, PlannedOutput] = {}
    environment: EnvironmentSpec | None = None
    environment_variables: dict[str, str] = {}
    timeout_s: float = 0
    resources: Resources = Resources()
    parameters: dict[str, Scalar] = {}
    """The step's own literal inputs: a step must not see what its fingerprint does not know."""
    tags: dict[str, str] = {}
    traceparent: str = ""


class Failure(Message):
    """Why an attempt failed, told plainly.

    code: E_EXIT (exit_code) · E_SIGNAL (signal) · E_TIMEOUT · E_CANCELLED · E_OUTPUT_MISSING ·
    E_OUTPUT_TYPE · E_OUTPUT_CHANGED · E_INPUT · E_INPUT_CHANGED · E_CODE · E_ENVIRONMENT · E_COMMAND ·
    E_STORE · E_LOST · E_DISK · E_INTERNAL, and what storing a tree may refuse (E_LIMIT, E_NAME, …)
    """

    code: str
    message: str
    where: str = ""
    hint: str = ""
    exit_code: int | None = None
    signal: str = ""
    """Name such as "SIGSEGV"."""
    log_tail: str = ""
    """At most the last 2 KiB of what the step wrote, stderr first."""


class AttemptStarted(Message, tag="attempt.started.v1"):
    """User code is about to run."""

    run: str
    step: str
    attempt: int
    executor: str
    delivery: int = 1
    asking: bool = False
    """Its executor was asleep for longer than its lease: is the attempt still its own?"""


class AttemptSucceeded(Message, tag="attempt.succeeded.v1"):
    """The command ended with 0 and every declared output is committed in the artifact store."""

    run: str
    step: str
    attempt: int
    executor: str
    delivery: int = 1
    outputs: dict[str, TreeRef] = {}
    logs: TreeRef | None = None
    """Archived stdout, stderr, metrics.jsonl, images and tables of the attempt."""
    metrics: dict[str, object] = {}
    """Last value of each metric (lists and tables whole); at most 64 KiB, the rest is in `logs`."""
    tags: dict[str, str] = {}
    seconds: float = 0
    """User code's run time."""


class AttemptFailed(Message, tag="attempt.failed.v1"):
    """The attempt ended without committed outputs."""

    run: str
    step: str
    attempt: int
    executor: str
    failure: Failure
    delivery: int = 1
    logs: TreeRef | None = None
    metrics: dict[str, object] = {}
    tags: dict[str, str] = {}
    seconds: float = 0
    retriable: bool = True
    """False: no attempt can do better (a missing command, a refused input)."""


class StopAttempt(Message, tag="attempt.stop.v1"):
    """Scheduler → executors: end this attempt and report it. Sent again until a report comes."""

    run: str
    step: str
    attempt: int
    reason: Literal["cancelled", "timeout", "superseded"] = "cancelled"
    grace_s: float = 5.0
    before: int = 0
    """Only an older delivery than this one, which has lost its lease: it ends without a report. 0: any."""


class Waiting(Message):
    """An attempt that waits for what is away: the store, the artifact service, disk space."""

    run: str
    step: str
    since: float
    """Seconds since 1970."""
    code: str
    message: str


class ExecutorPresence(Message):
    """What an executor says of itself every few seconds (core NATS, not stored)."""

    executor: str
    targets: tuple[str, ...]
    slots: int
    busy: int
    host: str = ""
    pid: int = 0
    draining: bool = False
    waiting: tuple[Waiting, ...] = ()
    """At most WAITING_MAX of its attempts that cannot go on now, and why."""
    offer: Offer = Offer()
