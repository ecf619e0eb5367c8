"""Pipelines as SDK v2 builds them: a decorated function, called once, tells its steps."""

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from penstock.azure.ai.ml.nodes import (
    Node,
    OutputPorts,
    Port,
    Ports,
    Tree,
    bound,
    building,
)
from penstock.azure.ai.ml.values import (
    Input,
    Reference,
    declaration,
    literal,
    shown,
    tree_of,
)
from penstock.errors import Invalid
from penstock.ids import is_name
from penstock.sdk.definition import Definition
from penstock.sdk.names import distinct
from penstock.sdk.pipeline_files import pipeline_of
from penstock.sdk.yaml_text import Document

SETTINGS = {
    "compute": "default_compute",
    "default_compute": "default_compute",
    "default_compute_target": "default_compute",
    "default_datastore": "default_datastore",
    "continue_on_step_failure": "continue_on_step_failure",
    "force_rerun": "force_rerun",
}


class PipelineSettings:
    """What holds for all steps of a pipeline."""

    def __init__(self, known: Mapping[str, Any]) -> None:
        self.default_compute: Any = known.get("default_compute")
        self.default_datastore: Any = known.get("default_datastore")
        self.continue_on_step_failure: bool | None = known.get("continue_on_step_failure")
        self.force_rerun: bool | None = known.get("force_rerun")
        self.on_init: Any = None
        self.on_finalize: Any = None

    def tree(self) -> Tree:
        """Return them as YAML has them."""
        tree = {k: literal(v) for k, v in vars(self).items() if v is not None}
        for key in ("default_compute", "default_datastore"):
            if key in tree:
                tree[key] = f"azureml:{str(tree[key]).removeprefix('azureml:')}"
        return tree


class PipelineJob:
    """A pipeline with values for its inputs, as it is submitted; or one step of another pipeline."""

    type = "pipeline"

    def __init__(
        self, component: Tree, inputs: Mapping[str, Any], known: Mapping[str, Any]
    ) -> None:
        self._component = component
        self.name: str | None = None
        self.display_name = known.get("display_name") or known.get("name")
        self.description: str | None = known.get("description")
        self.experiment_name: str | None = known.get("experiment_name")
        self.tags: dict[str, str] = dict(known.get("tags") or {})
        self.compute: str | None = None
        self.settings = PipelineSettings(known)
        self.inputs = Ports(dict(inputs))
        self.outputs = OutputPorts({})
        for name, declared in (component.get("outputs") or {}).items():
            self.outputs._values[name] = _JobOutput(name, declared or {})
        self._pipeline = str(component.get("name") or "pipeline")

    def __repr__(self) -> str:
        import yaml

        return yaml.safe_dump(shown(self.tree()), sort_keys=False)

    __str__ = __repr__

    @property
    def jobs(self) -> Mapping[str, Any]:
        """Its steps as YAML has them."""
        jobs: Mapping[str, Any] = self._component["jobs"]
        return jobs

    def tree(self) -> Tree:
        """Return it as a `type: pipeline` file has it."""
        inputs: Tree = dict(self._component.get("inputs") or {})
        for name, value in self.inputs.items():
            if value is not None:
                inputs[name] = tree_of(value)
        outputs = {name: {**port._declared, **port._set} for name, port in self.outputs.items()}
        tree: Tree = {
            "type": "pipeline",
            "name": self._pipeline,
            "display_name": self.display_name,
            "description": self.description,
            "experiment_name": self.experiment_name,
            "tags": self.tags,
            "compute": self.compute,
            "settings": self.settings.tree(),
            "inputs": inputs,
            "outputs": outputs,
            "jobs": self._component["jobs"],
        }
        return {key: value for key, value in tree.items() if value not in (None, {})}

    def definition(self) -> Definition:
        """Return it as everything else knows it: read as the YAML that it would be.

        Raises:
            Invalid: as `read_pipeline`.
        """
        return definition_of_tree(self.tree(), self._pipeline)


