"""Published pipelines, and endpoints that name them."""

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.azureml.core.experiment import Experiment
from penstock.azureml.core.pipeline_run import PipelineRun
from penstock.azureml.data.data_reference import DataPath
from penstock.azureml.data.datasets import AbstractDataset
from penstock.azureml.exceptions import UserErrorException, unsupported
from penstock.contracts.queries import PipelineView
from penstock.errors import NotFound
from penstock.sdk import pipeline as ours
from penstock.sdk.client import client_of
from penstock.sdk.names import name_from


class PublishedPipeline(ours.PublishedPipeline):
    """A registered version of a pipeline."""

    def __init__(self, workspace: Any, view: PipelineView) -> None:
        super().__init__(workspace, view.name, view.version, view.description)
        self.workspace = workspace
        self._view = view

    @property
    def status(self) -> str:
        """Always "Active"."""
        return "Active"

    @property
    def endpoint(self) -> str:
        """Where a message runs it: a subject of the bus, and the pipeline's id at the end."""
        target = client_of(self.workspace).asynchronous.target
        return f"{target.bus.rstrip('/')}/{target.workspace}.request.run/Id/{self.id}"

    @property
    def total_run_steps(self) -> int:
        """How many steps it has."""
        return len(self.get_step_names())

    def submit(  # type: ignore[override]
        self,
        workspace: Any,
        experiment_name: str,
        pipeline_parameters: Mapping[str, Any] | None = None,
        parent_run_id: str | None = None,
        continue_on_step_failure: bool | None = None,
        **more: Any,
    ) -> PipelineRun:
        """Run it in an experiment of that name.

        Raises:
            Invalid: E_UNSUPPORTED, a `continue_on_step_failure` other than it was published with.
        """
        found: PipelineRun = Experiment(workspace or self.workspace, experiment_name).submit(
            self,
            tags=more.get("tags"),
            pipeline_parameters=pipeline_parameters,
            regenerate_outputs=bool(more.get("regenerate_outputs")),
            continue_on_step_failure=continue_on_step_failure,
        )
        return found

    def enable(self) -> None:
        """Do nothing: a version stays what it is."""

    def disable(self) -> None:
        """Refused: a version that others run cannot be taken away.

        Raises:
            UserErrorException: E_UNSUPPORTED.
        """
        raise unsupported("PublishedPipeline.disable", "pause its schedules; publish a new version")

    def get_graph(self) -> dict[str, tuple[str, ...]]:
        """Return step → the steps that it needs."""
        from penstock.sdk.definition import needs_of

        spec = self._definition()
        return {
            name: tuple(dict.fromkeys(needed for _, needed in needs_of(step)))
            for name, step in spec.steps.items()
        }

    def get_step_names(self) -> list[str]:
        """Return the names of its steps."""
        return list(self._definition().steps)

    def _definition(self) -> Any:
        found = self._view.definition
        if found is None:
            found = client_of(self.workspace).pipeline(self.reference).definition
        if found is None:
            raise UserErrorException(
                f"{self.reference} is too large to be shown", code="E_TOO_LARGE", where=self.id
            )
        return found

    @staticmethod
    def get(workspace: Any, id: str, **unused: Any) -> "PublishedPipeline":
        """Return a published pipeline by id, "name@version"; a name alone is its newest version."""
        return PublishedPipeline(workspace, client_of(workspace).pipeline(id))

    @staticmethod
    def list(
        workspace: Any, active_only: bool = True, **unused: Any
    ) -> "Sequence[PublishedPipeline]":
        """Return every published pipeline, the newest version of each."""
        return [PublishedPipeline(workspace, view) for view in client_of(workspace).pipelines()]

    get_all = list


