"""Pipelines in Azure ML's CLI v2 YAML: files become the `PipelineSpec` that everything else speaks.

A file is a pipeline (`type: pipeline`), a command by itself (a pipeline of one step), or a component that is
run by itself. As lax as Azure ML's client where it only warns: what is not used is a note. What becomes
of each key stands in one table, azure_keys.py. The rooms:

    yaml_text, yaml_section   bytes → plain data that knows its lines
    yaml_reading              what is learnt on the way: notes, local files, places
    yaml_values               inputs and outputs
    yaml_steps, yaml_code,    steps and components
    yaml_environments, yaml_distribution
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from penstock.contracts.components import filled, filled_inputs, filled_output
from penstock.contracts.spec import (
    DATA,
    Input,
    Limits,
    Output,
    PipelineSpec,
    Scalar,
    Settings,
    StepSpec,
)
from penstock.errors import Invalid
from penstock.ids import checked_name
from penstock.sdk.azure_keys import KINDS
from penstock.sdk.definition import Definition, checked
from penstock.sdk.yaml_environments import environment_of
from penstock.sdk.yaml_reading import Reading, file_read
from penstock.sdk.yaml_section import Section
from penstock.sdk.yaml_steps import MORE, Steps, kind_of, name_like
from penstock.sdk.yaml_text import Document, with_values

_DULL_NAMES = ("pipeline", "job", "main", "index", "component")
_OTHER_FILES = {
    "schedule": "register it with: penstock schedule create --file",
    "uri_file": "register it with: penstock data create --file",
    "uri_folder": "register it with: penstock data create --file",
    "mltable": "register it with: penstock data create --file",
    "custom_model": "register it with: penstock model create --file",
    "mlflow_model": "register it with: penstock model create --file",
    "amlcompute": "register it with: penstock compute create --file",
}


def read_pipeline(
    file: str | Path, *, strict: bool = False, values: Iterable[str] = ()
) -> Definition:
    """Return the pipeline in a YAML file; `-` is not a file.

    `strict`: unknown keys are errors. `values`: `a.b.c=value` texts that are put into the file first.

    Raises:
        NotFound: E_NOT_FOUND, no such file.
        Invalid: E_PATH (a folder, or not readable), or any refusal of its contents, with file:line:column.
    """
    document, path = file_read(file)
    return pipeline_of(with_values(document, values), path, strict=strict)


def pipeline_of(document: Document, file: Path, *, strict: bool = False) -> Definition:
    """Return the pipeline in a document; relative paths start from the folder of `file`.

    Raises:
        Invalid: as `read_pipeline`.
    """
    if document.folder != file.parent:
        document = replace(document, folder=file.parent)
    return _Reader(document, file, strict=strict).definition()


def component_of(document: Document, file: Path, *, strict: bool = False) -> Definition:
    """Return the component in a document, as the one step `component` of a definition.

    What is registered is that step, once its local files are stored.

    Raises:
        Invalid: as `read_pipeline`.
    """
    reading = Reading(strict=strict, opened=(file,))
    reading.repeated(document)
    top = Section(document, (), document.value)
    step = Steps(reading).declared(top, ("steps", "component"), file)
    name = str(top.scalar("name") or "")
    return Definition(
        PipelineSpec(
            name=name if name_like(name) else _name_of(file),
            display_name=step.display_name,
            description=step.description,
            steps={"component": step},
        ),
        tuple(reading.locals),
        tuple(reading.notes),
        file.parent,
        reading.places,
    )


def _name_of(file: Path) -> str:
    stem = file.stem if file.stem.lower() not in _DULL_NAMES else file.parent.name
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-")[:63] or "unnamed"


class _Reader:
    """Reads one document that can be submitted."""

    def __init__(self, document: Document, file: Path, *, strict: bool) -> None:
        self.document = document
        self.file = file
        self.reading = Reading(strict=strict, opened=(file,))
        self.reading.repeated(document)
        self.steps = Steps(self.reading)
        self.values = self.steps.values

    def definition(self) -> Definition:
        top = Section(self.document, (), self.document.value)
        spec = self.command(top) if self.is_command(top) else self.pipeline(top)
        return checked(
            Definition(
                spec,
                tuple(self.reading.locals),
                tuple(self.reading.notes),
                self.file.parent,
                self.reading.places,
            )
        )

    def is_command(self, top: Section) -> bool:
        """Say whether the file is a command by itself; refuse what is neither that nor a pipeline."""
        kind = top.text("type")
        if kind == "pipeline":
            return False
        if kind in _OTHER_FILES:
            raise top.refusal("type", "E_TYPE", f"a {kind} is not run", _OTHER_FILES[kind])
        if not kind and ("jobs" in top or "steps" in top):
            raise Invalid(
                "no `type`", code="E_TYPE", where=self.document.file, hint="add `type: pipeline`"
            )
        if kind.lower() in KINDS and kind not in KINDS:
            raise top.refusal(
                "type", "E_TYPE", f"{kind!r} is not a type", f"did you mean {kind.lower()!r}?"
            )
        if not kind and "command" not in top:
            raise Invalid(
                "neither a pipeline nor a command",
                code="E_TYPE",
                where=self.document.file,
                hint="add `type: pipeline` and `jobs:`, or a `command:`",
            )
        return kind_of(top) != "pipeline"

    # -- a pipeline ---------------------------------------------------------------------------------

    def pipeline(self, top: Section) -> PipelineSpec:
        self.reading.meet(top, "pipeline")
        spec = msgspec.structs.replace(
            self.header(top),
            inputs=self.values.job_inputs(top),
            outputs=self.values.job_outputs(top),
            settings=self.settings(top),
        )
        if top["component"] is None:
            return msgspec.structs.replace(spec, steps=self.steps.steps(top))
        for key in ("jobs", "steps"):
            if top[key]:
                raise top.refusal(key, "E_TYPE", f"`component` and `{key}` exclude each other")
        return self.from_component(top, spec)

    def from_component(self, top: Section, spec: PipelineSpec) -> PipelineSpec:
        """Return the run of a pipeline component: its steps, with the job's inputs and outputs."""
        own = self.reading.locals
        self.reading.locals = []
        place = ("steps", spec.name, "pipeline")
        component = self.steps.component(top, place[:2])
        body = component.pipeline
        if body is None:
            self.steps.forget_overridden(top, place[:2])
            self.reading.locals += own
            own_step = _using(StepSpec(), spec.inputs, spec.outputs)
            return msgspec.structs.replace(spec, steps={spec.name: filled(component, own_step)})
        # The component is the run's pipeline itself: what was read below "pipeline" moves to the top. Of
        # data, what the job gives counts.
        given = {one.place for one in own} | {("inputs", name) for name in spec.inputs}
        moved = [replace(one, place=one.place[3:]) for one in self.reading.locals]
        self.reading.locals = own + [one for one in moved if one.place not in given]
        for inside in [one for one in self.reading.places if one[:3] == place]:
            self.reading.places.setdefault(inside[3:], self.reading.places[inside])
        inputs = filled_inputs(body.inputs, spec.inputs)
        return msgspec.structs.replace(
            spec,
            inputs={name: value for name, value in inputs.items() if value is not None},
            outputs={
                name: output
                for name in {**body.outputs, **spec.outputs}
                if not isinstance(
                    output := filled_output(body.outputs.get(name), spec.outputs.get(name)), str
                )
            },
            steps=body.steps,
        )

    def settings(self, top: Section) -> Settings:
        section = top.section("settings")
        self.reading.meet(section, "settings")
        compute = self.steps.compute(section, "default_compute") or self.steps.compute(
            top, "compute"
        )
        return Settings(
            default_compute=compute,
            default_datastore=section.text("default_datastore").removeprefix("azureml:"),
            continue_on_step_failure=section.flag("continue_on_step_failure", default=False),
            force_rerun=section.flag("force_rerun", default=False),
            deadline=section.number("deadline"),
        )

    def header(self, top: Section) -> PipelineSpec:
        """Return a pipeline of nothing but what it is called."""
        name = top.text("name")
        tags = top.section("tags")
        return PipelineSpec(
            name=checked_name(name, top.where("name")) if name else _name_of(self.file),
            display_name=str(top.scalar("display_name") or ""),
            description=str(top.scalar("description") or ""),
            experiment=top.text("experiment_name") or top.text("experiment"),
            tags={key: tags.text(key, required=True) for key in tags},
        )

    # -- a command by itself ------------------------------------------------------------------------

    def command(self, top: Section) -> PipelineSpec:
        """Return the pipeline of one step that a command job, or a component run by itself, is."""
        kind = kind_of(top)
        self.reading.meet(top, "job", *MORE.get(kind, ()))
        header = self.header(top)
        name = header.name
        place = ("steps", name)
        self.reading.places[place] = self.document.where()
        for key in ("command", "code", "environment", "compute", "limits", "resources"):
            if key in top:
                self.reading.places[(*place, key)] = top.where(key)
        inputs = self.values.job_inputs(top)
        outputs = self.values.job_outputs(top)
        trial = self.steps.trial(top, place) if kind == "sweep" else None
        own = _using(
            StepSpec(
                hash_paths=tuple(top.texts("hash_paths")),
                environment_variables=self.steps.variables(top),
                compute=self.steps.compute(top, "compute"),
                limits=Limits() if trial else self.steps.limits(top),
                resources=self.steps.resources(top),
                is_deterministic=top.flag("is_deterministic", default=True),
            ),
            inputs,
            outputs,
        )
        if trial:
            own = msgspec.structs.replace(own, environment=environment_of(top, place, self.reading))
            step = self.steps.swept(top, place, trial, own)
        else:
            engine = self.steps.engine(top, place, kind, file=self.file)
            step = msgspec.structs.replace(own, **engine)
        return msgspec.structs.replace(
            header,
            inputs=inputs,
            outputs=outputs,
            steps={name: step},
        )


def _using(
    step: StepSpec, inputs: Mapping[str, Input | Scalar], outputs: Mapping[str, Output | None]
) -> StepSpec:
    """Return a step that takes all inputs of its pipeline and makes all its outputs."""
    return msgspec.structs.replace(
        step,
        inputs={
            name: Input(
                type=value.type, mode=value.mode, path=f"${{{{parent.inputs.{name}}}}}",
                optional=value.optional,
            )
            if isinstance(value, Input) and value.type in DATA
            else f"${{{{parent.inputs.{name}}}}}"
            for name, value in inputs.items()
        },
        outputs={name: f"${{{{parent.outputs.{name}}}}}" for name in outputs},
    )  # fmt: skip


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
