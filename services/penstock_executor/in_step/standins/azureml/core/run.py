"""`azureml.core.Run`: the run that a script is a step of.

Metrics and tags go to penstock (penstock.current_run()), files to `./outputs` and `./logs`, which are kept with
the run. Outside of a run, calls print and go on, as Azure's offline run does.
"""

from __future__ import annotations

import os
import shutil
from typing import Any, Iterable

import penstock

from .dataset import GivenDataset, given_inputs
from .experiment import Experiment
from .workspace import Keyvault, Workspace

_KEPT = ("outputs", "logs")


class Run:
    """A run: the step's own, the pipeline's above it, or a child that is a name for some of its metrics."""

    _context: Run | None = None

    def __init__(
        self,
        experiment: Experiment | None = None,
        run_id: str = "",
        prefix: str = "",
        **options: Any,
    ) -> None:
        self._run = penstock.current_run()
        self._prefix = prefix
        self._metrics: dict[str, Any] = {}
        self._children: list[Run] = []
        self._properties: dict[str, str] = {}
        self.id = run_id or os.environ.get("AZUREML_RUN_ID", "") or f"OfflineRun_{os.getpid()}"
        self.experiment = experiment or Experiment(Workspace(), self._run.experiment or "offline")
        self.name = self.display_name = prefix.rstrip("/") or self._run.step
        self.number = 1
        self.type = "azureml.StepRun"
        self.status = "Running"
        self.parent: Run | None = None

    @classmethod
    def get_context(cls, allow_offline: bool = True, **options: Any) -> Run:
        """Return the run that this code is a step of; the same each time.

        Raises:
            RunEnvironmentException: there is none, and `allow_offline` is false.
        """
        if Run._context is None:
            Run._context = run = cls()
            if not run._run.offline:
                run.parent = Run(run.experiment, os.environ.get("AZUREML_ROOT_RUN_ID", run._run.id))
                run.parent.type = "azureml.PipelineRun"
        if Run._context._run.offline and not allow_offline:
            from ..exceptions import RunEnvironmentException

            raise RunEnvironmentException("there is no run around this code")
        return Run._context

    @staticmethod
    def get(workspace: Any, run_id: str) -> Run:
        """Return the current run, the only one that a step can see."""
        return Run.get_context()

    # -- metrics ---------------------------------------------------------------------------------
    def log(self, name: str, value: Any, description: str = "", step: int | None = None) -> None:
        """Log one value; several under one name make a list."""
        self._run.log(self._prefix + name, value)
        before = self._metrics.get(name)
        if name not in self._metrics:
            self._metrics[name] = value
        else:
            self._metrics[name] = [*(before if isinstance(before, list) else [before]), value]

    def log_list(self, name: str, value: Iterable[Any], description: str = "") -> None:
        """Log a list of values."""
        self._metrics[name] = values = list(value)
        self._run.log_list(self._prefix + name, values)

    def log_row(self, name: str, description: str = "", **columns: Any) -> None:
        """Log one more row of a table."""
        self._run.log_row(self._prefix + name, **columns)
        table = self._metrics.setdefault(name, {})
        for column, value in columns.items():
            table.setdefault(column, []).append(value)

    def log_table(self, name: str, value: dict[str, Any], description: str = "") -> None:
        """Log a whole table: columns, or single values, by name."""
        columns = {
            key: one if isinstance(one, (list, tuple)) else [one] for key, one in value.items()
        }
        self._metrics[name] = value
        self._run.log_table(self._prefix + name, columns)

    def log_image(
        self, name: str, path: Any = None, plot: Any = None, description: str = ""
    ) -> None:
        """Log an image: a file, or anything with `savefig`."""
        self._run.log_image(self._prefix + name, path=path, plot=plot)

    def log_confusion_matrix(self, name: str, value: Any, description: str = "") -> None:
        """Log a confusion matrix: as a file, since it is no table of columns."""
        self._log_json(name, value)

    log_accuracy_table = log_residuals = log_predictions = log_confusion_matrix

    def _log_json(self, name: str, value: Any) -> None:
        import json

        self._metrics[name] = value
        os.makedirs("outputs", exist_ok=True)
        path = os.path.join("outputs", f"{name.replace('/', '_')}.json")
        with open(path, "w", encoding="utf-8") as file:
            file.write(value if isinstance(value, str) else json.dumps(value, default=str))

    def get_metrics(
        self, name: str | None = None, *arguments: Any, **options: Any
    ) -> dict[str, Any]:
        """Return what this process has logged."""
        if name is not None:
            return {name: self._metrics[name]} if name in self._metrics else {}
        return dict(self._metrics)

    # -- tags and properties ---------------------------------------------------------------------
    @property
    def tags(self) -> dict[str, str]:
        """Tags of the run."""
        return dict(self._run.tags)

    def tag(self, key: str, value: Any = None) -> None:
        """Tag the run."""
        self._run.tag(key, "" if value is None else str(value))

    def set_tags(self, tags: dict[str, Any]) -> None:
        """Tag the run."""
        for key, value in tags.items():
            self.tag(key, value)

    def get_tags(self) -> dict[str, str]:
        """Return the run's tags."""
        return self.tags

    def remove_tags(self, tags: Any) -> None:
        """Leave them: a tag that was sent stays."""

    @property
    def properties(self) -> dict[str, str]:
        """What `add_properties` was given."""
        return dict(self._properties)

    def add_properties(self, properties: dict[str, Any]) -> None:
        """Keep properties, as tags."""
        self._properties.update({key: str(value) for key, value in properties.items()})
        self.set_tags(properties)

    get_properties = lambda self: self.properties

    # -- files -----------------------------------------------------------------------------------
    def upload_file(self, name: str, path_or_stream: Any, datastore_name: str | None = None) -> str:
        """Keep a file, or what a stream holds, with the run; return its name."""
        target = self._kept(name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if hasattr(path_or_stream, "read"):
            data = path_or_stream.read()
            with open(target, "wb") as file:
                file.write(data.encode() if isinstance(data, str) else data)
        elif os.path.abspath(path_or_stream) != os.path.abspath(target):
            shutil.copyfile(path_or_stream, target)
        return name

    def upload_files(
        self, names: list[str], paths: list[str], *arguments: Any, **options: Any
    ) -> None:
        """Keep files with the run."""
        for name, path in zip(names, paths):
            self.upload_file(name, path)

    def upload_folder(self, name: str, path: str, *arguments: Any, **options: Any) -> None:
        """Keep a folder with the run."""
        target = self._kept(name)
        if os.path.abspath(path) != os.path.abspath(target):
            shutil.copytree(path, target, dirs_exist_ok=True)

    def get_file_names(self) -> list[str]:
        """Return the names of the files that are kept with the run."""
        return [
            os.path.join(root, name)
            for top in _KEPT
            for root, _, names in os.walk(top)
            for name in sorted(names)
        ]

    def download_file(self, name: str, output_file_path: str | None = None, **options: Any) -> None:
        """Copy a file that this step keeps with the run."""
        target = output_file_path or os.path.basename(name)
        if os.path.isdir(target):
            target = os.path.join(target, os.path.basename(name))
        shutil.copyfile(self._kept(name), target)

    def download_files(
        self, prefix: str | None = None, output_directory: str | None = None, **options: Any
    ) -> None:
        """Copy the files whose names begin with `prefix`."""
        for name in self.get_file_names():
            if name.startswith(prefix or ""):
                target = os.path.join(output_directory or ".", name)
                os.makedirs(os.path.dirname(target), exist_ok=True)
                if os.path.abspath(target) != os.path.abspath(name):
                    shutil.copyfile(name, target)

    @staticmethod
    def _kept(name: str) -> str:
        name = name.lstrip("/")
        return name if name.split("/", 1)[0] in _KEPT else os.path.join("outputs", name)

    def register_model(
        self,
        model_name: str,
        model_path: str | None = None,
        tags: dict[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """Offer a file of the run, or a folder, as a model. See Model.register."""
        from .model import Model

        path = self._kept(model_path or model_name)
        if not os.path.exists(path) and model_path and os.path.exists(model_path):
            path = model_path
        return Model.register(self.experiment.workspace, path, model_name, tags, **options)

    # -- data, secrets ---------------------------------------------------------------------------
    @property
    def input_datasets(self) -> dict[str, GivenDataset]:
        """The step's data inputs by name: their paths, that can be used as datasets too."""
        return given_inputs()

    @property
    def output_datasets(self) -> dict[str, str]:
        """The paths of the step's outputs by name."""
        return dict(self._run.outputs)

    def get_secret(self, name: str) -> str:
        """Return a secret. Raises as Keyvault.get_secret."""
        return Keyvault().get_secret(name)

    def get_secrets(self, names: list[str]) -> dict[str, str]:
        """Return several secrets."""
        return Keyvault().get_secrets(names)

    # -- the tree, and life ----------------------------------------------------------------------
    def child_run(self, name: str | None = None, *arguments: Any, **options: Any) -> Run:
        """Return a child: its metrics are this step's, under its name."""
        name = name or f"child{len(self._children) + 1}"
        child = Run(self.experiment, f"{self.id}_{name}", f"{self._prefix}{name}/")
        child.parent = self
        self._children.append(child)
        return child

    def create_children(
        self, count: int | None = None, tag_key: Any = None, tag_values: Any = None
    ) -> list[Run]:
        """Return several children."""
        return [self.child_run() for _ in range(count or len(tag_values or ()))]

    def get_children(self, *arguments: Any, **options: Any) -> Iterable[Run]:
        """Return the children that were made here."""
        return iter(self._children)

    def start(self) -> None:
        """Be running."""
        self.status = "Running"

    def complete(self, *arguments: Any) -> None:
        """Be complete. The step's own state comes from its process alone."""
        self.status = "Completed"

    def fail(self, error_details: Any = None, error_code: Any = None, *arguments: Any) -> None:
        """Be failed. The step's own state comes from its process alone."""
        self.status = "Failed"
        if error_details is not None:
            self._run.tag("error", str(error_details)[:1000])

    def cancel(self) -> None:
        """Be cancelled. The step's own state comes from its process alone."""
        self.status = "Canceled"

    def flush(self, timeout_seconds: float = 300) -> None:
        """Return when everything logged so far has been taken in."""
        self._run.flush()

    def wait_for_completion(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Return at once."""
        return self.get_details()

    def get_status(self) -> str:
        """Return the status, as far as this process knows."""
        return self.status

    def get_details(self) -> dict[str, Any]:
        """Return id, status and properties."""
        return {"runId": self.id, "status": self.status, "properties": self.properties}

    def get_portal_url(self) -> str:
        """Return no address: there is no portal."""
        return ""

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error is None:
            self.complete()
        else:
            self.fail(error)

    def __repr__(self) -> str:
        return f"Run(Experiment: {self.experiment.name}, Id: {self.id}, Status: {self.status})"


_OfflineRun = Run
_SubmittedRun = Run
