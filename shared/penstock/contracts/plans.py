"""What the planner hands to the scheduler: a graph with every name resolved and every value bound.

A plan travels in parts (`PlanPart`), each below NATS's message limit; the scheduler accepts a run
when it holds all of them.
"""

from typing import Literal

from penstock.contracts.base import Message
from penstock.contracts.data import Asset, Location
from penstock.contracts.requests import Reuse
from penstock.contracts.resources import Resources
from penstock.contracts.spec import EnvironmentSpec, GitInfo, Scalar

DataOrLiteral = Literal["literal", "uri_file", "uri_folder"]

PART_STEPS_MAX = 500
PART_BYTES_MAX = 512 * 1024


class Bound(Message):
    """A step's input, bound: a literal `value`, a stored `artifact`, or `step`'s output `output`.

    `type` is the declared Azure type; `mltable` and the model types behave as `uri_folder`.
    """

    type: str = "literal"
    value: Scalar | None = None
    artifact: str = ""
    """Digest (no prefix) of a stored tree."""
    step: str = ""
    output: str = ""


class PlannedOutput(Message):
    """An output a step must produce. `file` names the file of a `uri_file` (default: the output's name).

    A primitive type is a file as well, whose text is the value.
    """

    type: str = "uri_folder"
    file: str = ""
    mode: str = ""
    """direct: the folder is not made before the step runs."""


class PlannedStep(Message):
    """One step, ready to be scheduled. `needs` are names of other steps: explicit ones and data ones."""

    name: str
    command: str
    kind: Literal["command", "import", "copy"] = "command"
    """import: brings `source` in as its output. copy: its output is its input, written to `destination`
    and registered as `asset`. Neither has a command."""
    source: Location | None = None
    destination: Location | None = None
    asset: Asset | None = None
    code: str = ""
    """Digest of the source snapshot, or empty."""
    code_digest: str = ""
    """What the fingerprint sees of the code (the snapshot's digest, or that of `hash_paths`)."""
    inputs: dict[str, Bound] = {}
    outputs: dict[str, PlannedOutput] = {}
    needs: tuple[str, ...] = ()
    environment: EnvironmentSpec | None = None
    """None: the executor's own interpreter."""
    environment_variables: dict[str, str] = {}
    compute: str = "default"
    resources: Resources = Resources()
    timeout_s: float = 0
    """Seconds of run time per attempt; 0: the scheduler's own limit."""
    deadline_s: float = 0
    """Seconds from the moment its needs are met to its end; 0: none but the run's."""
    expected_s: float = 0
    """Seconds of run time after which an attempt is told as overdue; 0: learned."""
    attempts_max: int = 1
    retry_delay_s: float = 1.0
    deterministic: bool = True
    fresh: bool = False
    """A rerun names it: it runs whatever was done before, and offers its result to later runs."""
    given: "Given | None" = None
    """Set by a rerun: the step is not run, these are its results."""


class Given(Message):
    """Results taken over from an earlier run."""

    run: str
    outputs: dict[str, str] = {}
    """Tree digest by output name."""
    metrics: dict[str, object] = {}
    fingerprint: str = ""
    logs: str = ""


class PlanHead(Message):
    """What belongs to the run and not to a step."""

    run: str
    pipeline: str
    version: str = ""
    """Version of the registered pipeline; empty for an inline spec."""
    spec: str = ""
    """Digest of the spec, kept in the bucket `specs`."""
    experiment: str = ""
    display_name: str = ""
    tags: dict[str, str] = {}
    parameters: dict[str, Scalar] = {}
    """Resolved values of the pipeline's inputs; data as `artifact:<digest>`."""
    outputs: dict[str, tuple[str, str]] = {}
    """Pipeline output → (step, output of the step)."""
    reuse: Reuse = "use"
    priority: int = 0
    continue_on_step_failure: bool = False
    deadline_s: float = 0
    requested_at: float = 0
    who: str = ""
    git: GitInfo = GitInfo()
    rerun_of: str = ""
    traceparent: str = ""
    trigger: str = ""
    """Name of the schedule or trigger that asked, or empty."""


class PlanPart(Message, tag="plan.part.v1"):
    """Part `part` (from 0) of `parts`. Every part carries the head."""

    head: PlanHead
    part: int = 0
    parts: int = 1
    steps: tuple[PlannedStep, ...] = ()
