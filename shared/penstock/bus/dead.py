"""Dead letters: messages nobody could take in, kept with the reason in the stream `dead`."""

from penstock.bus import Bus, Headers, Stored
from penstock.errors import Invalid
from penstock.units import KIB

REASON_LENGTH_MAX = 500
KEPT_BYTES = 64 * KIB
"""What is kept of a letter that fills a message by itself, so that its headers have room."""


async def keep(
    bus: Bus,
    subject: str,
    letter: Stored,
    reason: str,
    *,
    message_id: str,
    headers: Headers | None = None,
) -> None:
    """Store a letter with the reason, or its beginning when the whole has no room beside them.

    Raises:
        BusUnavailable: it is not known to be stored.
    """
    told = {
        **(headers or {}),
        "Penstock-Subject": letter.subject,
        "Penstock-Reason": " ".join(reason.split())[:REASON_LENGTH_MAX],
    }
    try:
        await bus.append(subject, letter.data, told, message_id=message_id)
    except Invalid as error:
        if error.code != "E_TOO_LARGE":
            raise
        told["Penstock-Truncated"] = str(len(letter.data))
        await bus.append(subject, letter.data[:KEPT_BYTES], told, message_id=message_id)
