"""`azureml.core.Experiment`: the name that groups runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .run import Run
    from .workspace import Workspace


class Experiment:
    """The experiment of the current run, or one of another name whose runs are this step's."""

    def __init__(self, workspace: Workspace, name: str) -> None:
        self.workspace = workspace
        self.name = name
        self.id = name

    def start_logging(self, *arguments: Any, **options: Any) -> Run:
        """Return a child of the current run: what it logs belongs to this step."""
        from .run import Run

        return Run.get_context().child_run()

    def __repr__(self) -> str:
        return f"Experiment(Name: {self.name}, Workspace: {self.workspace.name})"
