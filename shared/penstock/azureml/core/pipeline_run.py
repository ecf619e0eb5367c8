"""Runs of pipelines, runs of their steps, and what these have put out."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from penstock.azureml.core.run import STATES, Run, iso
from penstock.azureml.exceptions import ActivityFailedException, unsupported
from penstock.contracts.queries import StepView
from penstock.errors import NotFound
from penstock.sdk import run as ours
from penstock.sdk.client import client_of

if TYPE_CHECKING:
    from penstock.azureml.core.experiment import Experiment


class StepRun(Run):
    """The run of one step."""

    def __init__(
        self,
        experiment: "Experiment",
        step_run_id: str,
        pipeline_run_id: str,
        node_id: str | None = None,
        **unused: Any,
    ) -> None:
        super().__init__(experiment, pipeline_run_id)
        self.id = step_run_id
        self.pipeline_run_id = pipeline_run_id
        self._step = ours.StepRun(self._client, pipeline_run_id, step_run_id.partition(".")[2])

    def _view(self) -> StepView:
        return self._step.view()

    @property
    def name(self) -> str:
        """The step's name."""
        return self._step.name

    @property
    def display_name(self) -> str:
        """The step's name."""
        return self._step.name

    @property
    def type(self) -> str:
        """Always "azureml.StepRun"."""
        return "azureml.StepRun"

    @property
    def parent(self) -> Run:
        """The pipeline's run."""
        return PipelineRun(self.experiment, self.pipeline_run_id)

    def get_properties(self) -> dict[str, str]:
        """Return properties, by the names that v1 uses."""
        view = self._view()
        found = {"azureml.isreused": "true" if view.state == "reused" else "false"}
        if view.reused_from:
            found["azureml.reusedrunid"] = view.reused_from
        return found

    def get_details(self) -> dict[str, Any]:
        """Return what is known of the step."""
        import msgspec

        view = self._view()
        return {
            "runId": self.id,
            "status": self.get_status(),
            "startTimeUtc": iso(view.started_at),
            "endTimeUtc": iso(view.ended_at),
            "properties": self.get_properties(),
            "penstock": msgspec.to_builtins(view),
        }

    def get_details_with_logs(self) -> dict[str, Any]:
        """Return what is known of the step, with what it has written."""
        return {**self.get_details(), "logFiles": {"log": self.get_job_log()}}

    def get_children(self, recursive: bool = False, **filters: Any) -> Iterator[Run]:
        """Iterate over nothing: a step has no children."""
        return iter(())

    def get_outputs(self) -> dict[str, Any]:
        """Return its outputs by name."""
        return {name: StepRunOutput(self, name) for name in self._step.get_outputs()}

    def get_output(self, name: str) -> "StepRunOutput":
        """Return one of its outputs.

        Raises:
            NotFound: it has none of that name.
        """
        self._step.get_output(name)
        return StepRunOutput(self, name)

    def get_output_data(self, name: str) -> "PortDataReference":
        """Return the data of one of its outputs."""
        return self.get_output(name).get_port_data_reference()

    def get_stdout_log(self) -> str:
        """Return what it wrote to stdout."""
        return self._step.get_stdout_log()

    def get_stderr_log(self) -> str:
        """Return what it wrote to stderr."""
        return self._step.get_stderr_log()

    def get_job_log(self) -> str:
        """Return everything it wrote."""
        return self._step.get_job_log()

    def _downloaded(self, folder: Path) -> None:
        self._client.download(self.pipeline_run_id, folder, step=self._step.name)

    def wait_for_completion(  # type: ignore[override]
        self,
        show_output: bool = True,
        timeout_seconds: float = sys.maxsize,
        raise_on_error: bool = True,
        **unused: Any,
    ) -> str:
        """Wait until the step has ended and return its status.

        Raises:
            ActivityFailedException: with `raise_on_error`, when it failed.
        """
        try:
            state = self._step.wait_for_completion(show_output, timeout_seconds, raise_on_error)
        except ours.RunFailed as error:
            raise ActivityFailedException(
                error.message, where=error.where, hint=error.hint
            ) from error
        return STATES[state]


