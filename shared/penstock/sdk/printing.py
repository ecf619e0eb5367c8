"""Lines for whoever follows a run: those that come at once are written at once."""

import asyncio
import threading
from typing import IO


class Printer:
    """Writes lines to a stream, all that came in one turn of the loop together.

    A thousand reused steps are a thousand events within milliseconds: one write, not a thousand.
    """

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream
        self._lines: list[str] = []
        self._lock = threading.Lock()  # whoever waits in another thread flushes at the end
        self._error: OSError | None = None

    def say(self, line: str) -> None:
        """Write a line when the loop comes to it.

        Raises:
            OSError: an earlier line could not be written (the reader has gone, the disk is full).
        """
        if self._error is not None:
            raise self._error
        self._lines.append(line)
        if len(self._lines) == 1:
            asyncio.get_running_loop().call_soon(self._soon)

    def flush(self) -> None:
        """Write now what has been said. Raises as `say`."""
        if self._error is not None:
            raise self._error
        with self._lock:
            lines, self._lines = self._lines, []
            if lines:
                self.stream.write("\n".join(lines) + "\n")
                self.stream.flush()

    def _soon(self) -> None:
        try:
            self.flush()
        except (
            OSError
        ) as error:  # whoever speaks next is told; the loop could not do anything about it
            self._error = error
