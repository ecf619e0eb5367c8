"""What the server says when it refuses, in our own errors. No library error leaves the adapter."""

import re

from penstock.errors import BusUnavailable, Conflict, Invalid, NotAllowed, PenstockError

WRONG_LAST_SEQUENCE = 10071
CHECKED_WRITE_IN_PROCESS = 10164
STORE_FAILED = 10077
STREAM_NOT_FOUND = 10059
CONSUMER_NOT_FOUND = 10014
STREAM_NAME_IN_USE = 10058
MESSAGE_TOO_LARGE = 10054
TOO_MANY_REQUESTS = 10167
STORED_ALREADY = 10201
_FULL = frozenset({10023, 10028, 10047, 10122})
_AWAY = frozenset({10008, 10039, 10074, 10076, TOO_MANY_REQUESTS})
_PER_SUBJECT = "per subject"
_NO_SPACE = "no space left on device"
"""Said under whatever code belongs to what was asked. Found by the storm."""
_DENIED = re.compile(
    r"permissions violation for (publish|subscription)(?: with reply of)? to \"([^\"]*)\""
)
_DENIED_REPLY = re.compile(r"permissions violation for publish with reply of \"([^\"]*)\"")


def refusal(err_code: int, description: str, where: str) -> PenstockError:
    """Return an error of the JetStream API as ours (codes: nats-server/server/errors.json)."""
    text = f"{description} ({err_code})"
    if err_code in (WRONG_LAST_SEQUENCE, CHECKED_WRITE_IN_PROCESS, STORED_ALREADY):
        return Conflict(text, where=where)
    if err_code == STORE_FAILED and _PER_SUBJECT in description:
        return Conflict(text, code="E_QUEUED", where=where)
    if err_code == STORE_FAILED or err_code in _FULL or _NO_SPACE in description:
        return BusUnavailable(
            text, code="E_FULL", where=where, hint="free space, or raise max_bytes"
        )
    if err_code == STREAM_NOT_FOUND:
        return no_stream(where)
    if err_code == MESSAGE_TOO_LARGE:
        return Invalid(text, code="E_TOO_LARGE", where=where)
    if err_code in _AWAY:
        return BusUnavailable(text, where=where, hint="is JetStream on, and has it a leader?")
    return Invalid(text, where=where)


def no_stream(where: str) -> BusUnavailable:
    """Return the error for a subject or a name that no stream stands behind."""
    return BusUnavailable(
        "no stream stores this",
        code="E_NO_STREAM",
        where=where,
        hint="start a service that makes it",
    )


def unknown(where: str, what: str = "the outcome is unknown") -> BusUnavailable:
    """Return the error for a message that may or may not have arrived."""
    return BusUnavailable(what, where=where)


def too_large(where: str, size_bytes: int, max_bytes: int) -> Invalid:
    """Return the error for a message above the server's max_payload."""
    return Invalid(
        f"{size_bytes:,} bytes with headers; allowed: {max_bytes:,}",
        code="E_TOO_LARGE",
        where=where,
        hint="store it as an artifact and send its digest",
    )


def not_allowed(subject: str, verb: str) -> NotAllowed:
    """Return the error for a subject that our credentials may not use."""
    return NotAllowed(f"may not {verb} {subject!r}", where=subject)


def denied(text: str) -> tuple[str, str] | None:
    """Return ("publish" or "subscription", subject in lower case) of a permission error, or None.

    nats-py lower-cases what the server writes.
    """
    match = _DENIED.search(text.lower())
    if match:
        return match.group(1), match.group(2)
    match = _DENIED_REPLY.search(text.lower())
    return ("publish", match.group(1)) if match else None
