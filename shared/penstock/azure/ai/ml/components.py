"""Components: files, or written out, called as functions to become steps."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from penstock.azure.ai.ml.nodes import Node, Tree, bound
from penstock.azure.ai.ml.parallel import Parallel
from penstock.azure.ai.ml.values import settled, source_of
from penstock.ids import is_name
from penstock.sdk.names import name_from
from penstock.sdk.yaml_reading import file_read, shown_path
from penstock.sdk.yaml_text import Document, with_value


class Component:
    """What can be called to make a step: a file, a reference, or a tree as YAML would have it."""

    def __init__(self, tree: Tree, source: str | Tree | Document) -> None:
        self._tree = tree
        self._source = source
        """What a step's `component:` says; a document: a file with changes, whose paths start where it lies."""
        self.name: str = str(tree.get("name") or "component")
        self.version: str | None = None if tree.get("version") is None else str(tree["version"])
        self.display_name = tree.get("display_name")
        self.description = tree.get("description")
        self.type = tree.get("type", "command")
        self.tags = dict(tree.get("tags") or {})

    def __repr__(self) -> str:
        import yaml

        return yaml.safe_dump(self._tree, sort_keys=False)

    __str__ = __repr__

    @property
    def inputs(self) -> Mapping[str, Any]:
        """Declared inputs."""
        return self._tree.get("inputs") or {}

    @property
    def outputs(self) -> Mapping[str, Any]:
        """Declared outputs."""
        return self._tree.get("outputs") or {}

    def __call__(self, *given: Any, **named: Any) -> Node:
        """Return a step of this component with these inputs."""
        name = self.name if is_name(self.name) else name_from(self.name)
        made = Parallel if self.type == "parallel" else Node
        return made(
            {"component": self._source, "type": self.type},
            name=name.replace("-", "_"),
            inputs=bound(self.name, self.inputs, given, named),
            declared_inputs=self.inputs,
            declared_outputs=self.outputs,
        )


def load_component(
    source: Any = None,
    *,
    relative_origin: str | None = None,
    params_override: list[Mapping[str, Any]] | None = None,
    **unused: Any,
) -> Component:
    """Return the component in a YAML file.

    Raises:
        NotFound: there is no such file.
        Invalid: E_YAML and others, it is none; E_PARAM, a change of what holds no keys.
    """
    path = source_of(source)
    document, whole = file_read(path)
    for change in params_override or ():
        for key, value in change.items():
            document = with_value(document, key, settled(value), f"params_override {key}")
    tree: Tree = dict(document.value) if isinstance(document.value, dict) else {}
    if not params_override:
        return Component(tree, str(whole))
    return Component(tree, replace(document, file=shown_path(whole)))
