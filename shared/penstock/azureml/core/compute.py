"""Compute targets: names that executors serve, that are registered, or that a script has created."""

from collections.abc import Sequence
from typing import Any

from penstock.azureml.exceptions import ComputeTargetException
from penstock.sdk import compute_targets as targets
from penstock.sdk.client import client_of


class ComputeTarget:
    """A compute target that there is.

    Raises:
        ComputeTargetException: E_NOT_FOUND, nobody serves, has registered or has created it.
    """

    type = "AmlCompute"

    def __new__(cls, *given: Any, **named: Any) -> "ComputeTarget":  # noqa: PYI034 - of a class below
        """Return what v1 returns: its `ComputeTarget(…)` is of the target's own class."""
        return super().__new__(AmlCompute if cls is ComputeTarget else cls)

    def __init__(self, workspace: Any, name: str) -> None:
        self.workspace = workspace
        self.name = name
        self.config = AmlComputeProvisioningConfiguration()
        if name not in targets.serving(client_of(workspace)):
            raise ComputeTargetException(
                f"there is no compute target {name!r}", code="E_NOT_FOUND", where="compute_target"
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @staticmethod
    def create(workspace: Any, name: str, provisioning_configuration: Any) -> "ComputeTarget":
        """Return the target of that name, for this program made when there is none; nothing is rented.

        The steps of one that no executor serves go to the default target; a note says so.
        """
        targets.made(client_of(workspace), name)
        found = AmlCompute(workspace, name)
        found.config = provisioning_configuration
        return found

    @staticmethod
    def list(workspace: Any) -> "Sequence[ComputeTarget]":
        """Return the targets that there are."""
        return [AmlCompute(workspace, name) for name in targets.serving(client_of(workspace))]

    @property
    def provisioning_state(self) -> str:
        """Always "Succeeded"."""
        return "Succeeded"

    def wait_for_completion(
        self,
        show_output: bool = False,
        min_node_count: int | None = None,
        timeout_in_minutes: float | None = None,
        **unused: Any,
    ) -> None:
        """Return at once: there is nothing to wait for."""
        if show_output:
            print(f"{self.name}: {self.provisioning_state}")  # noqa: T201 - what it is asked for

    def get_status(self) -> "AmlComputeStatus":
        """Return who serves it now."""
        count = targets.serving(client_of(self.workspace)).get(self.name, 0)
        return AmlComputeStatus(count, self.config)

    status = property(get_status)

    def serialize(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "name": self.name,
            "type": self.type,
            "provisioningState": self.provisioning_state,
            "properties": self.get_status().serialize(),
        }

    def update(self, **unused: Any) -> None:
        """Return at once: executors come and go by themselves."""

    def delete(self) -> None:
        """Forget it; its executors go on.

        Raises:
            Refused: E_NOT_FOUND, it is not registered but served; it is there as long as its executors are.
        """
        targets.forgotten(client_of(self.workspace), self.name)


class AmlCompute(ComputeTarget):
    """A compute target."""

    @staticmethod
    def provisioning_configuration(
        vm_size: str = "",
        vm_priority: str = "dedicated",
        min_nodes: int = 0,
        max_nodes: int | None = None,
        idle_seconds_before_scaledown: int | None = None,
        **unused: Any,
    ) -> "AmlComputeProvisioningConfiguration":
        """Return what a target is to be, for the record: executors say what they offer."""
        return AmlComputeProvisioningConfiguration(
            vm_size, vm_priority, min_nodes, max_nodes, idle_seconds_before_scaledown
        )


class AmlComputeProvisioningConfiguration:
    """Size and number of machines, for the record."""

    def __init__(
        self,
        vm_size: str = "",
        vm_priority: str = "dedicated",
        min_nodes: int = 0,
        max_nodes: int | None = None,
        idle_seconds_before_scaledown: int | None = None,
    ) -> None:
        self.vm_size = vm_size
        self.vm_priority = vm_priority
        self.min_nodes = min_nodes
        self.max_nodes = max_nodes
        self.idle_seconds_before_scaledown = idle_seconds_before_scaledown


class AmlComputeStatus:
    """Who serves a target at the moment: an executor counts as a node."""

    def __init__(self, executors: int, config: AmlComputeProvisioningConfiguration) -> None:
        self.provisioning_state = "Succeeded"
        self.allocation_state = "Steady"
        self.current_node_count = executors
        self.target_node_count = executors
        self.vm_size = config.vm_size
        self.errors: list[Any] = []
        self.config = config

    def serialize(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "provisioningState": self.provisioning_state,
            "allocationState": self.allocation_state,
            "currentNodeCount": self.current_node_count,
            "targetNodeCount": self.target_node_count,
            "vmSize": self.vm_size,
            "vmPriority": self.config.vm_priority,
            "errors": None,
            "scaleSettings": {
                "minNodeCount": self.config.min_nodes,
                "maxNodeCount": self.config.max_nodes,
            },
        }


__all__ = [
    "AmlCompute",
    "AmlComputeProvisioningConfiguration",
    "AmlComputeStatus",
    "ComputeTarget",
    "ComputeTargetException",
]
