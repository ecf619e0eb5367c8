"""Files onto a datastore and off it: as runs, carried out by an executor, who has the way there and the credentials.

A client that only reaches the bus can do this, and what was moved when by whom is in the list of runs.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from penstock.contracts.data import checked_data_path
from penstock.contracts.queries import RunView
from penstock.contracts.spec import DataType, Input, Output, PipelineSpec, StepSpec
from penstock.errors import NotFound, Refused
from penstock.ids import checked_name
from penstock.sdk.definition import Definition, Local

if TYPE_CHECKING:
    from penstock.sdk.async_client import AsyncClient

UPLOAD, DOWNLOAD = "datastore-upload", "datastore-download"
STEP = "files"
DATA = "data"


def upload_definition(datastore: str, source: Path, path: str = "") -> Definition:
    """Return the pipeline that writes a local file or folder to a datastore.

    A folder's contents come to lie below `path`. A file lies at `path`, or, if that ends with "/" or is
    empty, in it under its own name.

    Raises:
        NotFound: E_DATA_MISSING, there is no such file or folder.
        Invalid: E_ID, E_PATH.
    """
    if not source.exists():
        raise NotFound("no such file or folder", code="E_DATA_MISSING", where=str(source))
    is_file = not source.is_dir()
    if is_file and (not path or path.endswith("/")):
        path += source.name
    kind: DataType = "uri_file" if is_file else "uri_folder"
    step = StepSpec(
        kind="copy",
        inputs={DATA: Input(type=kind)},
        outputs={DATA: Output(type=kind, path=_uri(datastore, path))},
    )
    local = Local(("steps", STEP, "inputs", DATA), source)
    return Definition(PipelineSpec(name=UPLOAD, steps={STEP: step}), (local,))


def download_definition(datastore: str, path: str = "") -> Definition:
    """Return the pipeline whose one output is what lies at a path of a datastore.

    Raises:
        Invalid: E_ID, E_PATH.
    """
    step = StepSpec(
        kind="copy", inputs={DATA: Input(path=_uri(datastore, path))}, outputs={DATA: None}
    )
    return Definition(PipelineSpec(name=DOWNLOAD, steps={STEP: step}))


async def upload(
    client: "AsyncClient", datastore: str, source: Path, path: str = "", *, compute: str = ""
) -> RunView:
    """Write a local file or folder to a datastore and return the run that did it. Raises as `ended_well`."""
    return await ended_well(client, upload_definition(datastore, source, path), compute)


async def download(
    client: "AsyncClient", datastore: str, path: str, into: Path, *, compute: str = ""
) -> RunView:
    """Write what lies at a path of a datastore below a local folder; return the run that brought it.

    Raises:
        Refused: as `ended_well`.
    """
    view = await ended_well(client, download_definition(datastore, path), compute)
    await client.download(view.run, into, step=STEP, output=DATA)
    return view


async def ended_well(client: "AsyncClient", definition: Definition, compute: str = "") -> RunView:
    """Run a definition to its end and return the run.

    Raises:
        Refused: the request was refused, or the first step that failed says why it did.
    """
    answer = await client.submit(definition, compute=compute)
    view = await client.wait(answer.run)
    if view.state != "succeeded":
        for step in view.steps:
            if step.error is not None:
                error = step.error
                kind = NotFound if error.code == "E_DATA_MISSING" else Refused
                raise kind(error.message, code=error.code, where=error.where, hint=error.hint)
        raise Refused(
            f"run {view.run} was {view.state}",
            code="E_RUN_FAILED",
            where=view.run,
            hint=f"penstock run show {view.run}",
        )
    return view


def _uri(datastore: str, path: str) -> str:
    checked_name(datastore, "datastore")
    clean = checked_data_path(path.strip("/"), where="path")
    return f"azureml://datastores/{datastore}/paths/{clean}"
