"""From a stranger's bytes to a request and a spec. Every refusal names the place and the nearest name."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_args, get_origin

import msgspec

from penstock.contracts import codec
from penstock.contracts.cloudevents import unwrapped
from penstock.contracts.requests import CancelRequest, RerunRequest, RunRequest
from penstock.contracts.spec import (
    INLINE_BYTES_MAX,
    SPEC_BYTES_MAX,
    GitInfo,
    PipelineSpec,
    spec_bytes,
)
from penstock.errors import Invalid
from penstock.ids import checked_name, derived_id, digest_of, is_name, is_run_id
from penstock.units import KIB
from penstock_planner.decide.problems import nearest, shown
from penstock_planner.decide.values import artifact_of

HEADERS_MAX = 100
HEADER_BYTES_MAX = 16 * KIB
KEY_LENGTH_MAX = 256
SPEC_FILE = "spec.json"

Request = RunRequest | CancelRequest | RerunRequest
KINDS: Mapping[str, type[Request]] = {
    "run": RunRequest,
    "cancel": CancelRequest,
    "rerun": RerunRequest,
}

UNKNOWN = "unknown"
"""The pipeline of a request that names none that could be read."""

T = TypeVar("T")


class _Named(msgspec.Struct):
    name: str = "unnamed"


@dataclass(frozen=True, slots=True)
class Wish:
    """A request as it came in: its kind, its body without an envelope, and where it hails from."""

    request: Request
    body: bytes
    traceparent: str = ""


def wish_of(kind: str, data: bytes, headers: Mapping[str, str]) -> Wish:
    """Return the request in a message, in any of the three CloudEvents modes.

    Raises:
        Invalid: E_REQUEST (no such kind), E_HEADERS, or as `codec.read`.
    """
    if kind not in KINDS:
        raise Invalid(
            f"unknown request {shown(kind)}; allowed: {', '.join(KINDS)}",
            code="E_REQUEST",
            where="subject",
            hint=nearest(kind, KINDS),
        )
    size = sum(len(name) + len(value) for name, value in headers.items())
    if len(headers) > HEADERS_MAX or size > HEADER_BYTES_MAX:
        raise Invalid(
            f"{len(headers):,} headers of {size:,} bytes; allowed: {HEADERS_MAX} of "
            f"{HEADER_BYTES_MAX:,} bytes",
            code="E_HEADERS",
            where="request",
        )
    plain = unwrapped(data, headers)
    request = read(plain.data, KINDS[kind], "request")
    if isinstance(request, CancelRequest | RerunRequest):
        checked_run(request.run, "request.run")
    if isinstance(request, RunRequest | RerunRequest):
        _check_key(request.idempotency_key)
    return Wish(request, plain.data, plain.attributes.get("traceparent", ""))


def pairing_of(subject: str, data: bytes, headers: Mapping[str, str]) -> str:
    """Return the key under which a caller's reply address meets the answer to its request.

    It follows from the message alone, since a stream keeps everything of it but that address.
    """
    kept = sorted(
        f"{name.lower()}={value}"
        for name, value in headers.items()
        if name.lower().startswith("ce-") or name.lower() == "content-type"
    )
    return derived_id(subject, digest_of(data), *kept)


def checked_run(run: str, where: str) -> str:
    """Return a run id. Raises Invalid: E_ID."""
    if not is_run_id(run):
        raise Invalid(
            f"{shown(run)} is no run id; allowed: 15 characters of 0-9 and a-z",
            code="E_ID",
            where=where,
            hint="list runs with: penstock run list",
        )
    return run


def pipeline_of(text: str, where: str = "request.pipeline") -> tuple[str, str]:
    """Return name and version of "digits@3"; the version is "latest" when none is named.

    Raises:
        Invalid: E_ID.
    """
    name, at, version = text.partition("@")
    checked_name(name, where)
    if at and version != "latest" and not (version.isascii() and version.isdigit()):
        raise Invalid(
            f"{shown(version)} is no version; allowed: a number, or latest",
            code="E_ID",
            where=where,
        )
    return name, version or "latest"


def pipeline_token(data: bytes, headers: Mapping[str, str]) -> str:
    """Return the pipeline that a refused request speaks of, as far as it can be read, or "unknown"."""
    try:
        request = wish_of("run", data, headers).request
        if not isinstance(request, RunRequest):
            return UNKNOWN
        if request.pipeline:
            return pipeline_of(request.pipeline)[0]
        name = msgspec.json.decode(request.spec, type=_Named).name
    except (Invalid, msgspec.MsgspecError, RecursionError):
        return UNKNOWN
    return name if is_name(name) else UNKNOWN


def content_of(wish: Wish) -> str:
    """Return a digest of what a request says, whatever its blanks and the order of its keys."""
    plain = msgspec.json.decode(wish.body)
    return digest_of(msgspec.json.encode([type(wish.request).__name__, plain], order="sorted"))


def artifact_in(raw: msgspec.Raw) -> str:
    """Return the digest when a raw spec is the text `artifact:<digest>`, else an empty text.

    Raises:
        Invalid: E_TYPE, for any other text.
    """
    data = bytes(raw).strip()
    if not data.startswith(b'"'):
        return ""
    text = read(data, str, "spec")
    digest = artifact_of(text)
    if not digest:
        raise Invalid(
            f"{shown(text)}; allowed: an object, or artifact:<64 hexadecimal digits>",
            code="E_TYPE",
            where="spec",
        )
    return digest


def spec_of(data: bytes, *, stored: bool = False) -> PipelineSpec:
    """Return the spec in some JSON; `jobs` counts as `steps`.

    `stored`: it comes from a stored tree and may have SPEC_BYTES_MAX; inline, INLINE_BYTES_MAX.

    Raises:
        Invalid: as `codec.read`; places are such as `steps.train.inputs.data`.
    """
    limit = SPEC_BYTES_MAX if stored else INLINE_BYTES_MAX
    if len(data) > limit:
        raise Invalid(
            f"{len(data):,} bytes; allowed: {limit:,}",
            code="E_TOO_LARGE",
            where="spec",
            hint="" if stored else "store it as an artifact with one file spec.json",
        )
    data = _with_steps(data)
    try:
        if len(data) > codec.BODY_BYTES_MAX:
            return _read_large(data, PipelineSpec)
        return read(data, PipelineSpec, "")
    except Invalid as error:
        error.where = error.where.lstrip(".") or "spec"
        raise


def stripped(spec: PipelineSpec) -> PipelineSpec:
    """Return a spec without where its source came from: what decides whether two are equal."""
    return msgspec.structs.replace(spec, git=GitInfo())


def digest_and_bytes(spec: PipelineSpec) -> tuple[str, bytes]:
    """Return the name of a spec's content and its canonical bytes, both without git."""
    data = spec_bytes(stripped(spec))
    return digest_of(data), data


