"""`MLClient`: one stack, by SDK v2's collections of operations."""

import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

from penstock.azure.ai.ml.components import Component
from penstock.azure.ai.ml.computes import Compute
from penstock.azure.ai.ml.entities import (
    AmlCompute,
    AzureBlobDatastore,
    Data,
    Environment,
    JobSchedule,
    Model,
)
from penstock.azure.ai.ml.exceptions import JobException
from penstock.azure.ai.ml.nodes import Node
from penstock.azure.ai.ml.operations import (
    Components,
    DataAssets,
    Datastores,
    Environments,
    Models,
)
from penstock.azure.ai.ml.pipelines import PipelineJob, definition_of_tree
from penstock.azure.ai.ml.polling import Done
from penstock.contracts.schedules import Schedule, ScheduleView
from penstock.errors import Invalid
from penstock.sdk.azure_schedules import fields_of
from penstock.sdk.client import Client
from penstock.sdk.definition import Definition
from penstock.sdk.names import name_from
from penstock.sdk.recurrence import zone_of
from penstock.sdk.run import Run, RunFailed
from penstock.sdk.yaml_reading import Reading
from penstock.sdk.yaml_section import Section
from penstock.sdk.yaml_text import Document

STATES = {
    "waiting": "NotStarted", "ready": "NotStarted", "queued": "Queued", "running": "Running",
    "succeeded": "Completed", "reused": "Completed", "failed": "Failed", "cancelled": "Canceled",
    "skipped": "Canceled",
}  # fmt: skip


class MLClient:
    """One penstock workspace; subscription, resource group and credential are kept and not used."""

    def __init__(
        self,
        credential: Any = None,
        subscription_id: str | None = None,
        resource_group_name: str | None = None,
        workspace_name: str | None = None,
        registry_name: str | None = None,
        **unused: Any,
    ) -> None:
        self.client = Client()
        self.subscription_id = subscription_id
        self.resource_group_name = resource_group_name
        self._workspace_name = workspace_name
        self.jobs = Jobs(self)
        self.schedules = Schedules(self)
        self.compute = Compute(self)
        self.components = Components(self)
        self.environments = Environments(self)
        self.data = DataAssets(self)
        self.models = Models(self)
        self.datastores = Datastores(self)

    def __repr__(self) -> str:
        return f"MLClient({self.workspace_name!r})"

    @property
    def workspace_name(self) -> str:
        """The name given, else the workspace's own."""
        return self._workspace_name or self.client.workspace

    @staticmethod
    def from_config(
        credential: Any = None, *, path: Any = None, file_name: str | None = None, **unused: Any
    ) -> "MLClient":
        """Return the client of this folder's stack."""
        return MLClient(credential)

    def create_or_update(self, entity: Any, **more: Any) -> Any:
        """Submit a job, or register what is named: data, a model, an environment, a component, a datastore.

        Raises:
            Invalid: E_TYPE, it is none of these.
        """
        for kinds, collection in (
            ((Node, PipelineJob), self.jobs),
            ((Component,), self.components),
            ((Environment,), self.environments),
            ((Model,), self.models),
            ((Data,), self.data),
            ((AzureBlobDatastore,), self.datastores),
        ):
            if isinstance(entity, kinds):
                return collection.create_or_update(entity, **more)
        if hasattr(entity, "definition"):
            return self.jobs.create_or_update(entity, **more)
        raise Invalid(
            f"to create a {type(entity).__name__} is not supported in this release",
            code="E_UNSUPPORTED",
            hint="give it to the step that uses it",
        )

    def begin_create_or_update(self, entity: Any, **more: Any) -> Done:
        """Make a schedule or a compute target, or what `create_or_update` makes; its `result()` is that."""
        if isinstance(entity, JobSchedule):
            return self.schedules.begin_create_or_update(entity)
        if isinstance(entity, AmlCompute):
            return self.compute.begin_create_or_update(entity)
        return Done(self.create_or_update(entity, **more))

    def __getattr__(self, name: str) -> Any:
        if name in ("batch_endpoints", "online_endpoints", "batch_deployments"):
            raise Invalid(f"MLClient.{name} is not supported", code="E_UNSUPPORTED")
        raise AttributeError(name)


