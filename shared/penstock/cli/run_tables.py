"""How runs and steps look: as rows of a table, as the promised JSON, and as one page on a terminal."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click
import msgspec

from penstock.cli.output import clean, print_data, print_rows, shown
from penstock.contracts.artifacts import TreeRef
from penstock.contracts.chain import Check
from penstock.contracts.queries import RunSummary, RunView, StepView
from penstock.sdk.wording import duration, moment, number, size

if TYPE_CHECKING:
    from penstock.sdk.async_client import AsyncClient

RUN_COLUMNS = {
    "run": "run",
    "pipeline": "pipeline",
    "state": "state",
    "started": "started",
    "duration": "duration",
    "experiment": "experiment",
    "who": "who",
}
STEP_COLUMNS = {
    "step": "step",
    "state": "state",
    "attempts": "attempts",
    "duration": "duration",
    "note": "note",
}
_VIEW = (
    "run", "pipeline", "state", "seconds", "parameters", "metrics", "outputs", "steps",
    "step", "attempts", "reused_from", "error", "digest", "size_bytes", "files",
)  # fmt: skip
_SUMMARY = ("run", "pipeline", "state", "experiment", "seconds", "parameters", "accepted_at", "who")


def view_data(view: RunView) -> Any:
    """Return a run as `run show -o json` promises it."""
    return shown(view, _VIEW)


def summary_data(run: RunSummary) -> Any:
    """Return a run as `run list -o json` prints it."""
    return shown(run, _SUMMARY)


def run_row(run: RunSummary) -> dict[str, object]:
    """Return a run as a row of RUN_COLUMNS."""
    version = f"@{run.version}" if run.version else ""
    return {
        "run": run.run,
        "pipeline": f"{run.pipeline}{version}",
        "state": run.state,
        "started": moment(run.accepted_at),
        "duration": duration(run.seconds) if run.ended_at else "",
        "experiment": run.experiment,
        "who": run.who,
    }


def step_row(step: StepView) -> dict[str, object]:
    """Return a step as a row of STEP_COLUMNS."""
    words, seconds = step.reason, step.seconds
    if step.state == "running":
        seconds = max(0.0, time.time() - step.started_at)
        if step.overdue_at and not words.startswith("waits "):
            words = f"overdue: expected {duration(step.expected_s)}"
    if step.error is not None:
        words = f"{step.error.code}: {step.error.message}"
    ran = step.started_at or step.seconds
    return {
        "step": step.step,
        "state": step.state,
        "attempts": step.attempts or "",
        "duration": duration(seconds) if ran and step.state != "reused" else "",
        "note": words,
    }


async def with_reasons(client: "AsyncClient", view: RunView) -> RunView:
    """Return a run whose steps say what they wait for; asks executors only if some did not move lately."""
    from penstock.sdk.executors import QUEUED_S, reason_to_wait, waits_of

    long_ago = time.time() - QUEUED_S
    still = ("queued", "running")
    if not any(
        step.state in still and max(step.queued_at, step.started_at) < long_ago
        for step in view.steps
    ):
        return view
    executors = await client.executors()

    def reason(step: StepView) -> str:
        waits = waits_of(view.run, step.step, executors)
        return waits or (reason_to_wait(step.target, executors) if step.state == "queued" else "")

    steps = (
        msgspec.structs.replace(step, reason=reason(step) or step.reason)
        if step.state in still
        else step
        for step in view.steps
    )
    return msgspec.structs.replace(view, steps=tuple(steps))


def print_view(view: RunView) -> None:
    """Print a run as a page: head, steps, metrics, outputs, errors."""
    version = f"@{view.version}" if view.version else ""
    head = {
        "run": f"{view.run}" + (f"  {view.display_name}" if view.display_name else ""),
        "pipeline": f"{view.pipeline}{version}",
        "state": view.state + (f": {view.reason}" if view.reason else ""),
        "started": moment(view.accepted_at),
        "duration": duration(view.seconds) if view.seconds else "",
        "experiment": view.experiment,
        "who": view.who,
        "trigger": view.trigger,
        "rerun of": view.rerun_of,
        "source": _source(view),
        "parameters": _pairs(view.parameters),
        "tags": _pairs(view.tags),
    }
    for name, value in head.items():
        if value:
            click.echo(f"{name + ':':<12}{clean(value)}")
    click.echo()
    print_rows([step_row(step) for step in view.steps], STEP_COLUMNS, "table", empty="no steps")
    _print_pairs("metrics", {key: number(value) for key, value in view.metrics.items()})
    outputs = {name: _tree(tree) for name, tree in view.outputs.items()}
    for step in view.steps:
        outputs |= {f"{step.step}.{name}": _tree(tree) for name, tree in step.outputs.items()}
    _print_pairs("outputs", outputs)
    for step in view.steps:
        if step.error is not None:
            _print_error(view.run, step)


def print_check(run: str, check: Check, output: str) -> None:
    """Print what came of checking a run's events."""
    if output in ("json", "yaml"):
        print_data({"run": run} | shown(check, ("verdict", "events", "last")), output)
    elif output == "name":
        click.echo(check.last)
    elif output == "tsv":
        click.echo("\t".join((run, check.verdict, str(check.events), check.last)))
    elif check.verdict == "broken":
        click.echo(f"{run}  broken at message {check.sequence} of the stream: {check.reason}")
    else:
        expired = ", its beginning has expired" if check.verdict == "shortened" else ""
        click.echo(f"{run}  {check.events} events, no gap, nothing changed{expired}")
        click.echo(f"last link  {check.last}")


def _print_error(run: str, step: StepView) -> None:
    error = step.error
    if error is None:
        return
    click.echo(f"\n{clean(step.step)} failed: {error.code}: {clean(error.message)}")
    for line in error.log_tail.rstrip().splitlines()[-12:]:
        click.echo(f"  | {clean(line)}")
    if error.hint:
        click.echo(f"  {clean(error.hint)}")
    click.echo(f"  all it wrote:  penstock run logs {run} --step {step.step}")


def _print_pairs(title: str, pairs: Mapping[str, str]) -> None:
    if not pairs:
        return
    width = max(map(len, pairs))
    click.echo(f"\n{title}")
    for name, value in pairs.items():
        click.echo(f"  {clean(name):<{width}}  {clean(value)}")


def _tree(tree: TreeRef) -> str:
    files = f"{tree.files} file{'' if tree.files == 1 else 's'}"
    return f"{tree.digest[:12]}  {files}, {size(tree.size_bytes)}"


def _pairs(values: Mapping[str, object]) -> str:
    return "  ".join(f"{key}={number(value)}" for key, value in values.items())


def _source(view: RunView) -> str:
    if not view.git.commit:
        return ""
    dirty = " with uncommitted changes" if view.git.dirty else ""
    branch = f" ({view.git.branch})" if view.git.branch else ""
    return f"{view.git.commit[:12]}{branch}{dirty}"
