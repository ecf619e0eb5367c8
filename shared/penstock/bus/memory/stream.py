"""A stream in memory: what JetStream stores, drops and refuses."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from penstock.bus import MESSAGE_ID, Appended, Headers, Stored, StreamSpec
from penstock.errors import BusUnavailable, Conflict, Invalid

EXPECT = "Nats-Expected-Last-Subject-Sequence"
EXPECT_SUBJECT = "Nats-Expected-Last-Subject-Sequence-Subject"
SCHEDULE = "Nats-Schedule"
N = TypeVar("N", int, float)
OVERHEAD_BYTES = 22
"""What the server adds to each message (nats-server filestore)."""


def matches(pattern: str, subject: str) -> bool:
    """Say whether a subject with wildcards covers a subject."""
    if pattern == subject:
        return True
    wanted, found = pattern.split("."), subject.split(".")
    for index, part in enumerate(wanted):
        if part == ">":
            return len(found) > index
        if index >= len(found) or part not in ("*", found[index]):
            return False
    return len(wanted) == len(found)


def overlaps(one: str, other: str) -> bool:
    """Say whether some subject is covered by both."""
    for a, b in zip(one.split("."), other.split("."), strict=False):
        if ">" in (a, b):
            return True
        if a != b and "*" not in (a, b):
            return False
    lengths = (one.count("."), other.count("."))
    return lengths[0] == lengths[1]


class Stream:
    """Messages in order, and what was said about them."""

    def __init__(self, spec: StreamSpec) -> None:
        self.spec = spec
        self.messages: dict[int, Stored] = {}
        self.order: list[int] = []
        self.by_subject: dict[str, list[int]] = {}
        self.size_bytes = 0
        self.last_sequence = 0
        self.ids: dict[str, tuple[int, float]] = {}
        self.on_stored: list[Callable[[Stored], None]] = []
        self.on_dropped: list[Callable[[int], None]] = []

    def covers(self, subject: str) -> bool:
        """Say whether this stream stores `subject`."""
        return any(matches(pattern, subject) for pattern in self.spec.subjects)

    # -- writing --------------------------------------------------------------------------------
    def append(self, subject: str, data: bytes, headers: Headers, now: float) -> Appended:
        """Store a message. The order of the checks is that of nats-server 2.15 with one replica."""
        self.expire(now)
        spec = self.spec
        self._check_expected(subject, headers)
        message_id = headers.get(MESSAGE_ID, "")
        if message_id and message_id in self.ids:
            return Appended(self.ids[message_id][0], duplicate=True)
        size = size_of(subject, data, headers)
        if spec.max_msg_size and len(data) > spec.max_msg_size:
            raise Invalid(
                f"{len(data):,} bytes; allowed: {spec.max_msg_size:,}",
                code="E_TOO_LARGE",
                where=subject,
            )
        if SCHEDULE in headers:
            for sequence in list(self.by_subject.get(subject, ())):
                self.drop(sequence)
        self._make_room(subject, size)
        self.last_sequence += 1
        stored = Stored(subject, data, self.last_sequence, now, dict(headers))
        self.messages[stored.sequence] = stored
        self.order.append(stored.sequence)
        self.by_subject.setdefault(subject, []).append(stored.sequence)
        self.size_bytes += size
        if message_id:
            self.ids[message_id] = (stored.sequence, now)
        for tell in list(self.on_stored):
            tell(stored)
        return Appended(stored.sequence)

    def check_together(self, messages: Sequence[tuple[str, bytes, Headers]], now: float) -> None:
        """Raise what would keep one of these messages from being stored with the others."""
        self.expire(now)
        spec, where = self.spec, messages[0][0]
        if not spec.allow_together:
            raise Invalid("atomic publish is disabled (10174)", where=where)
        for subject, _, headers in messages:
            self._check_expected(subject, headers)
            if headers.get(MESSAGE_ID, "") in self.ids:
                raise Conflict("batch contains a duplicate (10201)", where=subject)
        size = sum(size_of(*message) for message in messages)
        full = spec.max_bytes > 0 and self.size_bytes + size > spec.max_bytes
        if full and spec.discard == "new":
            raise BusUnavailable("maximum bytes exceeded (10077)", code="E_FULL", where=where)

    def _check_expected(self, subject: str, headers: Headers) -> None:
        if EXPECT not in headers:
            return
        last = self.last(headers.get(EXPECT_SUBJECT) or subject)
        found = last.sequence if last else 0
        if found != int(headers[EXPECT]):
            raise Conflict(f"wrong last sequence: {found} (10071)", where=subject)

    def _make_room(self, subject: str, size: int) -> None:
        spec = self.spec
        limit = spec.max_msgs_per_subject
        held = self.by_subject.get(subject, [])
        if limit and len(held) >= limit:
            if spec.discard == "new" and spec.discard_new_per_subject:
                raise Conflict(
                    "maximum messages per subject exceeded (10077)", code="E_QUEUED", where=subject
                )
            self.drop(held[0])
        if spec.max_bytes > 0 and self.size_bytes + size > spec.max_bytes:
            if spec.discard == "new" or size > spec.max_bytes:
                raise BusUnavailable("maximum bytes exceeded (10077)", code="E_FULL", where=subject)
            for sequence in list(self.messages):
                if self.size_bytes + size <= spec.max_bytes:
                    break
                self.drop(sequence)

    def drop(self, sequence: int) -> bool:
        """Delete a message; say whether it was there."""
        stored = self.messages.pop(sequence, None)
        if stored is None:
            return False
        self.size_bytes -= size_of(stored.subject, stored.data, stored.headers)
        held = self.by_subject[stored.subject]
        held.remove(sequence)
        if not held:
            del self.by_subject[stored.subject]
        if len(self.order) > 2 * len(self.messages) + 64:
            self.order = list(self.messages)
        for tell in list(self.on_dropped):
            tell(sequence)
        return True

    def purge(self, subject: str, up_to: int) -> int:
        """Delete what `subject` covers, below `up_to` if given; return how many."""
        doomed = [
            stored.sequence
            for stored in self.messages.values()
            if matches(subject, stored.subject) and (not up_to or stored.sequence < up_to)
        ]
        return sum(self.drop(sequence) for sequence in doomed)

    def expire(self, now: float) -> None:
        """Forget what is too old: messages, and message ids outside the window."""
        window = self.spec.duplicate_window_s
        while self.ids:
            first = next(iter(self.ids))
            if now - self.ids[first][1] < window:
                break
            del self.ids[first]
        if self.spec.max_age_s:
            for sequence, stored in list(self.messages.items()):
                if now - stored.at < self.spec.max_age_s:
                    break
                self.drop(sequence)

    def widen(self, spec: StreamSpec) -> None:
        """Take over a new specification without losing what the old one granted."""
        old = self.spec
        if old.retention != spec.retention:
            raise Invalid(
                f"retention is {old.retention!r}, wanted {spec.retention!r}",
                code="E_STREAM",
                where=spec.name,
            )
        self.spec = replace(
            spec,
            subjects=tuple(dict.fromkeys((*spec.subjects, *old.subjects))),
            max_bytes=_wider(old.max_bytes, spec.max_bytes),
            max_age_s=_wider(old.max_age_s, spec.max_age_s),
            max_msgs_per_subject=_wider(old.max_msgs_per_subject, spec.max_msgs_per_subject),
            max_msg_size=_wider(old.max_msg_size, spec.max_msg_size),
            duplicate_window_s=max(old.duplicate_window_s, spec.duplicate_window_s),
        )

    # -- reading --------------------------------------------------------------------------------
    def last(self, subject: str) -> Stored | None:
        """Return the last message that `subject` covers, or None."""
        if "*" not in subject and ">" not in subject:
            held = self.by_subject.get(subject)
            return self.messages[held[-1]] if held else None
        newest = [held[-1] for name, held in self.by_subject.items() if matches(subject, name)]
        return self.messages[max(newest)] if newest else None

    def after(self, sequence: int, subjects: Iterable[str]) -> Iterator[Stored]:
        """Yield messages behind `sequence` that `subjects` cover; the stream may change meanwhile."""
        wanted = tuple(subjects)
        while True:
            index = bisect_right(self.order, sequence)
            if index >= len(self.order):
                return
            sequence = self.order[index]
            stored = self.messages.get(sequence)
            if stored is not None and covered(wanted, stored.subject):
                yield stored


def covered(patterns: Iterable[str], subject: str) -> bool:
    """Say whether one of the patterns covers `subject`; no pattern covers everything."""
    patterns = tuple(patterns)
    return not patterns or any(matches(pattern, subject) for pattern in patterns)


def size_of(subject: str, data: bytes, headers: Headers) -> int:
    """Return what a message takes in its stream, bytes."""
    size = OVERHEAD_BYTES + len(subject) + len(data)
    if headers:
        size += 16 + sum(len(name) + len(value) + 4 for name, value in headers.items())
    return size


def _wider(present: N, wanted: N) -> N:
    return present if present <= 0 else (wanted if wanted <= 0 else max(present, wanted))
