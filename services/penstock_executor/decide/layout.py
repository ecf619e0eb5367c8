"""Where everything of an attempt lies, and whether a work item is sound.

    <root>/code/        working directory: a private, writable copy of the snapshot
    <root>/in/<name>/   an input, read-only; a `uri_file` is the one file inside
    <root>/out/<name>/  an output; of a `uri_file` only this parent exists beforehand
    <root>/tmp/         TMPDIR
    <root>/site/        what the step installs with pip, for itself alone
    <root>/venv/        the same where its command line calls pip itself
    <root>/mlflow/      what it logs with MLflow, without a server
    <root>/images/      what it logs as images
    <root>/log/         what is archived: stdout.txt, stderr.txt, metrics.jsonl, …

Inputs and outputs hold nothing but the user's files (azure-compat §0, item 3).
"""

from dataclasses import dataclass

from penstock.contracts.plans import PlannedOutput
from penstock.contracts.spec import FILES, PRIMITIVES
from penstock.contracts.work import WorkItem
from penstock.errors import Invalid
from penstock.ids import checked_name, is_digest, is_run_id

FILE_NAME_BYTES_MAX = 255
NAMES_MAX = 1000
"""Inputs of a step, and outputs of a step."""


@dataclass(frozen=True, slots=True)
class Place:
    """The folders of one attempt, as absolute paths."""

    root: str
    shielded: str = ""
    """Where the inputs lie, if that is not below the root (berths.py)."""

    @property
    def code(self) -> str:
        """The working directory."""
        return f"{self.root}/code"

    @property
    def inputs(self) -> str:
        """The folder of all inputs."""
        return self.shielded or f"{self.root}/in"

    @property
    def outputs(self) -> str:
        """The folder of all outputs."""
        return f"{self.root}/out"

    @property
    def temporary(self) -> str:
        """The step's TMPDIR."""
        return f"{self.root}/tmp"  # noqa: S108 - below our own root

    @property
    def site(self) -> str:
        """Where the step's own pip installs to."""
        return f"{self.root}/site"

    @property
    def overlay(self) -> str:
        """A virtual environment of its own, for a step whose command calls pip."""
        return f"{self.root}/venv"

    @property
    def mlflow(self) -> str:
        """Where MLflow logs to without a server."""
        return f"{self.root}/mlflow"

    @property
    def images(self) -> str:
        """Where the step puts images that it logs."""
        return f"{self.root}/images"

    @property
    def environment_log(self) -> str:
        """What the build of the environment wrote, if it was built for this attempt."""
        return f"{self.root}/log/environment.txt"

    @property
    def log(self) -> str:
        """What is archived."""
        return f"{self.root}/log"

    def input(self, name: str) -> str:
        """Return the folder an input is fetched into."""
        return f"{self.inputs}/{name}"

    def output_folder(self, name: str) -> str:
        """Return the folder that exists for an output before the step runs."""
        return f"{self.root}/out/{name}"

    def output(self, name: str, output: PlannedOutput) -> str:
        """Return the path the step is told to write to."""
        folder = self.output_folder(name)
        below = is_file(output) or output.mode == "direct"  # Spark refuses a folder that is there
        return f"{folder}/{file_name(name, output)}" if below else folder


def attempt_name(run: str, step: str, attempt: int, delivery: int) -> str:
    """Return the name of an attempt's folder; a redelivery gets a folder of its own."""
    return f"{run}-{step}-{attempt}-{delivery}"


def is_file(output: PlannedOutput) -> bool:
    """Say whether an output is one file."""
    return output.type.lower() in (*FILES, *PRIMITIVES)


def file_name(name: str, output: PlannedOutput) -> str:
    """Return the name of a `uri_file` output's file."""
    return output.file or name


def input_path(folder: str, kind: str, files: tuple[str, ...]) -> str:
    """Return what `${{inputs.x}}` becomes for data in `folder` that holds `files` (relative).

    A `uri_file` of exactly one file is that file; of anything else the folder, as in Azure ML, where
    such a mismatch is tolerated (azure-compat §3.9).
    """
    if kind.lower() in FILES and len(files) == 1:
        return f"{folder}/{files[0]}"
    return folder


def checked_item(item: WorkItem) -> WorkItem:
    """Return a work item whose names may become paths and subjects.

    Raises:
        Invalid: E_ID, E_COMMAND, E_CODE, E_INPUT, E_OUTPUT_TYPE or E_LIMIT.
    """
    if not is_run_id(item.run):
        raise Invalid(f"{item.run[:40]!r} is not a run id", code="E_ID", where="run")
    checked_name(item.step, "step")
    checked_name(item.pipeline, "pipeline")
    if item.attempt < 0:
        raise Invalid(f"attempt {item.attempt}", code="E_ID", where=item.step)
    for what, names in (("inputs", item.inputs), ("outputs", item.outputs)):
        if len(names) > NAMES_MAX:
            raise Invalid(
                f"{len(names)} {what}; allowed: {NAMES_MAX}", code="E_LIMIT", where=item.step
            )
        for name in names:
            checked_name(name, f"{item.step}.{what}")
    for name, data in item.inputs.items():
        if data.artifact and not is_digest(data.artifact):
            raise Invalid(
                f"{data.artifact[:80]!r} is not the digest of an artifact",
                code="E_INPUT",
                where=f"{item.step}.inputs.{name}",
            )
    if item.code and not is_digest(item.code):
        raise Invalid(
            f"{item.code[:80]!r} is not the digest of a snapshot", code="E_CODE", where=item.step
        )
    for name, output in item.outputs.items():
        _checked_file(file_name(name, output), f"{item.step}.outputs.{name}")
    if item.kind == "import" and item.source is None:
        raise Invalid("an import of nothing", code="E_INPUT", where=item.step)
    if item.kind == "copy" and [bool(data.artifact) for data in item.inputs.values()] != [True]:
        raise Invalid("a copy of nothing, or of more than one", code="E_INPUT", where=item.step)
    if item.kind != "command" and len(item.outputs) != 1:
        raise Invalid(f"{len(item.outputs)} outputs of one tree", code="E_INPUT", where=item.step)
    if item.kind == "command" and not item.command.strip():
        raise Invalid("the command is empty", code="E_COMMAND", where=item.step)
    return item


def _checked_file(name: str, where: str) -> None:
    bad = name in (".", "..") or "/" in name or "\x00" in name
    if bad or not 0 < len(name.encode()) <= FILE_NAME_BYTES_MAX:
        raise Invalid(
            f"{name[:80]!r} is not a file name; allowed: one part of a path, at most "
            f"{FILE_NAME_BYTES_MAX} bytes",
            code="E_OUTPUT_TYPE",
            where=where,
        )
