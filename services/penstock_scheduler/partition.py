"""One partition of the run log in the hands of its owner.

    elected ─▶ compare-and-set on own.<p> ─▶ replay runlog.<p> ─▶ what is owed is done again
       ▲          ┌──────────────────────────────┘
       │          ▼
       │       inputs ─▶ decide ─▶ ONE fenced commit ─▶ effects ─▶ ack ─┐
       │          ▲─────────────────────────────────────────────────────┘
       └──── deposed: the state is dropped, nothing more is written

The pin on the inbox consumer elects; the compare-and-set makes it safe: every commit expects the
sequence of the owner's own message, so whoever was replaced without noticing is refused. Nothing is
done before its commit is stored, and nothing is acknowledged before it is done.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

from penstock.bus import Consumption, Delivery
from penstock.bus.topology import due_consumer
from penstock.contracts import codec
from penstock.contracts.plans import PlanPart
from penstock.contracts.work import AttemptStarted
from penstock.errors import Corrupt, Transient
from penstock_scheduler.decide import Input, LookedUp, Resumed, Turn, handle
from penstock_scheduler.decide.progress import offer
from penstock_scheduler.effects import Effect, LookUp, dispatches, owed, sent
from penstock_scheduler.forgotten import ended_before
from penstock_scheduler.lookups import LookUps
from penstock_scheduler.performer import Pending, Performer
from penstock_scheduler.runlog import Deposed, RunLog
from penstock_scheduler.state import RUN_ENDED, Partition, anchor, forget, needed_from
from penstock_scheduler.strays import LOOK_S, Strays
from penstock_scheduler.takeover import replayed
from penstock_scheduler.tools import Tools
from penstock_scheduler.transitions import Commit, RunEnd, Transition

INPUTS_MAX = 1_000
"""Messages that one commit may answer."""
UNSETTLED_MAX = 64
"""Commits whose effects may be under way before the next is decided."""
COMPANY_S = 0.002
LOOKS_MAX = 8
LOOKS_S = 0.003
"""A decision waits so long for the answers to so few looks before it is stored: with them it holds what
else would be a second commit, and a second wait of the step behind."""
COMPACT_S = 1.0
PAUSE_S = 0.05
PAUSE_S_MAX = 2.0


@dataclass(slots=True)
class Held:
    """Something to take in; `delivery` is settled when it has been dealt with."""

    message: Input
    delivery: Delivery | None = None


class Term:
    """One partition from the takeover until somebody else's."""

    def __init__(self, tools: Tools, number: int, fence: int) -> None:
        self.tools = tools
        self.number = number
        self.fence = fence
        self.log = RunLog(tools, number, fence)
        self.state = Partition(number, tools.window, tools.deadline_s)
        self.waiting: deque[Held] = deque()
        self.arrived = asyncio.Event()
        self.in_hand: dict[tuple[str, int], Held] = {}
        self.uncompacted = False
        self.reoffer = False
        self.search = False
        self.strays = Strays(tools, number, fence)
        self.over = False
        self.looks = LookUps(tools.bus, tools.names, tools.log, self.put, tools.crash)
        self.performer = Performer(tools, self.looks, self.put)
        self._unsettled: set[asyncio.Task[None]] = set()
        self._owing: dict[asyncio.Task[None], int] = {}
        """Effects under way or failed: the last sequence of the log before their commit."""
        self._before = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._due: Consumption | None = None
        self._ending: asyncio.Task[None] | None = None

    # -- life -----------------------------------------------------------------------------------
    async def begin(self) -> None:
        """Replay the log and do again what may have been lost; then take in messages."""
        for work in (*self.performer.works(), self.looks.work()):
            self._spawn(work)
        effects = await self._replayed()
        turn = Turn(self.state, self.tools.clock.now())
        handle(turn, Resumed())
        offer(turn)
        await self._commit(turn, ())
        await self._perform([*effects, *turn.effects], [], list(self._ended_runs()))
        spec = due_consumer(self.tools.names, self.number)
        self._due = await self.tools.bus.consume(spec, self.take)
        self.strays.doubt()
        self._spawn(self._work())
        self._spawn(self._compact())
        self._spawn(self._doubt())

    async def end(self) -> None:
        """Write nothing more. Safe to call twice."""
        self.over = True
        if self._due is not None:
            await self._due.close()
            self._due = None
        me = asyncio.current_task()
        tasks = [task for task in (*self._tasks, *self._unsettled) if task is not me]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for held in self.in_hand.values():
            if held.delivery is not None:
                await held.delivery.nak()  # for the next owner, without waiting for the lease
        self.in_hand.clear()

    async def drain(self, seconds: float) -> None:
        """Return when everything decided has been told, or after `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._unsettled:
                    await asyncio.wait(set(self._unsettled))

    # -- in -------------------------------------------------------------------------------------
    async def take(self, delivery: Delivery) -> None:
        """Take in a message of the inbox or a timer."""
        stored = delivery.message
        key = (stored.subject, stored.sequence)
        held = self.in_hand.get(key)
        if held is not None:
            held.delivery = (
                delivery  # delivered again while we still have it: the newest ack counts
            )
            return
        try:
            message = codec.inbound(stored.data)
        except Corrupt as error:
            await self.tools.set_aside(delivery, error)
            return
        held = self.in_hand[key] = Held(message, delivery)
        self.waiting.append(held)
        self.arrived.set()

    def put(self, message: Input) -> None:
        """Take in an answer of our own shell."""
        self.waiting.append(Held(message))
        self.arrived.set()

    def redispatch(self) -> None:
        """Offer again what must be on a work queue: the server may have lost its newest messages.

        Not at once but between two decisions: what is decided and not yet committed must not go out.
        """
        self.reoffer = True
        self.strays.doubt()
        self.arrived.set()

    # -- the loop -------------------------------------------------------------------------------
    async def _work(self) -> None:
        while True:
            if not self.waiting and not self.reoffer and not self.search:
                self.arrived.clear()
                await self.arrived.wait()
            if self.search:
                self.search = False
                await self.log.still_ours()
                await self.strays.look(self.state)
                continue
            if self.reoffer:
                self.reoffer = False
                effects = dispatches(self.state)
                self.tools.log.info("offered again", partition=self.number, attempts=len(effects))
                await self._perform(effects, [], [])
                continue
            await self._company()
            while len(self._unsettled) >= UNSETTLED_MAX:
                await asyncio.wait(set(self._unsettled), return_when=asyncio.FIRST_COMPLETED)
            batch = [self.waiting.popleft() for _ in range(min(len(self.waiting), INPUTS_MAX))]
            await self._take_in(batch)

    async def _doubt(self) -> None:
        """Have lost work looked for between two decisions, as long as there is reason to."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self.strays.doubtful and any(target.out for target in self.state.targets.values()):
                self.search = True
                self.arrived.set()

    async def _company(self) -> None:
        """Let a start wait a moment for its result: it releases nothing, and a commit costs an fsync."""
        if all(isinstance(held.message, AttemptStarted) for held in self.waiting):
            self.arrived.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(COMPANY_S):
                    await self.arrived.wait()

    async def _take_in(self, batch: list[Held]) -> None:
        known = await self._known(batch)
        turn = Turn(self.state, self.tools.clock.now())
        loop = asyncio.get_running_loop()
        until = loop.time() + LOOKS_S
        inputs = deque(known)
        while inputs:
            held = inputs.popleft()
            try:
                handle(turn, held.message)
            except Exception as error:
                # A bug of ours, met by this message. What was half decided is thrown away with the
                # state; everything else goes on.
                await self._poisoned(held, error)
                await self._start_again([one for one in known if one in batch and one is not held])
                return
            if not inputs:
                offer(turn)
                answers = await self._answers(turn, until - loop.time())
                inputs.extend(Held(answer) for answer in answers)
        sequences = tuple(
            held.delivery.message.sequence
            for held in known
            if held.delivery is not None and not isinstance(held.message, LookedUp)
        )
        if turn.transitions:
            await self._commit(turn, sequences)
        else:
            # Nothing to commit, so nothing would stop an owner who was replaced without noticing
            # from acknowledging what its old state calls late news. Found by the simulation.
            await self.log.still_ours()
        await self._perform(sent(self.state, turn.effects), batch, _ended(turn.transitions))

    async def _answers(self, turn: Turn, within_s: float) -> list[LookedUp]:
        """Look for equal work now, if that is little; what is found does not wait for another commit.

        A claim goes out before the commit that tells of it. If there never is one (a crash, a new
        owner), whoever follows the claim finds it stale, as any that was not decided upon.
        """
        looks = [effect for effect in turn.effects if isinstance(effect, LookUp)]
        if not looks or len(looks) > LOOKS_MAX or within_s <= 0:
            return []
        turn.effects = [effect for effect in turn.effects if not isinstance(effect, LookUp)]
        return await self.looks.soon(looks, within_s)

    async def _known(self, batch: list[Held]) -> list[Held]:
        """Leave out plans of runs that ended so long ago that the log has forgotten them."""
        planned = {h.message.head.run for h in batch if isinstance(h.message, PlanPart)}
        if not planned:
            return batch
        ended = await ended_before(self.tools, self.performer.summaries, self.state, planned)
        return [
            held
            for held in batch
            if not (isinstance(held.message, PlanPart) and held.message.head.run in ended)
        ]

    async def _start_again(self, rest: list[Held]) -> None:
        self.waiting.extendleft(reversed(rest))
        self.state = Partition(self.number, self.tools.window, self.tools.deadline_s)
        await self._perform(await self._replayed(), [], list(self._ended_runs()))

    async def _poisoned(self, held: Held, error: Exception) -> None:
        self.tools.log.error(
            "cannot take in",
            partition=self.number,
            kind=type(held.message).__name__,
            exc_info=error,
        )
        if held.delivery is not None:
            stored = held.delivery.message
            self.in_hand.pop((stored.subject, stored.sequence), None)
            bug = Corrupt(f"{type(error).__name__}: {error}", code="E_INTERNAL")
            await self.tools.set_aside(held.delivery, bug)

    # -- the log --------------------------------------------------------------------------------
    async def _commit(self, turn: Turn, inputs: tuple[int, ...]) -> None:
        """Store what was decided.

        Raises:
            Deposed: somebody else owns the partition.
        """
        if not turn.transitions:
            return
        commit = Commit(
            at=turn.now,
            inputs=inputs,
            transitions=tuple(turn.transitions),
            live=len(self.state.runs),
            settled=min(self._owing.values(), default=self.log.last_sequence),
        )
        self._before = self.log.last_sequence
        self.tools.crash("scheduler.before-append")
        anchor(self.state, await self.log.write(commit))
        self.tools.crash("scheduler.after-append")
        self.uncompacted = True

    async def _replayed(self) -> list[Effect]:
        """Make the state from the log; return what may have been lost."""
        replay = await replayed(self.tools, self.log, self.state, self.performer.events.go_on)
        self.uncompacted = replay.commits > 0
        self._before = replay.settled
        if results := replay.results():
            self._owe(self._spawn(self.performer.put_back(results)))
        return [*replay.events, *replay.lines(), *owed(self.state)]

    def _owe(self, task: "asyncio.Task[None]") -> None:
        """Note that nothing is settled behind the last commit but one, until a task has ended well."""
        self._owing[task] = self._before

        def paid(task: "asyncio.Task[None]") -> None:
            if not task.cancelled() and task.exception() is None:
                del self._owing[task]

        task.add_done_callback(paid)

    def _ended_runs(self) -> Iterable[str]:
        return [name for name, run in self.state.runs.items() if run.status in RUN_ENDED]

    # -- out ------------------------------------------------------------------------------------
    async def _perform(self, effects: list[Effect], batch: list[Held], ended: list[str]) -> None:
        """Put effects on the wire, in order; the rest happens beside the next decision."""
        pending = await self.performer.perform(effects)
        if pending or batch or ended:
            task = asyncio.create_task(self._settle(pending, batch, ended))
            self._unsettled.add(task)
            self._owe(task)
            task.add_done_callback(self._settled)

    async def _settle(self, pending: list[Pending], batch: list[Held], ended: list[str]) -> None:
        told = self.performer.events.progress.given
        listed = self.performer.summaries.progress.given
        await self.performer.settle(pending)
        await self.performer.summaries.progress.reached(listed)
        self.tools.crash("scheduler.before-ack")
        for held in batch:
            if held.delivery is not None:
                stored = held.delivery.message
                self.in_hand.pop((stored.subject, stored.sequence), None)
                await held.delivery.ack()
        self.tools.crash("scheduler.after-ack")
        if ended:
            await self.performer.events.progress.reached(told)
            for run in ended:
                forget(self.state, run)
                self.uncompacted = True

    def _settled(self, task: "asyncio.Task[None]") -> None:
        self._unsettled.discard(task)
        self._watch(task)

    async def _compact(self) -> None:
        """Drop from the log what no replay needs; its last message stays, to say what is live.

        When the last run is dealt with, one more commit says so: nobody need wake this partition.
        """
        while True:
            await asyncio.sleep(COMPACT_S)
            if await self.log.rest(self.tools.clock.now(), lambda: not self.state.runs):
                self.uncompacted = True
            if not self.uncompacted:
                continue
            self.uncompacted = False
            self.tools.crash("scheduler.before-compact")
            try:
                await self.log.compact(needed_from(self.state))
            except Transient as error:
                self.uncompacted = True
                self.tools.log.warning("the log is not compacted", error=str(error))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        task.add_done_callback(self._watch)
        self._tasks.append(task)
        return task

    def _watch(self, task: "asyncio.Task[None]") -> None:
        """A term whose parts fail is over: the next one replays."""
        if task.cancelled() or self.over:
            return
        failure = task.exception()
        if failure is None:
            return
        self.over = True
        if isinstance(failure, Deposed):
            self.tools.log.info("deposed", partition=self.number)
        else:
            self.tools.log.error("a term failed", partition=self.number, exc_info=failure)
        self._ending = asyncio.create_task(self.end())


def _ended(transitions: list[Transition]) -> list[str]:
    return [transition.run for transition in transitions if isinstance(transition, RunEnd)]
