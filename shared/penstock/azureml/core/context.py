"""`Run.get_context()` from inside a step, by v1's names; outside of one it prints."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

from penstock.sdk.in_step import CurrentRun, current_run


class StepContext:
    """The run that this code is a step of."""

    def __init__(self, run: CurrentRun) -> None:
        self._run = run
        self.offline = run.offline
        self.id = run.id if run.offline else f"{run.id}.{run.step}"

    def __repr__(self) -> str:
        return f"Run({self.id!r})"

    @property
    def name(self) -> str:
        """The step's name."""
        return self._run.step

    display_name = name

    @property
    def experiment(self) -> Any:
        """Its experiment: `name`, and `workspace` as seen from here."""
        workspace = SimpleNamespace(
            name=os.environ.get("AZUREML_ARM_WORKSPACE_NAME", "penstock"),
            get_mlflow_tracking_uri=lambda: os.environ.get("MLFLOW_TRACKING_URI", ""),
        )
        return SimpleNamespace(name=self._run.experiment, workspace=workspace)

    @property
    def parent(self) -> Any:
        """The pipeline's run: `id`, and what is logged to it is logged to this step."""
        parent = StepContext(self._run)
        parent.id = self._run.id
        return None if self.offline else parent

    @property
    def tags(self) -> dict[str, str]:
        """The run's tags."""
        return self._run.tags

    @property
    def input_datasets(self) -> dict[str, str]:
        """Path of each input's data, by name."""
        return self._run.inputs

    @property
    def output_datasets(self) -> dict[str, str]:
        """Path that each output is to be written to, by name."""
        return self._run.outputs

    def get_status(self) -> str:
        """Return "Running": whoever asks from inside is."""
        return "Running"

    def log(self, name: str, value: Any, description: str = "", step: int | None = None) -> None:
        """Log a value."""
        self._run.log(name, value)

    def log_list(self, name: str, value: Sequence[Any], description: str = "") -> None:
        """Log a list of values."""
        self._run.log_list(name, value)

    def log_row(self, name: str, description: str | None = None, **columns: Any) -> None:
        """Log one more row of a table."""
        self._run.log_row(name, **columns)

    def log_table(self, name: str, value: Mapping[str, Any], description: str = "") -> None:
        """Log a table: columns by name, lists or single values."""
        columns = {k: v if isinstance(v, list | tuple) else [v] for k, v in value.items()}
        self._run.log_table(name, columns)

    def log_image(
        self, name: str, path: str | None = None, plot: Any = None, description: str = ""
    ) -> None:
        """Log an image."""
        self._run.log_image(name, path, plot)

    def tag(self, key: str, value: str | None = None) -> None:
        """Tag the run."""
        self._run.tag(key, value or "")

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Tag the run."""
        for key, value in tags.items():
            self._run.tag(key, str(value))

    add_properties = set_tags

    def get_tags(self) -> dict[str, str]:
        """Return the run's tags."""
        return dict(self._run.tags)

    def upload_file(self, name: str, path_or_stream: Any, datastore_name: Any = None) -> None:
        """Put a file among the run's files."""
        target = Path(name if name.startswith(("outputs", "logs")) else f"outputs/{name}")
        target.parent.mkdir(parents=True, exist_ok=True)
        if hasattr(path_or_stream, "read"):
            data = path_or_stream.read()
            target.write_bytes(data if isinstance(data, bytes) else data.encode())
        else:
            target.write_bytes(Path(path_or_stream).read_bytes())

    def upload_folder(self, name: str, path: str | Path, datastore_name: Any = None) -> None:
        """Put a folder's files among the run's files."""
        for file in sorted(p for p in Path(path).rglob("*") if p.is_file()):
            self.upload_file(f"{name}/{file.relative_to(path)}", file)

    def flush(self, timeout_seconds: float = 300) -> None:
        """Return when everything that was logged has arrived."""
        self._run.flush()

    def complete(self, _set_status: bool = True) -> None:
        """Do nothing: a step is done when its process ends."""

    start = complete

    def fail(self, error_details: Any = None, error_code: Any = None) -> None:
        """End the step as failed."""
        raise SystemExit(str(error_details or "failed"))

    def child_run(self, name: str | None = None, *more: Any, **named: Any) -> Self:
        """Return itself: what a child logs is logged to the step."""
        return self

    def get_metrics(self, *given: Any, **named: Any) -> dict[str, Any]:
        """Return nothing: a step's metrics are known outside of it."""
        return {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ended: object) -> None:
        self._run.flush()


def context() -> StepContext:
    """Return the run that this code is a step of."""
    return StepContext(current_run())
