"""Experiments: names that group runs."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from penstock.azureml.core.pipeline_run import PipelineRun
from penstock.azureml.core.run import Run
from penstock.azureml.exceptions import UserErrorException, unsupported
from penstock.sdk.client import client_of
from penstock.sdk.experiment import Experiment as OurExperiment


class Experiment:
    """A named group of runs."""

    def __init__(self, workspace: Any, name: str, **unused: Any) -> None:
        if not name:
            raise UserErrorException("no name", code="E_MISSING", where="Experiment")
        self.workspace = workspace
        self.name = name

    def __repr__(self) -> str:
        return f"Experiment(Name: {self.name}, Workspace: {getattr(self.workspace, 'name', '')})"

    @property
    def id(self) -> str:
        """The name."""
        return self.name

    def submit(
        self,
        config: Any,
        tags: Mapping[str, str] | None = None,
        pipeline_parameters: Mapping[str, Any] | None = None,
        regenerate_outputs: bool = False,
        continue_on_step_failure: bool | None = None,
        **more: Any,
    ) -> Any:
        """Run a Pipeline, PublishedPipeline, PipelineEndpoint or ScriptRunConfig and return its run."""
        from penstock.azureml.core.script_run_config import ScriptRunConfig
        from penstock.azureml.pipeline.core.pipeline import pipeline_of
        from penstock.azureml.pipeline.core.published import PipelineEndpoint, values_of

        if isinstance(config, PipelineEndpoint):
            version = more.get("pipeline_version")
            config = config.get_pipeline(version)
        if isinstance(config, ScriptRunConfig):
            config = pipeline_of(config, self.workspace)
        run = OurExperiment(self.workspace, self.name).submit(
            config,
            tags,
            pipeline_parameters=values_of(pipeline_parameters),
            regenerate_outputs=regenerate_outputs,
            continue_on_step_failure=continue_on_step_failure,
        )
        for note in run.notes:
            print(f"note: {note}", file=sys.stderr)  # noqa: T201 - where v1 tells of a submission as well
        return PipelineRun(self, run.id)

    def start_logging(self, *given: Any, **named: Any) -> Any:
        """Refused: a run is the work of steps.

        Raises:
            UserErrorException: E_UNSUPPORTED.
        """
        raise unsupported(
            "Experiment.start_logging", "submit a step and log in it: Run.get_context()"
        )

    def get_runs(
        self,
        type: str | None = None,
        tags: Any = None,
        properties: Any = None,
        include_children: bool = False,
    ) -> Iterator[Run]:
        """Iterate over its runs, newest first; `tags`: a key, or keys with their values."""
        wanted = {tags: None} if isinstance(tags, str) else dict(tags or {})
        for summary in client_of(self.workspace).every_run(experiment=self.name):
            if all(k in summary.tags and v in (None, summary.tags[k]) for k, v in wanted.items()):
                run = PipelineRun(self, summary.run)
                yield run
                if include_children:
                    yield from run.get_children()

    def archive(self) -> None:
        """Do nothing: an experiment is a name."""

    reactivate = archive

    def refresh(self) -> None:
        """Do nothing: every look is a new one."""

    def get_docs_url(self) -> str:
        """Return how to look at its runs."""
        return f"penstock run list --experiment {self.name}"

    @staticmethod
    def list(workspace: Any, **filters: Any) -> "Sequence[Experiment]":
        """Return the experiments that have runs."""
        names = dict.fromkeys(
            run.experiment for run in client_of(workspace).every_run() if run.experiment
        )
        return [Experiment(workspace, name) for name in names]


__all__ = ["Experiment"]
