"""The only place that knows bytes. Internal messages are tagged JSON; public ones plain JSON.

Reading is strict where strangers write: one document, UTF-8, no duplicate keys, no NaN, nesting at
most NESTING_MAX; the error says the place, what was found and what is allowed.
"""

import json
import re
from typing import Any, TypeVar

import msgspec

from penstock.contracts.inbox import Inbound
from penstock.contracts.requests import ErrorBody
from penstock.errors import Corrupt, Invalid, PenstockError, Refused
from penstock.ids import did_you_mean

NESTING_MAX = 64
BODY_BYTES_MAX = 1024 * 1024

T = TypeVar("T")

_inbound: msgspec.json.Decoder[Inbound] = msgspec.json.Decoder(Inbound)
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}
_UNKNOWN = re.compile(r"Object contains unknown field `([^`]*)`")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_AT = re.compile(r"^(.*?)(?: - at `(\$.*)`)?$", re.DOTALL)


def encoded(message: object) -> bytes:
    """Return the bytes of a message."""
    return msgspec.json.encode(message)


def inbound(data: bytes) -> Inbound:
    """Return a scheduler's inbound message.

    Raises:
        Corrupt: E_CORRUPT, when the bytes are no message this version knows.
    """
    try:
        return _inbound.decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Corrupt(str(error), where="inbox") from error


def decoded(data: bytes, kind: type[T]) -> T:
    """Return bytes written by ourselves as a `kind`.

    Raises:
        Corrupt: E_CORRUPT, when they are none.
    """
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    try:
        return decoder.decode(data)  # type: ignore[no-any-return]
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Corrupt(str(error), where=getattr(kind, "__name__", str(kind))) from error


def read(data: bytes, kind: type[T], where: str) -> T:
    """Return a stranger's bytes as a `kind`.

    Raises:
        Invalid: E_EMPTY, E_DECODE, E_NUMBER, E_DUPLICATE_KEY, E_TOO_LARGE, E_UNKNOWN_FIELD or E_TYPE,
            with the place inside the document.
    """
    checked_json(data, where)
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise validation_error(error, kind, where) from error
    except msgspec.DecodeError as error:
        raise Invalid(
            str(error), code="E_DECODE", where=where, hint="send one JSON object"
        ) from error


def converted(value: object, kind: type[T], where: str) -> T:
    """Return plain data (from YAML, or already parsed JSON) as a `kind`; errors as `read`."""
    try:
        return msgspec.convert(value, type=kind)
    except msgspec.ValidationError as error:
        raise validation_error(error, kind, where) from error


def checked_json(data: bytes, where: str) -> None:
    """Refuse what a JSON parser would silently accept or choke on.

    Raises:
        Invalid: as `read`.
    """
    if not data.strip():
        raise Invalid("no content", code="E_EMPTY", where=where, hint="send one JSON object")
    if len(data) > BODY_BYTES_MAX:
        raise Invalid(
            f"{len(data):,} bytes; allowed: {BODY_BYTES_MAX:,}",
            code="E_TOO_LARGE",
            where=where,
            hint="store the specification as an artifact and send its digest",
        )
    if nesting_of(data) > NESTING_MAX:
        raise Invalid(f"nesting over {NESTING_MAX}", code="E_DECODE", where=where)
    try:
        json.loads(
            data,
            object_pairs_hook=_without_repeats,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
    except _Repeated as error:
        raise Invalid(
            f"key {str(error)!r} occurs twice", code="E_DUPLICATE_KEY", where=where
        ) from error
    except _Number as error:
        raise Invalid(f"{error} is not a number here", code="E_NUMBER", where=where) from error
    except UnicodeDecodeError as error:
        raise Invalid(f"not UTF-8 at byte {error.start}", code="E_DECODE", where=where) from error
    except json.JSONDecodeError as error:
        raise Invalid(
            f"not JSON: {error.msg} at line {error.lineno} column {error.colno}",
            code="E_DECODE",
            where=where,
            hint="send one JSON object",
        ) from error
    except ValueError as error:  # an integer of more digits than Python converts
        raise Invalid(str(error), code="E_NUMBER", where=where) from error
    _check_surrogates(data, where)


def _check_surrogates(data: bytes, where: str) -> None:
    r"""Refuse half a character, such as "\ud800" alone: json takes it, msgspec does not."""
    if _SURROGATE.search(data) is None:
        return
    try:
        msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise Invalid(f"half a character: {error}", code="E_DECODE", where=where) from error


def nesting_of(data: bytes) -> int:
    """Return how deep brackets nest, not looking inside texts; bounded work, no recursion."""
    depth = deepest = 0
    inside = escaped = False
    for byte in data:
        if inside:
            if escaped:
                escaped = False
            elif byte == 0x5C:  # noqa: PLR2004 - backslash
                escaped = True
            elif byte == 0x22:  # noqa: PLR2004 - quotation mark
                inside = False
        elif byte == 0x22:  # noqa: PLR2004
            inside = True
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def validation_error(error: msgspec.ValidationError, kind: Any, where: str) -> Invalid:
    """Return msgspec's complaint as ours: place, what was found, the nearest known field."""
    match = _AT.match(str(error))
    text, path = (match.group(1), match.group(2) or "") if match else (str(error), "")
    place = where + path.removeprefix("$").replace("[...]", "")
    unknown = _UNKNOWN.search(text)
    if unknown:
        field = unknown.group(1)
        return Invalid(
            f"unknown field {field!r}",
            code="E_UNKNOWN_FIELD",
            where=place,
            hint=did_you_mean(field, sorted(_fields(kind))) or "see the documented fields",
        )
    return Invalid(text, code="E_TYPE", where=place)


def error_body(error: PenstockError) -> ErrorBody:
    """Return an error as it is answered on the bus."""
    return ErrorBody(code=error.code, message=error.message, where=error.where, hint=error.hint)


def error_of(body: ErrorBody) -> PenstockError:
    """Return an answered error as something to raise: refusals as Refused, by their code."""
    return Refused(body.message, code=body.code, where=body.where, hint=body.hint)


def _fields(kind: Any, seen: set[Any] | None = None) -> set[str]:
    seen = set() if seen is None else seen
    names: set[str] = set()
    if kind in seen:
        return names
    seen.add(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        for field in msgspec.structs.fields(kind):
            names.add(field.encode_name)
            names |= _fields(field.type, seen)
    for argument in getattr(kind, "__args__", ()):
        names |= _fields(argument, seen)
    return names


class _Repeated(Exception):
    pass


class _Number(Exception):
    pass


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _Repeated(key)
            seen.add(key)
    return result


def _no_constant(text: str) -> None:
    raise _Number(text)


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise _Number(text)
    return value
