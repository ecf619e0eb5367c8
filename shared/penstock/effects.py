"""What more than one service's decisions may ask the shell to do. Orders, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Append:
    """Store a message on a subject; `message_id` makes doing it twice harmless."""

    subject: str
    data: bytes
    message_id: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
