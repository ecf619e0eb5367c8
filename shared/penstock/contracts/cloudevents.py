"""CloudEvents 1.0 over NATS: binary mode out, binary or structured mode in, or neither.

Binary mode (the working text of the NATS binding): attributes are headers `ce-<name>`, percent-
encoded as in HTTP; the body is the data. Structured mode: content-type application/cloudevents+json,
the body is the envelope.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote, unquote

import msgspec

from penstock.errors import Invalid

STRUCTURED = "application/cloudevents"


def headers_of(
    *, event_id: str, kind: str, source: str, subject: str, at: float, traceparent: str = ""
) -> dict[str, str]:
    """Return the headers of an event in binary mode. `at` is seconds since 1970."""
    moment = (
        datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
    headers = {
        "ce-specversion": "1.0",
        "ce-id": _escaped(event_id),
        "ce-type": _escaped(kind),
        "ce-source": _escaped(source),
        "ce-subject": _escaped(subject),
        "ce-time": moment,
        "ce-datacontenttype": "application/json",
    }
    if traceparent:
        headers["traceparent"] = traceparent
        headers["ce-traceparent"] = traceparent
    return headers


def event_type(noun: str, what: str) -> str:
    """Return the type of one of our events, such as penstock.step.succeeded.v1."""
    return f"penstock.{noun}.{what}.v1"


class Unwrapped(msgspec.Struct, frozen=True):
    """A request's data and what its envelope said (attribute → value, without "ce-")."""

    data: bytes
    attributes: dict[str, str]


def unwrapped(data: bytes, headers: Mapping[str, str]) -> Unwrapped:
    """Return the data of a message in any of the three modes.

    Raises:
        Invalid: E_DECODE, a structured envelope that is none or that has no data.
    """
    lower = {key.lower(): value for key, value in headers.items()}
    if lower.get("content-type", "").lower().startswith(STRUCTURED):
        return _structured(data)
    attributes = {key[3:]: unquote(value) for key, value in lower.items() if key.startswith("ce-")}
    if "traceparent" in lower:
        attributes.setdefault("traceparent", lower["traceparent"])
    return Unwrapped(data, attributes)


def _structured(data: bytes) -> Unwrapped:
    try:
        envelope = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except msgspec.MsgspecError as error:
        raise Invalid(str(error), code="E_DECODE", where="cloudevent") from error
    if "data" not in envelope:
        raise Invalid("the envelope has no 'data'", code="E_DECODE", where="cloudevent")
    attributes = {
        key: str(msgspec.json.decode(bytes(raw))) for key, raw in envelope.items() if key != "data"
    }
    return Unwrapped(bytes(envelope["data"]), attributes)


def _escaped(value: str) -> str:
    return quote(value, safe=" !#$&'()*+,-./:;<=>?@[]^_`{|}~")
