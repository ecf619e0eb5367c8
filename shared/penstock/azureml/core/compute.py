"""Compute targets: names that executors serve."""

from collections.abc import Sequence
from typing import Any

from penstock.azureml.exceptions import ComputeTargetException
from penstock.sdk.client import client_of


class ComputeTarget:
    """A compute target that somebody serves.

    Raises:
        ComputeTargetException: E_NOT_FOUND, nobody does.
    """

    def __init__(self, workspace: Any, name: str) -> None:
        self.workspace = workspace
        self.name = name
        serving = [e for e in client_of(workspace).executors() if name in e.targets]
        if not serving:
            raise ComputeTargetException(
                f"no executor serves {name!r}", code="E_NOT_FOUND", where="compute_target"
            )

    @staticmethod
    def list(workspace: Any) -> "Sequence[ComputeTarget]":
        """Return the targets that somebody serves."""
        names = {name for e in client_of(workspace).executors() for name in e.targets}
        return [AmlCompute(workspace, name) for name in sorted(names)]


class AmlCompute(ComputeTarget):
    """A compute target."""
