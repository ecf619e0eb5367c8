"""Files of what can be registered (Azure ML's YAML), read; their local files stored; registered.

component     type: command | pipeline …      the step that it is, its code stored
environment   image | build | conda_file | our own pip, python
data          path: local, https:, a datastore      type: uri_file | uri_folder | mltable
model         path: as data's                       type: custom_model | mlflow_model | triton_model
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from penstock.contracts.data import is_elsewhere, local_text
from penstock.contracts.registry import AssetCommand, AssetKind, DataContent
from penstock.contracts.spec import DataType, EnvironmentSpec, Input, PipelineSpec, StepSpec
from penstock.errors import Invalid, NotFound
from penstock.ids import checked_name
from penstock.sdk.definition import Definition, Local
from penstock.sdk.submissions import who

if TYPE_CHECKING:
    from penstock.sdk.yaml_section import Section
    from penstock.sdk.yaml_text import Document

STEP = "component"
INPUT = "data"
DATA_TYPES = ("uri_folder", "uri_file", "mltable")
MODEL_TYPES = ("custom_model", "mlflow_model", "triton_model")
_HEAD = ("$schema", "name", "version", "description", "display_name", "tags", "properties")
_DATA = ("type", "path", "datastore")
_MODEL = ("type", "path", "datastore", "flavors", "stage", "job_name")
_ENVIRONMENT = (
    "image", "build", "conda_file", "pip", "python", "variables", "os_type", "inference_config",
    "datastore",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Registering:
    """What is to be registered, and the definition that holds it while its files are stored."""

    command: AssetCommand
    definition: Definition


def read_asset(kind: AssetKind, file: str | Path) -> Registering:
    """Return what a YAML file registers.

    Raises:
        NotFound: E_NOT_FOUND, no such file.
        Invalid: what is wrong with it, at file:line:column.
    """
    from penstock.sdk.yaml_reading import file_read

    document, path = file_read(file)
    return asset_of(kind, document, path)


def asset_of(kind: AssetKind, document: "Document", path: Path) -> Registering:
    """Return what a document registers; relative paths in it start from `path`'s folder.

    Raises:
        Invalid: what is wrong with it, at file:line:column.
    """
    from penstock.sdk.pipeline_files import component_of
    from penstock.sdk.yaml_environments import spelled
    from penstock.sdk.yaml_reading import Reading
    from penstock.sdk.yaml_section import Section

    top = Section(document, (), document.value)
    version = spelled(top, "version")
    command = AssetCommand(
        kind=kind,
        name=checked_name(top.text("name", required=True), top.where("name")),
        version=version,
        description=top.text("description"),
        display_name=top.text("display_name"),
        tags={key: str(value) for key, value in (top["tags"] or {}).items()}
        if "tags" in top
        else {},
        who=who(),
    )
    if kind == "component":
        return Registering(command, component_of(document, path))
    if kind == "environment":
        from penstock.sdk.yaml_environments import contents_of

        notes = tuple(top.unknown_notes((*_HEAD, *_ENVIRONMENT), ()))
        reading = Reading(strict=False, opened=(path,))
        reading.repeated(document)
        content = {key: value for key, value in document.value.items() if key not in _HEAD}
        environment = contents_of(
            Section(document, (), content), ("steps", STEP, "environment"), reading
        )
        step = StepSpec(command="true", environment=environment)
        spec = PipelineSpec(steps={STEP: step})
        definition = Definition(
            spec,
            tuple(reading.locals),
            notes + tuple(reading.notes),
            path.parent,
            reading.places,
        )
        return Registering(command, definition)
    return Registering(command, _data_in(kind, top, path))


def data_definition(kind: AssetKind, type_: str, path: str | Path, folder: Path) -> Definition:
    """Return the definition that stores data; local paths are taken from `folder`.

    Raises:
        NotFound: E_DATA_MISSING.
        Invalid: E_TYPE, no type of this kind.
    """
    allowed = MODEL_TYPES if kind == "model" else DATA_TYPES
    wanted = type_.lower() or allowed[0]
    if wanted not in allowed:
        raise Invalid(
            f"{type_!r} is no type of a {kind}; allowed: {', '.join(allowed)}",
            code="E_TYPE",
            where="type",
        )
    text = str(path)
    place = ("steps", STEP, "inputs", INPUT)
    entry = Input(type=cast("DataType", wanted))
    locals_: tuple[Local, ...] = ()
    if is_elsewhere(text):
        entry = Input(type=cast("DataType", wanted), path=text)
    else:
        local = (folder / local_text(text)).expanduser()
        if not local.exists():
            raise NotFound("no such file or folder", code="E_DATA_MISSING", where=str(local))
        locals_ = (Local(place, local),)
    step = StepSpec(command="true", inputs={INPUT: entry})
    return Definition(PipelineSpec(steps={STEP: step}), locals_, (), folder)


def completed(command: AssetCommand, spec: PipelineSpec) -> AssetCommand:
    """Return the command with the content that a stored definition holds."""
    import msgspec

    step = spec.steps[STEP]
    if command.kind == "component":
        return msgspec.structs.replace(command, component=step, git=spec.git)
    if command.kind == "environment":
        environment = step.environment
        if isinstance(environment, str):
            environment = EnvironmentSpec(name=environment)
        return msgspec.structs.replace(command, environment=environment, git=spec.git)
    given = step.inputs[INPUT]
    if not isinstance(given, Input):
        raise Invalid("no data", code="E_EMPTY", where="path")
    content = DataContent(type=cast("DataType", given.type), path=given.path)
    return msgspec.structs.replace(command, data=content, git=spec.git)


def _data_in(kind: AssetKind, top: "Section", path: Path) -> Definition:
    from dataclasses import replace

    notes = tuple(top.unknown_notes((*_HEAD, *(_MODEL if kind == "model" else _DATA)), ()))
    notes += tuple(
        f"{one.where}: {one.message}; the last one counts" for one in top.document.repeated
    )
    text = top.text("path", required=True)
    try:
        definition = data_definition(kind, top.text("type"), text, path.parent)
    except Invalid as error:
        raise type(error)(
            error.message, code=error.code, where=top.where("type"), hint=error.hint
        ) from error
    except NotFound as error:
        raise NotFound(
            f"{text} does not exist", code=error.code, where=top.where("path"), hint=error.where
        ) from error
    return replace(definition, notes=notes)
