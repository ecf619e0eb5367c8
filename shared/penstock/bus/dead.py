"""Dead letters: messages nobody could take in, kept with the reason in the stream `dead`.

Each lies on a subject of its own, `dead.<stream>.<sequence>-<moment>`, so that one can be dropped
alone. Its headers are the message's own, without the server's, and what is known of its end.
"""

from collections.abc import Mapping

from penstock.bus import Bus, Headers, Stored
from penstock.contracts.subjects import Subjects
from penstock.errors import Invalid, PenstockError
from penstock.units import KIB

SUBJECT = "Penstock-Subject"
REASON = "Penstock-Reason"
CODE = "Penstock-Code"
SEQUENCE = "Penstock-Sequence"
DELIVERIES = "Penstock-Deliveries"
TRUNCATED = "Penstock-Truncated"
OURS = frozenset({SUBJECT, REASON, CODE, SEQUENCE, DELIVERIES, TRUNCATED})

REASON_LENGTH_MAX = 500
KEPT_BYTES = 64 * KIB
"""What is kept of a letter that fills a message by itself, so that its headers have room."""


async def keep(
    bus: Bus,
    names: Subjects,
    stream: str,
    letter: Stored,
    error: PenstockError,
    *,
    deliveries: int = 0,
) -> None:
    """Store a letter of `stream` (short name), or its beginning when the whole has no room. Idempotent.

    Raises:
        BusUnavailable: it is not known to be stored.
    """
    token = f"{letter.sequence}-{int(letter.at * 1000)}"
    told = {
        **own_headers(letter.headers),
        SUBJECT: letter.subject,
        REASON: " ".join(error.message.split())[:REASON_LENGTH_MAX],
        CODE: error.code,
        SEQUENCE: str(letter.sequence),
        DELIVERIES: str(deliveries),
    }
    subject, message_id = names.dead(stream, token), f"dead.{stream}.{token}"
    try:
        await bus.append(subject, letter.data, told, message_id=message_id)
    except Invalid as refused:
        if refused.code != "E_TOO_LARGE":
            raise
        told[TRUNCATED] = str(len(letter.data))
        await bus.append(subject, letter.data[:KEPT_BYTES], told, message_id=message_id)


def own_headers(headers: Headers) -> Mapping[str, str]:
    """Return what whoever sent a message wrote into its headers: not the server's, not ours."""
    return {
        name: value
        for name, value in headers.items()
        if not name.lower().startswith("nats-") and name not in OURS
    }
