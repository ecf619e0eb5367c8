"""The socket on which a step's own code logs metrics, images, tables and tags (penstock.current_run()).

One JSON object per line, `Point` in decide/metrics.py. A line that is in the socket outlives the
process that sent it: when the step has ended, whatever still waits here is read to its end. Two kinds
are answered, in order: `flush` with `{"taken": n}` and `image` with `{"path": p}`, where the file goes.
"""

import asyncio
import contextlib
import json
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from penstock.clock import Clock
from penstock.contracts.codec import encoded
from penstock_executor.decide.metrics import (
    LINE_BYTES_MAX,
    NAME_CHARACTERS_MAX,
    Line,
    Logged,
    Point,
)

PATH_BYTES_MAX = 107
"""What fits into sockaddr_un."""
READ_BYTES = 256 * 1024
CONNECTIONS_MAX = 256
IMAGES_MAX = 1000
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")


class StepSocket:
    """Listens while the step runs."""

    def __init__(
        self, root: Path, images: Path, clock: Clock, write: Callable[[bytes], None]
    ) -> None:
        self.logged = Logged()
        self.refused = 0
        """Lines that were no points."""
        self._images: set[str] = set()
        self._image_folder = images
        self._clock = clock
        self._write = write
        self._own_folder: Path | None = None
        self._loop = asyncio.get_running_loop()
        self._peers: dict[int, _Peer] = {}
        path = root / "socket"
        if len(os.fsencode(path)) > PATH_BYTES_MAX:
            self._own_folder = Path(tempfile.mkdtemp(prefix="penstock-"))
            path = self._own_folder / "socket"
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.setblocking(False)
        self._listener.bind(str(path))
        self._listener.listen(CONNECTIONS_MAX)
        self._loop.add_reader(self._listener, self._accept)

    def close(self) -> None:
        """Take in everything that was sent, and stop listening. The step's processes are gone."""
        if self._listener.fileno() < 0:
            return
        self._accept()
        for peer in list(self._peers.values()):
            while peer.open and peer.read():
                pass
            peer.close()
        self._loop.remove_reader(self._listener)
        self._listener.close()
        with contextlib.suppress(OSError):
            self.path.unlink()
        if self._own_folder is not None:
            shutil.rmtree(self._own_folder, ignore_errors=True)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # nobody waits, or we are out of file descriptors for a moment
                return
            if len(self._peers) >= CONNECTIONS_MAX:
                connection.close()
                continue
            connection.setblocking(False)
            peer = _Peer(connection, self.take, self._gone)
            self._peers[connection.fileno()] = peer

    def _gone(self, fd: int) -> None:
        self._peers.pop(fd, None)

    def take(self, line: bytes) -> bytes:
        """Take in one line; return the answer, if any, without its newline."""
        try:
            point = msgspec.json.decode(line, type=Point)
        except msgspec.MsgspecError:
            self.refused += 1
            return b'{"error":"not a point"}'
        if point.kind == "flush":
            return b"{}"
        if not 0 < len(point.name) <= NAME_CHARACTERS_MAX:
            self.refused += 1
            return b'{"error":"bad name"}' if point.kind == "image" else b""
        value = point.value
        answer = b""
        if point.kind == "image":
            if len(self._images) >= IMAGES_MAX:
                self.refused += 1
                return b'{"error":"too many images"}'
            value = self._image_name(point)
            answer = json.dumps({"path": str(self._image_folder / value)}).encode()
            value = f"images/{value}"
        self.logged.take(point, len(line))
        at = point.time or self._clock.now()
        self._write(
            encoded(Line(time=round(at, 6), name=point.name, kind=point.kind, value=value)) + b"\n"
        )
        return answer

    def _image_name(self, point: Point) -> str:
        with contextlib.suppress(OSError):  # something of the step is in its place: it will see
            self._image_folder.mkdir()
        stem = _UNSAFE.sub("_", point.name)[:100].lstrip(".") or "image"
        suffix = point.suffix if _SUFFIX.fullmatch(point.suffix) else ".png"
        name = f"{stem}{suffix}"
        if name in self._images:
            name = f"{stem}-{len(self._images)}{suffix}"
        self._images.add(name)
        return name


class _Peer:
    """One connection of the step."""

    def __init__(
        self,
        connection: socket.socket,
        take: Callable[[bytes], bytes],
        gone: Callable[[int], None],
    ) -> None:
        self._connection = connection
        self._take = take
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._rest = bytearray()
        self._out = bytearray()
        self.open = True
        self._loop.add_reader(connection, self.read)

    def read(self) -> bool:
        """Take in what is there; say whether there was anything."""
        try:
            data = self._connection.recv(READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.close()
            return False
        searched = len(self._rest)
        self._rest += data
        end = self._rest.rfind(b"\n", searched)
        if end >= 0:
            lines = bytes(self._rest[:end])
            del self._rest[: end + 1]
            for line in lines.split(b"\n"):
                answer = self._take(line)
                if answer:
                    self._out += answer + b"\n"
            self._send()
        if len(self._rest) > LINE_BYTES_MAX or len(self._out) > LINE_BYTES_MAX:
            self.close()
        return True

    def close(self) -> None:
        """End the connection."""
        if self.open:
            self.open = False
            fd = self._connection.fileno()
            self._loop.remove_reader(self._connection)
            self._loop.remove_writer(self._connection)
            self._connection.close()
            self._gone(fd)

    def _send(self) -> None:
        if not self.open or not self._out:
            return
        try:
            count = self._connection.send(self._out)
        except BlockingIOError:
            count = 0
        except OSError:  # the sender is gone; what it sent is still to be read
            self._out.clear()
            return
        del self._out[:count]
        if self._out:
            self._loop.add_writer(self._connection, self._send)
        else:
            self._loop.remove_writer(self._connection)
