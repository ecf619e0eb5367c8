"""The storm: which fault strikes whom and when, drawn from one seed, while work is under way."""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from tests.chaos.harness.proxy import MODES, Mode
from tests.chaos.harness.stack import Kill, Stack, state_of
from tests.chaos.harness.workload import Workload

from penstock.runtime.crash import POINTS
from penstock.testing.attempts import marked_processes

FAULTS = ("network", "pause", "full", "power", "clock")
LEASE_S = 15.0
"""How long the broker lends an attempt without a sign of life."""
WAITS_FOR_WORK_S = 1.5
GONE_S = 5.0


@dataclass(frozen=True)
class Weather:
    """How hard it blows."""

    kills: int
    every_s: float = 1.0
    """Mean seconds between two kills."""
    faults: Sequence[str] = FAULTS
    fault_every_s: float = 8.0
    pause_s: float = LEASE_S + 3
    network_s: float = 4.0
    full_s: float = 4.0
    crash_p: float = 0.6
    """How many of the kills of services are at a crash point instead of at any moment."""


class Storm:
    """Strikes until enough kills have landed, or the time is over."""

    def __init__(
        self, stack: Stack, workload: Workload, chance: random.Random, weather: Weather
    ) -> None:
        self.stack = stack
        self.workload = workload
        self.chance = chance
        self.weather = weather
        self._bag: list[str] = []
        self._asked = Counter[str]()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def victims(self) -> tuple[str, ...]:
        """Every component that there is something of to kill."""
        services = dict.fromkeys(m.service for m in self.stack.fleet.members.values())
        store = ("store",) if self.stack.store is not None else ()
        return (*services, "broker", *store, "step")

    async def rage(self, until: float) -> None:
        """Strike until `weather.kills` have landed or the monotonic time `until` has come."""
        faults = asyncio.create_task(self._other_faults(until))
        try:
            while time.monotonic() < until:
                if len(self.stack.landed.kills) >= self.weather.kills and self._all_struck():
                    break
                await asyncio.sleep(self.chance.expovariate(1 / self.weather.every_s))
                await self._wait_for_work()
                await self._kill_somebody()
        finally:
            faults.cancel()
            await asyncio.gather(faults, *self._tasks, return_exceptions=True)

    def _all_struck(self) -> bool:
        """Say whether every kind of fault has harmed somebody, and every component lost a process."""
        kinds = {kind for kind, _ in self.stack.landed.faults}
        killed = {kill.component for kill in self.stack.landed.kills}
        return kinds.issuperset(self.weather.faults) and killed.issuperset(self.victims)

    async def _wait_for_work(self) -> None:
        """A kill proves most when much happens: wait a moment for events, but not for ever.

        Runs are always under way: what waits for a lease to end, or for a store, is to survive too.
        """
        deadline = time.monotonic() + WAITS_FOR_WORK_S
        while time.time() - self.workload.last_event_at > 1 and time.monotonic() < deadline:  # noqa: ASYNC110 - events come from other processes
            await asyncio.sleep(0.05)

    # -- kills -----------------------------------------------------------------------------------
    async def _kill_somebody(self) -> None:
        counts = Counter(kill.component for kill in self.stack.landed.kills)
        victims = list(self.victims)
        self.chance.shuffle(victims)
        component = min(victims, key=lambda victim: counts[victim])
        if component == "step":
            await self._kill_step()
            return
        if component in ("broker", "store"):
            self._in_background(self._kill_server(component))
            return
        names = [n for n, m in self.stack.fleet.members.items() if m.service == component]
        name = self.chance.choice(names)
        if self.chance.random() < self.weather.crash_p and (point := self._point(component)):
            self.stack.arm(name, point)  # it dies now, and where it hurts after it is back
        await self.stack.kill(name)

    def _point(self, service: str) -> str:
        """Return a crash point of a service: the one that was died at and asked for least so far."""
        points = [point for point in POINTS if point.startswith(f"{service}.")]
        hits = Counter(kill.point for kill in self.stack.landed.kills)
        self.chance.shuffle(points)
        point = min(points, key=lambda name: 2 * hits[name] + self._asked[name])
        self._asked[point] += 1
        return f"{point}:{self.chance.choice((1, 1, 2))}"

    async def _kill_server(self, name: str) -> None:
        await self.stack.kill(name)

    async def _kill_step(self) -> None:
        pids = marked_processes(self.workload.where.mark)
        if not pids:
            return
        pid = self.chance.choice(pids)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + GONE_S
        while state_of(pid) not in ("", "Z"):
            if time.monotonic() > deadline:
                return
            await asyncio.sleep(0.01)
        self.stack.landed.kills.append(Kill("step", "step", pid, time.time()))

    # -- everything else -------------------------------------------------------------------------
    async def _other_faults(self, until: float) -> None:
        while time.monotonic() < until:
            await asyncio.sleep(self.chance.uniform(0.5, 1.5) * self.weather.fault_every_s)
            if not self._bag:
                self._bag = list(self.weather.faults)
                self.chance.shuffle(self._bag)
            if self._bag:
                self._in_background(self._strike(self._bag.pop()))

    def _in_background(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)

        def done(ended: "asyncio.Future[None]") -> None:
            self._tasks.discard(task)
            if not ended.cancelled() and ended.exception() is not None:
                self.stack.say(f"the harness failed: {ended.exception()!r}")
                self.stack.landed.note("harness", repr(ended.exception()))

        task.add_done_callback(done)

    async def _strike(self, kind: str) -> None:
        strikes: dict[str, Callable[[], Awaitable[str]]] = {
            "network": self._network,
            "pause": self._pause,
            "full": self._full,
            "power": self._power,
            "clock": self._clock,
        }
        detail = await strikes[kind]()
        if detail:
            self.stack.landed.note(kind, detail)
        else:
            self._bag.insert(0, kind)  # it met nobody: once more, after the others

    async def _network(self) -> str:
        """Disturb the way of one service to the broker, or of all to the store."""
        mode: Mode = self.chance.choice([mode for mode in MODES if mode != "pass"])
        names = list(self.stack.bus_proxies)
        name = self.chance.choice([*names, *(["store"] * 4 if self.stack.store_proxy else [])])
        proxy = self.stack.store_proxy if name == "store" else self.stack.bus_proxies[name]
        assert proxy is not None
        proxy.set(mode)
        try:
            await asyncio.sleep(self.weather.network_s * self.chance.uniform(0.5, 2))
        finally:
            hits = proxy.hits
            proxy.set("pass")
        return f"{mode} to {name}" if hits else ""

    async def _pause(self) -> str:
        name = self.chance.choice([*self.stack.fleet.members, "broker", "store"])
        seconds = self.weather.pause_s if name.startswith("executor") else 5.0
        return f"{name} for {seconds:g} s" if await self.stack.pause(name, seconds) else ""

    async def _full(self) -> str:
        """Fill a disk, wait, give the space back; then do what the supervisor of a stack does."""
        if not self.stack.disks:
            return ""
        name = self.chance.choice(list(self.stack.disks))
        disk = self.stack.disks[name]
        if self.stack.locks[name].locked():
            return ""
        async with self.stack.locks[name]:
            taken = await asyncio.to_thread(disk.fill)
            await asyncio.sleep(self.weather.full_s)
            await asyncio.to_thread(disk.free)
        if name == "broker":  # JetStream stays off after a full disk until it is started again
            await self.stack.kill("broker")
        return f"{name}, {taken:,} bytes"

    async def _power(self) -> str:
        which = self.chance.choice(("broker", "machine"))
        if self.stack.store_kind == "weed":  # loses what it acknowledged, see deploy/README.md
            which = "broker"
        return which if await self.stack.power_cut(which) else ""

    async def _clock(self) -> str:
        """Start a service again with a clock that is off by as much as is promised to be harmless."""
        return await self.stack.clock_off(
            self.chance.choice(list(self.stack.fleet.members)), self.chance.choice((-45, 45))
        )