class _JobOutput(Port):
    """An output of the pipeline."""

    def __init__(self, name: str, declared: Mapping[str, Any]) -> None:
        self.__dict__.update(_node=None, port_name=name, _declared=dict(declared), _set={})

    def __str__(self) -> str:
        return f"${{{{parent.outputs.{self.port_name}}}}}"


def definition_of_tree(tree: Tree, name: str) -> Definition:
    """Return the pipeline that a tree is; paths in it are whole."""
    here = Path.cwd()
    return pipeline_of(Document(tree, f"{name} (Python)", {}, {}, here), here / f"{name}.yml")


def pipeline(
    func: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    version: str | None = None,
    display_name: str | None = None,
    description: str | None = None,
    experiment_name: str | None = None,
    tags: Mapping[str, str] | None = None,
    **settings: Any,
) -> Any:
    """Make a function that calls components build a pipeline.

    Steps are named after the local variables that hold them. What the function returns, a dict of outputs
    of steps, are the pipeline's outputs. Called in another pipeline it is a step of that.
    """
    if func is None:
        return functools.partial(
            pipeline, name=name, version=version, display_name=display_name,
            description=description, experiment_name=experiment_name, tags=tags, **settings,
        )  # fmt: skip
    known: Tree = {
        "name": name or func.__name__,
        "display_name": display_name,
        "description": description or inspect.getdoc(func),
        "experiment_name": experiment_name,
        "tags": tags,
    }
    known |= {SETTINGS[key]: value for key, value in settings.items() if key in SETTINGS}
    for key in ("on_init", "on_finalize"):
        if settings.get(key):
            raise Invalid(f"{key} is not supported", code="E_UNSUPPORTED", where=func.__name__)
    ready = tuple(settings.get("non_pipeline_inputs") or ())

    @functools.wraps(func)
    def build(*given: Any, **named: Any) -> Any:
        parameters = inspect.signature(func, eval_str=True).parameters
        values = bound(func.__name__, parameters, given, named)
        component = _built(func, known, parameters, values, ready)
        values = {key: value for key, value in values.items() if key not in ready}
        if building.get() is None:
            return PipelineJob(component, _flat_values(values), known)
        return Node(
            {"component": component, "type": "pipeline"},
            name=func.__name__,
            inputs=_flat_values(values),
            declared_inputs=component["inputs"],
            declared_outputs=component["outputs"],
        )

    return build


def _built(
    func: Callable[..., Any],
    known: Mapping[str, Any],
    parameters: Mapping[str, inspect.Parameter],
    values: Mapping[str, Any],
    ready: tuple[str, ...],
) -> Tree:
    """Return the pipeline component that a function tells when it is called."""
    inputs: Tree = {}
    arguments: Tree = {}
    for name, parameter in parameters.items():
        if name in ready:
            arguments[name] = values.get(name, parameter.default)
            continue
        fields = getattr(parameter.annotation, "__penstock_group__", None)
        if fields is not None:
            default = None if parameter.default is parameter.empty else parameter.default
            arguments[name] = _Group(name, fields)
            for field, annotation in fields.items():
                declared = dict(declaration(annotation) or {"type": "string"})
                if getattr(default, field, None) is not None:
                    declared = getattr(default, field)
                inputs[f"{name}__{field}"] = declared
            continue
        inputs[name] = _declared(parameter, values.get(name))
        arguments[name] = PipelineInput(name)
    steps: list[Node] = []
    token = building.set(steps)
    try:
        returned, variables = _called(func, arguments)
    finally:
        building.reset(token)
    _name(steps, variables)
    jobs = {step.name: step.tree() for step in steps}
    outputs: Tree = {}
    for name, port in (returned or {}).items():
        if not isinstance(port, Port) or port._node not in steps:
            raise Invalid(
                f"output {name!r} is no output of a step", code="E_REF", where=func.__name__,
                hint="return {'name': step.outputs.x}",
            )  # fmt: skip
        entry = jobs[port._node.name].setdefault("outputs", {})
        kind = port._declared.get("type", "uri_folder")
        own = {k: v for k, v in port._set.items() if k not in ("path", "name", "version")}
        text = f"${{{{parent.outputs.{name}}}}}"
        entry[port.port_name] = text if not own else {"type": kind, **own, "path": text}
        outputs[name] = {"type": kind, **port._set}
    return {
        "type": "pipeline",
        "name": known["name"] if is_name(str(known["name"])) else func.__name__,
        "description": known["description"],
        "inputs": inputs,
        "outputs": outputs,
        "jobs": jobs,
    }


