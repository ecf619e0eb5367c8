"""Everything one replica of the trigger touches: the two tables, the keepers, the alarms."""

import asyncio
import contextlib
from dataclasses import dataclass, field

from structlog.typing import FilteringBoundLogger

from penstock.bus import Bus, Stored, Subscription
from penstock.bus.buckets import Bucket, is_deleted
from penstock.clock import Clock
from penstock.contracts.events import RUN_ENDS
from penstock.contracts.schedules import Schedule, ScheduleState
from penstock.contracts.subjects import Subjects
from penstock.errors import Corrupt, NotFound, Transient
from penstock.runtime.crash import Crash, never
from penstock_trigger.alarms import Alarms
from penstock_trigger.keeper import Duty, Keeper, state_in
from penstock_trigger.outside import Outside

SERVICE = "penstock-trigger"
COMPANY_WAIT_S = 1.0
FIRST_TURN_S = 10.0
RESTART_S = 1.0
"""A tick this much older than the start of a lone replica is still in time."""
JUMP_S = 2.0
"""Wall clock and monotonic clock drift apart by more than this: somebody set the clock."""


@dataclass
class Shell:
    """The schedules of a workspace, each with its keeper."""

    bus: Bus
    names: Subjects
    clock: Clock
    log: FilteringBoundLogger
    me: str
    late_s: float
    takeover_s: float
    watch_s: float
    crash: Crash = never
    keepers: dict[str, Keeper] = field(default_factory=dict)
    cursors_seen: dict[str, tuple[ScheduleState | None, int]] = field(default_factory=dict)
    _follows: list[Subscription] = field(default_factory=list)
    _leaving: set[asyncio.Task[None]] = field(default_factory=set)
    _duty: Duty | None = None

    def __post_init__(self) -> None:
        self.schedules = Bucket(self.bus, self.names.bucket("schedules"), Schedule)
        self.cursors = Bucket(self.bus, self.names.bucket("cursors"), ScheduleState)
        self.outside = Outside(self.bus, self.names, self.clock, self.log)
        self.alarms = Alarms(self._rung)

    async def start(self) -> None:
        """Read both tables, learn whether others are there, decide what is due; then return."""
        definitions: dict[str, Stored] = {}

        async def take_definition(stored: Stored) -> None:
            if self._duty is None:
                definitions[self.schedules.key_of(stored)] = stored
            else:
                self._define(stored)

        await self._follow(self.cursors, self._take_cursor)
        await self._follow(self.schedules, take_definition)
        alone_since = 0.0 if await self._company() else self.clock.now() - RESTART_S
        self._duty = Duty(
            me=self.me,
            outside=self.outside,
            cursors=self.cursors,
            alarms=self.alarms,
            clock=self.clock,
            log=self.log,
            late_s=self.late_s,
            takeover_s=self.takeover_s,
            alone_since=alone_since,
            crash=self.crash,
        )
        self.alarms.start()
        for stored in definitions.values():
            self._define(stored)
        for name, (state, _) in self.cursors_seen.items():
            if state is not None and (state.pending or state.queued):
                self._keeper(name)  # of a deleted schedule: what was decided is still carried out
        ends = [f"{self.names.workspace}.event.*.*.run.{what}" for what in RUN_ENDS]
        self._follows.append(
            await self.bus.follow(self.names.stream("events"), ends, self._run_ended, new_only=True)
        )
        for keeper in self.keepers.values():
            keeper.wake()  # a run may have ended before we listened
        # Whoever asks whether we are there may rely on it that what we found is decided.
        first_turns = [asyncio.ensure_future(k.turned.wait()) for k in self.keepers.values()]
        if first_turns:
            _, late = await asyncio.wait(first_turns, timeout=FIRST_TURN_S)
            for task in late:
                task.cancel()

    async def watch(self, stopping: asyncio.Event) -> None:
        """Notice a wall clock that was set, or a machine that slept, until told to stop."""
        difference = self.clock.now() - self.clock.monotonic()
        while not stopping.is_set():
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(stopping.wait(), self.watch_s)
            jumped_s = self.clock.now() - self.clock.monotonic() - difference
            if abs(jumped_s) > JUMP_S:
                difference += jumped_s
                self.log.warning("clock_jump", seconds=round(jumped_s, 3))
                for keeper in self.keepers.values():
                    keeper.wake()
            # The alarms sleep on the monotonic clock, which does not count suspended time.
            self.alarms.check()

    async def stop(self) -> None:
        """End all keepers; nothing is lost, the cursors hold what is undone."""
        for follow in self._follows:
            await follow.close()
        for keeper in list(self.keepers.values()):
            await keeper.stop()
        if self._duty is not None:
            self.alarms.stop()

    # -- the tables ---------------------------------------------------------------------------------

    async def _follow(self, bucket: Bucket[Schedule] | Bucket[ScheduleState], take: object) -> None:
        caught_up = asyncio.Event()

        async def on_caught_up() -> None:
            caught_up.set()

        self._follows.append(
            await self.bus.follow(
                bucket.stream,
                [bucket.subject(">")],
                take,  # type: ignore[arg-type]
                last_per_subject=True,
                on_caught_up=on_caught_up,
            )
        )
        await caught_up.wait()

    async def _take_cursor(self, stored: Stored) -> None:
        name = self.cursors.key_of(stored)
        state = state_in(self.cursors, stored, self.log)
        self.cursors_seen[name] = (state, stored.sequence)
        keeper = self.keepers.get(name)
        if keeper is not None:
            keeper.note(state, stored.sequence)

    def _define(self, stored: Stored) -> None:
        name = self.schedules.key_of(stored)
        schedule = None
        if not is_deleted(stored):
            try:
                value = self.schedules.value_of(stored)
                schedule = value.value if value else None
            except Corrupt as error:
                self.log.error("broken schedule", schedule=name, error=str(error))
                return
        if schedule is None and name not in self.keepers:
            return
        self._keeper(name).define(schedule)

    def _keeper(self, name: str) -> Keeper:
        keeper = self.keepers.get(name)
        if keeper is None:
            assert self._duty is not None  # noqa: S101
            keeper = Keeper(name=name, duty=self._duty, on_idle=self._forget)
            state, revision = self.cursors_seen.get(name, (None, 0))
            if revision:
                keeper.note(state, revision, live=False)
            self.keepers[name] = keeper
            keeper.start()
        return keeper

    def _forget(self, name: str) -> None:
        """Let the keeper of a deleted schedule go, once it is done."""
        keeper = self.keepers.pop(name, None)
        if keeper is not None:
            task = asyncio.ensure_future(keeper.stop())
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    # -- what wakes a keeper ------------------------------------------------------------------------

    def _rung(self, name: str) -> None:
        keeper = self.keepers.get(name)
        if keeper is not None:
            keeper.wake()

    async def _run_ended(self, stored: Stored) -> None:
        run = stored.subject.split(".")[3]
        for keeper in self.keepers.values():
            if keeper.state is not None and keeper.state.last_run == run:
                keeper.wake()

    async def _company(self) -> bool:
        """Say whether another replica of this workspace serves already; any answer will do."""
        subject = self.names.query("schedule.show")
        try:
            await self.bus.request(subject, b"{}", timeout_s=COMPANY_WAIT_S)
        except NotFound:
            return False
        except Transient:
            return True  # somebody listens and is slow
        return True
