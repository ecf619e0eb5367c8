"""Pipelines in Azure ML's CLI v2 YAML: files become the `PipelineSpec` that everything else speaks.

What Azure's client only warns about is a note here; what this release cannot do is refused by name
(E_UNSUPPORTED); a key that nearly names one that matters is refused with "did you mean". Our own keys,
which Azure's client ignores with a warning: `depends_on` (or `needs`), `hash_paths`, `is_deterministic`
on any step, `limits.retries`, `limits.retry_delay`, `limits.deadline`, `limits.expected`,
`settings.deadline`.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from penstock.contracts.codec import converted
from penstock.contracts.resources import Resources
from penstock.contracts.spec import (
    DATA,
    FILES,
    PRIMITIVES,
    Input,
    Limits,
    Output,
    PipelineSpec,
    Scalar,
    Settings,
    StepSpec,
)
from penstock.errors import Invalid, NotFound
from penstock.ids import checked_name
from penstock.sdk.definition import Definition, Local, Place, checked
from penstock.sdk.yaml_section import Section
from penstock.sdk.yaml_text import Document, document_of

_EXPRESSION = re.compile(r"^\s*(\$\{\{.*\}\}|\$\[\[.*\]\])\s*$")
_LEGACY = re.compile(r"\$\{\{\s*(?=(?:jobs|inputs)\.)")
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):(?!\\)")

_SILENT = ("$schema", "properties", "identity", "services", "comment")
_TOP = (
    "type", "name", "display_name", "description", "experiment_name", "experiment", "tags",
    "inputs", "outputs", "jobs", "steps", "settings", "compute",
)  # fmt: skip
_NODE = (
    "type", "command", "code", "inputs", "outputs", "environment_variables", "environment",
    "limits", "resources", "compute", "depends_on", "needs", "hash_paths", "is_deterministic",
    "display_name", "description",
)  # fmt: skip
_NODE_UNUSED = ("queue_settings", "tags", "name", "version", "experiment_name")
_SETTINGS = ("default_compute", "continue_on_step_failure", "force_rerun", "deadline")
_SETTINGS_UNUSED = ("default_datastore", "default_datestore")  # the second is upstream's own slip
_NODE_TYPES = ("parallel", "sweep", "spark", "automl", "data_transfer", "import", "pipeline",
               "if_else", "do_while", "parallel_for", "finetuning")  # fmt: skip
_NODE_UNSUPPORTED = ("component", "trial", "distribution", "search_space", "task", "input_data",
                     "entry", "objective", "sampling_algorithm")  # fmt: skip
_ANYWHERE = ("local", "serverless", "")  # names of computes that mean "wherever there is room"
_DULL_NAMES = ("pipeline", "job", "main", "index")


def read_pipeline(file: str | Path) -> Definition:
    """Return the pipeline in a YAML file; `-` is not a file.

    Raises:
        NotFound: E_NOT_FOUND, no such file.
        Invalid: E_PATH (a folder, or not readable), or any refusal of its contents, with file:line:column.
    """
    path = Path(file)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound("no such file", where=str(file)) from error
    except IsADirectoryError as error:
        raise Invalid(
            "a folder; a pipeline is a file",
            code="E_PATH",
            where=str(file),
            hint=_file_in(path),
        ) from error
    except OSError as error:
        raise Invalid(error.strerror or str(error), code="E_PATH", where=str(file)) from error
    return pipeline_of(document_of(data, str(file)), path.resolve())


def pipeline_of(document: Document, file: Path) -> Definition:
    """Return the pipeline in a document; relative paths start from the folder of `file`.

    Raises:
        Invalid: as `read_pipeline`.
    """
    return _Reader(document, file).definition()


def _file_in(folder: Path) -> str:
    found = sorted(p for p in folder.glob("*.y*ml") if p.suffix in (".yml", ".yaml"))
    return f"did you mean {str(found[0])!r}?" if len(found) == 1 else ""


def _name_of(file: Path) -> str:
    stem = file.stem if file.stem.lower() not in _DULL_NAMES else file.parent.name
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-")[:63] or "unnamed"


class _Reader:
    """Reads one document; collects notes, local references and places on the way."""

    def __init__(self, document: Document, file: Path) -> None:
        self.document = document
        self.file = file
        self.root = file.parent
        self.notes: list[str] = []
        self.locals: list[Local] = []
        self.places: dict[Place, str] = {}
        self.environments: dict[str, list[str]] = {}

    def definition(self) -> Definition:
        top = Section(self.document, (), self.document.value)
        self.check_type(top)
        if "component" in top:
            raise top.unsupported("component", "write the steps under `jobs:`")
        top.refuse_unknown((*_TOP, *_SILENT))
        steps_key = "steps" if "steps" in top else "jobs"
        if "steps" in top and "jobs" in top:
            raise top.refusal("steps", "E_TYPE", "`jobs` and `steps` are the same; give one")
        steps = {name: self.step(node, name) for name, node in top.section(steps_key).sections()}
        self.places[("steps",)] = self.document.where(steps_key)
        settings = self.settings(top)
        name = top.text("name")
        spec = PipelineSpec(
            name=checked_name(name, top.where("name")) if name else _name_of(self.file),
            display_name=top.text("display_name"),
            description=top.text("description"),
            experiment=top.text("experiment_name") or top.text("experiment"),
            tags=self.tags(top),
            inputs=self.pipeline_inputs(top),
            outputs=self.outputs(top.section("outputs"), ("outputs",)),
            steps=steps,
            settings=settings,
        )
        for environment, users in self.environments.items():
            self.notes.append(
                f"environment {environment} is not built in this release: "
                f"{', '.join(users)} run{'s' if len(users) == 1 else ''} in the executor's own Python"
            )
        return checked(
            Definition(spec, tuple(self.locals), tuple(self.notes), self.root, self.places)
        )

    def check_type(self, top: Section) -> None:
        kind = top.text("type")
        if kind == "pipeline":
            return
        if not kind and ("jobs" in top or "steps" in top):
            raise Invalid(
                "no `type`", code="E_TYPE", where=self.document.file, hint="add `type: pipeline`"
            )
        if kind.lower() == "pipeline":
            raise top.refusal(
                "type", "E_TYPE", f"{kind!r} is not a type", "did you mean 'pipeline'?"
            )
        raise top.refusal(
            "type",
            "E_UNSUPPORTED",
            f"type {kind or 'command'!r} is not supported in this release; supported: pipeline",
            "put the command under `jobs:` of a `type: pipeline` file",
        )

    # -- settings and other small things ------------------------------------------------------------

    def settings(self, top: Section) -> Settings:
        section = top.section("settings")
        for key in ("on_init", "on_finalize"):
            if key in section:
                raise section.unsupported(key, "use `depends_on` to order steps")
        self.notes += section.unknown_notes(_SETTINGS, _SETTINGS_UNUSED)
        compute = self.compute(section, "default_compute") or self.compute(top, "compute")
        return Settings(
            default_compute=compute,
            continue_on_step_failure=section.flag("continue_on_step_failure", default=False),
            force_rerun=section.flag("force_rerun", default=False),
            deadline=section.number("deadline"),
        )

    def compute(self, section: Section, key: str) -> str:
        text = section.text(key).removeprefix("azureml:")
        if text in _ANYWHERE:
            return ""
        if _EXPRESSION.match(text):
            return _LEGACY.sub("${{parent.", text)
        return checked_name(text, section.where(key))

    def tags(self, top: Section) -> dict[str, str]:
        tags = top.section("tags")
        return {key: tags.text(key, required=True) for key in tags}

    # -- inputs and outputs -------------------------------------------------------------------------

    def pipeline_inputs(self, top: Section) -> dict[str, Input | str | int | float | bool]:
        section = top.section("inputs")
        result: dict[str, Input | str | int | float | bool] = {}
        for name in section:
            checked_name(name, section.where(name))
            place = ("inputs", name)
            self.places[place] = section.where(name)
            value = self.input(section, name, place)
            if value is None:
                raise section.refusal(
                    name, "E_TYPE", f"input {name!r} has neither value nor type",
                    "give a value, or `type:` to have it set at submission",
                )  # fmt: skip
            result[name] = value
        return result

    def step_inputs(self, node: Section, step: str) -> dict[str, Any]:
        section = node.section("inputs")
        result: dict[str, Any] = {}
        for name in section:
            checked_name(name, section.where(name))
            place = ("steps", step, "inputs", name)
            self.places[place] = section.where(name)
            value = self.input(section, name, place)
            result[name] = _LEGACY.sub("${{parent.", value) if isinstance(value, str) else value
        return result

    def input(self, section: Section, name: str, place: Place) -> Input | Scalar | None:
        """Return an input in object form, a literal, or None for null."""
        value = section[name]
        if value is None or isinstance(value, str | int | float | bool):
            return value
        declared = section.section(name)
        declared.refuse_unknown(
            (
                "type", "value", "default", "path", "mode", "optional", "min", "max", "enum",
                "description", "path_on_compute", "datastore", "name", "version",
            )
        )  # fmt: skip
        kind = declared.text("type").lower() or ("" if "value" in declared else "uri_folder")
        if not kind:  # {value: 3}: a literal in object form
            literal: Scalar | None = declared.scalar("value")
            return literal
        if kind not in (*PRIMITIVES, *DATA):
            raise declared.unknown_choice("type", (*PRIMITIVES, *DATA))
        common: dict[str, Any] = {
            "type": kind,
            "mode": declared.text("mode").lower(),
            "optional": declared.flag("optional", default=False),
            "description": declared.text("description"),
        }
        if kind in PRIMITIVES:
            for key in ("value", "default"):
                common[key] = declared.typed(key, kind)
            for key in ("min", "max"):
                common[key] = declared.number(key) if key in declared else None
            common["enum"] = tuple(declared.items("enum"))
            return converted(common, Input, section.where(name))
        result: Input = converted(common, Input, section.where(name))
        path = declared.text("path")
        if not path:
            return result
        return converted(
            {**common, "path": self.data_path(declared, path, place, kind)},
            Input,
            section.where(name),
        )

    def data_path(self, declared: Section, path: str, place: Place, kind: str) -> str:
        """Return a data path that needs no upload, or note the local one and return nothing."""
        if _EXPRESSION.match(path):
            return _LEGACY.sub("${{parent.", path)
        if path.startswith("artifact:"):
            return path
        local = self.local_path(declared, "path", path)
        if kind in FILES and local.is_dir():
            raise declared.refusal(
                "path", "E_TYPE", f"{path} is a folder; the input is a {kind}",
                "declare `type: uri_folder`",
            )  # fmt: skip
        self.locals.append(Local(place, local))
        return ""

    def local_path(self, section: Section, key: str, text: str) -> Path:
        scheme = _SCHEME.match(text)
        if scheme and scheme.group(1) != "file":
            raise section.refusal(
                key,
                "E_UNSUPPORTED",
                f"{text} is not on this machine; supported: a local path or artifact:<digest>",
                "download it, or name it by its digest",
            )
        path = self.root / text.removeprefix("file://").removeprefix("file:")
        if not path.exists():
            raise section.refusal(key, "E_PATH", f"{text} does not exist", f"looked at {path}")
        return path

    def outputs(self, section: Section, place: Place) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for name in section:
            checked_name(name, section.where(name))
            self.places[(*place, name)] = section.where(name)
            value = section[name]
            if value is None:
                result[name] = None
            elif isinstance(value, str):
                if not _EXPRESSION.match(value):
                    raise section.refusal(
                        name, "E_TYPE", f"{value!r} is no binding; allowed: an object, nothing, or "
                        "${{parent.outputs.…}}",
                    )  # fmt: skip
                result[name] = value
            else:
                result[name] = self.output(section.section(name), name)
        return result

    def output(self, declared: Section, name: str) -> Output:
        declared.refuse_unknown(("type", "path", "mode", "description", "name", "version"))
        kind = declared.text("type").lower() or "uri_folder"
        if kind not in DATA:
            raise declared.unknown_choice("type", DATA)
        path = declared.text("path")
        if path and not _EXPRESSION.match(path):
            self.notes.append(
                f"{declared.where('path')}: the path of output {name!r} is not used: "
                "outputs are stored by content"
            )
            path = ""
        if declared.text("name"):
            self.notes.append(
                f"{declared.where('name')}: output {name!r} is not registered under a name in this release"
            )
        return converted(
            {
                "type": kind,
                "path": path,
                "mode": declared.text("mode").lower(),
                "description": declared.text("description"),
            },
            Output,
            declared.where(),
        )

    # -- steps --------------------------------------------------------------------------------------

    def step(self, node: Section, name: str) -> StepSpec:
        checked_name(name, node.where())
        place = ("steps", name)
        self.places[place] = node.where()
        self.check_node(node)
        for key in _NODE:
            if key in node:
                self.places[(*place, key)] = node.where(key)
        hash_paths = tuple(node.texts("hash_paths"))
        self.note_environment(node, name)
        return StepSpec(
            command=node.text("command", required=True),
            code=self.code(node, place, hash_paths),
            hash_paths=hash_paths,
            inputs=self.step_inputs(node, name),
            outputs=self.outputs(node.section("outputs"), (*place, "outputs")),
            environment_variables=self.variables(node),
            compute=self.compute(node, "compute"),
            limits=self.limits(node),
            resources=self.resources(node),
            needs=tuple(dict.fromkeys([*node.texts("depends_on"), *node.texts("needs")])),
            is_deterministic=node.flag("is_deterministic", default=True),
            display_name=node.text("display_name"),
            description=node.text("description"),
        )

    def check_node(self, node: Section) -> None:
        kind = node.text("type")
        if kind and kind != "command":
            if kind in _NODE_TYPES:
                raise node.refusal(
                    "type",
                    "E_UNSUPPORTED",
                    f"step type {kind!r} is not supported in this release; supported: command",
                )
            raise node.unknown_choice("type", ("command", *_NODE_TYPES))
        for key in _NODE_UNSUPPORTED:
            if key in node:
                raise node.unsupported(key, _INSTEAD.get(key, "supported steps: `command:`"))
        self.notes += node.unknown_notes((*_NODE, *_SILENT), _NODE_UNUSED)

    def note_environment(self, node: Section, name: str) -> None:
        if "environment" not in node or node["environment"] is None:
            return
        value = node["environment"]
        shown = value if isinstance(value, str) else str(node.section("environment").text("image"))
        self.environments.setdefault(shown or "(inline)", []).append(name)

    def code(self, node: Section, place: Place, hash_paths: tuple[str, ...]) -> str:
        text = node.text("code")
        if not text or text.startswith("artifact:"):
            if hash_paths:
                raise node.refusal(
                    "hash_paths", "E_TYPE", "hash_paths without a local `code:` folder"
                )
            return text
        if text.startswith(("azureml:", "git+", "git:")):
            raise node.unsupported("code", "give a local folder")
        self.locals.append(Local((*place, "code"), self.local_path(node, "code", text), hash_paths))
        return ""

    def variables(self, node: Section) -> dict[str, str]:
        section = node.section("environment_variables")
        result: dict[str, str] = {}
        for name in section:
            if not name or "=" in name or "\0" in name:
                raise section.refusal(name, "E_ENV", f"{name!r} cannot name a variable")
            value = section.scalar(name)
            result[name] = "" if value is None else str(value)
        return result

    def limits(self, node: Section) -> Limits:
        section = node.section("limits")
        section.refuse_unknown(("timeout", "retries", "retry_delay", "deadline", "expected"))
        return Limits(
            timeout=section.number("timeout"),
            retries=section.whole("retries"),
            retry_delay=section.number("retry_delay", default=1.0),
            deadline=section.number("deadline"),
            expected=section.number("expected"),
        )

    def resources(self, node: Section) -> Resources:
        section = node.section("resources")
        if section.number("instance_count") > 1:
            raise section.unsupported("instance_count", "a step runs on one machine")
        self.notes += section.unknown_notes(_RESOURCES, _RESOURCES_UNUSED)
        given = section["docker_args"] if "docker_args" in section else ()  # noqa: SIM401 - a Section
        return Resources(
            cores=section.number("cores"),
            memory=str(section.scalar("memory") or ""),
            gpus=section.whole("gpus"),
            shm_size=str(section.scalar("shm_size") or ""),
            docker_args=given if isinstance(given, str) else tuple(section.texts("docker_args")),
            labels=tuple(section.texts("labels")),
        )


_RESOURCES = ("instance_count", "cores", "memory", "gpus", "shm_size", "docker_args", "labels")
_RESOURCES_UNUSED = ("instance_type", "locations", "properties", "max_instance_count")
_INSTEAD = {
    "component": "write the component's command, code, inputs and outputs into the step",
    "distribution": "a step runs as one process on one machine",
}


def inputs_left(spec: PipelineSpec, given: Iterable[str]) -> list[str]:
    """Return the pipeline inputs that still need a value, in the order of the file."""
    have = set(given)
    return [
        name
        for name, value in spec.inputs.items()
        if isinstance(value, Input)
        and name not in have
        and not value.optional
        and value.default is None
        and value.value is None
        and not value.path
    ]
