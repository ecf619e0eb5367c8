"""Steps as SDK v2 builds them: what is called becomes an entry of `jobs`, as YAML would have it."""

import copy
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from penstock.azure.ai.ml.values import (
    Output,
    Reference,
    Settings,
    literal,
    settled,
    tree_of,
)
from penstock.errors import Invalid
from penstock.ids import did_you_mean

Tree = dict[str, Any]
building: ContextVar["list[Node] | None"] = ContextVar("building", default=None)
"""The steps of the pipeline function that is being called."""
OBJECTS = ("limits", "resources", "distribution", "objective", "retry_settings")
"""Settings of a step whose keys are set one by one as well; given as a mapping they are that object."""


class Port(Reference):
    """An output of a step: an input of others, and a place for settings of its own."""

    def __init__(self, node: "Node", name: str, declared: Mapping[str, Any]) -> None:
        self.__dict__.update(_node=node, port_name=name, _declared=dict(declared), _set={})

    def __str__(self) -> str:
        return f"${{{{parent.jobs.{self._node.name}.outputs.{self.port_name}}}}}"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._set.get(name, self._declared.get(name))

    def __setattr__(self, name: str, value: Any) -> None:
        self._set[name] = literal(value)

    def replace(self, output: Output) -> None:
        """Take settings from an `Output`."""
        self._set.update(output.tree())

    def tree(self) -> Tree | None:
        """Return what is said about it, as YAML has it; None: nothing."""
        if not self._set:
            return None
        kind = self._set.get("type", self._declared.get("type", "uri_folder"))
        return {"type": kind, **self._set}


