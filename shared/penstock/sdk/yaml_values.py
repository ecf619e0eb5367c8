"""Inputs and outputs in YAML, of jobs, steps and components alike.

As lax as Azure ML's client: a number where a text is declared is its text, a file where a folder is
declared stays a file. What is checked when a value is bound (min, max, enum, types) the planner checks.
"""

from collections.abc import Mapping
from typing import Any

from penstock.contracts.codec import converted
from penstock.contracts.spec import DATA, FILES, PRIMITIVES, Input, Output, Scalar
from penstock.ids import checked_name
from penstock.sdk.definition import Local, Place
from penstock.sdk.yaml_reading import EXPRESSION, Reading, local_path, modern, scheme_of
from penstock.sdk.yaml_section import Section

Value = Input | Scalar | None

_OLD_TYPES = {
    "path": "uri_folder",
    "anydirectory": "uri_folder",
    "anyfile": "uri_file",
    "float": "number",
    "str": "string",
    "int": "integer",
    "bool": "boolean",
    "enum": "string",
}
"""Of registry components and of old Azure ML; compared without case."""
INPUT_MODES = ("ro_mount", "download", "direct", "eval_mount", "eval_download")
OUTPUT_MODES = ("rw_mount", "upload", "direct", "mount")


class Values:
    """Reads inputs and outputs; what is local goes to the reading."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading

    # -- inputs -------------------------------------------------------------------------------------

    def job_inputs(self, top: Section, place: Place = ()) -> dict[str, Input | Scalar]:
        """Return the inputs of a job or a component; `place` is that of its pipeline or step."""
        section = top.section("inputs")
        result: dict[str, Input | Scalar] = {}
        for name in section:
            value = self.input(section, name, (*place, "inputs", name))
            result[name] = Input(type="string", optional=True) if value is None else value
        return result

    def step_inputs(
        self, node: Section, place: Place, declared: Mapping[str, Value]
    ) -> dict[str, Value]:
        """Return the inputs of a step; `declared` are those of its component."""
        section = node.section("inputs")
        result: dict[str, Value] = {}
        for name in section:
            value = self.input(section, name, (*place, "inputs", name), declared.get(name))
            result[name] = modern(value) if isinstance(value, str) else value
        return result

    def input(self, section: Section, name: str, place: Place, declared: Value = None) -> Value:
        """Return an input in object form, a literal, or None for null."""
        checked_name(name, section.where(name))
        self.reading.places[place] = section.where(name)
        value = section[name]
        if isinstance(value, str) and isinstance(declared, Input) and declared.type in DATA:
            return self.data_text(section, name, value, place, declared)
        if value is None or isinstance(value, str | int | float | bool):
            return value
        if isinstance(value, list):
            raise section.mistyped(name, "a value, or keys and values")
        entry = section.section(name)
        self.reading.meet(entry, "input")
        if "type" not in entry and "path" not in entry and "value" in entry:
            literal = entry.scalar("value")  # {value: 3}: a literal in object form
            return modern(literal) if isinstance(literal, str) else literal
        kind = self.kind(entry, (*PRIMITIVES, *DATA))
        common: dict[str, Any] = {
            "type": kind,
            "mode": self.mode(entry, INPUT_MODES),
            "optional": entry.flag("optional", default=False),
            "description": str(entry.scalar("description") or ""),
        }
        if kind in PRIMITIVES:
            for key in ("value", "default"):
                common[key] = self.literal(entry, key, kind)
            if "path" in entry and common["value"] is None:
                common["value"] = modern(entry.text("path"))
            for key in ("min", "max"):
                common[key] = entry.number(key) if entry[key] is not None else None
            common["enum"] = tuple(entry.items("enum"))
            return converted(common, Input, section.where(name))
        path = str(entry.scalar("path") or entry.scalar("value") or entry.scalar("default") or "")
        common["path"], common["type"] = self.data_path(entry, path, place, kind)
        return converted(common, Input, section.where(name))

    def data_text(
        self, section: Section, name: str, text: str, place: Place, declared: Input
    ) -> Value:
        """Return what a plain text means where data is declared: a binding, a URL or a local path."""
        if EXPRESSION.match(text):
            return text
        path, kind = self.data_path(section, text, place, declared.type, key=name)
        return converted(
            {"type": kind, "path": path, "mode": declared.mode}, Input, section.where(name)
        )

    def data_path(
        self, section: Section, path: str, place: Place, kind: str, key: str = "path"
    ) -> tuple[str, str]:
        """Return a data path that needs no upload and the type; a local one is noted instead."""
        if not path:
            return "", kind
        if "${{" in path:
            return modern(path), kind
        if path.startswith("artifact:") or scheme_of(path) not in ("", "file"):
            return path, kind
        local = local_path(section, key, path)
        if kind in FILES and local.is_dir():
            kind = "uri_folder"
        elif kind == "uri_folder" and not local.is_dir():
            kind = "uri_file"
        self.reading.locals.append(Local(place, local))
        return "", kind

    def literal(self, entry: Section, key: str, kind: str) -> Scalar | None:
        """Return the value of a primitive type, read as Azure ML's client reads it."""
        value = entry.scalar(key)
        if value is None or (isinstance(value, str) and "${{" in value):
            return modern(value) if isinstance(value, str) else value
        if kind == "string" and not isinstance(value, str):
            spelled = entry.document.texts.get((*entry.path, key), str(value))
            if self.reading.strict:
                return entry.typed(key, kind)  # says how to write it
            if spelled != str(value):
                self.reading.note(
                    f"{entry.where(key)}: {spelled} is read as {value}; quote it if that is not meant"
                )
            return str(value)
        if kind == "boolean" and isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if kind == "integer" and isinstance(value, float):
            return value  # passed on as it is written
        return entry.typed(key, kind)

    def kind(self, entry: Section, known: tuple[str, ...]) -> str:
        """Return the type of an input or output; uri_folder without one."""
        value = entry["type"]
        if isinstance(value, list) and value:  # of old components: one of several types
            value = value[0]
        text = str(value if value is not None else "uri_folder").lower()
        kind = _OLD_TYPES.get(text, text)
        if kind not in known:
            raise entry.unknown_choice("type", known)
        return kind

    def mode(self, entry: Section, known: tuple[str, ...]) -> str:
        """Return a mode in lower case."""
        mode = entry.text("mode").lower()
        if mode and mode not in known and "${{" not in mode:
            raise entry.unknown_choice("mode", known)
        return mode

    # -- outputs ------------------------------------------------------------------------------------

    def job_outputs(self, top: Section, place: Place = ()) -> dict[str, Output | None]:
        """Return the outputs of a job or a component that is a pipeline."""
        found = self.outputs(top, place, binding=False)
        return {name: value for name, value in found.items() if not isinstance(value, str)}

    def outputs(
        self, top: Section, place: Place, *, binding: bool = True
    ) -> dict[str, Output | str | None]:
        """Return outputs; with `binding` a text may stand for one."""
        section = top.section("outputs")
        result: dict[str, Output | str | None] = {}
        for name in section:
            checked_name(name, section.where(name))
            self.reading.places[(*place, "outputs", name)] = section.where(name)
            value = section[name]
            if value is None or value == {}:
                result[name] = None
            elif isinstance(value, str):
                result[name] = self.binding(section, name, value, binding=binding)
            else:
                result[name] = self.output(section.section(name))
        return result

    def binding(self, section: Section, name: str, value: str, *, binding: bool) -> Output | str:
        """Return the binding of an output: to a pipeline output, or (`binding` false) to its maker."""
        if not EXPRESSION.match(value):
            raise section.refusal(
                name, "E_TYPE", f"{value!r} is no binding; allowed: an object, nothing, or "
                "${{parent.outputs.…}}",
            )  # fmt: skip
        return value if binding else Output(path=modern(value))

    def output(self, entry: Section) -> Output:
        """Return an output in object form."""
        self.reading.meet(entry, "output")
        if entry["version"] is not None and not entry["name"]:
            raise entry.refusal("version", "E_TYPE", "a version without a name", "add `name:`")
        return converted(
            {
                "type": self.kind(entry, (*PRIMITIVES, *DATA)),
                "path": entry.text("path"),
                "mode": self.mode(entry, OUTPUT_MODES),
                "description": str(entry.scalar("description") or ""),
                "name": str(entry.scalar("name") or ""),
                "version": "" if entry["version"] is None else str(entry.scalar("version")),
            },
            Output,
            entry.where(),
        )
