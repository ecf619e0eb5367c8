"""A fleet of real service processes, to be killed: what chaos tests are made of.

    with Fleet(directory, bus=nats.url, store=minio.url) as fleet:
        for service in SERVICES:
            fleet.start(service)
            fleet.start(service)
        fleet.kill("scheduler-1")       # SIGKILL; raises if the process was not there to be killed
        fleet.restart("scheduler-1")

Only processes started here are ended, each by its own process id.
"""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

SERVICES = ("artifact", "planner", "scheduler", "executor", "trigger")
READY_WAIT_S = 30.0
STOP_WAIT_S = 15.0


class FleetFailed(RuntimeError):
    """A service did not come up, or was not there to be killed."""


@dataclass
class Member:
    """One service process: how it was started, and what became of it."""

    name: str
    service: str
    flags: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes]
    kills: int = 0
    pids: list[int] = field(default_factory=list)


class Fleet:
    """Service processes on one bus and one store."""

    def __init__(
        self,
        directory: Path,
        *,
        bus: str,
        store: str,
        workspace: str = "penstock",
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.bus = bus
        self.store = store
        self.workspace = workspace
        self.environ = dict(environ or {})
        self.members: dict[str, Member] = {}

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self, service: str, **flags: str) -> str:
        """Start one more copy of `service` and return its name once it says that it is ready.

        Raises:
            FleetFailed: it ended, or was not ready in time; the end of its log is in the message.
        """
        number = sum(member.service == service for member in self.members.values()) + 1
        name = f"{service}-{number}"
        given = {"bus": self.bus, "workspace": self.workspace, "instance": name}
        if service == "artifact":
            given["store"] = self.store
        if service == "executor":
            given["data-dir"] = str(self.directory / name)
        given |= {key.replace("_", "-"): value for key, value in flags.items()}
        log = self.directory / f"{name}.log"
        process = self._spawned(service, given, log)
        self.members[name] = Member(name, service, given, log, process, pids=[process.pid])
        return name

    def kill(self, name: str) -> int:
        """End a member with SIGKILL and return the process id that died.

        Raises:
            FleetFailed: the process had ended before, so the kill would prove nothing.
        """
        member = self.members[name]
        if member.process.poll() is not None:
            raise FleetFailed(f"{name} had ended by itself: {self.tail(name)}")
        member.process.send_signal(signal.SIGKILL)
        code = member.process.wait(STOP_WAIT_S)
        if code != -signal.SIGKILL:
            raise FleetFailed(f"{name} ended with {code}, not by our kill")
        member.kills += 1
        return member.process.pid

    def restart(
        self, name: str, *, wait: bool = True, environ: Mapping[str, str] | None = None
    ) -> None:
        """Start a member again as it was started first, with more variables if given.

        `wait` false returns at once: what it needs may be away, and it has to wait for that itself.
        """
        member = self.members[name]
        member.process = self._spawned(
            member.service, member.flags, member.log, wait=wait, environ=environ or {}
        )
        member.pids.append(member.process.pid)

    def terminate(self, name: str) -> int:
        """Ask a member to drain and end; return its exit code."""
        member = self.members[name]
        member.process.terminate()
        return member.process.wait(STOP_WAIT_S + 30)

    def alive(self, name: str) -> bool:
        """Say whether a member's process runs."""
        return self.members[name].process.poll() is None

    def tail(self, name: str, characters: int = 2000) -> str:
        """Return the end of a member's log."""
        text = self.members[name].log.read_text(encoding="utf-8", errors="replace")
        return text[-characters:]

    def stop(self) -> None:
        """End every member: asked first, killed when it does not listen."""
        running = [m.process for m in self.members.values() if m.process.poll() is None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + STOP_WAIT_S
        for process in running:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _spawned(
        self,
        service: str,
        flags: Mapping[str, str],
        log: Path,
        *,
        wait: bool = True,
        environ: Mapping[str, str] = MappingProxyType({}),
    ) -> subprocess.Popen[bytes]:
        words = [word for key, value in flags.items() for word in (f"--{key}", value)]
        ready, said = os.pipe()
        variables = {k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK_")}
        variables |= self.environ | {**environ, "PENSTOCK_READY_FD": str(said)}
        with log.open("ab") as sink:
            process = subprocess.Popen(
                [sys.executable, "-m", "penstock.cli.main", "serve", service, *words],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env=variables,
                pass_fds=(said,),
                cwd=self.directory,
            )
        os.close(said)
        if not wait:
            os.close(ready)
            return process
        try:
            readable, _, _ = select.select([ready], [], [], READY_WAIT_S)
            if not readable or os.read(ready, 1) != b"1":
                process.kill()
                process.wait()
                text = log.read_text(encoding="utf-8", errors="replace")[-2000:]
                raise FleetFailed(f"{service} was not ready: {text}")
        finally:
            os.close(ready)
        return process
