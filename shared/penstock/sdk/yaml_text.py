"""YAML as people write it, read strictly: YAML 1.1 as Azure ML's client reads it, minus what surprises.

Refused, each with file, line and column: more than 1 MiB, aliases without end, custom tags, two
documents, deep nesting, tabs, and numbers in spellings that mean something else (017, 12:30:45).
Merge keys (`<<: *base`) are merged; of a repeated key the last one counts, and the document tells.
Parsing goes event by event, so no document can exhaust the stack. Keys are kept as they are spelled
(`on:` is the text "on"); dates stay texts.
"""

import copy
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import isfinite
from types import MappingProxyType
from typing import Any, cast

import yaml

from penstock.errors import Invalid
from penstock.sdk.yaml_aliases import written_out
from penstock.units import MIB

BYTES_MAX = 1 * MIB
NESTING_MAX = 64

Folder = pathlib.Path
Path = tuple[str, ...]
"""A place in a document: keys from the root; items of lists by number."""

_CORE = "tag:yaml.org,2002:"
_PLAIN_TAGS = {f"{_CORE}{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")}
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_resolver: Any = yaml.resolver.Resolver()
_constructor: Any = yaml.constructor.SafeConstructor()


_HERE = Folder()


@dataclass(frozen=True, slots=True)
class Document:
    """A read document: plain data, and where each key stands (line and column from 1)."""

    value: Any
    file: str
    places: Mapping[Path, tuple[int, int]]
    texts: Mapping[Path, str]
    """Unquoted values that were not read as text, as they are spelled."""
    folder: Folder = _HERE
    """What relative paths in it start from."""
    repeated: tuple[Invalid, ...] = ()
    """Keys that occur twice, for readers that do not take the last one."""

    def where(self, *path: str) -> str:
        """Return `file:line:column` of a key, or of the nearest key around it."""
        for length in range(len(path), -1, -1):
            place = self.places.get(path[:length])
            if place is not None:
                return f"{self.file}:{place[0]}:{place[1]}"
        return self.file


def document_of(data: bytes, file: str, folder: Folder | None = None) -> Document:
    """Return the one document in `data`; `file` is its name in errors, `folder` where its paths start.

    Raises:
        Invalid: E_TOO_LARGE, E_EMPTY, E_YAML, E_YAML_ALIAS, E_YAML_TAG, E_YAML_MULTI, or E_TYPE (a
            number in a misleading spelling).
    """
    if len(data) > BYTES_MAX:
        raise Invalid(f"{len(data):,} bytes; allowed: 1 MiB", code="E_TOO_LARGE", where=file)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Invalid(f"not UTF-8 at byte {error.start}", code="E_YAML", where=file) from error
    builder = _Builder(file)
    try:
        for event in written_out(_events(text), builder.refusal):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, file, text) from error
    except yaml.reader.ReaderError as error:
        raise Invalid(
            f"character #x{ord(error.character):04x} is not allowed"
            if isinstance(error.character, str)
            else str(error.reason),
            code="E_YAML",
            where=f"{file}:{text.count(chr(10), 0, error.position) + 1}",
        ) from error
    if not builder.documents:
        raise Invalid("no content", code="E_EMPTY", where=file)
    return Document(
        builder.root,
        file,
        builder.places,
        builder.texts,
        folder or _HERE,
        tuple(builder.repeated),
    )


def with_values(document: Document, texts: Iterable[str]) -> Document:
    """Return a document with `a.b.c=value` put in, as `az … --set` does; values are read as YAML.

    Raises:
        Invalid: E_PARAM, a text without "=", or a way through something that is no mapping.
    """
    for text in texts:
        way, equals, given = text.partition("=")
        where = f"--set {text[:80]}"
        if not equals or not all(way.strip().split(".")):
            raise Invalid(
                f"{text[:80]!r} is not a.b.c=value", code="E_PARAM", where=where,
                hint="for example --set settings.default_compute=local",
            )  # fmt: skip
        part = document_of(given.encode() or b"''", where)
        if part.repeated:
            raise part.repeated[0]
        document = with_value(document, way.strip(), part.value, where, part.texts)
    return document


