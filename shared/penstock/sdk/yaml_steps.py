"""Steps in YAML: an entry of `jobs`, and what a component contributes to it.

A component is a step whose inputs and outputs are declarations (contracts/components.py merges the two).
A component file is read where it is used, so that its code and data belong to the step that uses it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from penstock.contracts.components import filled
from penstock.contracts.resources import Resources
from penstock.contracts.spec import Input, Limits, PipelineSpec, StepSpec
from penstock.errors import Invalid
from penstock.ids import checked_name
from penstock.sdk.azure_keys import KINDS, known
from penstock.sdk.definition import Include, Place
from penstock.sdk.yaml_agents import (
    PARALLEL,
    SWEEP,
    parallel_command,
    searched,
    sweep_command,
    task_of,
)
from penstock.sdk.yaml_code import code_of
from penstock.sdk.yaml_distribution import distributed
from penstock.sdk.yaml_environments import environment_of
from penstock.sdk.yaml_reading import EXPRESSION, Reading, local_path, modern
from penstock.sdk.yaml_section import Section
from penstock.sdk.yaml_text import Document
from penstock.sdk.yaml_values import Values

ANYWHERE = ("local", "serverless", "")
"""Names of computes that mean "wherever there is room"."""
MORE = {"parallel": ("parallel",), "sweep": ("sweep",)}
"""Kind of a step → the rooms of the keys that it has besides those of every step."""
_BODY = ("command", "code", "jobs", "steps", "hash_paths")
"""Keys that a component has and the step that uses it has not."""


class Steps:
    """Reads the steps of one pipeline file, and the components that they use."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.values = Values(reading)

    def steps(self, top: Section, place: Place = ()) -> dict[str, StepSpec]:
        """Return the steps of a pipeline; `place` is that of the pipeline in the spec."""
        if "steps" in top and "jobs" in top:
            raise top.refusal("steps", "E_TYPE", "`jobs` and `steps` are the same; give one")
        key = "steps" if "steps" in top else "jobs"
        self.reading.places[(*place, "steps")] = top.where(key)
        return {
            name: self.step(node, name, (*place, "steps", name))
            for name, node in top.section(key).sections()
        }

    def step(self, node: Section, name: str, place: Place) -> StepSpec:
        """Return one step."""
        checked_name(name, node.where())
        self.reading.places[place] = node.where()
        kind = kind_of(node)
        self.reading.meet(node, "step", *MORE.get(kind, ()))
        for key in known("step"):
            if key in node:
                self.reading.places[(*place, key)] = node.where(key)
        if kind == "sweep":
            trial = self.trial(node, place)
            return self.swept(node, place, trial, self.body(node, place, trial, limits=False))
        if node["component"] is None:
            if kind == "pipeline":
                raise node.refusal(
                    "type", "E_MISSING", "a step of type pipeline without a component",
                    "add `component: ./pipeline.yml`",
                )  # fmt: skip
            return msgspec.structs.replace(
                self.body(node, place, StepSpec(), engine=False), **self.engine(node, place, kind)
            )
        for key in _BODY:
            if node[key] is not None:
                raise node.refusal(key, "E_TYPE", f"`component` and `{key}` exclude each other")
        component = self.component(node, place)
        self.forget_overridden(node, place)
        step = filled(component, self.body(node, place, component))
        return self.with_local_types(node, step, place)

    def trial(self, node: Section, place: Place) -> StepSpec:
        """Return what a sweep tries: a component, less the inputs that the sweep chooses values for."""
        if node["trial"] is None:
            raise node.refusal("trial", "E_MISSING", "trial is missing", "give a command component")
        trial = self.component(node, place, "trial", also=(SWEEP,))
        if trial.component or trial.pipeline is not None:
            raise node.refusal(
                "trial",
                "E_UNSUPPORTED",
                "a trial that is no command component of a file",
                "inline it",
            )
        self.forget_overridden(node, place)
        chosen = searched(node)
        inputs = {name: entry for name, entry in trial.inputs.items() if name not in chosen}
        return msgspec.structs.replace(trial, inputs=inputs, limits=Limits())

    def swept(self, node: Section, place: Place, trial: StepSpec, own: StepSpec) -> StepSpec:
        """Return a sweep: its trial's command, run many times inside one step; `own` goes before the trial."""
        step = filled(trial, own)
        command = sweep_command(node, trial.command, tuple(step.outputs), self.reading)
        return self.with_local_types(node, msgspec.structs.replace(step, command=command), place)

    def engine(
        self,
        top: Section,
        place: Place,
        kind: str,
        *,
        file: Path | None = None,
        user: Section | None = None,
        also: tuple[Include, ...] = (),
    ) -> dict[str, Any]:
        """Return command, code and environment of a step or a component; `user` is who uses the latter."""
        if kind == "parallel":
            task = task_of(top)
            own = environment_of(task, place, self.reading)
            return {
                "command": parallel_command(top, user, self.reading),
                "code": code_of(task, place, self.reading, file, (PARALLEL,)),
                "environment": own or environment_of(top, place, self.reading),
            }
        command = top.text("command", required=True)
        spread = user if user is not None and user["distribution"] is not None else top
        count = user.section("resources").whole("instance_count") if user is not None else 0
        count = count or top.section("resources").whole("instance_count") or 1
        return {
            "command": distributed(command, spread, count, self.reading),
            "code": code_of(top, place, self.reading, file, also),
            "environment": environment_of(top, place, self.reading),
        }

    def body(
        self,
        node: Section,
        place: Place,
        component: StepSpec,
        *,
        engine: bool = True,
        limits: bool = True,
    ) -> StepSpec:
        """Return what a step says itself, besides what it runs; `engine` false: and what in."""
        declared = component.pipeline.inputs if component.pipeline else component.inputs
        return StepSpec(
            hash_paths=tuple(node.texts("hash_paths")),
            inputs=self.values.step_inputs(node, place, declared),
            outputs=self.values.outputs(node, place),
            environment=environment_of(node, place, self.reading) if engine else "",
            environment_variables=self.variables(node),
            compute=self.compute(node, "compute"),
            limits=self.limits(node) if limits else Limits(),
            resources=self.resources(node),
            needs=tuple(dict.fromkeys([*node.texts("depends_on"), *node.texts("needs")])),
            is_deterministic=node.flag("is_deterministic", default=True),
            display_name=str(node.scalar("display_name") or ""),
            description=str(node.scalar("description") or ""),
        )

    def forget_overridden(self, node: Section, place: Place) -> None:
        """Forget local files of a component for which the step that uses it gives something else."""
        given = {
            (*place, "inputs", name)
            for name, value in node.section("inputs").value.items()
            if value is not None
        }
        if node["environment"] is not None:
            given.add((*place, "environment"))
        self.reading.locals = [one for one in self.reading.locals if one.place not in given]

    def with_local_types(self, node: Section, step: StepSpec, place: Place) -> StepSpec:
        """Return a step whose local data has the type of what lies there, whatever is declared."""
        given = self.values_types(node, place)
        inputs = dict(step.inputs)
        for name, kind in given.items():
            entry = inputs[name]
            if isinstance(entry, Input):
                inputs[name] = msgspec.structs.replace(entry, type=kind, path="")
        return msgspec.structs.replace(step, inputs=inputs)

    def values_types(self, node: Section, place: Place) -> Mapping[str, str]:
        """Return the type of each input of a step that is local data."""
        found = {}
        for local in self.reading.locals:
            if local.place[:-1] == (*place, "inputs"):
                name = local.place[-1]
                declared = node.section("inputs")[name]
                kind = declared.get("type") if isinstance(declared, dict) else None
                kind = str(kind or "uri_folder").lower()
                if not local.path.is_dir():
                    kind = "uri_file"
                elif kind == "uri_file":
                    kind = "uri_folder"
                found[name] = kind
        return found

    # -- components ---------------------------------------------------------------------------------

    def component(
        self, node: Section, place: Place, key: str = "component", also: tuple[Include, ...] = ()
    ) -> StepSpec:
        """Return the component that a step or a job uses: a file, a reference or written out."""
        value = node[key]
        if isinstance(value, dict):
            return self.declared(node.section(key), place, user=node, also=also)
        if isinstance(value, Document):  # of a program: a file that it has read, and changed
            self.reading.repeated(value)
            document, path = value, value.folder / Path(value.file).name
        else:
            text = node.text(key).strip()
            if text.startswith("azureml:"):
                return StepSpec(component=text)
            path = local_path(node, key, text)
            document = self.reading.document(node, key, path)
        before = self.reading.opened
        self.reading.opened = (*before, path.resolve())
        try:
            top = Section(document, (), document.value)
            return self.declared(top, place, path, user=node, also=also)
        finally:
            self.reading.opened = before

    def declared(
        self,
        top: Section,
        place: Place,
        file: Path | None = None,
        *,
        user: Section | None = None,
        also: tuple[Include, ...] = (),
    ) -> StepSpec:
        """Return a component: a step whose inputs and outputs are declarations. `user` is who uses it."""
        kind = component_kind(top)
        self.reading.meet(top, "component", *MORE.get(kind, ()))
        if kind == "pipeline":
            return StepSpec(
                pipeline=self.pipeline(top, (*place, "pipeline")),
                display_name=str(top.scalar("display_name") or ""),
                description=str(top.scalar("description") or ""),
                is_deterministic=top.flag("is_deterministic", default=True),
            )
        for key in ("command", "code"):
            self.reading.places.setdefault((*place, key), top.where(key))
        return StepSpec(
            **self.engine(top, place, kind, file=file, user=user, also=also),
            hash_paths=tuple(top.texts("hash_paths")),
            inputs=dict(self.values.job_inputs(top, place)),
            outputs=self.values.outputs(top, place),
            environment_variables=self.variables(top),
            compute=self.compute(top, "compute"),
            limits=self.limits(top),
            resources=self.resources(top),
            is_deterministic=top.flag("is_deterministic", default=True),
            display_name=str(top.scalar("display_name") or ""),
            description=str(top.scalar("description") or ""),
        )

    def pipeline(self, top: Section, place: Place) -> PipelineSpec:
        """Return the pipeline that a component is."""
        name = str(top.scalar("name") or "")
        return PipelineSpec(
            name=name if name and name_like(name) else "unnamed",
            inputs=self.values.job_inputs(top, place),
            outputs=self.values.job_outputs(top, place),
            steps=self.steps(top, place),
        )

    # -- small things -------------------------------------------------------------------------------

    def compute(self, section: Section, key: str) -> str:
        """Return the compute target that a key names; empty: wherever there is room."""
        text = section.text(key).strip().removeprefix("azureml:")
        if text.startswith("/subscriptions/"):
            text = text.rstrip("/").rpartition("/")[2]
        if text in ANYWHERE:
            return ""
        if EXPRESSION.match(text) or "${{" in text:
            return modern(text)
        return checked_name(text, section.where(key))

    def variables(self, section: Section) -> dict[str, str]:
        """Return environment variables, all as texts."""
        entry = section.section("environment_variables")
        result: dict[str, str] = {}
        for name in entry:
            if not name or "=" in name or "\0" in name:
                raise entry.refusal(name, "E_ENV", f"{name!r} cannot name a variable")
            value = entry.scalar(name)
            result[name] = "" if value is None else str(value)
        return result

    def limits(self, section: Section) -> Limits:
        """Return what bounds a step."""
        entry = section.section("limits")
        self.reading.meet(entry, "limits")
        return Limits(
            timeout=entry.number("timeout"),
            retries=entry.whole("retries"),
            retry_delay=entry.number("retry_delay", default=1.0),
            deadline=entry.number("deadline"),
            expected=entry.number("expected"),
        )

    def resources(self, section: Section) -> Resources:
        """Return what a step asks of its machine."""
        entry = section.section("resources")
        self.reading.meet(entry, "resources")
        count = max(1, entry.whole("instance_count"))
        if count > 1 and section["distribution"] is None:
            self.reading.note(f"{entry.where('instance_count')}: the step runs on one machine")
        given = entry["docker_args"]
        return Resources(
            instance_count=count,
            cores=entry.number("cores"),
            memory=str(entry.scalar("memory") or ""),
            gpus=entry.whole("gpus"),
            shm_size=str(entry.scalar("shm_size") or ""),
            docker_args=given if isinstance(given, str) else tuple(entry.texts("docker_args")),
            labels=tuple(entry.texts("labels")),
        )


