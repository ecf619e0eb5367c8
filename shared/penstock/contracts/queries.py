"""Questions anyone may ask on `<workspace>.query.>` (request-reply, NATS micro services).

Every answer is one JSON object: the shape below, or `{"error": ErrorBody}`.

| subject             | who answers | question       | answer          |
|---------------------|-------------|----------------|-----------------|
| query.runs          | scheduler   | RunsQuestion   | RunsAnswer      |
| query.run           | scheduler   | RunQuestion    | RunView         |
| query.why           | scheduler   | WhyQuestion    | WhyAnswer       |
| query.plan          | planner     | RunRequest     | PlanForecast    |
| query.pipeline.create | planner   | PipelineCommand| PipelineView    |
| query.pipeline.list | planner     | PipelineCommand| PipelinesAnswer |
| query.pipeline.show | planner     | PipelineCommand| PipelineView    |
| query.executors     | every executor, each for itself | ExecutorsQuestion | ExecutorPresence |
| query.schedule.*    | trigger     | ScheduleCommand| ScheduleView / SchedulesAnswer |
"""

from typing import Literal

import msgspec

from penstock.contracts.artifacts import TreeRef
from penstock.contracts.base import Message, Strict
from penstock.contracts.data import Datastore
from penstock.contracts.events import Part
from penstock.contracts.requests import ErrorBody
from penstock.contracts.schedules import ScheduleView
from penstock.contracts.spec import GitInfo, PipelineSpec, Scalar
from penstock.contracts.work import Failure

RunState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
StepState = Literal[
    "waiting", "ready", "queued", "running", "reused", "succeeded", "failed", "cancelled", "skipped"
]
RUN_STATES_FINAL = ("succeeded", "failed", "cancelled")


class Refusal(Message):
    """An answer that is a refusal."""

    error: ErrorBody


class RunsQuestion(Strict):
    """List runs, newest first. `before` = the last run id of the page before."""

    pipeline: str = ""
    experiment: str = ""
    state: str = ""
    limit: int = 50
    before: str = ""


class RunSummary(Message):
    """A run in a list; also the value of the bucket `runs`, kept by the scheduler."""

    run: str
    pipeline: str
    state: RunState
    version: str = ""
    spec: str = ""
    experiment: str = ""
    display_name: str = ""
    tags: dict[str, str] = {}
    parameters: dict[str, Scalar] = {}
    who: str = ""
    trigger: str = ""
    rerun_of: str = ""
    reuse: str = ""
    git: GitInfo = GitInfo()
    accepted_at: float = 0
    ended_at: float = 0
    seconds: float = 0
    steps: int = 0
    counts: dict[str, int] = {}
    """Steps by final state; filled when the run has ended."""


class RunsAnswer(Message):
    """A page of runs."""

    runs: tuple[RunSummary, ...] = ()
    more: bool = False


class ExecutorsQuestion(Strict):
    """Which executors are there? Each answers for itself: read until no more answers come."""


class RunQuestion(Strict):
    """Show one run, by id or unique prefix of an id. `steps` false leaves the steps out."""

    run: str
    steps: bool = True
    first: int = 0
    """Skip this many steps (paging; an answer holds at most 1,000 steps)."""


