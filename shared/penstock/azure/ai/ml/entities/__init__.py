"""`azure.ai.ml.entities`: what is named and kept, and what stands in the settings of steps."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from penstock.azure.ai.ml.components import Component
from penstock.azure.ai.ml.nodes import Node
from penstock.azure.ai.ml.parallel import Parallel, RetrySettings
from penstock.azure.ai.ml.pipelines import PipelineJob
from penstock.azure.ai.ml.sweep import Sweep
from penstock.azure.ai.ml.values import Settings, placed, settled
from penstock.errors import Invalid


class BuildContext:
    """A folder that an image is built from."""

    def __init__(
        self, *, dockerfile_path: str | None = None, path: str | Path | None = None
    ) -> None:
        self.dockerfile_path = dockerfile_path
        self.path = path

    def setting_tree(self) -> dict[str, Any]:
        """Return it as YAML has it."""
        tree = {"path": placed(self.path or "."), "dockerfile_path": self.dockerfile_path}
        return {key: value for key, value in tree.items() if value is not None}


class Environment:
    """What steps run in."""

    def __init__(
        self,
        *,
        name: str | None = None,
        version: str | None = None,
        description: str | None = None,
        image: str | None = None,
        build: BuildContext | None = None,
        conda_file: Any = None,
        tags: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        datastore: str = "",
        **unused: Any,
    ) -> None:
        self.name = name
        self.version = version
        self.description = description
        self.image = image
        self.build = build
        self.conda_file = conda_file
        self.tags = dict(tags or {})
        self.registered = False
        """Whether it came from the registry: then steps refer to it, and do not carry what is in it."""

    @property
    def id(self) -> str:
        """How a step names it."""
        return _reference(self.name, self.version)

    def setting_tree(self) -> str | dict[str, Any]:
        """Return it as a step's YAML has it: by name when it is registered, else written out."""
        return self.id if self.registered else self.content()

    def content(self) -> dict[str, Any]:
        """Return it as YAML has it, written out."""
        conda = self.conda_file
        tree = {
            "name": self.name,
            "image": self.image,
            "build": None if self.build is None else self.build.setting_tree(),
            "conda_file": conda if isinstance(conda, dict | None) else placed(conda),
        }
        return {key: value for key, value in tree.items() if value is not None}


class _Asset:
    """Something with a name, a version and a path."""

    default_type = "uri_folder"

    def __init__(
        self,
        *,
        name: str | None = None,
        version: str | None = None,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        path: Any = None,
        type: str | None = None,
        **unused: Any,
    ) -> None:
        self.name = name
        self.version = version
        self.description = description
        self.tags = dict(tags or {})
        self.path = path
        self.type = type or self.default_type

    @property
    def id(self) -> str:
        """How a step names it."""
        return _reference(self.name, self.version)

    def reference_tree(self) -> dict[str, Any]:
        """Return it as an input: by name when it is registered, else by its path."""
        path = self.id if self.name and self.version else placed(self.path)
        return {"type": self.type, "path": path}


class Data(_Asset):
    """Data."""


class Model(_Asset):
    """A model."""

    default_type = "custom_model"


class AzureBlobDatastore:
    """A blob container of Azure's as a datastore."""

    type = "azure_blob"

    def __init__(
        self,
        *,
        name: str,
        account_name: str = "",
        container_name: str = "",
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
        credentials: Any = None,
        **unused: Any,
    ) -> None:
        self.name = name
        self.account_name = account_name
        self.container_name = container_name
        self.description = description
        self.tags = dict(tags or {})
        self.credentials = credentials


class AmlCompute:
    """A compute target."""

    def __init__(
        self, *, name: str, min_instances: int = 0, max_instances: int = 1, **more: Any
    ) -> None:
        self.name = name
        self.min_instances = min_instances
        self.max_instances = max_instances
        self.size = more.get("size")
        self.tier = more.get("tier")
        self.idle_time_before_scale_down = more.get("idle_time_before_scale_down")
        self.provisioning_state: str | None = None
        self.type = "amlcompute"