class Job:
    """A job as it is known on the stack."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.name = run.id
        self.id = run.id
        self.studio_url = f"penstock run show {run.id}"

    def __repr__(self) -> str:
        return f"Job({self.name!r})"

    @property
    def status(self) -> str:
        """NotStarted, Queued, Running, Completed, Failed or Canceled."""
        return STATES[self._run.get_status()]

    @property
    def display_name(self) -> str:
        """What people call it."""
        return self._run.view().display_name

    @property
    def experiment_name(self) -> str:
        """Its experiment."""
        return self._run.view().experiment

    @property
    def tags(self) -> dict[str, str]:
        """Its tags."""
        return self._run.get_tags()

    @property
    def services(self) -> Mapping[str, Any]:
        """How to look at it: `services["Studio"].endpoint` is a command."""
        from types import SimpleNamespace

        return {"Studio": SimpleNamespace(endpoint=self.studio_url)}

    @property
    def outputs(self) -> Mapping[str, Any]:
        """Outputs of the pipeline: trees by name."""
        return self._run.view().outputs

    @property
    def jobs(self) -> Mapping[str, Any]:
        """Its steps by name."""
        return {step.name: step for step in self._run.get_steps()}


class Jobs:
    """Operations on jobs."""

    def __init__(self, owner: MLClient) -> None:
        self._owner = owner

    def create_or_update(
        self,
        job: Any,
        *,
        description: str | None = None,
        compute: str | None = None,
        tags: Mapping[str, str] | None = None,
        experiment_name: str | None = None,
        skip_validation: bool = False,
        **unused: Any,
    ) -> Job:
        """Run a job and return it.

        Raises:
            Refused: the job is not acceptable.
        """
        definition = definition_of(job)
        known = dict(getattr(job, "tags", None) or {}) | dict(tags or {})
        run = self._owner.client.submit(
            definition,
            experiment=experiment_name or getattr(job, "experiment_name", None) or "",
            tags={str(key): str(value) for key, value in known.items()},
            compute=compute or "",
        )
        return Job(run)

    def get(self, name: str) -> Job:
        """Return a job by name.

        Raises:
            Refused: E_NOT_FOUND.
        """
        return Job(self._owner.client.run(name))

    def list(
        self, *, parent_job_name: str | None = None, list_view_type: Any = None, **unused: Any
    ) -> Iterator[Any]:
        """Iterate over jobs, newest first; over the steps of one with `parent_job_name`."""
        client = self._owner.client
        if parent_job_name:
            yield from client.run(parent_job_name).get_steps()
            return
        for summary in client.every_run():
            yield Job(Run(client, summary.run))

    def stream(self, name: str) -> None:
        """Print what happens until the job has ended.

        Raises:
            JobException: it did not succeed.
        """
        try:
            self._owner.client.run(name).wait_for_completion(show_output=True)
        except RunFailed as error:
            raise JobException(error.message, where=error.where, hint=error.hint) from error

    def begin_cancel(self, name: str, **unused: Any) -> Done:
        """Ask for a job to stop."""
        self._owner.client.cancel(name)
        return Done(None)

    cancel = begin_cancel

    def download(
        self,
        name: str,
        *,
        download_path: str | Path = ".",
        output_name: str | None = None,
        all: bool = False,
    ) -> None:
        """Copy outputs to `named-outputs/<output>` below a folder; without a name, what steps wrote."""
        run = self._owner.client.run(name)
        view, folder = run.view(), Path(download_path)
        if output_name or all:
            wanted = [output_name] if output_name else list(view.outputs)
            for output in wanted:
                self._owner.client.download(
                    run.id, folder / "named-outputs" / str(output), output=str(output)
                )
        if all or not output_name:
            run.download_logs(folder / "artifacts" / "user_logs")

    def validate(self, job: Any, *, raise_on_failure: bool = False, **unused: Any) -> "Validation":
        """Return what is wrong with a job; nothing is sent.

        Raises:
            Refused: with `raise_on_failure`.
        """
        try:
            definition_of(job)
        except Invalid as error:
            if raise_on_failure:
                raise
            return Validation({error.where: str(error)})
        return Validation({})


class Validation:
    """What is wrong with a job."""

    def __init__(self, error_messages: Mapping[str, str]) -> None:
        self.error_messages = dict(error_messages)
        self.passed = not error_messages

    def __repr__(self) -> str:
        return f"Validation({self.error_messages!r})"


class Schedules:
    """Operations on schedules."""

    def __init__(self, owner: MLClient) -> None:
        self._owner = owner

    def begin_create_or_update(self, schedule: Any, **unused: Any) -> Done:
        """Register the schedule's pipeline and make the schedule, or change it."""
        client = self._owner.client
        pipeline = client.register(definition_of(schedule.create_job), name_from(schedule.name))
        wish = Schedule(
            name=name_from(schedule.name),
            pipeline=f"{pipeline.name}@{pipeline.version}",
            description=schedule.description or "",
            tags=schedule.tags,
            experiment=getattr(schedule.create_job, "experiment_name", None) or "",
            **fields_of_trigger(schedule.trigger, schedule.name),
        )
        return Done(client.schedule("create", schedule=wish, replace=True))

    def get(self, name: str, **unused: Any) -> ScheduleView:
        """Return a schedule.

        Raises:
            Refused: E_NOT_FOUND.
        """
        return self._owner.client.schedule("show", name_from(name))

    def list(self, **unused: Any) -> Iterator[ScheduleView]:
        """Iterate over schedules."""
        yield from self._owner.client.schedules()

    def begin_enable(self, name: str, **unused: Any) -> Done:
        """Let a schedule fire (again)."""
        return Done(self._owner.client.schedule("resume", name_from(name)))

    def begin_disable(self, name: str, **unused: Any) -> Done:
        """Let a schedule not fire."""
        return Done(self._owner.client.schedule("pause", name_from(name)))

    def begin_delete(self, name: str, **unused: Any) -> Done:
        """Remove a schedule."""
        return Done(self._owner.client.schedule("delete", name_from(name)))

    def trigger(self, name: str, **unused: Any) -> Job:
        """Fire a schedule at once and return the job."""
        client = self._owner.client
        return Job(client.run(client.schedule("run-now", name_from(name)).run))


