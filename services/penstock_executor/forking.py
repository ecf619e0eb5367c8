"""The fork servers of an executor: which there are, which one a step is forked from, when they end.

Per interpreter, with the options and variables that it is started with, there are up to two servers
(fork_server.py): a small one, and one that has imported what steps import (decide/learning.py). Both
are started beside the work: a step never waits for one, it gets a plain process meanwhile. A server
whose environment has changed since it started is not used again.
"""

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from structlog.typing import FilteringBoundLogger

from penstock.errors import Transient
from penstock_executor.decide.forkable import Program, seen_by_python, start_variables
from penstock_executor.decide.learning import Learned, import_order, in_environment, used, without
from penstock_executor.fork_client import Key, Server
from penstock_executor.process import Command, Running

SERVERS_MAX = 4
"""Ways of starting an interpreter that are kept warm at a time."""
AGAIN_S = 60.0
"""How long after a failed start none is tried."""
TICK_S = 15.0
FILE = "preload.json"
SHELL = "bash"
"""The shell whose ways of passing on variables are known."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the servers may take."""

    bytes_max: int
    idle_s: float
    declared: tuple[str, ...] = ()
    servers_max: int = SERVERS_MAX


@dataclass
class Pair:
    """The servers of one key."""

    small: Server | None = None
    large: Server | None = None
    coming: Server | None = None
    """One that is not ready."""
    used_at: float = 0.0
    not_before: float = 0.0