def with_value(
    document: Document,
    way: str,
    given: Any,
    where: str,
    texts: Mapping[Path, str] = MappingProxyType({}),
) -> Document:
    """Return a document with a value put in at `a.b.c`; `texts` are spellings within the value.

    Raises:
        Invalid: E_PARAM, a way through something that is no mapping.
    """
    keys = tuple(way.split("."))
    value = copy.deepcopy(document.value)
    _at(value, keys[:-1], where)[keys[-1]] = given
    spelled = {key: one for key, one in document.texts.items() if key[: len(keys)] != keys}
    spelled |= {(*keys, *key): one for key, one in texts.items()}
    places = {key: one for key, one in document.places.items() if key[: len(keys)] != keys}
    return replace(document, value=value, places=places, texts=spelled)


def _at(value: Any, keys: Path, where: str) -> dict[str, Any]:
    """Return the mapping that keys lead to, made on the way where there is nothing."""
    for number, key in enumerate((*keys, "")):
        if not isinstance(value, dict):
            raise Invalid(
                f"{'.'.join(keys[:number]) or 'the file'} holds no keys",
                code="E_PARAM",
                where=where,
            )
        if number < len(keys):
            if value.get(key) is None:
                value[key] = {}
            value = value[key]
    return cast("dict[str, Any]", value)


def _events(text: str) -> Iterator[Any]:
    events: Iterator[Any] = yaml.parse(text, Loader=_LOADER)
    return events


def _syntax_error(error: yaml.MarkedYAMLError, file: str, text: str) -> Invalid:
    mark = error.problem_mark or error.context_mark
    problem = str(error.problem or error.context or "not YAML")
    where = file
    if mark is not None:
        where = f"{file}:{mark.line + 1}:{mark.column + 1}"
        lines = text.splitlines()
        if mark.line < len(lines) and lines[mark.line][mark.column : mark.column + 1] == "\t":
            return Invalid("a tab", code="E_YAML", where=where, hint="indent with blanks")
    return Invalid(problem, code="E_YAML", where=where)


class _Frame:
    """A mapping or list being filled; `key` is the mapping's key whose value comes next."""

    __slots__ = ("key", "merged", "path", "value")

    def __init__(self, value: dict[str, Any] | list[Any], path: Path) -> None:
        self.value = value
        self.path = path
        self.key: str | None = None
        self.merged: Any = None
        """The event of its merge key."""


