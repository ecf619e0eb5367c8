"""Inputs and outputs as SDK v2 writes them; each knows how YAML would write it."""

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from penstock.sdk.yaml_reading import scheme_of
from penstock.sdk.yaml_text import Document

_PRIMITIVES: dict[object, str] = {int: "integer", float: "number", bool: "boolean", str: "string"}


class Input:
    """Data or a value that goes into a step, or its declaration."""

    def __init__(
        self,
        *,
        type: Any = "uri_folder",
        path: Any = None,
        mode: str | None = None,
        path_on_compute: str | None = None,
        default: Any = None,
        optional: bool | None = None,
        min: Any = None,
        max: Any = None,
        enum: Any = None,
        description: str | None = None,
        datastore: str | None = None,
        **unused: Any,
    ) -> None:
        self.type = _PRIMITIVES.get(type, type)
        self.path = path
        self.mode = mode
        self.default = default
        self.optional = optional
        self.min, self.max, self.enum = min, max, enum
        self.description = description

    def __repr__(self) -> str:
        return f"Input({self.tree()!r})"

    def tree(self) -> dict[str, Any]:
        """Return it as YAML has it; local paths from the current folder."""
        return _without_none(
            type=self.type,
            path=None if self.path is None else placed(self.path),
            mode=self.mode,
            default=literal(self.default),
            optional=self.optional,
            min=self.min,
            max=self.max,
            enum=None if self.enum is None else _choices(self.enum),
            description=self.description,
        )


class Output:
    """Data that comes out of a step, or its declaration."""

    def __init__(
        self,
        *,
        type: Any = "uri_folder",
        path: Any = None,
        mode: str | None = None,
        description: str | None = None,
        name: str | None = None,
        version: str | None = None,
        **unused: Any,
    ) -> None:
        self.type = _PRIMITIVES.get(type, type)
        self.path = path
        self.mode = mode
        self.description = description
        self.name = name
        self.version = version

    def __repr__(self) -> str:
        return f"Output({self.tree()!r})"

    def tree(self) -> dict[str, Any]:
        """Return it as YAML has it."""
        return _without_none(
            type=self.type,
            path=None if self.path is None else str(self.path),
            mode=self.mode,
            description=self.description,
            name=self.name,
            version=self.version,
        )


class Reference:
    """What an expression stands for: an input of the pipeline, or an output of a step of it."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return self._text


def tree_of(value: Any) -> Any:
    """Return a value of an input as YAML has it."""
    if isinstance(value, Input | Output):
        return value.tree()
    if isinstance(value, Reference):
        return str(value)
    if hasattr(value, "reference_tree"):
        return value.reference_tree()
    return literal(value)


def literal(value: Any) -> Any:
    """Return a plain value: members of enumerations by their value, paths as texts."""
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, Path) else value


def placed(path: Any) -> str:
    """Return a path as YAML has it: a local one whole, so that it does not matter who reads it."""
    text = str(path)
    if isinstance(path, Reference) or "${{" in text or scheme_of(text) not in ("", "file"):
        return text
    return str(Path(text.removeprefix("file://").removeprefix("file:")).absolute())


def source_of(source: Any) -> Path:
    """Return the path of what a `load_…` is given: a path, or an open file."""
    return Path(source if isinstance(source, str | Path) else source.name)


def declaration(annotation: Any) -> dict[str, Any] | None:
    """Return the declaration that a parameter's annotation means; None: none."""
    if isinstance(annotation, Input):
        return annotation.tree()
    if annotation in _PRIMITIVES:
        return {"type": _PRIMITIVES[annotation]}
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return {"type": "string", "enum": _choices(annotation)}
    if isinstance(annotation, type) and issubclass(annotation, Input):
        return {"type": "uri_folder"}
    return None


def _choices(enum: Any) -> list[Any]:
    return [literal(item) for item in enum]


def _without_none(**items: Any) -> dict[str, Any]:
    return {key: value for key, value in items.items() if value is not None}


def plain_mapping(value: Any) -> dict[str, Any]:
    """Return settings given as a mapping or as an object, without what is not set."""
    items = dict(value) if isinstance(value, Mapping) else dict(vars(value))
    return {k: literal(v) for k, v in items.items() if v is not None and not k.startswith("_")}


class Settings:
    """Keys that are set as attributes: `node.limits.timeout = 60`. What is not set reads as None."""

    def __init__(self, **known: Any) -> None:
        vars(self).update({key: value for key, value in known.items() if value is not None})

    def __repr__(self) -> str:
        return f"{type(self).__name__}({settled(self)!r})"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self, name, value)


def settled(value: Any) -> Any:
    """Return a setting as YAML has it: an object, of Azure's shape or another, by its attributes."""
    if isinstance(value, Reference):
        return str(value)
    if isinstance(value, Document):  # a component's file, as changed by the program
        return value
    if not isinstance(value, Settings) and hasattr(value, "setting_tree"):
        return value.setting_tree()
    if isinstance(value, Mapping):
        return {key: settled(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [settled(item) for item in value]
    if isinstance(value, str | Enum | Path) or not hasattr(value, "__dict__"):
        return literal(value)
    return {k: settled(v) for k, v in plain_mapping(value).items()}


def shown(tree: Any) -> Any:
    """Return a tree as one looks at it: with what stands in changed files."""
    if isinstance(tree, Document):
        return shown(tree.value)
    if isinstance(tree, Mapping):
        return {key: shown(item) for key, item in tree.items()}
    return [shown(item) for item in tree] if isinstance(tree, list) else tree
