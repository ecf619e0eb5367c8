"""What a pipeline is: the one struct that YAML, Python and messages all become.

Expressions are those of Azure ML's CLI v2, kept as text until the planner reads them:

    in a command or a variable    ${{inputs.x}}  ${{outputs.y}}
    in a step's input             ${{parent.inputs.x}}  ${{parent.jobs.a.outputs.b}}
    in a step's output            ${{parent.outputs.y}}

Data travels as artifacts: `path: "artifact:<digest>"` names a stored tree (contracts/artifacts.py).
What lies elsewhere (contracts/data.py) becomes one in a step of its own that the planner adds.
The JSON Schema of `PipelineSpec` is kept in shared/docs/schemas/ and compared by a test.
"""

from typing import Any, Literal

import msgspec

from penstock.contracts.base import Strict
from penstock.contracts.resources import Resources

Scalar = str | int | float | bool

PRIMITIVES = ("string", "integer", "number", "boolean")
FILES = ("uri_file",)
FOLDERS = ("uri_folder", "mltable", "mlflow_model", "custom_model", "triton_model")
DATA = FILES + FOLDERS

DataOrPrimitive = Literal[
    "string",
    "integer",
    "number",
    "boolean",
    "uri_file",
    "uri_folder",
    "mltable",
    "mlflow_model",
    "custom_model",
    "triton_model",
]
DataType = Literal[
    "uri_file", "uri_folder", "mltable", "mlflow_model", "custom_model", "triton_model"
]

StepKind = Literal["command", "copy"]

STEPS_MAX = 100_000
SPEC_BYTES_MAX = 64 * 1024 * 1024
INLINE_BYTES_MAX = (
    768 * 1024
)  # a message stays below NATS's 1 MiB; larger specs travel as artifacts


class Input(Strict):
    """A declared input of a pipeline, or an object-form input of a step.

    Primitive types take `default` or `value`; data types take `path`: `artifact:<digest>`, a location
    (`https:`, `azureml://datastores/D/paths/P`) or, in a step, an expression.
    """

    type: DataOrPrimitive = "uri_folder"
    value: Scalar | None = None
    default: Scalar | None = None
    path: str = ""
    mode: str = ""
    optional: bool = False
    min: float | None = None
    max: float | None = None
    enum: tuple[Scalar, ...] = ()
    description: str = ""


class Output(Strict):
    """A declared output. `path` may bind it to a pipeline output: ${{parent.outputs.y}}.

    Any other `path` is a place on a datastore where the output is written as well, once it is stored.
    A primitive type is a file whose text is a value for later steps. Pipeline-level settings win.
    """

    type: DataOrPrimitive = "uri_folder"
    path: str = ""
    mode: str = ""
    description: str = ""
    name: str = ""
    """Registers the output as a data or model asset of this name when the step has ended well."""
    version: str = ""
    """Of the registered asset; empty: the next one."""


class Limits(Strict):
    """What bounds a step, in seconds; 0: nothing does."""

    timeout: float = 0
    """Run time of one attempt. An attempt that takes longer is ended, and tried again if it may be."""
    deadline: float = 0
    """From the moment the step's needs are met to its end: waiting for its turn and for equal work,
    all attempts and the pauses between them included. Then it fails, and is not tried again."""
    expected: float = 0
    """Run time that an attempt is expected to take. A longer one is told as `overdue` while it runs,
    once. 0: what earlier runs of the step took is expected, see the scheduler's effects/expecting.py."""
    retries: int = 0
    retry_delay: float = 1.0
    """Seconds before the first retry; doubled each time, at most 300."""


class BuildContext(Strict):
    """What an image is built from: `artifact:<digest>` of a folder, and the Dockerfile's path in it."""

    context: str
    dockerfile: str = "Dockerfile"


