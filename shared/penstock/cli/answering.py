"""Which services answer on a bus: `$SRV.PING` for those that answer questions, presence for executors."""

import asyncio
import contextlib
import secrets
from dataclasses import dataclass, field

import msgspec

from penstock.bus import Bus, Received
from penstock.contracts.subjects import Subjects
from penstock.contracts.work import ExecutorPresence

NEEDED = ("planner", "scheduler", "executor", "artifact")
"""Without one of each no run gets to its end."""
ALL = (*NEEDED, "trigger")
WAIT_S = 6.0
"""Executors say that they are there every few seconds."""
AFTER_S = 0.25
"""Once every kind has answered, this long for the others of each kind."""


class Pong(msgspec.Struct, frozen=True):
    """What a NATS micro service answers to a ping (NATS ADR-32)."""

    name: str
    id: str
    metadata: dict[str, str] | None = None


@dataclass
class Answers:
    """Who has answered, by (service, instance)."""

    workspace: str
    found: dict[tuple[str, str], int] = field(default_factory=dict)
    """The process number where it is told, else 0."""
    executors: dict[str, ExecutorPresence] = field(default_factory=dict)
    complete: asyncio.Event = field(default_factory=asyncio.Event)

    async def on_pong(self, message: Received) -> None:
        """Take the answer of a micro service."""
        with contextlib.suppress(msgspec.MsgspecError):
            pong = msgspec.json.decode(message.data, type=Pong)
            metadata = pong.metadata or {}
            if metadata.get("workspace", self.workspace) == self.workspace:
                pid = metadata.get("pid", "0")
                self._add(_service_of(pong.name), pong.id, int(pid) if pid.isdigit() else 0)

    async def on_presence(self, message: Received) -> None:
        """Take an executor's word that it is there."""
        with contextlib.suppress(msgspec.MsgspecError):
            said = msgspec.json.decode(message.data, type=ExecutorPresence)
            self.executors[said.executor] = said
            self._add("executor", said.executor, said.pid)

    def names(self) -> set[str]:
        """Return the kinds that have answered."""
        return {name for name, _ in self.found}

    def _add(self, name: str, instance: str, pid: int) -> None:
        self.found[name, instance] = pid
        if self.names() >= set(ALL):
            self.complete.set()


async def answering(bus: Bus, names: Subjects, *, wait_s: float = WAIT_S) -> Answers:
    """Return who answers, as soon as every kind has, at the latest after `wait_s`."""
    answers = Answers(names.workspace)
    inbox = f"{_inbox_prefix(bus)}.{secrets.token_hex(8)}"
    pongs = await bus.subscribe(inbox, answers.on_pong)
    presences = await bus.subscribe(names.presence(), answers.on_presence)
    try:
        await bus.publish("$SRV.PING", b"", reply=inbox)
        await bus.publish(names.query("executors"), b"{}")  # they answer where they say it anyway
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(answers.complete.wait(), wait_s)
        await asyncio.sleep(AFTER_S if answers.complete.is_set() else 0)
    finally:
        await pongs.close()
        await presences.close()
    return answers


def _inbox_prefix(bus: Bus) -> str:
    # Accounts that restrict users let each read only its own replies.
    inbox = getattr(getattr(bus, "connection", None), "inbox", "")
    return inbox.rpartition(".")[0] if inbox else "_INBOX"


def _service_of(name: str) -> str:
    return next((known for known in ALL if known in name), name)
