"""Registered data: a version is a name for bytes. Registering is an ordinary run of one step."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TypeVar

from penstock.azureml.data.datasets import AbstractDataset
from penstock.azureml.exceptions import unsupported
from penstock.contracts.spec import Output, PipelineSpec, StepSpec
from penstock.errors import PenstockError
from penstock.ids import checked_name
from penstock.sdk.client import client_of
from penstock.sdk.definition import Definition, Local
from penstock.sdk.step_specs import data_input

D = TypeVar("D", bound=AbstractDataset)


def stored_as(workspace: Any, source: Any, name: str, kind: str) -> Any:
    """Register data or a model; return the run that has done it. `source`: a `DataInput`."""
    local: list[Local] = []
    given = data_input(source, ("steps", "register", "inputs", "files"), local)
    output = Output(type=kind, name=checked_name(name, "register"))  # type: ignore[arg-type]
    step = StepSpec(kind="copy", inputs={"files": given}, outputs={"files": output})
    spec = PipelineSpec(name="register", steps={"register": step})
    run = client_of(workspace).submit(Definition(spec, tuple(local)), experiment="register")
    lacking = [note for note in run.notes if "is not registered" in note]
    if lacking:
        with suppress(PenstockError):  # it may have ended already
            run.cancel("nothing would be registered")
        raise unsupported(f"to register {name!r}", lacking[0])
    run.wait_for_completion(show_output=False)
    return run


def registered(
    dataset: D, workspace: Any, name: str, description: str, tags: Mapping[str, str]
) -> D:
    """Register a dataset and return it under its name."""
    source = dataset.source()
    is_file = source.type == "uri_file"
    stored_as(workspace, source, name, "uri_file" if is_file else "uri_folder")
    return dataset
