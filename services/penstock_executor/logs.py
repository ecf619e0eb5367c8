"""What a step writes: read in chunks, kept in a file, published live from that file.

The file is the truth. The publisher follows it with an offset of its own, so a bus that is away for
a while costs nothing but delay, and live readers and the archive see the same bytes (contracts/logs.py).
Chunks, not lines: a step may write a line of a gigabyte, or none (reliability.md, E12).
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from penstock.bus import Bus
from penstock.clock import Clock
from penstock.contracts.logs import CHUNK_BYTES_MAX, DELIVERY, FLUSH_S, OFFSET, TIME
from penstock.contracts.subjects import Subjects
from penstock.errors import PenstockError
from penstock_executor.decide.keeping import Budget, Keeping
from penstock_executor.decide.metrics import METRICS_BYTES_MAX
from penstock_executor.decide.outcome import LOG_TAIL_BYTES
from penstock_executor.reach import Reach

FLUSH_BYTES = 1024 * 1024
"""After this much, wait for the server, so that a flood does not pile up in this process."""
RETRY_S = 0.5
DRAIN_S = 5.0
"""How long to wait for a pipe to end when nothing of the step is left to write to it."""
FILE_NAMES = {"stdout": "stdout.txt", "stderr": "stderr.txt", "metrics": "metrics.jsonl"}


class Stream:
    """One stream of an attempt: what is kept of it, in a file that exists once there is a byte."""

    def __init__(
        self,
        name: str,
        path: Path,
        keeping: Keeping | None,
        clock: Clock,
        reach: Reach | None = None,
    ) -> None:
        self.name = name
        self.path = path
        self.size = 0
        self.published = 0
        self.pending_since = 0.0
        """Wall clock when the oldest unpublished byte was taken."""
        self.written = asyncio.Event()
        self.last = b""
        """The last bytes that came, kept here too: the disk may be what the step has filled."""
        self.problem = ""
        self._keeping = keeping
        self._clock = clock
        self._reach = reach
        """What the path is opened through where a step could have put something in its way."""
        self._fd = -1

    def take(self, data: bytes) -> None:
        """Keep `data`, or what the cap leaves of it."""
        self.last = (self.last + data)[-LOG_TAIL_BYTES:]
        self.write(self._keeping.taken(data) if self._keeping else data)

    def write(self, data: bytes) -> None:
        """Write to the file, whatever the cap says. A full disk loses the bytes, not the step."""
        if not data:
            return
        if self.published == self.size:
            self.pending_since = self._clock.now()
        try:
            if self._fd < 0:
                flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
                self._fd = (
                    self._reach.opened(self.path, flags)
                    if self._reach
                    else os.open(self.path, flags, 0o644)
                )
            view = memoryview(data)
            while view:
                count = os.write(self._fd, view)
                self.size += count
                view = view[count:]
        except OSError as error:
            self.problem = error.strerror or str(error)
        self.written.set()

    def end(self) -> None:
        """Write what follows at the end."""
        if self._keeping:
            self.write(self._keeping.ended())

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes of what was kept."""
        return os.pread(self._fd, size, offset) if self._fd >= 0 else b""

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Tap:
    """Reads a pipe into a stream, in the loop, until the pipe ends or it is told to stop."""

    def __init__(self, fd: int, take: Callable[[bytes], None]) -> None:
        self._fd = fd
        self._take = take
        self._loop = asyncio.get_running_loop()
        self.ended = asyncio.Event()
        self._loop.add_reader(fd, self._read)

    async def drain(self) -> None:
        """Return when all bytes are taken. Nothing of the step is left, so this is a moment."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.ended.wait(), DRAIN_S)
        self.close()

    def close(self) -> None:
        """Stop reading."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
        self.ended.set()

    def _read(self) -> None:
        try:
            data = os.read(self._fd, CHUNK_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._take(data)
        else:
            self.close()


class Logs:
    """The streams of one attempt, and the task that publishes them."""

    def __init__(
        self,
        bus: Bus,
        names: Subjects,
        log: FilteringBoundLogger,
        clock: Clock,
        *,
        folder: Path,
        run: str,
        step: str,
        attempt: int,
        delivery: int,
    ) -> None:
        self._bus = bus
        self._names = names
        self._log = log
        self._clock = clock
        self._attempt = (run, step, attempt)
        self._delivery = str(delivery)
        self._ending = False
        self._unflushed = 0
        self._news = asyncio.Event()
        self._hurry = asyncio.Event()
        budget = Budget()
        self.stdout = self._stream("stdout", folder, Keeping(budget))
        self.stderr = self._stream("stderr", folder, Keeping(budget))
        self.metrics = self._stream("metrics", folder, None)
        self.points_dropped = 0
        self._publishing = asyncio.create_task(self._publish())

    @property
    def streams(self) -> tuple[Stream, Stream, Stream]:
        """All streams."""
        return self.stdout, self.stderr, self.metrics

    @property
    def empty(self) -> bool:
        """Say whether nothing was written."""
        return not any(stream.size for stream in self.streams)

    def take_stdout(self, data: bytes) -> None:
        """Take in what the step wrote to stdout."""
        self._take(self.stdout, data)

    def take_stderr(self, data: bytes) -> None:
        """Take in what the step wrote to stderr."""
        self._take(self.stderr, data)

    def take_metric(self, line: bytes) -> None:
        """Take in one line of metrics.jsonl, or count it when there are too many."""
        if self.metrics.size + len(line) > METRICS_BYTES_MAX:
            self.points_dropped += 1
            return
        self._take(self.metrics, line)

    def note(self, text: str) -> None:
        """Write a line of our own between the step's lines, on stderr."""
        stream = self.stderr
        before = b"\n" if stream.size and stream.read(stream.size - 1, 1) != b"\n" else b""
        stream.write(before + f"[penstock: {text}]\n".encode())
        self._news.set()

    def _take(self, stream: Stream, data: bytes) -> None:
        stream.take(data)
        self._news.set()
        if stream.size - stream.published >= CHUNK_BYTES_MAX:
            self._hurry.set()

    def finish(self) -> None:
        """Write the tails: nothing more comes from the step itself."""
        for stream in self.streams:
            stream.end()
        self._news.set()

    async def publish_rest(self, timeout_s: float) -> None:
        """Publish what is left and then that nothing more comes; give up after `timeout_s`."""
        self._ending = True
        self._news.set()
        self._hurry.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._publishing, timeout_s)

    def close(self) -> None:
        """Let go of files and task."""
        self._publishing.cancel()
        for stream in self.streams:
            stream.close()

    def _stream(self, name: str, folder: Path, keeping: Keeping | None) -> Stream:
        reach = Reach(folder.parent)
        return Stream(name, folder / FILE_NAMES[name], keeping, self._clock, reach)

    async def _publish(self) -> None:
        while True:
            await self._news.wait()
            if not self._ending:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._hurry.wait(), FLUSH_S)
            ending = self._ending
            self._news.clear()
            self._hurry.clear()
            try:
                for stream in self.streams:
                    await self._publish_stream(stream)
                if ending and all(s.published == s.size for s in self.streams):
                    await self._chunk("end", 0, b"", self._clock.now())
                    return
            except PenstockError as error:
                self._log.debug("live log waits", error=error.message)
                await asyncio.sleep(RETRY_S)
                self._news.set()
            if ending:
                self._news.set()

    async def _publish_stream(self, stream: Stream) -> None:
        while stream.published < stream.size:
            data = stream.read(
                stream.published, min(CHUNK_BYTES_MAX, stream.size - stream.published)
            )
            if not data:  # truncated under us: nothing to read there, ever
                stream.published = stream.size
                return
            await self._chunk(stream.name, stream.published, data, stream.pending_since)
            stream.published += len(data)
            stream.pending_since = self._clock.now()
            self._unflushed += len(data)
            if self._unflushed >= FLUSH_BYTES:
                await self._bus.flush()
                self._unflushed = 0

    async def _chunk(self, stream: str, offset: int, data: bytes, at: float) -> None:
        run, step, attempt = self._attempt
        await self._bus.publish(
            self._names.log(run, step, attempt, stream),
            data,
            {OFFSET: str(offset), TIME: f"{at:.6f}", DELIVERY: self._delivery},
        )
