"""What everybody may subscribe to: one flat struct per family, plain JSON, CloudEvents headers.

Every event of a run carries `seq`, 1..n without a gap; `penstock.event.<pipeline>.<run>.>` of the
event stream is the run's whole history, in order. `ce-type` is `penstock.<noun>.<what>.v1`.
"""

from typing import Literal

from penstock.contracts.artifacts import TreeRef
from penstock.contracts.base import Message
from penstock.contracts.requests import ErrorBody
from penstock.contracts.spec import GitInfo, Scalar
from penstock.contracts.work import Failure

RunWhat = Literal["accepted", "refused", "started", "succeeded", "failed", "cancelled"]
StepWhat = Literal[
    "reused",
    "queued",
    "started",
    "retrying",
    "succeeded",
    "failed",
    "cancelled",
    "skipped",
    "overdue",
]
RUN_ENDS = ("refused", "succeeded", "failed", "cancelled")
STEP_ENDS = ("reused", "succeeded", "failed", "cancelled", "skipped")


class Part(Message):
    """One part of a fingerprint, compared with the same step of an earlier run.

    `part` is code · command · environment · variable:<name> · parameter:<name> · input:<name> ·
    output:<name> · kind. `old` is empty when there was nothing to compare with.
    """

    part: str
    changed: bool = False
    old: str = ""
    new: str = ""


class RunEvent(Message):
    """Something happened to a run. Fields that do not apply are left out."""

    seq: int
    run: str
    pipeline: str
    what: RunWhat
    at: float
    """Seconds since 1970, the scheduler's clock when it decided."""
    version: str = ""
    spec: str = ""
    experiment: str = ""
    display_name: str = ""
    tags: dict[str, str] = {}
    parameters: dict[str, Scalar] = {}
    steps: int = 0
    """accepted: number of steps."""
    graph: dict[str, tuple[str, ...]] = {}
    """accepted: step → what it needs; left out above 2,000 steps."""
    who: str = ""
    trigger: str = ""
    rerun_of: str = ""
    git: GitInfo = GitInfo()
    reuse: str = ""
    reason: str = ""
    seconds: float = 0
    """ends: from accepted to the end."""
    outputs: dict[str, TreeRef] = {}
    """succeeded: pipeline outputs."""
    counts: dict[str, int] = {}
    """ends: steps by state."""
    error: ErrorBody | None = None


class StepEvent(Message):
    """Something happened to a step. Fields that do not apply are left out."""

    seq: int
    run: str
    pipeline: str
    step: str
    what: StepWhat
    at: float
    attempt: int = 0
    target: str = ""
    executor: str = ""
    seconds: float = 0
    """ends: user code's run time of the last attempt."""
    fingerprint: str = ""
    reason: str = ""
    """reused, queued: why it was or was not reused, in one line."""
    compared_with: str = ""
    """The run that the fingerprint's parts were compared with."""
    parts: tuple[Part, ...] = ()
    """reused, queued (first attempt): the parts of the fingerprint."""
    reused_from: str = ""
    outputs: dict[str, TreeRef] = {}
    logs: TreeRef | None = None
    metrics: dict[str, object] = {}
    tags: dict[str, str] = {}
    failure: Failure | None = None
    retry_at: float = 0
    """retrying: when the next attempt is due."""
    expected_s: float = 0
    """overdue: the run time that was expected, declared or learned; `seconds` is what it runs already."""


class TriggerEvent(Message):
    """A schedule fired, or a firing was skipped and why."""

    trigger: str
    what: Literal["fired", "skipped", "created", "changed", "paused", "resumed", "deleted"]
    at: float
    due: float = 0
    """The moment it was due."""
    run: str = ""
    pipeline: str = ""
    reason: str = ""


class DataEvent(Message):
    """An artifact was committed under a dataset's or a run's name."""

    dataset: str
    what: Literal["committed"]
    at: float
    tree: TreeRef
    owner: str = ""