class Ports:
    """The inputs of a step by name; assigning sets one."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.__dict__["_values"] = values

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name not in self._values:
            raise AttributeError(name)
        return self._values[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self._values[name] = value

    __getitem__ = __getattr__
    __setitem__ = __setattr__

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def keys(self) -> Any:
        """Return the names."""
        return self._values.keys()

    def items(self) -> Any:
        """Return names and values."""
        return self._values.items()


class OutputPorts(Ports):
    """The outputs of a step by name."""

    def __setattr__(self, name: str, value: Any) -> None:
        port = getattr(self, name)
        if isinstance(value, Output):
            port.replace(value)
        else:
            raise Invalid(f"{value!r} is no Output", code="E_TYPE", where=f"outputs.{name}")

    __setitem__ = __setattr__


class Node:
    """One step, or one nested pipeline, of a pipeline."""

    settable: tuple[str, ...] = (
        "compute", "environment", "environment_variables", "display_name", "description",
        "comment", "limits", "resources", "distribution", "tags", "identity", "services",
        "queue_settings", "properties", "is_deterministic", "command", "code",
    )  # fmt: skip

    def __init__(
        self,
        body: Tree,
        *,
        name: str,
        inputs: Mapping[str, Any],
        declared_inputs: Mapping[str, Any],
        declared_outputs: Mapping[str, Any],
        declaring: Tree | None = None,
    ) -> None:
        self.name = name
        self.named = False
        """Whether the script has said the name itself."""
        self.inputs = Ports(dict(inputs))
        self.outputs = OutputPorts({})
        for output, declaration in declared_outputs.items():
            self.outputs._values[output] = Port(self, output, declaration or {})
        self.compute: Any = None
        self._body = body
        self._declared_inputs = dict(declared_inputs)
        self._declaring = declaring
        self._after: list[Node] = []
        steps = building.get()
        if steps is not None:
            steps.append(self)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "name" and hasattr(self, "name"):
            object.__setattr__(self, "named", True)
        if name in OBJECTS and isinstance(value, Mapping):
            value = Settings(**value)
        object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        if name in self.settable:
            body = self.__dict__.get("_body", {})
            found = body.get(name)
            if found is None and name in (
                "environment_variables",
                "tags",
                "properties",
                "services",
            ):
                found = body.setdefault(name, {})
            if name in ("limits", "resources") or (name in OBJECTS and isinstance(found, Mapping)):
                setattr(self, name, settled(found) or {})
                return self.__dict__[name]
            return found
        raise AttributeError(name)

    @property
    def component(self) -> Any:
        """The component that it is made of; of a command, the command as a component to register."""
        if self._declaring is None:
            return self._body.get("component")
        from penstock.azure.ai.ml.components import Component

        settings = {name: self.__dict__.get(name) for name in self.settable}
        body = {**self._body, **{k: v for k, v in settings.items() if v is not None and v != {}}}
        tree: Tree = {key: settled(value) for key, value in body.items() if key != "compute"}
        tree |= {
            "name": self.name,
            "type": self._body.get("type", "command"),
            "inputs": {
                name: {key: value for key, value in declared.items() if key != "path"}
                or declared_by(self.inputs._values.get(name))
                for name, declared in self._declared_inputs.items()
            },
            "outputs": {
                name: dict(port._declared) | port._set for name, port in self.outputs.items()
            },
        }
        tree = {key: value for key, value in tree.items() if value is not None}
        return Component(tree, tree)

    def set_resources(self, **resources: Any) -> None:
        """Say what it asks of its machine."""
        self.resources: Any = {**settled(self.resources), **settled(resources)}

    def set_limits(self, **limits: Any) -> None:
        """Say how long it may run."""
        self.limits = settled(limits)

    def set_queue_settings(self, **settings: Any) -> None:
        """Accepted; there is one queue per target."""

    def run_after(self, other: "Node") -> None:
        """Start only after another step has ended."""
        self._after.append(other)

    def sweep(self, **settings: Any) -> Any:
        """Return a step that runs this one for choices of its inputs; see `sweep.swept` for the settings."""
        from penstock.azure.ai.ml.sweep import swept

        return swept(self, **settings)

    def __call__(self, *given: Any, **named: Any) -> "Node":
        """Return a copy with other inputs: what `command(…)` returns is a component as well."""
        node = type(self)(
            {key: copy.copy(value) for key, value in self._body.items()},
            name=self.name,
            inputs={**self.inputs._values, **bound(self.name, self._declared_inputs, given, named)},
            declared_inputs=self._declared_inputs,
            declared_outputs={n: port._declared for n, port in self.outputs.items()},
            declaring=self._declaring,
        )
        for setting in self.settable:
            if setting in self.__dict__:
                object.__setattr__(node, setting, copy.copy(self.__dict__[setting]))
        for name, port in self.outputs.items():
            node.outputs[name]._set.update(port._set)
        self.leave()
        return node

    def leave(self) -> None:
        """Be no step of the pipeline that is being built: another one stands for this one."""
        steps = building.get()
        if steps is not None and self in steps:
            steps.remove(self)

    def tree(self) -> Tree:
        """Return it as an entry of `jobs`."""
        tree: Tree = {key: settled(value) for key, value in self._body.items() if value is not None}
        for setting in self.settable:
            value = self.__dict__.get(setting)
            if value is not None and value != {}:
                tree[setting] = settled(value)
        inputs = {name: tree_of(value) for name, value in self.inputs.items()}
        tree["inputs"] = {name: value for name, value in inputs.items() if value is not None}
        outputs = {name: port.tree() for name, port in self.outputs.items()}
        if (
            self._declaring is not None
        ):  # an inline command: its outputs are declared where it stands
            outputs = {
                name: told or (dict(port._declared) or None)
                for (name, told), port in zip(
                    outputs.items(), self.outputs._values.values(), strict=True
                )
            }
            tree["outputs"] = outputs
        else:
            tree["outputs"] = {name: told for name, told in outputs.items() if told is not None}
        if self._after:
            tree["depends_on"] = [other.name for other in self._after]
        return {key: value for key, value in tree.items() if value not in ({}, None)}


def bound(
    name: str, declared: Mapping[str, Any], given: tuple[Any, ...], named: Mapping[str, Any]
) -> Tree:
    """Return the values of a call's inputs by name.

    Raises:
        Invalid: E_INPUT, more than there are, or one that is not declared.
    """
    if len(given) > len(declared):
        raise Invalid(
            f"{name} takes {len(declared)} inputs; {len(given)} are given",
            code="E_INPUT",
            where=name,
        )
    values = dict(zip(declared, given, strict=False))
    for key, value in named.items():
        if key in values:
            raise Invalid(f"input {key!r} is given twice", code="E_INPUT", where=name)
        if key not in declared:
            raise Invalid(
                f"{name} has no input {key!r}",
                code="E_INPUT",
                where=name,
                hint=did_you_mean(key, declared) or f"it has: {', '.join(declared) or 'none'}",
            )
        values[key] = value
    return values


def declared_by(value: Any) -> Tree:
    """Return the declaration that a plain value means: its type, and itself as the default."""
    kind = {bool: "boolean", int: "integer", float: "number"}.get(type(value), "string")
    return {"type": kind, "default": value}
