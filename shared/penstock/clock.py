"""Time as something handed over, so that tests move it and decisions never read it."""

import time
from typing import Protocol

from penstock.units import Seconds


class Clock(Protocol):
    """What a shell may ask about time."""

    def now(self) -> Seconds:
        """Return seconds since 1970-01-01T00:00:00Z."""
        ...

    def monotonic(self) -> Seconds:
        """Return seconds that never jump; only differences mean something."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> Seconds:
        """Return the wall clock."""
        return Seconds(time.time())

    def monotonic(self) -> Seconds:
        """Return the monotonic clock."""
        return Seconds(time.monotonic())
