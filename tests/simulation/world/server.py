"""What nats-server keeps: it survives everything but its own disk.

    log        own.<p> and runlog.<p>: appends that expect the sequence of the owner's own message
    queues     requests, inbox, due, work: lent out for a while, at least once, and for ever
    events     appended once per message id within a window, in order
    buckets    last value per key, changed by compare-and-set

Its clock is the world's. Message ids are forgotten after their stream's window, as in topology.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from penstock.contracts.codec import encoded
from penstock.contracts.events import RunEvent, StepEvent
from penstock.errors import Conflict

if TYPE_CHECKING:
    from tests.simulation.world.clockwork import Process
    from tests.simulation.world.play import World

WINDOW_S = 120.0
WINDOW_LONG_S = 7_200.0
INBOX_ACK_WAIT_S = 10.0
REQUEST_ACK_WAIT_S = 10.0


@dataclass(slots=True, eq=False)
class Entry:
    """A message of a queue. `until`: when its loan ends; `deliveries`: how often it was lent."""

    sequence: int
    subject: str
    data: bytes
    at: float
    deliveries: int = 0
    until: float = 0
    holder: "Process | None" = None
    life: int = 0


class Queue:
    """A work queue and its one consumer."""

    def __init__(self, world: "World", ack_wait_s: float, deliveries_max: int = 0) -> None:
        self.world = world
        self.ack_wait_s = ack_wait_s
        self.deliveries_max = deliveries_max
        self.entries: dict[int, Entry] = {}

    def put(self, subject: str, data: bytes) -> Entry:
        """Store a message."""
        entry = Entry(self.world.server.next(), subject, data, self.world.now)
        self.entries[entry.sequence] = entry
        return entry

    def free(self) -> Iterator[Entry]:
        """Iterate over what may be lent now."""
        now, most = self.world.now, self.deliveries_max
        for entry in self.entries.values():
            if entry.until <= now and not (most and entry.deliveries >= most):
                yield entry

    def has_free(self) -> bool:
        """Say whether anything may be lent now."""
        if not self.entries:
            return False
        now, most = self.world.now, self.deliveries_max
        for entry in self.entries.values():  # asked at every turn, so without ado
            if entry.until <= now and not (most and entry.deliveries >= most):
                return True
        return False

    def take(self, process: "Process") -> Entry | None:
        """Lend a message: the oldest, or any if the network reorders."""
        world = self.world
        free = list(self.free())
        if not free:
            return None
        entry = world.chance.choice(free) if world.happens("reorder") else free[0]
        if entry.deliveries:
            world.landed["redelivered"] += 1
            world.audit.redelivered(self, entry)
        entry.deliveries += 1
        entry.until = world.now + self.ack_wait_s
        if world.happens("duplicate"):
            entry.until = world.now  # lent to somebody else at the same time
            world.audit.excused(entry)
        entry.holder, entry.life = process, process.life
        return entry

    def ack(self, entry: Entry) -> None:
        """Take a message off; one that is off already is fine."""
        if not self.world.happens("lost_ack"):
            self.entries.pop(entry.sequence, None)
        else:
            self.world.audit.excused(entry)

    def nak(self, entry: Entry, delay_s: float = 0) -> None:
        """Give a message back."""
        entry.until = self.world.now + delay_s
        self.world.audit.excused(entry)

    def extend(self, entry: Entry) -> None:
        """Note that a message is being worked on."""
        if entry.sequence in self.entries:
            entry.until = self.world.now + self.ack_wait_s


@dataclass(slots=True)
class Pin:
    """Whom the server has pinned to a partition's inbox."""

    process: "Process | None" = None
    life: int = 0


