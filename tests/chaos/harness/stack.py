"""Everything that an episode breaks: two copies of each service, a broker and a store of its own.

Each service reaches the broker through a proxy of its own, and all reach an S3 store through one
(grants are signed for one address). Broker and store keep their data on small disks where that is
possible, so that the disks can be full or lose their power.
"""

import asyncio
import contextlib
import os
import secrets
import signal
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.chaos.harness import disks
from tests.chaos.harness.disks import Disk
from tests.chaos.harness.proxy import Proxy

from penstock.contracts.subjects import Subjects
from penstock.testing.fleet import Fleet
from penstock.testing.servers import NatsServer
from penstock.testing.stores import MinioServer, WeedServer

COPIES = {"artifact": 2, "planner": 2, "scheduler": 2, "executor": 3, "trigger": 2}
BROKER_MIB, STORE_MIB = 1024, 2048
CACHE_BYTES = 300_000_000
STORES = ("file", "minio", "weed")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Kill:
    """A SIGKILL that landed: the process was there, ended with -9, and another took its place.

    `point` is the crash point at which it killed itself, or empty for a kill at a random moment.
    """

    component: str
    name: str
    pid: int
    at: float
    point: str = ""


@dataclass
class Landed:
    """The proof that faults happened."""

    kills: list[Kill] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)
    """Kind and detail of every other fault that was seen to harm somebody."""
    fault_times: list[float] = field(default_factory=list)
    """When each of them was over."""
    exits: list[tuple[str, int]] = field(default_factory=list)
    """Services that ended by themselves, with their exit codes: not wished for, but allowed."""
    births: dict[str, list[int]] = field(default_factory=dict)
    """All process ids that each name has had, oldest first."""

    def note(self, kind: str, detail: str) -> None:
        """Write down a fault."""
        self.faults.append((kind, detail))
        self.fault_times.append(time.time())

    def story(self) -> list[str]:
        """Return everything that happened, in order, with the time of day."""
        kills = [(k.at, f"kill {k.name} {k.pid} {k.point}".strip()) for k in self.kills]
        faults = zip(self.fault_times, (f"{k}: {d}" for k, d in self.faults), strict=True)
        return [
            f"{time.strftime('%H:%M:%S', time.gmtime(at))}.{int(at % 1 * 1000):03} {what}"
            for at, what in sorted([*kills, *faults])
        ]


