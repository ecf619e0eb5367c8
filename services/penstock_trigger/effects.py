"""What the trigger's decisions ask the shell to do. Orders, as values, each harmless when repeated."""

from dataclasses import dataclass

from penstock.contracts.events import TriggerEvent
from penstock.contracts.requests import CancelRequest, RunRequest


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the planner for a run, after asking that `cancel` ends; the answer decides what follows."""

    request: RunRequest
    cancel: CancelRequest | None = None


@dataclass(frozen=True, slots=True)
class Announce:
    """Append an event of a trigger; `message_id` is the event's id, so it is stored once."""

    event: TriggerEvent
    message_id: str