def definition_of(job: Any) -> Definition:
    """Return a job as everything else knows it.

    Raises:
        Invalid: it is none, or as `read_pipeline`.
    """
    if isinstance(job, Node):
        tree = {"type": "command", **job.tree(), "name": name_from(job.name)}
        return definition_of_tree(tree, job.name)
    if not hasattr(job, "definition"):
        raise Invalid(
            f"{type(job).__name__} is no job", code="E_TYPE", hint="call the pipeline function"
        )
    found: Definition = job.definition()
    return found


def fields_of_trigger(trigger: Any, name: str) -> dict[str, Any]:
    """Return when a schedule of ours fires, for a trigger: read as the YAML that it stands for.

    Raises:
        Invalid: as `fields_of`.
    """
    pattern = getattr(trigger, "schedule", None)
    tree = {key: value for key, value in vars(trigger).items() if value not in (None, "")}
    tree |= {
        key: moment.isoformat() for key, moment in tree.items() if isinstance(moment, datetime)
    }
    if isinstance(trigger.time_zone, Enum):
        tree["time_zone"] = trigger.time_zone.value
    if pattern is not None:
        tree["schedule"] = {key: value for key, value in vars(pattern).items() if value}
    reading = Reading(strict=False)
    document = Document({**tree, "type": trigger.type}, f"schedule {name} (Python)", {}, {})
    found = fields_of(Section(document, (), document.value), reading)
    for note in reading.notes:
        print(f"note: {note}", file=sys.stderr)  # noqa: T201 - as a submission tells its notes
    return {**found, "time_zone": zone_of(found["time_zone"])}
