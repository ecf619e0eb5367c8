"""What steps write, put together again: chunks become lines, a repeated delivery starts anew."""

from dataclasses import dataclass, field

from penstock.bus import Stored
from penstock.contracts.logs import DELIVERY, OFFSET, TIME


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some bytes that a step wrote. `offset` counts bytes of its stream before them."""

    step: str
    attempt: int
    stream: str
    """stdout, stderr, metrics or end (the last chunk of an attempt, empty)."""
    data: bytes
    at: float
    offset: int = 0
    delivery: int = 1


@dataclass(frozen=True, slots=True)
class Line:
    """A whole line, without its end."""

    step: str
    attempt: int
    stream: str
    text: str
    at: float


def chunk_of(stored: Stored) -> Chunk:
    """Return a stored log message as a chunk."""
    parts = stored.subject.split(".")
    headers = stored.headers
    return Chunk(
        step=parts[-3],
        attempt=int(parts[-2]),
        stream=parts[-1],
        data=stored.data,
        at=float(headers.get(TIME, stored.at)),
        offset=int(headers.get(OFFSET, 0)),
        delivery=int(headers.get(DELIVERY, 1)),
    )


@dataclass
class Lines:
    """Cuts chunks into lines, stream by stream; what has no end yet waits for it."""

    _rest: dict[tuple[str, int, str], bytes] = field(default_factory=dict)
    _seen: dict[tuple[str, int, str], tuple[int, int]] = field(default_factory=dict)

    def taken(self, chunk: Chunk) -> list[Line]:
        """Return the lines that this chunk completes. `end` gives out what is left."""
        if chunk.stream == "end":
            return self._left(chunk.step, chunk.attempt, chunk.at)
        key = (chunk.step, chunk.attempt, chunk.stream)
        delivery, bytes_seen = self._seen.get(key, (chunk.delivery, chunk.offset))
        if chunk.delivery < delivery:
            return []  # a zombie's late words
        lines = []
        if chunk.delivery > delivery:
            lines = self._flushed(key, chunk.at)
            text = f"--- attempt {chunk.attempt} starts again ---"
            lines.append(Line(*key, text, chunk.at))
            bytes_seen = chunk.offset
        data = chunk.data[max(0, bytes_seen - chunk.offset) :]
        self._seen[key] = (chunk.delivery, max(bytes_seen, chunk.offset + len(chunk.data)))
        *whole, rest = (self._rest.pop(key, b"") + data).split(b"\n")
        if rest:
            self._rest[key] = rest
        return lines + [Line(*key, _text(line), chunk.at) for line in whole]

    def unfinished(self, chunk: Chunk) -> str:
        """Return what a chunk's stream has written since its last line end (a progress bar, say)."""
        return _text(self._rest.get((chunk.step, chunk.attempt, chunk.stream), b""))

    def left(self, at: float = 0) -> list[Line]:
        """Return what never got its line end, once nothing more will come."""
        return [line for key in list(self._rest) for line in self._flushed(key, at)]

    def _left(self, step: str, attempt: int, at: float) -> list[Line]:
        keys = [key for key in self._rest if key[:2] == (step, attempt)]
        return [line for key in keys for line in self._flushed(key, at)]

    def _flushed(self, key: tuple[str, int, str], at: float) -> list[Line]:
        rest = self._rest.pop(key, b"")
        return [Line(*key, _text(rest), at)] if rest else []


def _text(data: bytes) -> str:
    """Return a line as a terminal would have left it: after the last carriage return."""
    return data.decode("utf-8", "backslashreplace").rstrip("\r").rpartition("\r")[2]
