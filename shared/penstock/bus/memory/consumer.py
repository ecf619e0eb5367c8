"""A durable consumer in memory: loans, redelivery, and one pinned member where asked for.

stored ──delivered──▶ on loan ──ack, term──▶ settled
                        │ ▲
     nak, ack_wait over ▼ │ a member has room
                      waiting again
"""

import heapq
from collections.abc import Callable
from typing import Protocol

from penstock.bus import ConsumerSpec, Standing, Stored
from penstock.bus.memory.stream import Stream, covered

Later = Callable[[float, Callable[[], None]], None]
"""Call something at a moment of the server's clock."""


class Member(Protocol):
    """One connection's end of a consumer."""

    def room(self) -> bool:
        """Say whether it wants another message."""
        ...

    def deliver(self, stored: Stored, deliveries: int, pin: int) -> None:
        """Take a message on loan."""
        ...


class Consumer:
    """See the module."""

    def __init__(
        self, spec: ConsumerSpec, stream: Stream, later: Later, now: Callable[[], float]
    ) -> None:
        self.spec = spec
        self.stream = stream
        self.later = later
        self.now = now
        self.position = 0 if spec.start == "all" else stream.last_sequence
        self.members: list[Member] = []
        self.loans: dict[int, float] = {}
        self.again: list[int] = []
        self.delivered: dict[int, int] = {}
        self.pinned: Member | None = None
        self.pins = 0
        self.turn = 0
        self._dispatching = False
        stream.on_stored.append(self._stored)
        stream.on_dropped.append(self._dropped)

    # -- members --------------------------------------------------------------------------------
    def join(self, member: Member) -> None:
        """Let a member take part."""
        self.members.append(member)
        self.dispatch()

    def leave(self, member: Member) -> None:
        """Let a member go; its loans run on."""
        if member in self.members:
            self.members.remove(member)
        if self.pinned is member:
            self.unpin()
        self.dispatch()

    def vanish(self, member: Member) -> None:
        """Lose a member that could not say goodbye; its pin lasts until its time is up."""
        if member in self.members:
            self.members.remove(member)
        if self.pinned is member:
            pin = self.pins

            def lapse() -> None:
                if self.pins == pin and self.pinned is member:
                    self.unpin()
                    self.dispatch()

            self.later(self.now() + self.spec.pinned_ttl_s, lapse)

    def standing(self) -> Standing:
        """Return what is owed to whom."""
        lent = [
            sequence for sequence in (*self.loans, *self.again) if sequence in self.stream.messages
        ]
        waiting = sum(1 for _ in self.stream.after(self.position, self.spec.filter_subjects))
        return Standing(min(lent, default=self.position + 1) - 1, waiting, len(lent))

    def unpin(self) -> None:
        """Take the pin from whoever has it."""
        self.pinned = None

    # -- messages -------------------------------------------------------------------------------
    def dispatch(self) -> None:
        """Deliver whatever can be delivered now."""
        if self._dispatching:
            return
        self._dispatching = True
        try:
            while len(self.loans) < self.spec.max_ack_pending:
                stored = self._next()
                if stored is None:
                    return
                member = self._member()
                if member is None:
                    return
                self._take(stored, member)
        finally:
            self._dispatching = False

    def _next(self) -> Stored | None:
        while self.again:
            stored = self.stream.messages.get(self.again[0])
            if stored is not None:
                return stored
            heapq.heappop(self.again)
        for stored in self.stream.after(self.position, self.spec.filter_subjects):
            return stored
        self.position = max(self.position, self.stream.last_sequence)  # seen: nothing for us
        return None

    def _member(self) -> Member | None:
        if self.spec.pinned:
            if self.pinned is None and self.members:
                ready = [member for member in self.members if member.room()]
                if ready:
                    self.pinned = ready[0]
                    self.pins += 1
            pinned = self.pinned
            alive = pinned in self.members and pinned is not None and pinned.room()
            return pinned if alive else None
        for _ in self.members:
            self.turn = (self.turn + 1) % len(self.members)
            if self.members[self.turn].room():
                return self.members[self.turn]
        return None

    def _take(self, stored: Stored, member: Member) -> None:
        sequence = stored.sequence
        if self.again and self.again[0] == sequence:
            heapq.heappop(self.again)
        else:
            self.position = sequence
        count = self.delivered[sequence] = self.delivered.get(sequence, 0) + 1
        self._lend(sequence)
        member.deliver(stored, count, self.pins if self.spec.pinned else 0)

    def _lend(self, sequence: int) -> None:
        due = self.now() + self.spec.ack_wait_s
        self.loans[sequence] = due

        def overdue() -> None:
            if self.loans.get(sequence) == due:
                self._return(sequence)

        self.later(due, overdue)

    def _return(self, sequence: int) -> None:
        self.loans.pop(sequence, None)
        count = self.delivered.get(sequence, 0)
        if self.spec.max_deliver > 0 and count >= self.spec.max_deliver:
            self.dispatch()  # it stays stored and is offered no more
            return
        if sequence in self.stream.messages:
            heapq.heappush(self.again, sequence)
        self.dispatch()

    # -- settling -------------------------------------------------------------------------------
    def settle(self, sequence: int) -> None:
        """Take an ack or a term, late ones as well."""
        self.loans.pop(sequence, None)
        self.delivered.pop(sequence, None)
        if sequence in self.again:
            self.again.remove(sequence)
            heapq.heapify(self.again)
        if self.stream.spec.retention == "workqueue":
            self.stream.drop(sequence)
        self.dispatch()

    def nak(self, sequence: int, delay_s: float) -> None:
        """Deliver it again after `delay_s`."""
        if sequence not in self.loans:
            return
        if delay_s <= 0:
            self._return(sequence)
            return
        due = self.now() + delay_s
        self.loans[sequence] = due

        def again() -> None:
            if self.loans.get(sequence) == due:
                self._return(sequence)

        self.later(due, again)

    def extend(self, sequence: int) -> None:
        """Start the redelivery clock anew."""
        if sequence in self.loans:
            self._lend(sequence)

    def _stored(self, stored: Stored) -> None:
        if covered(self.spec.filter_subjects, stored.subject):
            self.dispatch()

    def _dropped(self, sequence: int) -> None:
        self.loans.pop(sequence, None)
        self.delivered.pop(sequence, None)