class StepRunOutput:
    """An output of a step that has run."""

    def __init__(self, step: StepRun, name: str) -> None:
        self.step_run = step
        self.name = name

    def get_port_data_reference(self) -> "PortDataReference":
        """Return its data."""
        return PortDataReference(self.step_run, self.name)


class PortDataReference:
    """Data that a step has put out."""

    def __init__(self, step: StepRun, name: str) -> None:
        self.step_run = step
        self.name = name
        self.datastore_name = "penstock"
        self.path_on_datastore = f"{step.pipeline_run_id}/{step.name}/{name}"

    def download(
        self,
        local_path: str | Path = ".",
        overwrite: bool = False,
        show_progress: bool = True,
    ) -> int:
        """Copy it below `local_path`, at its `path_on_datastore`; return how many files it has."""
        into = Path(local_path, self.path_on_datastore)
        step = self.step_run
        self.step_run._client.download(  # noqa: SLF001 - one room
            step.pipeline_run_id, into, step=step.name, output=self.name
        )
        return sum(1 for file in into.rglob("*") if file.is_file())


class PipelineRun(Run):
    """The run of a pipeline."""

    def wait_for_completion(  # type: ignore[override]
        self,
        show_output: bool = True,
        timeout_seconds: float = sys.maxsize,
        raise_on_error: bool = True,
        **unused: Any,
    ) -> str:
        """Wait until the run has ended and return its status.

        Raises:
            ActivityFailedException: with `raise_on_error`, when it did not succeed.
        """
        return self._wait(show_output, timeout_seconds, raise_on_error)

    def get_steps(self) -> Iterator[StepRun]:
        """Iterate over its steps."""
        for run in self.get_children():
            assert isinstance(run, StepRun)  # noqa: S101 - what get_children makes
            yield run

    def find_step_run(self, name: str) -> "Sequence[StepRun]":
        """Return the steps of that name, as a list."""
        return [
            StepRun(self.experiment, f"{self.id}.{found.name}", self.id)
            for found in self._run.find_step_run(name)
        ]

    def get_pipeline_output(self, pipeline_output_name: str) -> PortDataReference:
        """Return the data of an output of the pipeline.

        Raises:
            NotFound: it has none of that name.
        """
        wanted = self._run.get_output(pipeline_output_name)
        for step in self._run.view().steps:
            for name, tree in step.outputs.items():
                if tree.digest == wanted.digest:
                    return PortDataReference(
                        StepRun(self.experiment, f"{self.id}.{step.step}", self.id), name
                    )
        raise NotFound(f"no step has put out {pipeline_output_name!r}", where=self.id)

    def get_graph(self) -> dict[str, tuple[str, ...]]:
        """Return step → the steps that it needs."""
        return {step.step: step.needs for step in self._run.view().steps}

    def publish_pipeline(
        self,
        name: str,
        description: str | None = None,
        version: str | None = None,
        continue_on_step_failure: bool | None = None,
    ) -> Any:
        """Refused: publish the pipeline, not its run.

        Raises:
            UserErrorException: E_UNSUPPORTED.
        """
        raise unsupported("to publish a run", "pipeline.publish(name)")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ended: object) -> None:
        """Leave the run as it is."""

    @staticmethod
    def get(workspace: Any, run_id: str) -> "PipelineRun":
        """Return a run by id."""
        run = Run.get(workspace, run_id)
        assert isinstance(run, PipelineRun), run_id  # noqa: S101
        return run

    @staticmethod
    def get_pipeline_runs(workspace: Any, pipeline_id: str) -> "Sequence[PipelineRun]":
        """Return the runs of a published pipeline, newest first."""
        from penstock.azureml.core.experiment import Experiment

        name, _, version = pipeline_id.partition("@")
        return [
            PipelineRun(Experiment(workspace, run.experiment or run.pipeline), run.run)
            for run in client_of(workspace).every_run(pipeline=name)
            if not version or run.version == version
        ]


__all__ = ["PipelineRun", "PortDataReference", "StepRun", "StepRunOutput"]
