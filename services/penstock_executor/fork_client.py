"""One fork server (fork_server.py), as the executor sees it: started, asked, ended."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock_executor.fork_server import PLACEHOLDER, ROOM, mtime
from penstock_executor.process import Command, Desk, Running

START_S = 60.0
"""How long a server may take to be ready; the import that it hangs in is unfit."""
ROOM_BYTES = 48 * 1024
REPORT_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Key:
    """What an interpreter is started with."""

    path: str
    name: str
    options: tuple[str, ...]
    kind: str
    variables: tuple[tuple[str, str], ...]


class Server:
    """One fork server, as the executor sees it. Start it from the main thread (PDEATHSIG)."""

    def __init__(
        self, key: Key, modules: Sequence[str], bytes_max: int, on_end: Callable[["Server"], None]
    ) -> None:
        self.key = key
        self.ready = False
        self.over = False
        self.modules = frozenset(modules)
        self.loaded: frozenset[str] = frozenset()
        self.missing: tuple[str, ...] = ()
        self.watched: dict[str, int] = {}
        self.unfit = ""
        self.problem = "it ended"
        self.used_at = self._loop_time()
        self._importing = ""
        self._rest = b""
        self._on_end = on_end
        ours, theirs = socket.socketpair()
        read, write = os.pipe()
        wanted = json.dumps({"modules": list(modules), "bytes_max": bytes_max})
        module = ["-m"] if key.kind == "module" else []
        with theirs:
            arguments = [PLACEHOLDER, str(theirs.fileno()), wanted]
            try:
                self.process = subprocess.Popen(
                    [key.name, *key.options, *module, *arguments],
                    executable=key.path,
                    cwd="/",
                    env={
                        **dict(key.variables),
                        "PATH": str(Path(key.path).parent),
                        "PYTHONPATH": str(Path(__file__).with_name("warm")),
                        ROOM: "x" * ROOM_BYTES,
                    },
                    stdin=subprocess.DEVNULL,
                    stdout=write,
                    stderr=write,
                    pass_fds=[theirs.fileno()],
                )
            except OSError:
                ours.close()
                os.close(read)
                raise
            finally:
                os.close(write)
        os.set_blocking(read, False)
        ours.setblocking(False)
        self._output = read
        self._requests = ours
        self._desk = Desk(ours)
        loop = asyncio.get_running_loop()
        loop.add_reader(ours, self._report)
        self._timer = loop.call_later(START_S, self.kill)

    def start(self, command: Command, more: Mapping[str, Any], *, namespace: bool) -> Running:
        """Ask for a step to be forked.

        Raises:
            Transient: E_LOST, the server is gone.
        """
        self.used_at = self._loop_time()
        self._requests.setblocking(True)
        try:
            running = self._desk.start(command, namespace=namespace, more=more)
            running.forked = True
            return running
        finally:
            self._requests.setblocking(False)

    def fresh(self) -> bool:
        """Say whether the environment is what it was when the server started."""
        return all(mtime(path) == at for path, at in self.watched.items())

    def close(self) -> None:
        """Let it end when the steps that were forked from it have."""
        if not self.over:
            self.over = True
            self._timer.cancel()
            asyncio.get_running_loop().remove_reader(self._requests)
            self._desk.close()
            self._requests.close()
            os.close(self._output)

    def kill(self) -> None:
        """End it now, and all steps that were forked from it."""
        self.problem = f"not ready after {START_S:g} s"
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)

    def output(self) -> str:
        """Return what the interpreter has written itself."""
        with contextlib.suppress(OSError):
            return os.read(self._output, 4096).decode(errors="replace")
        return ""

    def _report(self) -> None:
        try:
            data = self._requests.recv(REPORT_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._ended()
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(json.loads(line))

    def _take(self, report: dict[str, Any]) -> None:
        if "importing" in report:
            self._importing = report["importing"]
        elif "unfit" in report:
            self.unfit, self.problem = report["unfit"], report["reason"]
        elif report["ready"]:
            self.ready = True
            self.watched = report["watched"]
            self.loaded = frozenset(report["loaded"])
            self.missing = tuple(report["missing"])
            self._timer.cancel()
            self._on_end(self)
        else:
            self.problem = report["problem"]

    def _ended(self) -> None:
        if not self.ready and not self.unfit:
            self.unfit = self._importing
            written = self.output().strip().splitlines()
            self.problem += f": {written[-1]}" if written else ""
        self.close()
        self._on_end(self)

    @staticmethod
    def _loop_time() -> float:
        return asyncio.get_running_loop().time()