def read(data: bytes, kind: type[T], where: str) -> T:
    """Return `codec.read`, with the keys of mappings in the places of its errors."""
    try:
        return codec.read(data, kind, where)
    except Invalid as error:
        if error.code not in ("E_TYPE", "E_UNKNOWN_FIELD"):
            raise
        raise _deeper(msgspec.json.decode(data), kind, where) or error from error


def _read_large(data: bytes, kind: type[T]) -> T:
    """Return what is larger than a message may be, read without the strictness that costs time."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        try:
            refusal = _deeper(msgspec.json.decode(data), kind, "")
        except (msgspec.MsgspecError, RecursionError):
            refusal = None
        raise refusal or codec.validation_error(error, kind, "") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise Invalid(str(error), code="E_DECODE", where="spec") from error


def _with_steps(data: bytes) -> bytes:
    """Return a spec's JSON with the key `jobs` renamed, when that is how its author says it."""
    if b'"jobs"' not in data:
        return data
    try:
        parts = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, RecursionError):
        return data  # the reader says what is wrong
    if "jobs" not in parts or "steps" in parts:
        return data
    return msgspec.json.encode({"steps" if k == "jobs" else k: v for k, v in parts.items()})


def _deeper(value: Any, kind: Any, where: str) -> Invalid | None:
    """Return the first complaint about a part of some plain data, with every key on the way."""
    for key, part, part_kind in _parts(value, kind):
        place = f"{where}.{key}" if where else key
        try:
            msgspec.convert(part, type=part_kind)
        except msgspec.ValidationError as error:
            found = _deeper(part, part_kind, place)
            return found or codec.validation_error(error, part_kind, place)
    return None


def _parts(value: Any, kind: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield key, value and type of what a mapping or a struct consists of."""
    if not isinstance(value, dict):
        return
    if get_origin(kind) is dict:
        for key, part in value.items():
            yield key[:64], part, get_args(kind)[1]
        return
    for option in (kind, *get_args(kind)):
        if isinstance(option, type) and issubclass(option, msgspec.Struct):
            fields = {field.encode_name: field.type for field in msgspec.structs.fields(option)}
            for key, part in value.items():
                if key in fields and fields[key] is not msgspec.Raw:
                    yield key, part, fields[key]
            return


def _check_key(key: str) -> None:
    if len(key) > KEY_LENGTH_MAX or not key.isprintable():
        raise Invalid(
            f"{shown(key)}; allowed: up to {KEY_LENGTH_MAX} printable characters",
            code="E_ID",
            where="request.idempotency_key",
        )
