"""A mapping of a YAML document, read key by key: every complaint knows file, line and column."""

from collections.abc import Iterator, Sequence
from typing import Any

from penstock.contracts.spec import Scalar
from penstock.errors import Invalid
from penstock.ids import did_you_mean
from penstock.sdk.yaml_text import Document


class Section:
    """One mapping at `path` of a document. A missing key reads as null."""

    def __init__(self, document: Document, path: tuple[str, ...], value: Any) -> None:
        self.document = document
        self.path = path
        if value is not None and not isinstance(value, dict):
            raise Invalid(
                f"expected keys and values, found {_named(value)}",
                code="E_TYPE",
                where=document.where(*path),
            )
        self.value: dict[str, Any] = value or {}

    def __contains__(self, key: str) -> bool:
        return key in self.value

    def __iter__(self) -> Iterator[str]:
        return iter(self.value)

    def __getitem__(self, key: str) -> Any:
        return self.value.get(key)

    # -- places and refusals ------------------------------------------------------------------------

    def where(self, *keys: str) -> str:
        """Return file:line:column of a key in this section, or of the section."""
        return self.document.where(*self.path, *keys)

    def refusal(self, key: str, code: str, message: str, hint: str = "") -> Invalid:
        """Return a refusal at a key."""
        return Invalid(message, code=code, where=self.where(key), hint=hint)

    def unsupported(self, key: str, hint: str) -> Invalid:
        """Return the refusal of a key that this release cannot do."""
        name = ".".join((*self.path, key))
        return self.refusal(key, "E_UNSUPPORTED", f"{name} is not supported in this release", hint)

    def unknown_choice(self, key: str, known: Sequence[str]) -> Invalid:
        """Return the refusal of a value that is none of the known ones."""
        value = str(self[key])
        hint = did_you_mean(value, known) or f"known: {', '.join(known)}"
        return self.refusal(key, "E_TYPE", f"{value!r} is not a known {key}", hint)

    def refuse_unknown(self, known: Sequence[str]) -> None:
        """Refuse the first key that is not known.

        Raises:
            Invalid: E_UNKNOWN_FIELD.
        """
        for key in self:
            if key not in known:
                raise self.unknown(key, known)

    def unknown(self, key: str, known: Sequence[str]) -> Invalid:
        """Return the refusal of an unknown key."""
        public = [name for name in known if not name.startswith("$")]
        hint = did_you_mean(key, public) or f"known: {', '.join(sorted(public))}"
        return self.refusal(key, "E_UNKNOWN_FIELD", f"unknown key {key!r}", hint)

    def unknown_notes(self, known: Sequence[str], unused: Sequence[str]) -> list[str]:
        """Return notes on keys without effect, as Azure ML's client warns; refuse a near miss.

        Raises:
            Invalid: E_UNKNOWN_FIELD, a key that nearly names a known one.
        """
        notes = []
        for key in self:
            if key in known:
                continue
            if key not in unused and did_you_mean(key, [*known, *unused]):
                raise self.unknown(key, [*known, *unused])
            why = "is not used in this release" if key in unused else "is unknown and not used"
            notes.append(f"{self.where(key)}: {key} {why}")
        return notes

    # -- values -------------------------------------------------------------------------------------

    def section(self, key: str) -> "Section":
        """Return the mapping under a key; an empty one for a missing key or null."""
        return Section(self.document, (*self.path, key), self[key])

    def sections(self) -> Iterator[tuple[str, "Section"]]:
        """Iterate over (key, mapping), for sections whose every value is one."""
        for key in self:
            yield key, self.section(key)

    def text(self, key: str, *, required: bool = False) -> str:
        """Return a text; an empty one for a missing key.

        Raises:
            Invalid: E_MISSING when required; E_TYPE when it is something else (YAML's `no`, 3.10 …).
        """
        value = self[key]
        if value is None or (required and value == ""):
            if not required:
                return ""
            known = [name for name in self if name != key]
            near = did_you_mean(key, known)
            raise Invalid(
                f"{'.'.join((*self.path, key))} is missing",
                code="E_MISSING",
                where=self.where(*([key] if key in self else [])),
                hint=f"{near} found instead" if near else "",
            )
        if not isinstance(value, str):
            raise self.mistyped(key, "a text")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """Return true or false."""
        value = self[key]
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.mistyped(key, "true or false")
        return value

    def number(self, key: str, default: float = 0.0) -> float:
        """Return a number, also from a text that is one (YAML 1.1 reads 1e-3 as text)."""
        value = self[key]
        if value is None:
            return default
        number = _number(value)
        if number is None or (number < 0 and key not in ("min", "max")):
            raise self.mistyped(key, "a number, 0 or more" if number is not None else "a number")
        return number

    def whole(self, key: str) -> int:
        """Return a whole number; 0 for a missing key."""
        value = self.number(key)
        if not value.is_integer():  # nor are .inf and .nan
            raise self.mistyped(key, "a whole number")
        return int(value)

    def scalar(self, key: str) -> Scalar | None:
        """Return a text, a number or a truth value."""
        value = self[key]
        if value is not None and not isinstance(value, str | int | float | bool):
            raise self.mistyped(key, "a single value")
        return value

    def items(self, key: str) -> list[Scalar]:
        """Return a list of single values; one value alone is a list of one."""
        value = self[key]
        values = [] if value is None else value if isinstance(value, list) else [value]
        for item in values:
            if not isinstance(item, str | int | float | bool):
                raise self.mistyped(key, "a list of single values")
        return list(values)

    def texts(self, key: str) -> list[str]:
        """Return a list of texts; one text alone is a list of one."""
        values = self.items(key)
        if any(not isinstance(item, str) for item in values):
            raise self.mistyped(key, "a list of texts")
        return [str(item) for item in values]

    def typed(self, key: str, kind: str) -> Scalar | None:
        """Return the value of a primitive type; what YAML read otherwise than meant is refused.

        Raises:
            Invalid: E_TYPE.
        """
        value = self.scalar(key)
        if value is None:
            return None
        if kind == "string":
            return self.text(key)
        if kind == "boolean":
            if not isinstance(value, bool):
                raise self.mistyped(key, "true or false")
            return value
        number = _number(value)
        if number is None or isinstance(value, bool):
            raise self.mistyped(key, f"a value of type {kind}")
        if kind == "integer":
            if not number.is_integer():
                raise self.mistyped(key, "a whole number")
            return int(number)
        return number if isinstance(value, str) else value

    def mistyped(self, key: str, wanted: str) -> Invalid:
        """Return the refusal of a value of the wrong type, with the spelling that misled YAML."""
        value = self[key]
        name = ".".join((*self.path, key))
        spelled = self.document.texts.get((*self.path, key))
        if wanted in ("a text", "a list of texts") and spelled is not None:
            return self.refusal(
                key,
                "E_TYPE",
                f"{name}: {spelled} is read as {_named(value)}; expected {wanted}",
                "quote this value",
            )
        return self.refusal(key, "E_TYPE", f"{name}: expected {wanted}, found {_named(value)}")


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            return None
        return number if abs(number) != float("inf") and number == number else None  # noqa: PLR0124
    return None


def _named(value: Any) -> str:
    match value:
        case bool():
            return f"the truth value {str(value).lower()}"
        case int() | float():
            return f"the number {value}"
        case str():
            return f"the text {value[:40]!r}"
        case list():
            return "a list"
        case dict():
            return "keys and values"
        case None:
            return "nothing"
    return type(value).__name__