class StepView(Message):
    """One step of a run, as `run show -o json` prints it."""

    step: str
    state: StepState = "waiting"
    attempts: int = 0
    seconds: float = 0
    reused_from: str | None = None
    outputs: dict[str, TreeRef] = {}
    metrics: dict[str, object] = {}
    error: Failure | None = None
    needs: tuple[str, ...] = ()
    reason: str = ""
    fingerprint: str = ""
    compared_with: str = ""
    parts: tuple[Part, ...] = ()
    logs: TreeRef | None = None
    executor: str = ""
    target: str = ""
    tags: dict[str, str] = {}
    queued_at: float = 0
    started_at: float = 0
    ended_at: float = 0
    overdue_at: float = 0
    """When the attempt that runs was told as overdue; 0: it was not."""
    expected_s: float = 0
    """The run time that was expected of the overdue attempt."""


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    """One run, as `run show -o json` prints it. `last_seq`: the last event folded in."""

    run: str
    pipeline: str
    state: RunState
    seconds: float = 0
    parameters: dict[str, Scalar] = {}
    metrics: dict[str, object] = {}
    """All steps' metrics; a name that two steps use is prefixed "<step>.<name>"."""
    outputs: dict[str, TreeRef] = {}
    steps: tuple[StepView, ...] = ()
    steps_total: int = 0
    version: str = ""
    spec: str = ""
    experiment: str = ""
    display_name: str = ""
    tags: dict[str, str] = {}
    who: str = ""
    trigger: str = ""
    rerun_of: str = ""
    reuse: str = ""
    git: GitInfo = GitInfo()
    reason: str = ""
    accepted_at: float = 0
    ended_at: float = 0
    last_seq: int = 0


class WhyQuestion(Strict):
    """Why was this step reused, or why not?"""

    run: str
    step: str


class WhyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """As `why -o json` prints it."""

    run: str
    step: str
    reused: bool
    reason: str
    compared_with: str
    parts: tuple[Part, ...]
    fingerprint: str = ""
    reused_from: str = ""


class StepForecast(msgspec.Struct, frozen=True, kw_only=True):
    """What would become of a step: decision "reuse", "run", or "unknown" (its inputs are not known yet)."""

    step: str
    decision: Literal["reuse", "run", "unknown"]
    reason: str
    needs: tuple[str, ...] = ()


class PlanForecast(Message):
    """As `plan -o json` prints it."""

    steps: tuple[StepForecast, ...] = ()
    pipeline: str = ""
    notes: tuple[str, ...] = ()


class PipelineCommand(Strict):
    """create (with `spec` or `artifact:<digest>` text, raw), show and list (by `name`, "n@v" or "n")."""

    name: str = ""
    spec: msgspec.Raw = msgspec.Raw()
    version: str = ""
    who: str = ""


class PipelineView(Message):
    """A registered pipeline version. Versions are immutable; equal content gives the same version."""

    name: str
    version: str
    spec: str
    """Digest of the spec."""
    created_at: float = 0
    who: str = ""
    description: str = ""
    git: GitInfo = GitInfo()
    definition: PipelineSpec | None = None
    """Only in `show`, when it is small enough for one message."""
    created: bool = False
    """In the answer to create: false when the same content was already registered."""


class PipelinesAnswer(Message):
    """Registered pipelines: every name's latest version, or all versions of one name."""

    pipelines: tuple[PipelineView, ...] = ()


class DatastoreCommand(Strict):
    """create (with `datastore`; one of that name is replaced), show, delete (by `name`), list."""

    name: str = ""
    datastore: Datastore | None = None
    who: str = ""


class DatastoreView(Message):
    """A registered datastore: bucket `datastores`, key = name. Those every workspace has need none."""

    name: str
    datastore: Datastore = Datastore()
    created_at: float = 0
    who: str = ""


class DatastoresAnswer(Message):
    """All datastores by name, those that every workspace has among them."""

    datastores: tuple[DatastoreView, ...] = ()


class SchedulesAnswer(Message):
    """All schedules."""

    schedules: tuple[ScheduleView, ...] = ()


class ReuseEntry(Message):
    """Bucket `reuse`, key = fingerprint. Without `ended_at` the work is in flight in run/step."""

    run: str
    step: str
    outputs: dict[str, TreeRef] = {}
    metrics: dict[str, object] = {}
    logs: TreeRef | None = None
    seconds: float = 0
    ended_at: float = 0


class LatestEntry(Message):
    """Bucket `latest`, key = <pipeline>.<step>: the last fingerprint of that step, for comparison."""

    run: str
    fingerprint: str
    parts: dict[str, str] = {}
    at: float = 0
    typical_s: float = 0
    """What a successful attempt of the step takes, see the scheduler's effects/expecting.py."""
    samples: int = 0
    """How many attempts that was learned from, as far as it counts."""
