"""A run and its steps, as one looks at them from outside. Shaped as in Azure ML's SDK v1."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from penstock.contracts.artifacts import TreeRef
from penstock.contracts.queries import RunView, StepView, WhyAnswer
from penstock.errors import NotFound, PenstockError
from penstock.ids import did_you_mean
from penstock.sdk.events import Seen
from penstock.sdk.names import name_from
from penstock.sdk.printing import Printer
from penstock.sdk.progress import Progress, StepProgress
from penstock.sdk.wording import event_line, waiting_line

if TYPE_CHECKING:
    from penstock.sdk.client import Client


class RunFailed(PenstockError):
    """A run that was waited for did not succeed; `run` holds what is known of it."""

    default_code: ClassVar[str] = "E_RUN_FAILED"

    def __init__(self, run: RunView) -> None:
        failed = [step for step in run.steps if step.error is not None]
        what = run.reason or run.state
        hint = ""
        if failed and failed[0].error is not None:
            what = f"step {failed[0].step!r}: {failed[0].error.code}: {failed[0].error.message}"
            hint = f"penstock run logs {run.run} --step {failed[0].step}"
        super().__init__(f"run {run.run} {run.state}: {what}", where=run.run, hint=hint)
        self.run = run


class Run:
    """One execution of a pipeline."""

    def __init__(self, client: "Client", run_id: str, *, notes: tuple[str, ...] = ()) -> None:
        self._client = client
        self.id = run_id
        self.notes = notes
        """What is worth knowing about its submission."""

    def __repr__(self) -> str:
        return f"Run({self.id!r})"

    @staticmethod
    def get_context() -> Any:
        """Return the run that this code is a step of, as `penstock.current_run()` does."""
        from penstock.sdk.in_step import current_run

        return current_run()

    # -- what is known ------------------------------------------------------------------------------

    def view(self) -> RunView:
        """Return everything known of the run now."""
        return self._client.view(self.id)

    @property
    def status(self) -> str:
        """queued, running, succeeded, failed or cancelled."""
        return self.get_status()

    def get_status(self) -> str:
        """Return queued, running, succeeded, failed or cancelled."""
        return self.view().state

    def get_metrics(self, name: str | None = None) -> dict[str, object]:
        """Return the metrics of all steps; of two steps with one name, as "<step>.<name>"."""
        metrics = dict(self.view().metrics)
        return metrics if name is None else {k: v for k, v in metrics.items() if k == name}

    def get_tags(self) -> dict[str, str]:
        """Return the run's tags."""
        return dict(self.view().tags)

    def get_steps(self) -> "Iterator[StepRun]":
        """Iterate over the run's steps."""
        for step in self.view().steps:
            yield StepRun(self._client, self.id, step.step)

    def find_step_run(self, name: str) -> "list[StepRun]":
        """Return the steps of that name, as a list (SDK v1): one, or none."""
        known = [step.step for step in self.view().steps]
        wanted = name if name in known else name_from(name)
        return [StepRun(self._client, self.id, wanted)] if wanted in known else []

    def why(self, step: str) -> WhyAnswer:
        """Return why a step was reused or not."""
        return self._client.why(self.id, step)

    # -- waiting ------------------------------------------------------------------------------------

    def events(self, since: int = 0) -> Iterator[Seen]:
        """Iterate over the run's events in order, until it ends."""
        return self._client.events(self.id, since=since)

    def wait_for_completion(
        self,
        show_output: bool = True,
        timeout_seconds: float | None = None,
        raise_on_error: bool = True,
    ) -> str:
        """Wait until the run has ended and return its state; `show_output` prints what happens.

        Raises:
            RunFailed: E_RUN_FAILED, with `raise_on_error`, when it did not succeed.
            Transient: E_WAIT_TIMEOUT.
        """
        progress = Progress(self.id)
        printer = Printer(sys.stdout)

        def show(seen: Seen) -> None:
            progress.take(seen)
            printer.say(event_line(seen, progress))

        def show_waiting(step: StepProgress) -> None:
            if step.waits_for:
                printer.say(waiting_line(step, len(step.name)))

        try:
            state = self._client.until_end(
                self.id,
                _limit(timeout_seconds),
                on_event=show if show_output else None,
                on_waiting=show_waiting if show_output else None,
            )
        finally:
            printer.flush()
        if raise_on_error and state != "succeeded":
            raise RunFailed(self.view())
        return state

    # -- acting -------------------------------------------------------------------------------------

    def cancel(self, reason: str = "") -> None:
        """Ask for the run to stop."""
        self._client.cancel(self.id, reason)

    def rerun(self, from_: str = "failed", **parameters: Any) -> "Run":
        """Run it again as a new run: from "failed" or from "start", with changed parameters."""
        return self._client.rerun(self.id, from_, parameters)

    # -- outputs and logs ---------------------------------------------------------------------------

    def get_output(self, name: str) -> TreeRef:
        """Return a pipeline output: the stored tree.

        Raises:
            NotFound: the run has no such output (yet).
        """
        outputs = self.view().outputs
        if name not in outputs:
            hint = did_you_mean(name, outputs)
            raise NotFound(f"run {self.id} has no output {name!r}", where=self.id, hint=hint)
        return outputs[name]

    def get_pipeline_output(self, pipeline_output_name: str) -> TreeRef:
        """Return a pipeline output, by SDK v1's name for `get_output`."""
        return self.get_output(pipeline_output_name)

    def download_output(self, step: str, output: str, path: str | Path = ".") -> Path:
        """Fetch one output of a step into the folder `path` and return it."""
        return self._client.download(self.id, path, step=step, output=output)[0]

    def download(self, path: str | Path) -> list[Path]:
        """Fetch all outputs into `path`/<step>/<output>."""
        return self._client.download(self.id, path)

    def download_logs(self, path: str | Path) -> list[Path]:
        """Write what the steps wrote to `path`/<step>.log and return these files."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        texts: dict[str, list[str]] = {}
        for line in self._client.lines(self.id):
            texts.setdefault(line.step, []).append(line.text)
        written = []
        for step, found in texts.items():
            file = folder / f"{step}.log"
            file.write_text("\n".join(found) + "\n", encoding="utf-8")
            written.append(file)
        return written


class StepRun:
    """One step of a run."""

    def __init__(self, client: "Client", run_id: str, name: str) -> None:
        self._client = client
        self.pipeline_run_id = run_id
        self.name = name

    def __repr__(self) -> str:
        return f"StepRun({self.pipeline_run_id!r}, {self.name!r})"

    @property
    def id(self) -> str:
        """The run's id and the step's name."""
        return f"{self.pipeline_run_id}.{self.name}"

    def view(self) -> StepView:
        """Return everything known of the step now."""
        return next(s for s in self._client.view(self.pipeline_run_id).steps if s.step == self.name)

    @property
    def status(self) -> str:
        """waiting, ready, queued, running, reused, succeeded, failed, cancelled or skipped."""
        return self.get_status()

    def get_status(self) -> str:
        """Return the step's state."""
        return self.view().state

    @property
    def reused(self) -> bool:
        """Whether the step's results were taken from an earlier run."""
        return self.view().state == "reused"

    def get_metrics(self, name: str | None = None) -> dict[str, object]:
        """Return the step's metrics."""
        metrics = dict(self.view().metrics)
        return metrics if name is None else {k: v for k, v in metrics.items() if k == name}

    def get_outputs(self) -> dict[str, TreeRef]:
        """Return the step's outputs by name."""
        return dict(self.view().outputs)

    def get_output(self, name: str) -> TreeRef:
        """Return one output of the step.

        Raises:
            NotFound: it has none of that name (yet).
        """
        outputs = self.get_outputs()
        if name not in outputs:
            hint = did_you_mean(name, outputs)
            raise NotFound(f"step {self.name!r} has no output {name!r}", where=self.id, hint=hint)
        return outputs[name]

    def download_output(self, output: str, path: str | Path = ".") -> Path:
        """Fetch one output into the folder `path` and return it."""
        run, step = self.pipeline_run_id, self.name
        return self._client.download(run, path, step=step, output=output)[0]

    def get_stdout_log(self) -> str:
        """Return what the step wrote to stdout so far."""
        return self._log("stdout")

    def get_stderr_log(self) -> str:
        """Return what the step wrote to stderr so far."""
        return self._log("stderr")

    def get_job_log(self) -> str:
        """Return everything the step wrote so far."""
        return self._log("")

    def why(self) -> WhyAnswer:
        """Return why the step was reused or not."""
        return self._client.why(self.pipeline_run_id, self.name)

    def wait_for_completion(
        self,
        show_output: bool = True,
        timeout_seconds: float | None = None,
        raise_on_error: bool = True,
    ) -> str:
        """Wait until the step has ended and return its state.

        Raises:
            RunFailed: E_RUN_FAILED, with `raise_on_error`, when it failed.
            Transient: E_WAIT_TIMEOUT.
        """
        printer = Printer(sys.stdout)

        def show(seen: Seen) -> None:
            if seen.data.get("step") == self.name:
                printer.say(event_line(seen))

        run, limit = self.pipeline_run_id, _limit(timeout_seconds)
        try:
            shown = show if show_output else None
            view = self._client.wait(run, limit, step=self.name, on_event=shown)
        finally:
            printer.flush()
        state = next(s.state for s in view.steps if s.step == self.name)
        if raise_on_error and state == "failed":
            raise RunFailed(view)
        return state

    def _log(self, stream: str) -> str:
        lines = self._client.lines(self.pipeline_run_id, self.name)
        return "".join(f"{line.text}\n" for line in lines if stream in ("", line.stream))


def _limit(timeout_seconds: float | None) -> float | None:
    """Return a timeout; sys.maxsize is SDK v1's "for ever"."""
    return None if timeout_seconds is None or timeout_seconds >= sys.maxsize else timeout_seconds


__all__ = ["Run", "RunFailed", "StepRun"]
