"""A run, looked at from outside; `Run.get_context()` is the same from inside a step."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.azureml.exceptions import (
    ActivityFailedException,
    RunEnvironmentException,
    UserErrorException,
    unsupported,
)
from penstock.contracts.queries import RunView, StepView
from penstock.sdk import run as ours
from penstock.sdk.client import client_of

if TYPE_CHECKING:
    from penstock.azureml.core.experiment import Experiment

STATES = {
    "waiting": "NotStarted",
    "ready": "NotStarted",
    "queued": "Queued",
    "running": "Running",
    "succeeded": "Completed",
    "reused": "Completed",
    "failed": "Failed",
    "cancelled": "Canceled",
    "skipped": "Canceled",
}
"""Our states in v1's words."""


class Run:
    """A run of a pipeline, or of one step of it (`StepRun`)."""

    def __init__(self, experiment: "Experiment", run_id: str, **unused: Any) -> None:
        self.experiment = experiment
        self.id = run_id
        self._client = client_of(experiment.workspace)
        self._run = ours.Run(self._client, run_id)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(Experiment: {self.experiment.name}, Id: {self.id})"

    @staticmethod
    def get_context(allow_offline: bool = True, used_for_context_manager: bool = False) -> Any:
        """Return the run that this code is a step of; outside of one, a stand-in that prints.

        Raises:
            RunEnvironmentException: there is none, and `allow_offline` is false.
        """
        from penstock.azureml.core.context import context

        inside = _standin()
        if inside is not None:
            return inside.get_context(allow_offline)
        run = context()
        if run.offline and not allow_offline:
            raise RunEnvironmentException("this code is no step of a run", code="E_STATE")
        return run

    @staticmethod
    def get(workspace: Any, run_id: str) -> "Run":
        """Return a run by id, or a step's by "<run>.<step>".

        Raises:
            Refused: E_NOT_FOUND.
        """
        from penstock.azureml.core.experiment import Experiment
        from penstock.azureml.core.pipeline_run import PipelineRun, StepRun

        client = client_of(workspace)
        run, _, step = run_id.partition(".")
        view = client.view(run)
        experiment = Experiment(workspace, view.experiment or view.pipeline)
        if step:
            return StepRun(experiment, f"{view.run}.{step}", view.run)
        return PipelineRun(experiment, view.run)

    @staticmethod
    def list(
        experiment: "Experiment",
        type: str | None = None,
        tags: Any = None,
        properties: Any = None,
        status: str | None = None,
        include_children: bool = False,
    ) -> "Iterator[Run]":
        """Iterate over an experiment's runs, newest first."""
        for run in experiment.get_runs(type, tags, properties, include_children):
            if status is None or run.get_status() == status:
                yield run

    # -- what is known ------------------------------------------------------------------------------

    def _view(self) -> RunView | StepView:
        return self._run.view()

    @property
    def name(self) -> str:
        """The run's id."""
        return self.id

    @property
    def number(self) -> int:
        """Always 0: runs are told apart by their ids."""
        return 0

    @property
    def display_name(self) -> str:
        """What people call it."""
        return self._run.view().display_name or self.id

    @property
    def type(self) -> str:
        """Always "azureml.PipelineRun"."""
        return "azureml.PipelineRun"

    @property
    def status(self) -> str:
        """NotStarted, Queued, Running, Completed, Failed or Canceled."""
        return self.get_status()

    @property
    def parent(self) -> "Run | None":
        """The pipeline's run of a step's; None for that."""
        return None

    @property
    def tags(self) -> dict[str, str]:
        """The run's tags."""
        return self.get_tags()

    @property
    def properties(self) -> dict[str, str]:
        """What v1 keeps apart from tags."""
        return self.get_properties()

    def get_status(self) -> str:
        """Return NotStarted, Queued, Running, Completed, Failed or Canceled."""
        return STATES[self._view().state]

    def get_metrics(
        self,
        name: str | None = None,
        recursive: bool = False,
        run_type: Any = None,
        populate: bool = False,
    ) -> dict[str, Any]:
        """Return the metrics that its steps have logged."""
        metrics = dict(self._view().metrics)
        return metrics if name is None else {k: v for k, v in metrics.items() if k == name}

    def get_tags(self) -> dict[str, str]:
        """Return the run's tags."""
        return dict(self._view().tags)

    def get_properties(self) -> dict[str, str]:
        """Return properties, by the names that v1 uses."""
        view = self._run.view()
        return {
            "azureml.runsource": "azureml.PipelineRun",
            "azureml.git.commit": view.git.commit,
            "azureml.git.branch": view.git.branch,
        }

    def get_details(self) -> dict[str, Any]:
        """Return what is known of the run."""
        import msgspec

        view = self._run.view()
        return {
            "runId": self.id,
            "status": self.get_status(),
            "startTimeUtc": iso(view.accepted_at),
            "endTimeUtc": iso(view.ended_at),
            "properties": self.get_properties(),
            "tags": self.get_tags(),
            "inputDatasets": [],
            "outputDatasets": [],
            "runDefinition": {"parameters": dict(view.parameters)},
            "penstock": msgspec.to_builtins(view),
        }

    def get_details_with_logs(self) -> dict[str, Any]:
        """Return what is known of the run, with what its steps have written."""
        lines = self._client.lines(self.id)
        return {**self.get_details(), "logFiles": {"log": "\n".join(x.text for x in lines)}}

    def get_portal_url(self) -> str:
        """Return how to look at the run: a command, for there is no portal."""
        return f"penstock run show {self.id}"

    def get_children(self, recursive: bool = False, **filters: Any) -> "Iterator[Run]":
        """Iterate over its steps."""
        from penstock.azureml.core.pipeline_run import StepRun

        for step in self._run.view().steps:
            yield StepRun(self.experiment, f"{self.id}.{step.step}", self.id)

    # -- acting -------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Ask for the run to stop."""
        self._run.cancel()

    def wait_for_completion(
        self,
        show_output: bool = False,
        wait_post_processing: bool = False,
        raise_on_error: bool = True,
        timeout_seconds: float = sys.maxsize,
    ) -> Any:
        """Wait until the run has ended.

        Raises:
            ActivityFailedException: with `raise_on_error`, when it did not succeed.
            Transient: E_WAIT_TIMEOUT.
        """
        self._wait(show_output, timeout_seconds, raise_on_error)
        return self.get_details()

    def _wait(self, show_output: bool, timeout_seconds: float, raise_on_error: bool) -> str:
        try:
            return STATES[
                self._run.wait_for_completion(show_output, timeout_seconds, raise_on_error)
            ]
        except ours.RunFailed as error:
            raise ActivityFailedException(
                error.message, where=error.where, hint=error.hint
            ) from error

    def tag(self, key: str, value: str | None = None) -> None:
        """Refused from outside: a run's record is written by the run.

        Raises:
            UserErrorException: E_UNSUPPORTED.
        """
        raise unsupported(
            "to tag a run from outside", "give tags at submission, or tag it in a step"
        )

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Refused as `tag` is."""
        self.tag("")

    def log(self, name: str, value: Any, *more: Any, **named: Any) -> None:
        """Refused from outside: a run's record is written by the run.

        Raises:
            UserErrorException: E_UNSUPPORTED.
        """
        raise unsupported("to log to a run from outside", "log in a step: Run.get_context()")

    # -- files --------------------------------------------------------------------------------------

    def get_file_names(self) -> Sequence[str]:
        """Return the names of its files: what its steps have put out, below `outputs/`."""
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            return list(self._named(Path(folder)))

    def download_files(
        self,
        prefix: str | None = None,
        output_directory: str | Path | None = None,
        output_paths: Sequence[str] | None = None,
        batch_size: int = 100,
        append_prefix: bool = True,
        **unused: Any,
    ) -> None:
        """Copy what its steps have put out into a folder; with `prefix` the files whose names begin so.

        Without `append_prefix` they lie there by what follows the prefix in their names.

        Raises:
            UserErrorException: E_NOT_FOUND, no name begins so; E_UNSUPPORTED, `output_paths`.
        """
        import shutil
        import tempfile

        if output_paths:
            raise unsupported("download_files(output_paths=…)", "download_file(name, path)")
        into = Path(output_directory or ".")
        if not prefix:
            self._downloaded(into)
            return
        with tempfile.TemporaryDirectory() as folder:
            named = self._named(Path(folder))
            chosen = {name: path for name, path in named.items() if name.startswith(prefix)}
            if not chosen:
                raise UserErrorException(
                    f"run {self.id} has no file whose name begins with {prefix!r}",
                    code="E_NOT_FOUND",
                    where=self.id,
                    hint="get_file_names() lists them; get_all_logs() fetches what steps have written",
                )
            for name, path in chosen.items():
                inside = name.removeprefix("outputs/")
                if not append_prefix:
                    inside = name.removeprefix(prefix).strip("/") or path.name
                target = into / inside
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)

    def download_file(self, name: str, output_file_path: str | Path | None = None) -> None:
        """Copy one file.

        Raises:
            UserErrorException: E_NOT_FOUND.
        """
        import shutil
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            self._downloaded(Path(folder))
            wanted = name.removeprefix("outputs/")
            found = sorted(p for p in Path(folder).rglob(Path(wanted).name) if p.is_file())
            matching = [p for p in found if str(p.relative_to(folder)).endswith(wanted)]
            if not matching:
                raise UserErrorException(
                    f"run {self.id} has no file {name!r}", code="E_NOT_FOUND", where=self.id
                )
            target = Path(output_file_path or Path(name).name)
            if target.is_dir():
                target /= Path(name).name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(matching[0], target)

    def get_all_logs(self, destination: str | Path | None = None) -> Any:
        """Write what its steps have written into a folder and return the files."""
        return [str(path) for path in self._run.download_logs(destination or "logs")]

    def register_model(
        self,
        model_name: str,
        model_path: str | None = None,
        tags: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        model_framework: str | None = None,
        model_framework_version: str | None = None,
        description: str | None = None,
        **unused: Any,
    ) -> Any:
        """Register a file or folder of its steps' outputs as a model."""
        import tempfile

        from penstock.azureml.core.model import Model

        with tempfile.TemporaryDirectory() as folder:
            self._downloaded(Path(folder))
            wanted = (model_path or "").removeprefix("outputs").strip("/")
            found = [
                p
                for p in sorted(Path(folder).rglob("*"))
                if wanted and str(p.relative_to(folder)).endswith(wanted)
            ]
            if not found:
                raise UserErrorException(
                    f"run {self.id} has no file {model_path!r}", code="E_NOT_FOUND", where=self.id
                )
            return Model.register(
                self.experiment.workspace, str(found[0]), model_name, tags=tags,
                description=description,
            )  # fmt: skip

    def _downloaded(self, folder: Path) -> None:
        self._run.download(folder)

    def _named(self, folder: Path) -> dict[str, Path]:
        """Fetch its files into an empty folder and return them by their names."""
        self._downloaded(folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {f"outputs/{path.relative_to(folder)}": path for path in files}


def _standin() -> Any:
    """Return the class that scripts in steps import as `azureml.core.Run`; None outside of a step."""
    import os

    if not os.environ.get("PENSTOCK_STEP_SOCKET"):
        return None
    try:
        from azureml.core import Run as InStep
    except ImportError:  # an interpreter that the executor has not hooked
        return None
    return InStep


def iso(at: float) -> str | None:
    """Return a moment as v1 writes it; None for one that has not come."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at, UTC).isoformat() if at else None


__all__ = ["STATES", "Run", "iso"]