class _Builder:
    """Builds plain data from parser events without recursion."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.root: Any = None
        self.documents = 0
        self.places: dict[Path, tuple[int, int]] = {}
        self.texts: dict[Path, str] = {}
        self.frames: list[_Frame] = []
        self.repeated: list[Invalid] = []

    def take(self, event: Any) -> None:
        match event:
            case yaml.DocumentStartEvent():
                self.documents += 1
                if self.documents > 1:
                    raise self.refusal(event, "E_YAML_MULTI", "a second document; allowed: one")
            case yaml.ScalarEvent():
                self.take_scalar(event)
            case yaml.MappingStartEvent():
                self.open(event, {})
            case yaml.SequenceStartEvent():
                self.open(event, [])
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self.merge(self.frames.pop())
            case _:
                pass  # stream and document borders

    def open(self, event: Any, value: dict[str, Any] | list[Any]) -> None:
        self.check_tag(event)
        if len(self.frames) >= NESTING_MAX:
            raise self.refusal(event, "E_YAML", f"nesting over {NESTING_MAX}")
        path = self.add(event, value)
        self.frames.append(_Frame(value, path))

    def take_scalar(self, event: Any) -> None:
        self.check_tag(event)
        frame = self.frames[-1] if self.frames else None
        if frame is not None and isinstance(frame.value, dict) and frame.key is None:
            self.take_key(frame, event)
            return
        value = self.value_of(event)
        path = self.add(event, value)
        if not event.style and not isinstance(value, str):
            self.texts[path] = event.value
        else:
            self.texts.pop(path, None)  # of the same key before, if it is repeated

    def take_key(self, frame: _Frame, event: Any) -> None:
        key = event.value
        place = ".".join((*frame.path, key))
        twice = self.refusal(event, "E_DUPLICATE_KEY", f"key {place!r} occurs twice")
        if key == "<<":
            if frame.merged is not None:
                raise twice
            frame.merged = event
        elif key in frame.value:
            self.repeated.append(twice)
        frame.key = key
        self.places[(*frame.path, key)] = _position(event)

    def add(self, event: Any, value: Any) -> Path:
        """Put a value where it belongs and return its place."""
        if not self.frames:
            self.root = value
            self.places[()] = _position(event)
            return ()
        frame = self.frames[-1]
        if isinstance(frame.value, list):
            path = (*frame.path, str(len(frame.value)))
            frame.value.append(value)
            self.places[path] = _position(event)
            return path
        if frame.key is None:
            raise self.refusal(event, "E_YAML", "a key must be a text")
        path = (*frame.path, frame.key)
        frame.value[frame.key] = value
        frame.key = None
        return path

    def merge(self, frame: _Frame) -> None:
        """Put into a mapping that has ended what its merge key brings: own keys count, then the first."""
        own = frame.value
        if frame.merged is None or not isinstance(own, dict):
            return
        given = own.pop("<<")
        start = (*frame.path, "<<")
        sources = [(start, given)]
        if isinstance(given, list):
            sources = [((*start, str(number)), item) for number, item in enumerate(given)]
        brought: dict[str, Any] = {}
        for path, source in sources:
            if not isinstance(source, dict):
                raise self.refusal(
                    frame.merged,
                    "E_YAML",
                    "a merge key takes keys and values, or a list of such",
                    "for example <<: *base",
                )
            for key, value in source.items():
                if key not in own and key not in brought:
                    brought[key] = value
                    self.move((*path, key), (*frame.path, key), value)
        kept = dict(own)
        own.clear()
        own.update(brought | kept)

    def move(self, old: Path, new: Path, value: Any) -> None:
        """Let a merged value be found, with all that is in it, at its new place."""
        waiting = [(old, new, value)]
        while waiting:
            old, new, value = waiting.pop()
            self.places[new] = self.places[old]
            if old in self.texts:
                self.texts[new] = self.texts[old]
            if isinstance(value, dict):
                waiting += [((*old, key), (*new, key), item) for key, item in value.items()]
            elif isinstance(value, list):
                waiting += [((*old, str(n)), (*new, str(n)), v) for n, v in enumerate(value)]

    def value_of(self, event: Any) -> Any:
        """Return a scalar as YAML 1.1 means it."""
        tag = event.tag
        if tag is None or tag == "!":
            implicit = (event.implicit[0], False) if tag is None else (False, True)
            tag = _resolver.resolve(yaml.ScalarNode, event.value, implicit)
        node = yaml.ScalarNode(tag, event.value)
        try:
            if tag == f"{_CORE}int":
                return self.integer(event, _constructor.construct_yaml_int(node))
            if tag == f"{_CORE}float":
                return self.real(event, _constructor.construct_yaml_float(node))
            if tag == f"{_CORE}bool":
                return bool(_constructor.construct_yaml_bool(node))
        except (ValueError, KeyError) as error:
            raise self.refusal(event, "E_TYPE", f"{event.value!r} is not a {tag}") from error
        return None if tag == f"{_CORE}null" else event.value

    def integer(self, event: Any, value: int) -> int:
        digits = event.value.lstrip("+-")
        if self.frames and self.frames[-1].key == "version":
            return value  # `version: 01` is "1" in Azure ML, and nobody counts with it
        if ":" in digits or (digits[0] == "0" and digits[1:2].isdigit()):
            raise self.misleading(event, value)
        if value.bit_length() > 63:  # noqa: PLR2004 - what every reader of JSON can hold
            raise self.refusal(event, "E_NUMBER", f"{event.value[:40]} is out of range")
        return value

    def real(self, event: Any, value: float) -> float:
        if ":" in event.value:
            raise self.misleading(event, value)
        if not isfinite(value):
            raise self.refusal(event, "E_NUMBER", f"{event.value} is not a number here")
        return value

    def misleading(self, event: Any, value: float) -> Invalid:
        return self.refusal(
            event, "E_TYPE", f"{event.value} is read as {value}", "quote this value"
        )

    def check_tag(self, event: Any) -> None:
        tag = event.tag
        if tag is not None and tag != "!" and tag not in _PLAIN_TAGS:
            shown = tag.replace(_CORE, "!!")[:60]
            raise self.refusal(event, "E_YAML_TAG", f"tag {shown}; tags are not allowed")

    def refusal(self, event: Any, code: str, message: str, hint: str = "") -> Invalid:
        line, column = _position(event)
        return Invalid(message, code=code, where=f"{self.file}:{line}:{column}", hint=hint)


def _position(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1
