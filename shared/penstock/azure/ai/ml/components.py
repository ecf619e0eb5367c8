"""Components: files, or written out, called as functions to become steps."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penstock.azure.ai.ml.nodes import Node, Tree, bound
from penstock.ids import is_name
from penstock.sdk.names import name_from
from penstock.sdk.yaml_reading import file_read


class Component:
    """What can be called to make a step: a file, a reference, or a tree as YAML would have it."""

    def __init__(self, tree: Tree, source: str | Tree) -> None:
        self._tree = tree
        self._source = source
        """What a step's `component:` says."""
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
        return Node(
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
        Invalid: E_YAML and others, it is none.
    """
    path = Path(getattr(source, "name", source))
    document, whole = file_read(path)
    tree: Tree = dict(document.value) if isinstance(document.value, dict) else {}
    if not params_override:
        return Component(tree, str(whole))
    for change in params_override:
        for key, value in change.items():
            *parents, last = key.split(".")
            inside = tree
            for parent in parents:
                inside = inside.setdefault(parent, {})
            inside[last] = value
    if isinstance(tree.get("code"), str):
        tree["code"] = str((whole.parent / tree["code"]).resolve())
    return Component(tree, tree)