def kind_of(node: Section) -> str:
    """Return the kind of a step; `command` without a type.

    Raises:
        Invalid: E_UNSUPPORTED, with what the kind would need; E_TYPE, there is no such kind.
    """
    kind = node.text("type") or "command"
    fate, needs = KINDS.get(kind, ("", ""))
    if not fate:
        raise node.unknown_choice("type", tuple(KINDS))
    if fate == "refused":
        raise node.refusal(
            "type",
            "E_UNSUPPORTED",
            f"step type {kind!r} is not supported in this release: it needs {needs.partition(';')[0]}",
            needs.partition("; ")[2],
        )
    return kind


def component_kind(top: Section) -> str:
    """Return the kind of a component; a `…_component` of older files counts, and `jobs` make a pipeline."""
    kind = top.text("type").removesuffix("_component")
    if not kind:
        return "pipeline" if "jobs" in top or "steps" in top else "command"
    fate, needs = KINDS.get(kind, ("refused", ""))
    if fate != "refused" and kind != "sweep":
        return kind
    if kind not in KINDS:
        raise top.unknown_choice("type", tuple(KINDS))
    raise top.refusal(
        "type",
        "E_UNSUPPORTED",
        f"component type {kind!r} is not supported in this release: it needs {needs.partition(';')[0]}",
        needs.partition("; ")[2],
    )


def name_like(text: str) -> bool:
    """Say whether a text may be a name here: dots and blanks of other systems may not."""
    try:
        checked_name(text, "")
    except Invalid:
        return False
    return True
