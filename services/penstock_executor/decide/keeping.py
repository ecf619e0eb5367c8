"""Which bytes of a step's output are kept: a head as it comes, and at the end a tail.

    head of all streams, first come first kept, ATTEMPT_BYTES_MAX less the tails
    marker, at once when the head is full
    marker with the number of bytes left out
    the last TAIL_BYTES of each stream

What is kept is what is published live and what is archived, byte for byte, so offsets never jump.
Hitting the cap never fails a step (reliability.md, promise 11).
"""

from collections import deque
from dataclasses import dataclass

from penstock.contracts.logs import ATTEMPT_BYTES_MAX
from penstock.units import MIB

TAIL_BYTES = 4 * MIB
STREAMS_WITH_TAIL = 2
HEAD_BYTES = ATTEMPT_BYTES_MAX - STREAMS_WITH_TAIL * TAIL_BYTES


@dataclass(slots=True)
class Budget:
    """What all streams of an attempt may still keep as they come, bytes."""

    left: int = HEAD_BYTES


class Keeping:
    """What one stream keeps. Feed it with `taken`, end it with `ended`: both return what to write."""

    def __init__(self, budget: Budget, *, tail_bytes: int = TAIL_BYTES) -> None:
        self._budget = budget
        self._tail_bytes = tail_bytes
        self._tail: deque[bytes] = deque()
        self._held = 0
        self._full = False
        self.left_out = 0
        """Bytes that nobody will see."""

    def taken(self, data: bytes) -> bytes:
        """Return what to write now of `data`."""
        if self._full:
            self._hold(data)
            return b""
        if len(data) <= self._budget.left:
            self._budget.left -= len(data)
            return data
        head, rest = data[: self._budget.left], data[self._budget.left :]
        self._budget.left = 0
        self._full = True
        self._hold(rest)
        return (
            head
            + (
                f"\n[penstock: an attempt's log is kept up to {ATTEMPT_BYTES_MAX:,} bytes; of the rest "
                f"the last {self._tail_bytes:,} bytes follow when the step has ended]\n"
            ).encode()
        )

    def ended(self) -> bytes:
        """Return what to write at the end."""
        tail = b"".join(self._tail)
        self._tail.clear()
        self._held = 0
        if len(tail) > self._tail_bytes:
            self.left_out += len(tail) - self._tail_bytes
            tail = tail[-self._tail_bytes :]
        if not self.left_out:
            return tail
        return f"[penstock: {self.left_out:,} bytes left out here]\n".encode() + tail

    def _hold(self, data: bytes) -> None:
        self._tail.append(data)
        self._held += len(data)
        while self._held - len(self._tail[0]) >= self._tail_bytes:
            dropped = self._tail.popleft()
            self._held -= len(dropped)
            self.left_out += len(dropped)