class PipelineEndpoint:
    """A name for a published pipeline that may be given to another version later.

    Its versions "0", "1" … are those of a registered pipeline of its name; the newest is the default.
    """

    def __init__(self, workspace: Any, name: str) -> None:
        self.workspace = workspace
        self.name = name

    def __repr__(self) -> str:
        return f"PipelineEndpoint({self.name!r})"

    @property
    def id(self) -> str:
        """The name under which it is registered."""
        return name_from(self.name)

    @property
    def description(self) -> str:
        """What its newest version says it is."""
        return client_of(self.workspace).pipeline(self.id).description

    @property
    def status(self) -> str:
        """Always "Active"."""
        return "Active"

    @property
    def default_version(self) -> str:
        """The newest version."""
        return self.get_default_version()

    @property
    def endpoint(self) -> str:
        """Where a message runs its newest version."""
        target = client_of(self.workspace).asynchronous.target
        return f"{target.bus.rstrip('/')}/{target.workspace}.request.run/Id/{self.id}"

    @staticmethod
    def publish(
        workspace: Any, name: str, description: str, pipeline: Any, **unused: Any
    ) -> "PipelineEndpoint":
        """Make an endpoint of a pipeline or a published one."""
        found = PipelineEndpoint(workspace, name)
        found._add(pipeline, description)
        return found

    @staticmethod
    def get(
        workspace: Any, id: str | None = None, name: str | None = None, **unused: Any
    ) -> "PipelineEndpoint":
        """Return an endpoint by name.

        Raises:
            Refused: E_NOT_FOUND.
        """
        found = PipelineEndpoint(workspace, name or id or "")
        client_of(workspace).pipeline(found.id)
        return found

    @staticmethod
    def list(
        workspace: Any, active_only: bool = True, max_results: int = 100, **unused: Any
    ) -> "Sequence[PipelineEndpoint]":
        """Return every registered pipeline as an endpoint."""
        views = client_of(workspace).pipelines()[:max_results]
        return [PipelineEndpoint(workspace, view.name) for view in views]

    get_all = list

    def add(self, pipeline: Any) -> None:
        """Add a version, which becomes the default, for the newest one always is."""
        self._add(pipeline, "")

    add_default = add

    def set_default_version(self, version: str) -> None:
        """Make a version the default by publishing its content once more.

        Raises:
            UserErrorException: E_UNSUPPORTED, it is not the newest.
        """
        if version != self.get_default_version():
            raise unsupported(
                "a default other than the newest version", "name the version: pipeline_version=…"
            )

    def set_default(self, pipeline: Any) -> None:
        """Make a pipeline the default."""
        self.add(pipeline)

    def get_default_version(self) -> str:
        """Return the newest version."""
        return self.list_versions()[-1].version

    def get_pipeline(self, version: str | None = None) -> PublishedPipeline:
        """Return the published pipeline behind a version.

        Raises:
            NotFound: it has no such version.
        """
        versions = {item.version: item.pipeline for item in self.list_versions()}
        wanted = version if version is not None else next(reversed(versions))
        if wanted not in versions:
            raise NotFound(f"endpoint {self.name!r} has no version {wanted}", where=self.name)
        return versions[wanted]

    def list_versions(self) -> "Sequence[EndpointVersion]":
        """Return its versions, oldest first."""
        views = sorted(
            client_of(self.workspace).pipelines(self.id), key=lambda view: int(view.version)
        )
        return [
            EndpointVersion(str(number), PublishedPipeline(self.workspace, view))
            for number, view in enumerate(views)
        ]

    get_all_versions = list_versions

    def list_pipelines(self, active_only: bool = True) -> "Sequence[PublishedPipeline]":
        """Return the published pipelines behind its versions."""
        return [item.pipeline for item in self.list_versions()]

    get_all_pipelines = list_pipelines

    def enable(self) -> None:
        """Do nothing."""

    def submit(
        self,
        experiment_name: str,
        pipeline_parameters: Mapping[str, Any] | None = None,
        parent_run_id: str | None = None,
        pipeline_version: str | None = None,
        **more: Any,
    ) -> PipelineRun:
        """Run a version (default: the newest) in an experiment of that name."""
        return self.get_pipeline(pipeline_version).submit(
            self.workspace, experiment_name, pipeline_parameters, **more
        )

    def _add(self, pipeline: Any, description: str) -> None:
        if isinstance(pipeline, ours.Pipeline):
            pipeline.publish(self.name, description)
            return
        from penstock.sdk.definition import Definition

        spec = pipeline._definition()  # noqa: SLF001 - one room
        client_of(self.workspace).register(Definition(spec), self.id)


class EndpointVersion:
    """One version of an endpoint."""

    def __init__(self, version: str, pipeline: PublishedPipeline) -> None:
        self.version = version
        self.pipeline = pipeline


def values_of(parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return pipeline parameters as a request carries them: data by where it lies."""
    return {name: _value(value) for name, value in (parameters or {}).items()}


def _value(value: Any) -> Any:
    if isinstance(value, DataPath):
        return value.location()
    if isinstance(value, AbstractDataset):
        return value.source().place
    return value
