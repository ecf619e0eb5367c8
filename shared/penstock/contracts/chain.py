"""The hash chain of a run's events: each names everything before it, so that no change goes unseen.

    link(0) = ""        link(n) = SHA-256(link(n - 1) as hexadecimal digits + the body's bytes of event n)

An event's link travels in the header `penstock-chain`, beside its body, so that whoever has stored a
run's events can check them with ten lines in any language. Whoever may write to the stream can also
write a new chain: compare the last link with one that was noted elsewhere, and that shows too.
"""

import hashlib
from collections.abc import Iterable
from typing import Literal

import msgspec

HEADER = "penstock-chain"
START = ""
"""What stands before a run's first event."""

Verdict = Literal["whole", "shortened", "broken"]


def link(previous: str, body: bytes) -> str:
    """Return the link of an event with this body, after an event with the link `previous`."""
    return hashlib.sha256(previous.encode("ascii") + body).hexdigest()


class Told(msgspec.Struct, frozen=True):
    """What is checked of one stored event."""

    sequence: int
    """Place in the event stream."""
    seq: int
    """Number within its run, 0 if the body has none."""
    link: str
    """Its header, empty if it has none."""
    body: bytes


class Check(msgspec.Struct, frozen=True):
    """What came of a check."""

    verdict: Verdict
    """whole · shortened: the stream no longer keeps the beginning, the rest is whole · broken."""
    events: int
    """How many were looked at."""
    last: str = ""
    """The last link, worth noting elsewhere."""
    sequence: int = 0
    """broken: which message of the stream does not fit."""
    reason: str = ""


def checked(events: Iterable[Told]) -> Check:
    """Return whether these, all that is kept of one run in the stream's order, are what was told."""
    seq, previous, count, shortened = 0, START, 0, False
    for told in events:
        count += 1
        if count == 1 and told.seq > 1:  # its beginning has expired
            seq, shortened = told.seq - 1, True
        if told.seq != seq + 1:
            reason = f"number {told.seq} follows number {seq}"
            return Check("broken", count, previous, told.sequence, reason)
        if shortened and count == 1:
            pass  # what its link was made from is gone
        elif told.link != link(previous, told.body):
            reason = (
                f"event {told.seq} is not what was linked" if told.link else "it carries no link"
            )
            return Check("broken", count, previous, told.sequence, reason)
        seq, previous = told.seq, told.link
    return Check("shortened" if shortened else "whole", count, previous)
