"""Experiments: a name that groups runs."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.contracts.spec import Scalar
from penstock.errors import Invalid
from penstock.sdk.client import client_of
from penstock.sdk.definition import Definition

if TYPE_CHECKING:
    from penstock.sdk.pipeline import Pipeline, PublishedPipeline
    from penstock.sdk.run import Run


class Experiment:
    """A named group of runs, `Experiment(workspace, name)` as in Azure ML's SDK v1.

    `workspace` is a `Client`, or None for the stack that runs here; `Experiment("digits")` says the
    same in one word.
    """

    def __init__(self, workspace: object = None, name: str = "") -> None:
        if isinstance(workspace, str) and not name:
            name = workspace
            workspace = None
        if not name:
            raise TypeError("an experiment needs a name: Experiment(client, 'name')")
        self._workspace = workspace
        self.name = name

    def __repr__(self) -> str:
        return f"Experiment({self.name!r})"

    def submit(
        self,
        config: "Pipeline | PublishedPipeline | Definition | str | Path",
        tags: Mapping[str, str] | None = None,
        *,
        pipeline_parameters: Mapping[str, Scalar | Path] | None = None,
        regenerate_outputs: bool = False,
        continue_on_step_failure: bool | None = None,
    ) -> "Run":
        """Run a pipeline in this experiment and return its run.

        Raises:
            Invalid: E_UNSUPPORTED, `continue_on_step_failure` of what says otherwise and cannot be changed.
        """
        from penstock.sdk.pipeline import Pipeline, PublishedPipeline

        if continue_on_step_failure is not None:
            if isinstance(config, Pipeline):
                config = config.continuing(continue_on_step_failure)
            elif isinstance(config, PublishedPipeline):
                config.check_continuing(continue_on_step_failure)
            else:
                raise Invalid(
                    "continue_on_step_failure is not carried to a file or a registered pipeline",
                    code="E_UNSUPPORTED",
                    where=f"experiment {self.name}",
                    hint="say it in the pipeline's own settings",
                )
        what = config.reference if isinstance(config, PublishedPipeline) else config
        return client_of(self._workspace).submit(
            what,
            parameters=pipeline_parameters,
            experiment=self.name,
            tags=tags,
            reuse="refresh" if regenerate_outputs else "use",
        )

    def get_runs(self) -> "Iterator[Run]":
        """Iterate over this experiment's runs, newest first."""
        client = client_of(self._workspace)
        for summary in client.every_run(experiment=self.name):
            yield client.run(summary.run)