class PipelineInput(Reference):
    """An input of the pipeline inside its function."""

    def __init__(self, name: str) -> None:
        super().__init__(f"${{{{parent.inputs.{name}}}}}")
        self.name = name

    def result(self) -> Any:
        """Refused: its value is not known while the pipeline is built.

        Raises:
            Invalid: E_UNSUPPORTED.
        """
        raise Invalid(
            f"the value of {self.name!r} is known when the pipeline runs",
            code="E_UNSUPPORTED",
            hint="name it in @pipeline(non_pipeline_inputs=[…])",
        )


class _Group:
    """A group of inputs inside a pipeline's function."""

    def __init__(self, name: str, fields: Mapping[str, Any]) -> None:
        for field in fields:
            setattr(self, field, PipelineInput(f"{name}__{field}"))


def group(cls: type) -> type:
    """Make a class whose annotated attributes are inputs that travel together."""
    import dataclasses

    fields = dict(inspect.get_annotations(cls, eval_str=True))
    made: Any = dataclasses.dataclass(kw_only=True)(cls)
    made.__penstock_group__ = fields
    found: type = made
    return found


def _flat_values(values: Mapping[str, Any]) -> Tree:
    found: Tree = {}
    for name, value in values.items():
        if hasattr(type(value), "__penstock_group__") or isinstance(value, _Group):
            found |= {f"{name}__{field}": item for field, item in vars(value).items()}
        else:
            found[name] = value
    return found


def _declared(parameter: inspect.Parameter, given: Any) -> Any:
    """Return an input of the pipeline as YAML declares it."""
    declared = declaration(parameter.annotation)
    if parameter.default not in (parameter.empty, None):
        default = parameter.default
        if isinstance(default, Input):
            return default.tree()
        return literal(default) if declared is None else {**declared, "default": literal(default)}
    if declared is not None:
        if parameter.default is None:
            return {**declared, "optional": True}
        return declared
    if isinstance(given, Input):
        return given.tree()
    if isinstance(given, Port):
        return {"type": given._declared.get("type", "uri_folder")}
    if isinstance(given, bool | int | float | str | Enum):
        return {
            "type": {bool: "boolean", int: "integer", float: "number"}.get(type(given), "string")
        }
    return {"type": "uri_folder"} if given is not None else {"type": "string", "optional": True}


def _called(func: Callable[..., Any], arguments: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Call a function; return what it returns and its local variables at its end."""
    found: dict[str, Any] = {}
    code = inspect.unwrap(func).__code__
    before = sys.getprofile()

    def watch(frame: Any, event: str, argument: Any) -> None:
        if event == "return" and frame.f_code is code:
            found.update(frame.f_locals)

    sys.setprofile(watch)
    try:
        returned = func(**arguments)
    finally:
        sys.setprofile(before)
    return returned, found


def _name(steps: list[Node], variables: Mapping[str, Any]) -> None:
    """Name steps after the variables that hold them, the others after their components."""
    held: dict[int, str] = {}
    for variable, value in variables.items():
        if isinstance(value, Node) and is_name(variable):
            held.setdefault(id(value), variable)
    taken: dict[str, Node] = {}
    wished = {id(s): s.name if s.named else held.get(id(s), "") for s in steps}
    for step in sorted(steps, key=lambda one: not wished[id(one)]):
        name = distinct(wished[id(step)] or step.name, taken)
        taken[name] = step
        object.__setattr__(step, "name", name)
