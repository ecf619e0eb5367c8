"""One replica's term for one partition, as partition.py and runlog.py have it.

    takeover ─▶ replay ─▶ what is owed is done again
    inputs ─▶ decide ─▶ fenced commit ─▶ effects ─▶ ack        never in another order

The decisions (`decided`), the replay (`evolve`, `effects_of`, `owed`) and the cutting of commits
(`messages_of`) are the real ones.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from tests.simulation.world.clockwork import Task, Wait, Work, call
from tests.simulation.world.looks import looked
from tests.simulation.world.performing import Performer
from tests.simulation.world.server import Entry, Queue

from penstock.contracts.codec import inbound
from penstock.contracts.plans import PlanPart
from penstock.contracts.queries import RUN_STATES_FINAL, RunSummary
from penstock.errors import Conflict, Corrupt
from penstock_scheduler import decide, effects, state, transitions
from penstock_scheduler.decide import Input, Resumed, Turn
from penstock_scheduler.effects import Effect
from penstock_scheduler.effects.replay import Replay
from penstock_scheduler.state import RUN_ENDED, Partition

if TYPE_CHECKING:
    from tests.simulation.world.scheduler import Scheduler

DELIVERIES_MAX = 5
AGAIN_S = 1.0
COMPACT_S = 1.0
SOON = 0.5
"""How likely a look is answered before the commit of what asked for it."""


class Deposed(Exception):
    """Somebody else owns the partition now."""


@dataclass(slots=True)
class Held:
    """Something to take in, and what to acknowledge for it."""

    message: Input
    queue: Queue | None = None
    entry: Entry | None = None


class Term:
    """One partition from the takeover until somebody else's."""

    def __init__(self, process: "Scheduler", number: int, fence: int) -> None:
        self.process = process
        self.world = process.world
        self.number = number
        self.fence = fence
        self.state = self.beginning()
        self.waiting: deque[Held] = deque()
        self.in_hand: dict[int, Held] = {}
        self.appends = 0
        self.last_sequence = 0
        self.last_live = 0
        self.before = 0
        self.owing: dict[object, int] = {}
        self.writing = False
        self.uncompacted = False
        self.reoffer = False
        self.over = False
        self.tasks: list[Task] = []
        self.performer = Performer(self)

    def beginning(self) -> Partition:
        """Return the state before the first fact."""
        shape = self.world.shape
        return Partition(self.number, window=shape.window, starts_max=shape.starts_max)

    # -- life ------------------------------------------------------------------------------------
    def spawn(self, work: Work[None], name: str) -> None:
        """Begin a task that ends with the term."""
        self.tasks.append(self.process.spawn(self._guarded(work), f"{name} {self.number}"))

    def _guarded(self, work: Work[None]) -> Work[None]:
        try:
            yield from work
        except Deposed:
            self.world.landed["deposed"] += 1
            if self.world.trace is not None:
                self.world.say(self.process, f"deposed from partition {self.number}")
            self._stop()

    def _stop(self) -> None:
        self.over = True
        for task in self.tasks:
            task.dead = True
        self.tasks = []

    def begin(self) -> Work[None]:
        """Replay the log and do again what may have been lost; then take in messages."""
        self.spawn(self.performer.tell(), "tell")
        self.spawn(self.performer.list_runs(), "list")
        try:
            yield from self._begin()
        except Deposed:
            self._stop()

    def _begin(self) -> Work[None]:
        again = yield from self._replayed()
        turn = Turn(self.state, self.process.wall())
        decide.handle(turn, Resumed())
        decide.offer(turn)
        yield from self._commit(turn, ())
        self.performer.take([*again, *turn.effects], [], self._ended_runs())
        self.spawn(self.performer.work(), "wire")
        self.spawn(self._pull(), "pull")
        self.spawn(self._pull_due(), "due")
        self.spawn(self._work(), "work")
        self.spawn(self._compact(), "compact")

    def end(self) -> Work[None]:
        """Write nothing more; give back what is in hand."""
        self._stop()
        for held in list(self.in_hand.values()):
            if held.queue is not None and held.entry is not None:
                yield from call(self.process, held.queue.nak, held.entry)
        self.in_hand.clear()

    # -- in --------------------------------------------------------------------------------------
    def _pull(self) -> Work[None]:
        queue = self.world.server.inbox[self.number]
        return self._take_from(
            queue, lambda: self.process.is_pinned(self.number) and queue.has_free()
        )

    def _pull_due(self) -> Work[None]:
        queue = self.world.server.due[self.number]
        return self._take_from(queue, queue.has_free)

    def _take_from(self, queue: Queue, ready: Callable[[], bool]) -> Work[None]:
        wait = Wait(lambda: self.process.is_reachable() and ready())
        while True:
            yield wait
            if not wait.ready():
                continue
            entry = queue.take(self.process)
            if entry is not None:
                yield from self._take(queue, entry)

    def _take(self, queue: Queue, entry: Entry) -> Work[None]:
        held = self.in_hand.get(entry.sequence)
        if held is not None:
            held.entry = entry  # delivered again while we still have it
            return
        try:
            message = inbound(entry.data)
        except Corrupt:
            yield from self._set_aside(queue, entry)
            return
        held = self.in_hand[entry.sequence] = Held(message, queue, entry)
        self.waiting.append(held)

    def _set_aside(self, queue: Queue, entry: Entry) -> Work[None]:
        """Keep a message nobody can take in under dead.inbox, at its fifth delivery."""
        server = self.world.server
        if self.world.mutant == "swallow_decode_error":
            yield from call(self.process, lambda: queue.ack(entry))
            return
        if entry.deliveries < DELIVERIES_MAX:
            yield from call(self.process, lambda: queue.nak(entry, AGAIN_S))
            return
        name = f"{entry.subject}.{entry.sequence}"
        yield from call(self.process, lambda: server.keep_dead("inbox", name, entry.data))
        yield from call(self.process, lambda: queue.ack(entry))

    def put(self, message: Input) -> None:
        """Take in an answer of our own shell."""
        self.waiting.append(Held(message))

    # -- the loop --------------------------------------------------------------------------------
    def _work(self) -> Work[None]:
        chance = self.world.chance
        wait = Wait(lambda: self.waiting or self.reoffer)
        while True:
            yield wait
            if self.reoffer:
                self.reoffer = False
                self.performer.take(effects.dispatches(self.state), [], [])
                continue
            if self.waiting:
                count = min(len(self.waiting), chance.randint(1, 4))
                yield from self._take_in([self.waiting.popleft() for _ in range(count)])

    def _take_in(self, batch: list[Held]) -> Work[None]:
        known = yield from self._without_ended(batch)
        if self.world.mutant == "ack_first":
            yield from self.performer.acknowledge(batch)
            batch = []
        now = self.process.wall()
        turn = decide.decided(self.state, [held.message for held in known], now)
        yield from self._answered(turn)
        inputs = tuple(held.entry.sequence for held in known if held.entry is not None)
        if turn.transitions:
            yield from self._commit(turn, inputs)
        elif self.world.mutant != "no_second_look":
            # Nothing to commit, so nothing would stop an owner who was replaced without noticing
            # from acknowledging what its old state calls late news.
            yield from self.still_ours()
        ended = [t.run for t in turn.transitions if isinstance(t, transitions.RunEnd)]
        self.performer.take(effects.sent(self.state, turn.effects), batch, ended)

    def _answered(self, turn: Turn) -> Work[None]:
        """Have some looks answered before the commit, as far as that takes no time."""
        while True:
            looks = [e for e in turn.effects if isinstance(e, effects.LookUp)]
            soon = [look for look in looks if self.world.chance.random() < SOON]
            if not soon:
                return
            turn.effects = [effect for effect in turn.effects if effect not in soon]
            for look in soon:
                decide.handle(turn, (yield from looked(self, look)))
                self.world.landed["looked before the commit"] += 1
            decide.offer(turn)

    def _without_ended(self, batch: list[Held]) -> Work[list[Held]]:
        """Leave out plans of runs that ended so long ago that the log has forgotten them."""
        planned = {h.message.head.run for h in batch if isinstance(h.message, PlanPart)}
        asked: set[str] = set()
        ended: set[str] = set()
        while runs := sorted(planned - self.state.runs.keys() - asked):
            if self.world.mutant == "plans_ended_runs":
                break
            asked.update(runs)
            lines = yield from call(self.process, self._lines, runs)
            ended.update(line.run for line in lines if line.state in RUN_STATES_FINAL)
        return [
            held
            for held in batch
            if not (isinstance(held.message, PlanPart) and held.message.head.run in ended)
        ]

    def _lines(self, runs: list[str]) -> list[RunSummary]:
        found = [self.world.server.value("runs", run)[1] for run in runs]
        return [line for line in found if line is not None]

    # -- the log ---------------------------------------------------------------------------------
    def _commit(self, turn: Turn, inputs: tuple[int, ...]) -> Work[None]:
        if not turn.transitions:
            return
        commit = transitions.Commit(
            at=turn.now,
            inputs=inputs,
            transitions=tuple(turn.transitions),
            live=len(self.state.runs),
            settled=min(self.owing.values(), default=self.last_sequence),
        )
        if self.world.mutant == "settles_too_early":
            commit = msgspec.structs.replace(commit, settled=self.last_sequence)
        self.before = self.last_sequence
        yield from self._locked()
        first = 0
        for data in transitions.messages_of(commit, self.world.shape.commit_bytes_max):
            sequence = yield from self._append(data, commit.live)
            first = first or sequence
        self.writing = False
        state.anchor(self.state, first)
        self.uncompacted = True

    def _locked(self) -> Work[None]:
        while self.writing:
            yield Wait(lambda: not self.writing)
        self.writing = True

    def _append(self, data: bytes, live: int) -> Work[int]:
        server, number = self.world.server, self.number
        self.appends += 1
        name = f"{number}.{self.fence}.{self.appends}"

        def act() -> int:
            sequence = server.commit(number, self.fence, data, live, name)
            self.world.audit.committed(number, name, data, sequence)
            return sequence

        while True:
            try:
                sequence = yield from call(self.process, act)
            except Conflict:
                yield from self.still_ours()
                continue
            self.last_sequence, self.last_live = sequence, live
            return sequence

    def still_ours(self) -> Work[None]:
        """Raise Deposed if somebody else owns the partition."""
        server = self.world.server
        own = yield from call(self.process, lambda: server.own.get(self.number, 0))
        if own != self.fence and self.world.mutant != "no_cas":
            raise Deposed

    def _replayed(self) -> Work[list[Effect]]:
        """Make the state from the log; return what may have been lost."""
        server, number = self.world.server, self.number
        log = yield from call(self.process, lambda: list(server.runlog.get(number, [])))
        seen: set[str] = set()
        commits = []
        for sequence, data, name in log:
            if name not in seen or self.world.mutant == "reads_copies":
                seen.add(name)
                commits.append((sequence, transitions.commit_of(data)))
        told, links = yield from call(self.process, self._told)
        self.performer.links = links
        if self.world.mutant == "tells_from_the_start":
            told = {}
        replay = Replay(self.state, told)
        for sequence, commit in commits:
            self.last_sequence, self.last_live = sequence, commit.live
            replay.take(sequence, commit)
        self.uncompacted = bool(commits)
        self.before = replay.settled
        if results := replay.results():
            self.world.landed["put back"] += 1
            self.spawn(self._paid(self.owe(), self.performer.put_back(results)), "put back")
        return [*replay.events, *replay.lines(), *effects.owed(self.state)]

    def owe(self) -> object:
        """Note that nothing is settled behind the last commit but one; return what to pay with."""
        mark = object()
        self.owing[mark] = self.before
        return mark

    def _paid(self, mark: object, work: Work[None]) -> Work[None]:
        yield from work
        del self.owing[mark]

    def _told(self) -> tuple[dict[str, int], dict[str, str]]:
        """Return number and link of each run's last stored event."""
        server = self.world.server
        numbers = {run: events[-1].seq for run, events in server.events.items()}
        return numbers, {run: links[-1] for run, links in server.links.items()}

    def _ended_runs(self) -> list[str]:
        return [name for name, run in self.state.runs.items() if run.status in RUN_ENDED]

    def _compact(self) -> Work[None]:
        """Drop from the log what no replay needs; say when nothing is live any more."""
        server, number = self.world.server, self.number
        wait = Wait(lambda: self.uncompacted or (self.last_live and not self.state.runs))
        while True:
            yield wait
            yield self.world.now + COMPACT_S
            yield from self._locked()
            if self.last_live and not self.state.runs:
                now = self.process.wall()
                rest = transitions.messages_of(transitions.Commit(at=now))[0]
                yield from self._append(rest, 0)
            self.writing = False
            self.uncompacted = False
            needed = state.needed_from(self.state) or self.last_sequence
            yield from call(self.process, server.compact, number, needed)