class Stack:
    """The system under fire."""

    def __init__(self, root: Path, *, store: str = "minio", say: Say = print) -> None:
        self.root = root
        self.store_kind = store
        self.say = say
        self.workspace = f"c{secrets.token_hex(4)}"
        self.names = Subjects(self.workspace)
        self.landed = Landed()
        self.disks: dict[str, Disk] = {}
        self.bus_proxies: dict[str, Proxy] = {}
        self.store_proxy: Proxy | None = None
        self.store: MinioServer | WeedServer | None = None
        self.locks = {"broker": asyncio.Lock(), "store": asyncio.Lock()}
        self.armed: dict[str, dict[str, str]] = {}
        """What the next start of a member is to find in its variables."""
        self.odd: set[str] = set()
        """Members whose clock is off."""
        self.held: set[str] = set()
        """Members that nobody starts again just now: a fault has them in hand."""
        self._stack = AsyncExitStack()
        self._watch: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.root.mkdir(parents=True, exist_ok=True)
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *of_error: object) -> None:
        if self._watch is not None:
            self._watch.cancel()
        await self._stack.aclose()

    async def _start(self) -> None:
        if disks.possible():
            sizes = {"broker": BROKER_MIB, "store": STORE_MIB}
            for name, size in sizes.items():
                disk = self.disks[name] = Disk(self.root, name, size)
                self._stack.callback(disk.unmount)
                await asyncio.to_thread(disk.make)
        self.broker = NatsServer(self.root / "broker" / "nats")
        self._stack.callback(self._end_broker)
        await asyncio.to_thread(self.broker.start)
        self._born("broker", self.broker.process)
        store = await self._start_store()
        self.fleet = Fleet(
            self.root / "fleet", bus=self.broker.url, store=store, workspace=self.workspace
        )
        self._stack.enter_context(self.fleet)
        for service, count in COPIES.items():
            for number in range(1, count + 1):
                name = f"{service}-{number}"
                proxy = Proxy(self.broker.port)
                self.bus_proxies[name] = await self._stack.enter_async_context(proxy)
                flags = {"bus": f"nats://127.0.0.1:{proxy.port}"}
                if service == "executor":
                    flags |= {"slots": "2", "cache-bytes-max": str(CACHE_BYTES)}
                await asyncio.to_thread(self._start_member, service, flags)
                self._born(name, self.fleet.members[name].process)
        self._stack.callback(self._resume_all)
        self._watch = asyncio.create_task(self._restart_the_dead())

    def _start_member(self, service: str, flags: dict[str, str]) -> None:
        self.fleet.start(service, **flags)

    async def _start_store(self) -> str:
        folder = self.root / "store"
        if self.store_kind == "file":
            return f"file:{folder / 'objects'}"
        if self.store_kind == "minio":
            # Without it a power cut takes what MinIO acknowledged in the seconds before.
            self.store = MinioServer(folder / "server", synced=bool(self.disks))
        else:
            self.store = WeedServer(folder / "server")
        self._stack.callback(self._end_store)
        await asyncio.to_thread(self.store.start)
        self._born("store", self.store.process)
        self.store_proxy = await self._stack.enter_async_context(Proxy(self.store.port))
        url = self.store.url("chaos")
        return url.replace(f":{self.store.port}/", f":{self.store_proxy.port}/")

    # -- kills -----------------------------------------------------------------------------------
    async def kill(self, name: str) -> bool:
        """End a service, the broker or the store with SIGKILL; say whether there was one to end."""
        if name in ("broker", "store"):
            return await self._kill_server(name)
        if name in self.held or not self.fleet.alive(name):
            return False
        pid = self.fleet.members[name].process.pid
        os.kill(pid, signal.SIGKILL)  # whether it landed is seen by who waits for it: _watch
        return True

    async def _kill_server(self, name: str, away_s: float = 0) -> bool:
        """Kill the broker or the store, and start it again after a while."""
        server = self.broker if name == "broker" else self.store
        if server is None or self.locks[name].locked():
            return False
        async with self.locks[name]:
            if server.process is None or server.process.poll() is not None:
                return False
            pid = server.process.pid
            code = await asyncio.to_thread(server.kill)
            assert code == -signal.SIGKILL, f"{name} ended with {code}, not by our kill"
            at = time.time()
            await asyncio.sleep(away_s)
            await asyncio.to_thread(server.start)
            self._born(name, server.process)
            self.landed.kills.append(Kill(name, name, pid, at))
        return True

    async def away(self, name: str, seconds: float) -> bool:
        """Take the broker or the store away for a while: a kill with a long pause behind it."""
        return await self._kill_server(name, seconds)

    def arm(self, name: str, point: str) -> None:
        """Let the next start of a member die at a crash point."""
        self.armed[name] = {"PENSTOCK_CRASH_AT": point}

    async def clock_off(self, name: str, seconds: int) -> str:
        """Kill a service and start it with another clock; return what was seen of that."""
        library = faketime()
        if library is None or name in self.held:
            return ""
        self.armed[name] = {
            "LD_PRELOAD": str(library),
            "FAKETIME": f"{seconds:+d}s",
            "DONT_FAKE_MONOTONIC": "1",
        }
        before = len(self.landed.births[name])
        if not await self.kill(name):
            return ""
        while len(self.landed.births[name]) == before:  # noqa: ASYNC110 - _watch starts it
            await asyncio.sleep(0.05)
        self.odd.add(name)
        await asyncio.sleep(1)
        lied_to = lies_to(self.landed.births[name][-1], library)
        return f"{name} {seconds:+d} s" if lied_to else ""

    async def calm(self) -> None:
        """Take every fault away: nobody is armed, paused, cut off, full, or wrong about the time."""
        self.armed.clear()
        self._resume_all()
        proxies = [*self.bus_proxies.values(), *filter(None, [self.store_proxy])]
        for proxy in proxies:
            proxy.set("pass")
        for disk in self.disks.values():
            await asyncio.to_thread(disk.free)
        for name in sorted(self.odd):
            await self.kill(name)
        self.odd.clear()

    async def _restart_the_dead(self) -> None:
        """Be the supervisor: whatever ends is started again, and how it ended is written down."""
        while True:
            await asyncio.sleep(0.02)
            for name, member in self.fleet.members.items():
                code = member.process.poll()
                if code is None or name in self.held:
                    continue
                self._took_down(name, code)
                environ = self.armed.pop(name, {})
                self.odd.discard(name)
                self.fleet.restart(name, wait=False, environ=environ)  # a fork: 2 ms
                self._born(name, member.process)

    def _took_down(self, name: str, code: int) -> None:
        member = self.fleet.members[name]
        if code != -signal.SIGKILL:
            self.landed.exits.append((name, code))
            self.say(f"{name} ended by itself with {code}: {self.fleet.tail(name, 300)}")
            return
        last = self.fleet.tail(name, 300).strip().rpartition("\n")[2]
        point = last.split()[2] if last.startswith("crash point ") else ""
        self.landed.kills.append(Kill(member.service, name, member.process.pid, time.time(), point))
        member.kills += 1

    # -- pauses and power ------------------------------------------------------------------------
    async def pause(self, name: str, seconds: float) -> bool:
        """Stop a process with SIGSTOP for a while, then let it go on; say whether it stood still."""
        process = (
            self.broker.process
            if name == "broker"
            else self.store.process
            if name == "store" and self.store
            else self.fleet.members[name].process
            if name in self.fleet.members
            else None
        )
        if process is None or process.poll() is not None:
            return False
        lock = self.locks.get(name) or asyncio.Lock()
        if lock.locked():
            return False
        async with lock:
            process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(0.05)
            stopped = state_of(process.pid) == "T"
            try:
                await asyncio.sleep(seconds)
                stopped = stopped and state_of(process.pid) == "T"  # and nobody killed it meanwhile
            finally:
                process.send_signal(signal.SIGCONT)
        return stopped

    async def power_cut(self, which: str) -> bool:
        """Cut the power of broker or store, or of the whole machine (broker, store, all services)."""
        names = ("broker", "store") if which == "machine" else (which,)
        if not self.disks or any(self.locks[name].locked() for name in names):
            return False
        if which == "store" and self.store is None:
            return False
        for name in names:
            await self.locks[name].acquire()
        members = list(self.fleet.members.items()) if which == "machine" else []
        self.held |= {name for name, _ in members}
        try:
            await self._cut(names, [member.process for _, member in members])
        finally:
            self.held -= {name for name, _ in members}
            for name in names:
                self.locks[name].release()
        return True

    async def _cut(self, names: tuple[str, ...], processes: list) -> None:  # type: ignore[type-arg]
        servers = {"broker": self.broker, "store": self.store}
        cut = [(name, server) for name in names if (server := servers[name]) is not None]
        stopped = [*processes, *(server.process for _, server in cut)]
        for process in stopped:
            process.send_signal(signal.SIGSTOP)
        for name in names:
            await asyncio.to_thread(self.disks[name].cut)
        for process in processes:
            process.send_signal(signal.SIGKILL)
        for name, server in cut:
            assert server.process is not None
            pid = server.process.pid
            assert await asyncio.to_thread(server.kill) == -signal.SIGKILL
            self.landed.kills.append(Kill(name, name, pid, time.time()))
        for process in processes:
            await asyncio.to_thread(process.wait)
        for name in names:
            await asyncio.to_thread(self.disks[name].come_back)
        for name, server in cut:
            await asyncio.to_thread(server.start)
            self._born(name, server.process)

    # -- ends ------------------------------------------------------------------------------------
    def _born(self, name: str, process: object) -> None:
        pid = getattr(process, "pid", 0)
        self.landed.births.setdefault(name, []).append(pid)

    def _resume_all(self) -> None:
        for member in self.fleet.members.values():
            if member.process.poll() is None:
                member.process.send_signal(signal.SIGCONT)

    def _end_broker(self) -> None:
        if self.broker.process is not None:
            self.broker.kill()

    def _end_store(self) -> None:
        if self.store is not None and self.store.process is not None:
            self.store.kill()


def faketime() -> Path | None:
    """Return the library that lies to a program about the time, if it is installed."""
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)


def lies_to(pid: int, library: Path) -> bool:
    """Say whether a process has loaded the library."""
    with contextlib.suppress(OSError):
        return library.name in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")
    return False


def state_of(pid: int) -> str:
    """Return the kernel's letter for what a process does: R, S, D, T, Z; empty: it has gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[0]
