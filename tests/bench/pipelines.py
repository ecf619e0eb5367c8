"""The pipelines that are measured, written as a user writes them, and their runs, waited for."""

import time
from pathlib import Path

from penstock.contracts.queries import RunView
from penstock.sdk.arguments import Argument, OutputFileDatasetConfig
from penstock.sdk.client import Client
from penstock.sdk.experiment import Experiment
from penstock.sdk.pipeline import Pipeline
from penstock.sdk.steps import PythonScriptStep


class WorkLost(Exception):
    """A run did not end as it must; its figure would be worth nothing."""


def fan(sources: Path, count: int, salt: str) -> Pipeline:
    """Return `count` steps that do nothing and know nothing of each other."""
    steps = [
        PythonScriptStep(
            "noop.py",
            name=f"s{number:05}",
            arguments=["--salt", salt, number],
            source_directory=sources / "noop",
        )
        for number in range(count)
    ]
    return Pipeline(steps=steps, name=f"fan-{count}")


def bare_chain(sources: Path, count: int, salt: str) -> Pipeline:
    """Return `count` steps that do nothing, one after the other."""
    pipeline = fan(sources, count, salt)
    for before, after in zip(pipeline.steps, pipeline.steps[1:], strict=False):
        after.run_after(before)
    return Pipeline(steps=pipeline.steps, name=f"bare-chain-{count}")


def chain(sources: Path, count: int, salt: str) -> Pipeline:
    """Return `count` steps, each reading what the one before wrote: a small file, stored durably."""
    before: OutputFileDatasetConfig | None = None
    steps = []
    for number in range(count):
        output = OutputFileDatasetConfig("link")
        words: list[Argument] = [output, salt]
        words += [] if before is None else [before.as_input("before")]
        steps.append(
            PythonScriptStep(
                "link.py",
                name=f"s{number:05}",
                arguments=words,
                source_directory=sources / "chain",
            )
        )
        before = output
    return Pipeline(steps=steps, name=f"chain-{count}")


def two(
    sources: Path, script: str, words: tuple[object, ...], targets: tuple[str, str] = ("", "")
) -> Pipeline:
    """Return a step `script write OUT WORDS…` and a step `script read IN` behind it."""
    data = OutputFileDatasetConfig("data")
    writer = PythonScriptStep(
        script,
        name="write",
        arguments=["write", data, *map(str, words)],
        source_directory=sources / "data",
        compute_target=targets[0] or None,
    )
    reader = PythonScriptStep(
        script,
        name="read",
        arguments=["read", data.as_input("data"), *map(str, words)],
        source_directory=sources / "data",
        compute_target=targets[1] or None,
    )
    return Pipeline(steps=[writer, reader], name=Path(script).stem)


def realistic(sources: Path, salt: str) -> Pipeline:
    """Return prepare → train → evaluate with pandas and scikit-learn."""
    data, model, report = map(OutputFileDatasetConfig, ("data", "model", "report"))
    folder = sources / "realistic"
    prepare = PythonScriptStep(
        "prepare.py", arguments=["--out", data, "--salt", salt], source_directory=folder
    )
    train = PythonScriptStep(
        "train.py", arguments=["--data", data.as_input(), "--out", model], source_directory=folder
    )
    words: list[Argument] = [
        "--data",
        data.as_input(),
        "--model",
        model.as_input(),
        "--out",
        report,
    ]
    evaluate = PythonScriptStep("evaluate.py", arguments=words, source_directory=folder)
    return Pipeline(steps=[prepare, train, evaluate], name="realistic")


def ended(client: Client, pipeline: Pipeline, *, reused: bool = False) -> tuple[float, str]:
    """Submit a pipeline, wait for its end, and return the seconds that took and the run's id.

    Afterwards, with the watch stopped, every step is looked at: ran, or was reused, as it should.

    Raises:
        WorkLost: the run or a step ended otherwise.
    """
    began = time.perf_counter()
    run = Experiment(client, "bench").submit(pipeline)
    state = run.wait_for_completion(show_output=False, raise_on_error=False)
    seconds = time.perf_counter() - began
    view = run.view()
    wanted = "reused" if reused else "succeeded"
    others = {step.step: step.state for step in view.steps if step.state != wanted}
    if state != "succeeded" or others or len(view.steps) != len(pipeline.steps):
        raise WorkLost(f"run {run.id} {state}: {reason_of(view)} {dict(list(others.items())[:5])}")
    return seconds, run.id


def reason_of(view: RunView) -> str:
    """Return why a run failed, as far as it says so."""
    errors = [f"{step.step}: {step.error.message}" for step in view.steps if step.error]
    return "; ".join([view.reason, *errors[:3]])
