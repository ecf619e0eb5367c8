"""What `begin_…` returns."""

from typing import Any


class Done:
    """An operation that has ended already."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def result(self, timeout: float | None = None) -> Any:
        """Return what it made."""
        return self._value

    def wait(self, timeout: float | None = None) -> None:
        """Return at once."""

    def done(self) -> bool:
        """Return True."""
        return True
