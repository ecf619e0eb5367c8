"""`azureml.widgets`: instead of a picture in a notebook, a line that says how to look."""

from typing import Any


class RunDetails:
    """How to look at a run."""

    def __init__(self, run_instance: Any) -> None:
        self.run = run_instance

    def show(self, render_lib: Any = None, widget_settings: Any = None) -> None:
        """Print the command that shows the run, and its state now."""
        print(f"{self.run.id}  {self.run.get_status()}  (penstock run watch {self.run.id})")  # noqa: T201

    def get_widget_data(self) -> dict[str, Any]:
        """Return what is known of the run."""
        found: dict[str, Any] = self.run.get_details()
        return found


__all__ = ["RunDetails"]