class CommandComponent(Component):
    """A command component that is written out."""

    def __init__(
        self,
        *,
        name: str | None = None,
        version: str | None = None,
        display_name: str | None = None,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
        command: str | None = None,
        code: str | Path | None = None,
        environment: Any = None,
        inputs: Mapping[str, Any] | None = None,
        outputs: Mapping[str, Any] | None = None,
        is_deterministic: bool = True,
        resources: Any = None,
        distribution: Any = None,
        **unused: Any,
    ) -> None:
        tree = {
            "name": name,
            "version": version,
            "display_name": display_name,
            "description": description,
            "type": "command",
            "command": command,
            "code": None if code is None else placed(code),
            "environment": settled(environment),
            "resources": settled(resources),
            "distribution": settled(distribution),
            "inputs": {k: v.tree() if hasattr(v, "tree") else v for k, v in (inputs or {}).items()},
            "outputs": {
                k: v.tree() if hasattr(v, "tree") else v for k, v in (outputs or {}).items()
            },
            "is_deterministic": None if is_deterministic else False,
        }
        tree = {key: value for key, value in tree.items() if value is not None}
        super().__init__(tree, tree)


class ResourceConfiguration(Settings):
    """What a step asks of its machine."""

    def __init__(
        self,
        *,
        instance_count: int | None = None,
        instance_type: str | None = None,
        properties: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(
            instance_count=instance_count,
            instance_type=instance_type,
            properties=properties,
            **more,
        )


class JobResourceConfiguration(ResourceConfiguration):
    """What a step asks of its machine, and of its container."""

    def __init__(
        self,
        *,
        locations: Sequence[str] | None = None,
        instance_count: int | None = None,
        instance_type: str | None = None,
        properties: Mapping[str, Any] | None = None,
        docker_args: str | Sequence[str] | None = None,
        shm_size: str | None = None,
        max_instance_count: int | None = None,
    ) -> None:
        super().__init__(
            locations=locations, instance_count=instance_count, instance_type=instance_type,
            properties=properties, docker_args=docker_args, shm_size=shm_size,
            max_instance_count=max_instance_count,
        )  # fmt: skip


class CommandJobLimits(Settings):
    """How long a step may run."""

    def __init__(self, *, timeout: int | str | None = None) -> None:
        super().__init__(timeout=timeout)


class RecurrencePattern:
    """At which hours, minutes and days a recurrence fires."""

    def __init__(
        self,
        *,
        hours: int | Sequence[int],
        minutes: int | Sequence[int],
        week_days: str | Sequence[str] | None = None,
        month_days: int | Sequence[int] | None = None,
    ) -> None:
        self.hours = _listed(hours)
        self.minutes = _listed(minutes)
        self.week_days = _listed(week_days)
        self.month_days = _listed(month_days)


class RecurrenceTrigger:
    """Fires every so often."""

    type = "recurrence"

    def __init__(
        self,
        *,
        frequency: str,
        interval: int,
        schedule: RecurrencePattern | None = None,
        start_time: str | datetime | None = None,
        end_time: str | datetime | None = None,
        time_zone: Any = "UTC",
    ) -> None:
        self.frequency = frequency
        self.interval = interval
        self.schedule = schedule
        self.start_time, self.end_time, self.time_zone = start_time, end_time, time_zone


class CronTrigger:
    """Fires as five fields say."""

    type = "cron"

    def __init__(
        self,
        *,
        expression: str,
        start_time: str | datetime | None = None,
        end_time: str | datetime | None = None,
        time_zone: Any = "UTC",
    ) -> None:
        self.expression = expression
        self.start_time, self.end_time, self.time_zone = start_time, end_time, time_zone


class JobSchedule:
    """A pipeline by the clock."""

    def __init__(
        self,
        *,
        name: str,
        trigger: RecurrenceTrigger | CronTrigger,
        create_job: Any,
        display_name: str | None = None,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        **unused: Any,
    ) -> None:
        if not hasattr(create_job, "definition"):
            raise Invalid(f"{create_job!r} is no pipeline", code="E_TYPE", where=f"schedule {name}")
        self.name = name
        self.trigger = trigger
        self.create_job = create_job
        self.display_name = display_name
        self.description = description
        self.tags = dict(tags or {})


def _reference(name: str | None, version: str | None) -> str:
    return f"azureml:{name}:{version}" if version else f"azureml:{name}@latest"


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return [value] if isinstance(value, int | str) else list(value)


CommandJob = Command = Node
Job = PipelineJob

__all__ = [
    "AmlCompute",
    "AzureBlobDatastore",
    "BuildContext",
    "Command",
    "CommandComponent",
    "CommandJob",
    "CommandJobLimits",
    "Component",
    "CronTrigger",
    "Data",
    "Environment",
    "Job",
    "JobResourceConfiguration",
    "JobSchedule",
    "Model",
    "Parallel",
    "PipelineJob",
    "RecurrencePattern",
    "RecurrenceTrigger",
    "ResourceConfiguration",
    "RetrySettings",
    "Sweep",
]
