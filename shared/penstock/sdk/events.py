"""Events as a reader gets them: what happened, where in the stream it stands, and the plain data."""

from fnmatch import fnmatchcase
from typing import Any

import msgspec

from penstock.bus import Stored


class Seen(msgspec.Struct, frozen=True):
    """One event. `sequence` continues a later reading; `data` is its JSON body."""

    sequence: int
    noun: str
    """run, step, trigger or data."""
    what: str
    at: float
    subject: str
    data: dict[str, Any]
    id: str = ""
    source: str = ""

    @property
    def kind(self) -> str:
        """Noun and what, such as "step.succeeded"."""
        return f"{self.noun}.{self.what}"

    def is_kind(self, pattern: str) -> bool:
        """Say whether the event is of a kind: "step.failed", "step.*", "failed", or a full ce-type."""
        wanted = pattern.removeprefix("penstock.")
        wanted = wanted.removesuffix(".v1")
        return fnmatchcase(self.kind, wanted) or wanted in (self.what, self.noun)

    def cloudevent(self) -> dict[str, Any]:
        """Return the event as a CloudEvent in structured mode, with its sequence."""
        from penstock.contracts.cloudevents import event_type, headers_of

        kind = event_type(self.noun, self.what)
        moment = headers_of(event_id="", kind="", source="", subject="", at=self.at)["ce-time"]
        return {
            "specversion": "1.0",
            "id": self.id,
            "source": self.source,
            "type": kind,
            "subject": self.subject,
            "time": moment,
            "datacontenttype": "application/json",
            "sequence": str(self.sequence),
            "data": self.data,
        }


def seen_of(stored: Stored) -> Seen:
    """Return a stored event. Its kind is read from the subject's end, which is stable and public."""
    parts = stored.subject.split(".")
    #   <workspace>.event.<pipeline>.<run>.run.<what>
    #   <workspace>.event.<pipeline>.<run>.step.<step>.<what>
    #   <workspace>.event.trigger.<trigger>.<what> · <workspace>.event.data.<dataset>.<what>
    noun = parts[4] if len(parts) > 5 else parts[2]  # noqa: PLR2004
    try:
        data = msgspec.json.decode(stored.data)
    except msgspec.DecodeError:  # somebody else publishes here too
        data = {}
    if not isinstance(data, dict):
        data = {"value": data}
    headers = {key.lower(): value for key, value in stored.headers.items()}
    at = data.get("at")
    return Seen(
        sequence=stored.sequence,
        noun=noun,
        what=parts[-1],
        at=float(at) if isinstance(at, int | float) else stored.at,
        subject=headers.get("ce-subject", stored.subject),
        data=data,
        id=headers.get("ce-id", ""),
        source=headers.get("ce-source", ""),
    )
