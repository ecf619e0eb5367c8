"""Real servers on loopback: a free port, a directory of their own, ended by their own process id.

Nothing here is shared between two test sessions, so they may run side by side. A server found on
the port that is not the one started here is an error, never a lucky pass.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

NATS_BINARY = "nats-server"
START_WAIT_S = 20.0
STOP_WAIT_S = 10.0


class ServerFailed(RuntimeError):
    """A server did not come up, or another one answered on its port."""


def binary(name: str) -> Path | None:
    """Return the program `name` beside this interpreter, else the one on PATH, else None."""
    beside = Path(sys.executable).with_name(name)
    if beside.is_file() and os.access(beside, os.X_OK):
        return beside
    found = shutil.which(name)
    return Path(found) if found else None


def free_port() -> int:
    """Return a TCP port of loopback that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class NatsServer:
    """A nats-server with JetStream that fsyncs before it acknowledges.

    `accounts` is configuration text for users and permissions (`authorization {…}` or
    `accounts {…}`); it is put into the file as it is.
    """

    def __init__(
        self,
        directory: Path,
        *,
        accounts: str = "",
        max_file_bytes: int = 8 * 1024**3,
        max_payload_bytes: int = 1024**2,
        sync: str = "always",
    ) -> None:
        self.directory = directory
        self.accounts = accounts
        self.max_file_bytes = max_file_bytes
        self.max_payload_bytes = max_payload_bytes
        self.sync = sync
        self.port = 0
        self.server_name = f"test-{secrets.token_hex(6)}"
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    @property
    def url(self) -> str:
        """Return where clients connect, without credentials."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def log_path(self) -> Path:
        """Return the file that holds what the server writes."""
        return self.directory / "server.log"

    def start(self) -> None:
        """Start the server, on the same port and store as before when there is one.

        Raises:
            ServerFailed: it ended, or did not answer in time, or somebody else answers.
        """
        program = binary(NATS_BINARY)
        if program is None:
            raise ServerFailed(f"no {NATS_BINARY} beside {sys.executable} or on PATH")
        self.directory.mkdir(parents=True, exist_ok=True)
        attempts = 1 if self.port else 5  # a free port may be taken before we are there
        for attempt in range(attempts):
            port = self.port or free_port()
            try:
                self._start(program, port)
            except ServerFailed:
                if attempt + 1 == attempts:
                    raise
                continue
            self.port = port
            self.starts += 1
            return

    def kill(self) -> int:
        """End the server with SIGKILL and return its exit code (-9 when the kill landed)."""
        return self._end(signal.SIGKILL)

    def stop(self) -> int:
        """End the server with SIGTERM and return its exit code."""
        return self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Kill the server, if it runs, and start it on the same port and store."""
        if self.process is not None:
            self.kill()
        self.start()

    def pause(self) -> None:
        """Stop the server's clock hands: it keeps its sockets and answers nothing."""
        assert self.process is not None  # noqa: S101
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        assert self.process is not None  # noqa: S101
        self.process.send_signal(signal.SIGCONT)

    def _start(self, program: Path, port: int) -> None:
        config = self.directory / "nats.conf"
        config.write_text(
            f"""
            listen: "127.0.0.1:{port}"
            server_name: "{self.server_name}"
            max_payload: {self.max_payload_bytes}
            jetstream {{
              store_dir: {json.dumps(str(self.directory / "store"))}
              sync_interval: {self.sync}
              max_mem: 64MB
              max_file: {self.max_file_bytes}
            }}
            {self.accounts}
            """,
            encoding="utf-8",
        )
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [str(program), "-c", str(config)], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        deadline = time.monotonic() + START_WAIT_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise ServerFailed(f"nats-server ended at once: {self._tail()}")
            name = _name_on(port)
            if name == self.server_name:
                return
            if name:
                self.kill()
                raise ServerFailed(f"another server ({name}) answers on port {port}")
            time.sleep(0.01)
        self.kill()
        raise ServerFailed(f"nats-server did not answer within {START_WAIT_S:g} s: {self._tail()}")

    def _end(self, number: signal.Signals) -> int:
        process, self.process = self.process, None
        assert process is not None, "the server is not running"  # noqa: S101
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
            if number is not signal.SIGKILL:
                process.send_signal(signal.SIGCONT)  # a paused server hears nothing else
        try:
            return process.wait(STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def _tail(self) -> str:
        with contextlib.suppress(OSError):
            return self.log_path.read_text(encoding="utf-8", errors="replace")[-800:]
        return ""


def _name_on(port: int) -> str:
    """Return the name that a NATS server on `port` greets with, or an empty text."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as peer:
            greeting = peer.makefile("rb").readline()
    except OSError:
        return ""
    if not greeting.startswith(b"INFO "):
        return "no NATS server"
    name: str = json.loads(greeting[5:]).get("server_name", "")
    return name
