"""Pipelines as graphs of steps."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from penstock.azureml.core.experiment import Experiment
from penstock.azureml.core.pipeline_run import PipelineRun
from penstock.azureml.exceptions import unsupported
from penstock.azureml.pipeline.core.published import PublishedPipeline
from penstock.sdk import pipeline as ours
from penstock.sdk.client import client_of
from penstock.sdk.steps import PipelineStep


class StepSequence:
    """Steps one after the other; a list among them is steps side by side."""

    def __init__(self, steps: Sequence[Any] | None = None) -> None:
        self.steps = list(steps or ())
        before: list[PipelineStep] = []
        for item in self.steps:
            now = list(_flat(item))
            for step in now:
                for earlier in before:
                    step.run_after(earlier)
            before = now

    def __iter__(self) -> Iterator[Any]:
        return iter(self.steps)


class Pipeline(ours.Pipeline):
    """A graph of steps."""

    def __init__(
        self,
        workspace: Any,
        steps: Any,
        description: str | None = None,
        default_datastore: Any = None,
        default_source_directory: str | Path | None = None,
        resolve_closure: bool = True,
        **unused: Any,
    ) -> None:
        super().__init__(workspace, steps, description, default_datastore, None, resolve_closure)
        for step in self.steps:
            if default_source_directory and step.source_directory == Path():
                step.source_directory = Path(default_source_directory)
            for output in step.outputs.values():
                offered = getattr(output, "pipeline_output_name", None)
                if offered:
                    self.outputs[offered] = output

    @property
    def graph(self) -> dict[str, tuple[str, ...]]:
        """Step → the steps that it needs."""
        from penstock.sdk.definition import needs_of

        spec = self.definition().spec
        return {
            name: tuple(dict.fromkeys(needed for _, needed in needs_of(step)))
            for name, step in spec.steps.items()
        }

    def submit(  # type: ignore[override]
        self,
        experiment_name: str,
        pipeline_parameters: Mapping[str, Any] | None = None,
        continue_on_step_failure: bool | None = None,
        regenerate_outputs: bool = False,
        parent_run_id: str | None = None,
        credential_passthrough: Any = None,
        **more: Any,
    ) -> PipelineRun:
        """Run it in an experiment of that name."""
        found: PipelineRun = Experiment(self._workspace, experiment_name).submit(
            self,
            tags=more.get("tags"),
            pipeline_parameters=pipeline_parameters,
            continue_on_step_failure=continue_on_step_failure,
            regenerate_outputs=regenerate_outputs,
        )
        return found

    def publish(
        self,
        name: str | None = None,
        description: str | None = None,
        version: str | None = None,
        continue_on_step_failure: bool | None = None,
        **unused: Any,
    ) -> PublishedPipeline:
        """Register it; equal content under one name is one version.

        `version` becomes part of the description: versions are counted, so that none is ever changed.
        """
        told = description or self.description
        found = super().publish(name, told, version, continue_on_step_failure)
        view = client_of(self._workspace).pipeline(found.reference)
        return PublishedPipeline(self._workspace, view)

    @staticmethod
    def load_yaml(workspace: Any, filename: str | Path, **unused: Any) -> Any:
        """Refused: v1's YAML had a schema of its own.

        Raises:
            UserErrorException: E_UNSUPPORTED.
        """
        raise unsupported("Pipeline.load_yaml", "`penstock submit FILE` runs CLI v2 YAML")


def pipeline_of(config: Any, workspace: Any) -> Pipeline:
    """Return a ScriptRunConfig as a pipeline of one step."""
    from penstock.azureml.pipeline.steps import CommandStep, PythonScriptStep

    if config.command:
        step: PipelineStep = CommandStep(runconfig=config, name="command")
    else:
        step = PythonScriptStep(
            config.script,
            arguments=config.arguments,
            source_directory=config.source_directory,
            runconfig=config,
        )
    return Pipeline(workspace, [step])


def _flat(item: Any) -> Iterator[PipelineStep]:
    if isinstance(item, PipelineStep):
        yield item
        return
    for inner in item:
        yield from _flat(inner)