class EnvironmentSpec(Strict):
    """What a command runs in. An executor takes of it what its kind can build.

    `process`: a virtual environment of `python`, `conda` and `pip`. `docker`: `image` or `build`, with
    `conda` and `pip` on top. Two environments that differ in name and version only are the same one.
    """

    name: str = ""
    version: str = ""
    image: str = ""
    build: BuildContext | None = None
    conda: dict[str, Any] | None = None
    """A conda file's content."""
    pip: tuple[str, ...] = ()
    """Lines of a requirements file."""
    python: str = ""
    """Version of the interpreter: "3.11". Empty: the conda file's, else the executor's own."""
    variables: dict[str, str] = {}
    """What every step in it sees among its variables; the step's own win."""


class StepSpec(Strict):
    """One step: a command line run by the shell in a copy of `code`, with named inputs and outputs.

    Instead of a command it may have a `component` (`azureml:name:version`, `azureml:name@latest`, …: the
    planner takes command, code, inputs … from the registry; contracts/components.py says how the two
    are merged), or a `pipeline` of its own, whose steps become `<step>--<inner step>` of the run. Then its
    inputs are values of the inner pipeline's inputs, and it is a barrier: inner steps wait for everything
    that makes one of its inputs, used or not. What is registered as a component is such a step, too:
    its `inputs` and `outputs` are the declarations.

    `code` is `artifact:<digest>` of the source snapshot, or empty. `hash_digest`, when set, replaces
    the snapshot's digest in the fingerprint (the digest of only the files in `hash_paths`).
    `environment` is what the command runs in, or a name that the planner resolves (`azureml:n:3`,
    `azureml:n@latest`, a curated name); empty means the executor's own interpreter.
    """

    command: str = ""
    component: str = ""
    pipeline: "PipelineSpec | None" = None
    kind: StepKind = "command"
    """copy: no command; the one output is the one input's tree, written and registered as it says."""
    code: str = ""
    hash_paths: tuple[str, ...] = ()
    hash_digest: str = ""
    inputs: dict[str, Input | str | int | float | bool | None] = {}
    outputs: dict[str, Output | str | None] = {}
    environment: str | EnvironmentSpec = ""
    environment_variables: dict[str, str] = {}
    compute: str = ""
    limits: Limits = Limits()
    resources: Resources = Resources()
    needs: tuple[str, ...] = ()
    is_deterministic: bool = True
    """False: never reused (SDK v1: allow_reuse=False)."""
    display_name: str = ""
    description: str = ""


class Settings(Strict):
    """Settings of a whole pipeline. `deadline`: seconds from accepted to ended; 0: the workspace's."""

    default_compute: str = ""
    default_datastore: str = ""
    """What ${{default_datastore}} means in an output's path."""
    continue_on_step_failure: bool = False
    force_rerun: bool = False
    deadline: float = 0


class GitInfo(Strict):
    """Where the source came from, as far as git knew when the snapshot was made."""

    commit: str = ""
    branch: str = ""
    dirty: bool = False
    remote: str = ""


class PipelineSpec(Strict):
    """A whole pipeline. `jobs` is accepted as an alias of `steps` wherever people write it."""

    name: str = "unnamed"
    display_name: str = ""
    description: str = ""
    experiment: str = ""
    tags: dict[str, str] = {}
    inputs: dict[str, Input | str | int | float | bool] = {}
    outputs: dict[str, Output | None] = {}
    steps: dict[str, StepSpec] = {}
    settings: Settings = Settings()
    git: GitInfo = GitInfo()


def environment_bytes(environment: EnvironmentSpec) -> bytes:
    """Return the canonical JSON of what makes an environment what it is: all but name and version."""
    return msgspec.json.encode(
        msgspec.structs.replace(environment, name="", version=""), order="sorted"
    )


def spec_bytes(spec: PipelineSpec) -> bytes:
    """Return the canonical JSON of a spec: sorted keys, so equal specs have equal digests."""
    return msgspec.json.encode(spec, order="sorted")