@dataclass
class Server:
    """Everything durable but the objects."""

    world: "World"
    sequence: int = 0
    away_until: float = 0
    ids: dict[str, tuple[int, float]] = field(default_factory=dict)
    own: dict[int, int] = field(default_factory=dict)
    runlog: dict[int, list[tuple[int, bytes, str]]] = field(default_factory=dict)
    """By partition: sequence, bytes, message id."""
    history: dict[int, list[bytes]] = field(default_factory=dict)
    """The log as if it were never compacted."""
    committed: set[str] = field(default_factory=set)
    live: dict[int, int] = field(default_factory=dict)
    """Header of each log's last message: runs that need an owner."""
    pins: dict[int, Pin] = field(default_factory=dict)
    events: dict[str, list[RunEvent | StepEvent]] = field(default_factory=dict)
    links: dict[str, list[str]] = field(default_factory=dict)
    """The header penstock-chain of each event."""
    told: dict[str, Any] = field(default_factory=dict)
    """Events of triggers, by subject and in order: (message id, event)."""
    timers: dict[tuple[str, str, str], tuple[float, bytes]] = field(default_factory=dict)
    buckets: dict[str, dict[str, tuple[int, Any]]] = field(default_factory=dict)
    dead: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = self.world.shape
        self.requests = Queue(self.world, REQUEST_ACK_WAIT_S)
        forgets = self.world.mutant == "queue_gives_up"
        self.work = Queue(self.world, shape.ack_wait_s, shape.starts_max if forgets else 0)
        self.inbox = {n: Queue(self.world, INBOX_ACK_WAIT_S) for n in range(shape.partitions)}
        self.due = {n: Queue(self.world, INBOX_ACK_WAIT_S) for n in range(shape.partitions)}
        self.pins = {n: Pin() for n in range(shape.partitions)}

    def next(self) -> int:
        """Return the next sequence."""
        self.sequence += 1
        return self.sequence

    def partition_of(self, run: str) -> int:
        """Return the partition of a run."""
        return (ord(run[-1]) + ord(run[-2])) % self.world.shape.partitions

    def is_copy(self, message_id: str, window_s: float = WINDOW_S) -> bool:
        """Say whether an id was seen within the window; note it otherwise."""
        if not message_id or self.world.mutant == "no_dedupe_id":
            return False
        seen = self.ids.get(message_id)
        if seen is not None and self.world.now - seen[1] < window_s:
            self.world.landed["dropped a copy"] += 1
            return True
        self.ids[message_id] = (self.sequence, self.world.now)
        return False

    # -- queues ----------------------------------------------------------------------------------
    def put(self, run: str, subject: str, message: Any, message_id: str = "") -> None:
        """Store something in the inbox of a run's partition, once per id."""
        if not self.is_copy(message_id):
            data = message if isinstance(message, bytes) else encoded(message)
            self.inbox[self.partition_of(run)].put(f"inbox.{run}.{subject}", data)

    def dispatch(self, subject: str, data: bytes, message_id: str) -> None:
        """Store work: one message per subject.

        Raises:
            Conflict: there is one already.
        """
        if any(entry.subject == subject for entry in self.work.entries.values()):
            raise Conflict("one message per subject", where=subject)
        if not self.is_copy(message_id, WINDOW_LONG_S):
            self.work.put(subject, data)

    def withdraw(self, prefix: str) -> None:
        """Purge work whose subject begins so (a subject's own end is the prefix's end)."""
        for entry in list(self.work.entries.values()):
            if f"{entry.subject}.".startswith(f"{prefix}."):
                del self.work.entries[entry.sequence]

    # -- the run log -----------------------------------------------------------------------------
    def take_over(self, partition: int, last: int) -> int:
        """Append to own.<p>, expecting its last sequence; return the fence.

        Raises:
            Conflict: somebody else has.
        """
        if self.own.get(partition, 0) != last:
            raise Conflict("somebody was first", where=f"own.{partition}")
        self.own[partition] = self.next()
        return self.own[partition]

    def commit(self, partition: int, fence: int, data: bytes, live: int, message_id: str) -> int:
        """Append to runlog.<p>, expecting the owner's own message; return the sequence.

        Raises:
            Conflict: somebody else owns the partition.
        """
        if self.own[partition] != fence and self.world.mutant != "no_cas":
            self.world.landed["refused a commit"] += 1
            raise Conflict("not the owner", where=f"runlog.{partition}")
        if self.is_copy(message_id):
            return self.ids[message_id][0]
        sequence = self.next()
        self.ids[message_id] = (sequence, self.world.now)
        self.runlog.setdefault(partition, []).append((sequence, data, message_id))
        if message_id not in self.committed:  # else a copy, sent after the window: see runlog.py
            self.history.setdefault(partition, []).append(data)
        self.committed.add(message_id)
        self.live[partition] = live
        return sequence

    def compact(self, partition: int, up_to: int) -> None:
        """Drop the log below a sequence; its last message stays."""
        log = self.runlog.get(partition, [])
        kept = min(up_to or self.sequence, log[-1][0] if log else 0)
        left = {name for sequence, _, name in log if sequence >= kept}
        for sequence, data, name in log:
            if sequence < kept and name not in left:  # a copy of it stays
                self.world.audit.compacted(partition, data)
        log[:] = [entry for entry in log if entry[0] >= kept]

    # -- timers ----------------------------------------------------------------------------------
    def ring(self) -> None:
        """Move timers that came due to where their partition's owner finds them."""
        if self.timers:
            for key, (at, data) in list(self.timers.items()):
                if at <= self.world.now:
                    del self.timers[key]
                    self.due[self.partition_of(key[0])].put(f"due.{'.'.join(key)}", data)

    # -- buckets ---------------------------------------------------------------------------------
    def value(self, bucket: str, key: str) -> tuple[int, Any]:
        """Return revision and value of a key; (0, None) if it never had one."""
        return self.buckets.setdefault(bucket, {}).get(key, (0, None))

    def put_value(self, bucket: str, key: str, value: Any, revision: int | None = None) -> int:
        """Change a key's value; with `revision`, only if that is still the last one.

        Raises:
            Conflict: it is not.
        """
        keys = self.buckets.setdefault(bucket, {})
        if revision is not None and keys.get(key, (0, None))[0] != revision:
            raise Conflict("somebody was first", where=f"{bucket}/{key}")
        keys[key] = (self.next(), value)
        return keys[key][0]

    # -- events and dead letters -----------------------------------------------------------------
    def tell(self, event: RunEvent | StepEvent, link: str) -> None:
        """Append a run's event, once per id."""
        if not self.is_copy(f"event.{event.run}.{event.seq}", WINDOW_LONG_S):
            self.events.setdefault(event.run, []).append(event)
            self.links.setdefault(event.run, []).append(link)

    def tell_together(self, events: list[tuple[RunEvent | StepEvent, str]]) -> bool:
        """Append events all or none: none when one of them is there already."""
        names = [f"event.{event.run}.{event.seq}" for event, _ in events]
        if any(name in self.ids for name in names):
            return False
        for event, link in events:
            self.tell(event, link)
        return True

    def keep_dead(self, what: str, message_id: str, data: bytes) -> None:
        """Keep a message nobody can take in, once per id."""
        self.dead.setdefault(what, {})[message_id] = data