class ForkServers:
    """All fork servers of an executor."""

    def __init__(
        self, log: FilteringBoundLogger, data: Path, limits: Limits, *, namespace: bool
    ) -> None:
        self._log = log
        self._file = data / FILE
        self._limits = limits
        self._namespace = namespace
        self._pairs: dict[Key, Pair] = {}
        self._leaving: list[Server] = []
        self._learned = _read(self._file, log)
        self._loop = asyncio.get_running_loop()
        self._tick = self._loop.call_later(TICK_S, self._clean)
        self._closed = False

    def expect(self, program: Program, variables: Mapping[str, str]) -> None:
        """Have the servers ready that such a step will need."""
        key = self._key(program, variables)
        if key is not None:
            self._pair(key)

    def start(self, command: Command, program: Program, modules: Sequence[str]) -> Running | None:
        """Fork a step that imports `modules`, or return None: it needs a plain process, this time."""
        variables = {**command.environment, **program.assigned}
        key = self._key(program, variables)
        if (
            key is None
            or variables.get("PWD") != command.folder
            or Path(command.arguments[0]).name != SHELL
        ):
            return None
        pair = self._pair(key)
        if pair is None:
            return None
        pair.used_at = self._loop.time()
        self._learn(key, pair, modules)
        server = pair.small
        if pair.large is not None and not pair.large.loaded.isdisjoint(modules):
            server = pair.large
        if server is None:
            return None
        if not server.fresh():
            self._log.info("the environment has changed: a fresh interpreter", python=key.path)
            self._renew(key, pair)
            return None
        more = {
            "variables": seen_by_python(variables, key.path),
            "target": program.target,
            "arguments": list(program.arguments),
            "typed": list(program.typed),
        }
        try:
            return server.start(command, more, namespace=self._namespace)
        except Transient as error:
            self._log.warning("a fork server is gone, so a plain process", error=error.message)
            return None

    def close(self) -> None:
        """End all servers. Steps that still run are killed by the end of their control sockets."""
        self._closed = True
        self._tick.cancel()
        for pair in self._pairs.values():
            for server in (pair.small, pair.large, pair.coming):
                if server is not None:
                    self._leave(server)
        self._pairs.clear()
        for server in self._leaving:
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.process.wait(5)
                continue
            server.process.kill()
            server.process.wait()

    # -- which there are -------------------------------------------------------------------------
    def _key(self, program: Program, variables: Mapping[str, str]) -> Key | None:
        started_with = start_variables(variables)
        path = shutil.which(program.name, path=variables.get("PATH", ""))
        if started_with is None or path is None or not path.startswith("/"):
            return None
        return Key(
            path, program.name, program.options, program.kind, tuple(sorted(started_with.items()))
        )

    def _pair(self, key: Key) -> Pair | None:
        """Return the servers of a key, starting the small one; None when there are too many."""
        now = self._loop.time()
        pair = self._pairs.get(key)
        if pair is None:
            if len(self._pairs) >= self._limits.servers_max:
                oldest = min(self._pairs, key=lambda k: self._pairs[k].used_at)
                if now - self._pairs[oldest].used_at < TICK_S:
                    return None
                self._drop(oldest)
            pair = self._pairs[key] = Pair(used_at=now)
        if pair.small is None:
            self._start(key, pair, ())
        return pair

    def _start(self, key: Key, pair: Pair, modules: Sequence[str]) -> None:
        if self._closed or pair.coming is not None or self._loop.time() < pair.not_before:
            return
        try:
            pair.coming = Server(key, modules, self._limits.bytes_max, self._news)
        except OSError as error:
            self._log.warning("a fork server cannot be started", python=key.path, error=str(error))
            pair.not_before = self._loop.time() + AGAIN_S

    def _news(self, server: Server) -> None:
        """Take note that a server is ready, or has ended."""
        pair = self._pairs.get(server.key)
        if server.over and server not in self._leaving:
            self._leaving.append(server)
        if pair is None or server not in (pair.small, pair.large, pair.coming):
            return
        if pair.coming is server:
            pair.coming = None
        if server.ready and not server.over:
            self._arrived(pair, server)
        elif server.ready:
            self._log.warning("a fork server has died", python=server.key.path)
            pair.small = None if pair.small is server else pair.small
            pair.large = None if pair.large is server else pair.large
        elif server.unfit:
            self._log.info("not preloaded", module=server.unfit, reason=server.problem)
            self._note(server.key, without(self._of(server.key), server.unfit, server.problem))
        else:
            self._log.warning(
                "no fork server", python=server.key.path, problem=server.problem, again_s=AGAIN_S
            )
            pair.not_before = self._loop.time() + AGAIN_S
        self._preload(server.key, pair)

    def _arrived(self, pair: Pair, server: Server) -> None:
        learned = in_environment(self._of(server.key), server.watched)
        for name in server.missing:
            learned = without(learned, name, "no module of an installed package")
        self._note(server.key, learned)
        if server.modules:
            self._leave(pair.large)
            pair.large = server
            self._log.info("preloaded", modules=sorted(server.loaded))
        else:
            self._leave(pair.small)
            pair.small = server

    def _renew(self, key: Key, pair: Pair) -> None:
        for server in (pair.small, pair.large, pair.coming):
            self._leave(server)
        pair.small = pair.large = pair.coming = None
        self._start(key, pair, ())

    def _drop(self, key: Key) -> None:
        pair = self._pairs.pop(key)
        for server in (pair.small, pair.large, pair.coming):
            self._leave(server)

    def _leave(self, server: Server | None) -> None:
        if server is not None and server not in self._leaving:
            server.close()
            self._leaving.append(server)

    def _clean(self) -> None:
        """End what nobody uses, and reap what has ended."""
        self._tick = self._loop.call_later(TICK_S, self._clean)
        self._leaving = [s for s in self._leaving if s.process.poll() is None]
        idle_since = self._loop.time() - self._limits.idle_s
        for number, (key, pair) in enumerate(list(self._pairs.items())):
            if pair.large is not None and pair.large.used_at < idle_since:
                self._leave(pair.large)
                pair.large = None
            if number and pair.used_at < idle_since:  # the first one is that of most steps
                self._drop(key)

    # -- what they import ------------------------------------------------------------------------
    def _learn(self, key: Key, pair: Pair, modules: Sequence[str]) -> None:
        if modules:
            self._note(key, used(self._of(key), modules))
            self._preload(key, pair)

    def _preload(self, key: Key, pair: Pair) -> None:
        """Start a server with what is to be imported, if there is none, or one without some of it."""
        wanted = import_order(self._of(key), self._limits.declared)
        there = pair.large.modules if pair.large is not None else frozenset()
        if pair.small is not None and wanted and not there.issuperset(wanted):
            self._start(key, pair, wanted)

    def _of(self, key: Key) -> Learned:
        return self._learned.get(key.path, Learned())

    def _note(self, key: Key, learned: Learned) -> None:
        before = self._of(key)
        self._learned[key.path] = learned
        if set(before.modules) == set(learned.modules) and before.unfit == learned.unfit:
            return
        temporary = self._file.with_suffix(f".{os.getpid()}")
        try:
            temporary.write_bytes(msgspec.json.encode(self._learned))
            temporary.replace(self._file)
        except OSError as error:
            self._log.warning("what is preloaded cannot be kept", error=str(error))


def _read(file: Path, log: FilteringBoundLogger) -> dict[str, Learned]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Learned])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as error:
        log.warning("what was preloaded cannot be read", file=str(file), error=str(error))
        return {}
