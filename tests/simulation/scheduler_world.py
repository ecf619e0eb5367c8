"""A world for the scheduler's decisions, from one seed.

Real: everything pure (decide, state, effects, transitions). Modelled: the server (log with
compare-and-set, at-least-once inbox, one-message-per-subject work queue, timers, buckets, events),
the shell's loop, the look-ups and the executors. Each is a generator that stops before every durable
effect, so a crash, a pause or somebody else's step may come between any two of them: every
read-decide-write is at least two actions.

Faults stop after a part of the budget; then everything must come to an end.

    python tests/simulation/scheduler_world.py --seeds 100000 [--first 0]
"""

import argparse
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any

from penstock.contracts.artifacts import TreeRef
from penstock.contracts.codec import encoded, inbound
from penstock.contracts.events import RunEvent, StepEvent
from penstock.contracts.inbox import CancelRun, TimerDue, Wake
from penstock.contracts.plans import Bound, PlanHead, PlannedOutput, PlannedStep, PlanPart
from penstock.contracts.queries import RUN_STATES_FINAL, LatestEntry, ReuseEntry, RunSummary
from penstock.contracts.work import (
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    Failure,
    WorkItem,
)
from penstock.ids import digest_of
from penstock_scheduler import decide, effects, state, transitions
from penstock_scheduler.decide import Input, LookedUp, Resumed, Turn
from penstock_scheduler.effects import Effect, Emit
from penstock_scheduler.state import Partition

RUNS = ("6q9c8w0k3f7m2aa", "6q9c8w0k3f7m2ab", "6q9c8w0k3f7m2ac")
REPLICAS = 2
ACTIONS_MAX = 5_000
CALM_AFTER = 1_000
Work = Iterator[None]


class Violation(AssertionError):
    """A promise was broken."""


@dataclass(frozen=True)
class Faults:
    """How often what goes wrong; each seed draws its own mix, some without any."""

    crash: float = 0.01
    pause: float = 0.05
    lost_ack: float = 0.1
    duplicate: float = 0.1
    lost_reply: float = 0.1
    executor_dies: float = 0.1
    believed_dead: float = 0.3
    work_lost: float = 0.005
    collected: float = 0.01


NO_FAULTS = Faults(**{f.name: 0 for f in fields(Faults)})


@dataclass
class Mutant:
    """A bug put in on purpose; the world must notice each."""

    no_fence: bool = False
    ack_before_commit: bool = False
    owes_nothing: bool = False
    plans_ended_runs: bool = False
    tells_from_the_start: bool = False
    no_second_look: bool = False


@dataclass
class Server:
    """What survives everything."""

    sequence: int = 0
    own: dict[int, int] = field(default_factory=dict)
    runlog: dict[int, list[tuple[int, bytes]]] = field(default_factory=dict)
    history: dict[int, list[bytes]] = field(default_factory=dict)
    """The log as if it were never compacted."""
    commits: set[str] = field(default_factory=set)
    inbox: dict[int, dict[int, bytes]] = field(default_factory=dict)
    inbox_ids: set[str] = field(default_factory=set)
    timers: dict[tuple[str, str, str], tuple[float, TimerDue]] = field(default_factory=dict)
    work: dict[tuple[str, str, int], WorkItem] = field(default_factory=dict)
    leased: dict[tuple[str, str, int], int] = field(default_factory=dict)
    """Deliveries so far of what is on loan."""
    events: dict[str, list[RunEvent | StepEvent]] = field(default_factory=dict)
    reuse: dict[str, tuple[int, ReuseEntry | None]] = field(default_factory=dict)
    latest: dict[str, LatestEntry] = field(default_factory=dict)
    summaries: dict[str, RunSummary] = field(default_factory=dict)
    trees: set[str] = field(default_factory=set)
    stops: set[tuple[str, str, int]] = field(default_factory=set)

    def next(self) -> int:
        """Return the next sequence."""
        self.sequence += 1
        return self.sequence

    def put(self, run: str, message: Any, message_id: str = "") -> None:
        """Store something in the inbox of a run's partition, once per id."""
        if message_id and message_id in self.inbox_ids:
            return
        self.inbox_ids.add(message_id)
        self.inbox.setdefault(partition_of(run), {})[self.next()] = encoded(message)


def partition_of(run: str) -> int:
    """Return one of two partitions."""
    return ord(run[-1]) % 2


class World:
    """Everything that goes on under one seed."""

    def __init__(self, seed: int, mutant: Mutant | None = None) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.mutant = mutant or Mutant()
        self.server = Server()
        self.now = 1_000.0
        self.calm = False
        self.faults = self._mix()
        self.rings = {"retry", "stop"}
        # The other timers mend what a bug has lost, so most seeds live without them.
        self.rings |= {kind for kind in ("deadline", "timeout") if self.chance.random() < 0.1}
        self.replicas: list[dict[int, list[Work]]] = [{} for _ in range(REPLICAS)]
        self.paused: set[int] = set()
        self.attempts: list[Work] = []
        self.redelivered = self.crashes = self.takeovers = self.refused = 0
        self.plans = self._plans()
        self.expected = {run: len(plan.steps) for run, plan in self.plans.items()}

    def happens(self, name: str) -> bool:
        """Say whether a fault happens now."""
        return not self.calm and self.chance.random() < getattr(self.faults, name)

    # -- what is asked for ------------------------------------------------------------------------
    def _mix(self) -> Faults:
        if self.chance.random() < 0.1:
            return NO_FAULTS
        drawn = {
            f.name: self.chance.choice([0, 0, 0.5, 1]) * getattr(Faults, f.name)
            for f in fields(Faults)
        }
        return Faults(**drawn)

    def _plans(self) -> dict[str, PlanPart]:
        shape = self._steps()
        plans = {}
        for number in range(self.chance.randint(1, len(RUNS))):
            # Runs of one shape meet in reuse and single flight.
            steps = shape if self.chance.random() < 0.7 else self._steps()
            head = PlanHead(
                run=RUNS[number],
                pipeline="p",
                reuse=self.chance.choice(["use", "use", "use", "refresh", "off"]),
                continue_on_step_failure=self.chance.random() < 0.5,
                priority=self.chance.choice([0, 0, 5]),
            )
            plans[RUNS[number]] = PlanPart(head=head, steps=steps)
        return plans

    def _steps(self) -> tuple[PlannedStep, ...]:
        steps = []
        for number in range(self.chance.randint(1, 6)):
            most = min(number, 2)
            needs = sorted(self.chance.sample(range(number), self.chance.randint(0, most)))
            steps.append(
                PlannedStep(
                    name=f"s{number}",
                    command=f"c{self.chance.randint(0, 2)}",
                    needs=tuple(f"s{need}" for need in needs),
                    inputs={
                        f"i{n}": Bound(type="uri_folder", step=f"s{need}", output="o")
                        for n, need in enumerate(needs)
                        if self.chance.random() < 0.7
                    },
                    outputs={"o": PlannedOutput()},
                    attempts_max=self.chance.randint(1, 3),
                    retry_delay_s=self.chance.choice([0.0, 2.0]),
                    timeout_s=self.chance.choice([0.0, 30.0]),
                )
            )
        return tuple(steps)

    # -- the course of things -----------------------------------------------------------------------
    def play(self) -> None:
        """Let things happen until every run has ended, then check."""
        for run, plan in self.plans.items():
            self.attempts.append(self._submit(run, plan))
        if self.chance.random() < 0.3:
            run = self.chance.choice(list(self.plans))
            self.attempts.append(self._cancel_later(run))
        for count in range(ACTIONS_MAX):
            self.calm = self.calm or count > CALM_AFTER
            if self.calm and self._over():
                check(self)
                return
            self._act()
        raise Violation(f"not over after {ACTIONS_MAX} actions: {self._left()}")

    def _over(self) -> bool:
        told = [self.server.events.get(run, []) for run in self.plans]
        ended = all(
            e and isinstance(e[-1], RunEvent) and e[-1].what in RUN_STATES_FINAL for e in told
        )
        lines = [self.server.summaries.get(run) for run in self.plans]
        listed = all(line is not None and line.state in RUN_STATES_FINAL for line in lines)
        return ended and listed and not any(self.server.inbox.values())

    def _left(self) -> str:
        lines = []
        for run in self.plans:
            told = self.server.events.get(run, [])
            lines.append(f"{run}: {[(getattr(e, 'step', ''), e.what) for e in told[-3:]]}")
        return "; ".join(lines)

    def _act(self) -> None:
        roll = self.chance.random()
        if roll < 0.03:
            self._tick()
        elif roll < 0.045 and self.paused:
            self.paused.clear()
        elif roll < 0.10:
            self._elect()
        elif roll < 0.16:
            self._lend()
        elif roll < 0.45 and self.attempts:
            self._step_of(self.attempts)
        else:
            self._step_of_replica()
        if self.happens("pause"):
            self.paused.add(self.chance.randrange(REPLICAS))
        if self.happens("crash"):
            self.crashes += 1
            self.replicas[self.chance.randrange(REPLICAS)].clear()
        if self.happens("work_lost") and self.server.work:
            # The server was killed: its newest, unsynced work is gone, and every client reconnects.
            self.server.work.popitem()
            for replica in self.replicas:
                replica.clear()
        if self.happens("collected") and self.server.trees:
            self.server.trees.discard(self.chance.choice(sorted(self.server.trees)))

    def _step_of(self, works: list[Work]) -> None:
        work = self.chance.choice(works)
        if next(work, "ended") == "ended" and work in works:
            works.remove(work)

    def _step_of_replica(self) -> None:
        awake = [n for n in range(REPLICAS) if n not in self.paused and self.replicas[n]]
        if not awake:
            self.paused.clear()
            self._elect()
            return
        replica = self.replicas[self.chance.choice(awake)]
        partition = self.chance.choice(list(replica))
        self._step_of(replica[partition])
        if not replica[partition]:
            del replica[partition]

    def _elect(self) -> None:
        """Pin a partition to somebody: to the owner there is, unless it seems dead."""
        partition = self.chance.randrange(2)
        live = self.server.runlog.get(partition)
        if live and transitions.commit_of(live[-1][1]).live:
            asleep = next(run for run in RUNS if partition_of(run) == partition)
            self.server.put(asleep, Wake(partition=partition), f"wake.{self.now}.{partition}")
        owners = [n for n in range(REPLICAS) if partition in self.replicas[n]]
        if any(n not in self.paused for n in owners):
            return
        free = [n for n in range(REPLICAS) if n not in self.paused and n not in owners]
        if free and self.server.inbox.get(partition):
            self.takeovers += 1
            Term(self, self.chance.choice(free), partition)

    def _tick(self) -> None:
        due = sorted(self.server.timers.items(), key=lambda item: item[1][0])
        self.now = max(self.now + 0.5, due[0][1][0] if due and self.chance.random() < 0.5 else 0)
        for key, (at, message) in due:
            if at <= self.now:
                del self.server.timers[key]
                self.server.put(key[0], message)

    def _submit(self, run: str, plan: PlanPart) -> Work:
        for _ in range(self.chance.choice([0, 5, 40])):
            yield
        self.server.put(run, plan, f"{run}.plan")
        if self.happens("duplicate"):
            yield
            self.server.put(run, plan)  # after the window in which the bus drops copies

    def _cancel_later(self, run: str) -> Work:
        for _ in range(self.chance.randint(1, 60)):
            yield
        self.server.put(run, CancelRun(run=run, reason="enough"))

    # -- executors ------------------------------------------------------------------------------------
    def _lend(self) -> None:
        """Hand out work: new, or whose executor is believed dead."""
        for key, item in self.server.work.items():
            if key not in self.server.leased or self.happens("believed_dead"):
                deliveries = self.server.leased[key] = self.server.leased.get(key, 0) + 1
                self.redelivered += deliveries > 1
                self.attempts.append(self._execute(key, item, deliveries))
                return

    def _execute(self, key: tuple[str, str, int], item: WorkItem, delivery: int) -> Work:
        about = {
            "run": item.run,
            "step": item.step,
            "attempt": item.attempt,
            "executor": f"x{delivery}",
            "delivery": delivery,
        }
        name = f"{item.run}.{item.step}.{item.attempt}.{delivery}"
        yield
        if self.happens("executor_dies"):
            self.server.leased.pop(key, None)
            return
        self.server.put(item.run, AttemptStarted(**about), f"{name}.started")  # type: ignore[arg-type]
        yield
        if self.happens("executor_dies"):
            self.server.leased.pop(key, None)
            return
        roll = random.Random(f"{self.seed}{name}").random()
        result: Any
        if key in self.server.stops:
            failure = Failure(code="E_CANCELLED", message="stopped")
            result = AttemptFailed(**about, failure=failure)  # type: ignore[arg-type]
        elif roll < 0.25:
            failure = Failure(code="E_EXIT", message="no")
            result = AttemptFailed(**about, failure=failure, retriable=roll < 0.2)  # type: ignore[arg-type]
        else:
            made = made_by(item.command, [i.artifact for i in item.inputs.values()])
            self.server.trees.add(made)
            result = AttemptSucceeded(**about, outputs={"o": TreeRef(digest=made)})  # type: ignore[arg-type]
        self.server.put(item.run, result, f"{name}.ended")
        yield
        if not self.happens("lost_ack"):
            self.server.work.pop(key, None)
            self.server.leased.pop(key, None)


def made_by(command: str, inputs: list[str]) -> str:
    """Return the digest of what a command makes of its inputs: a pure function of both."""
    return digest_of(f"{command}({','.join(inputs)})".encode())


class Term:
    """One replica's term for one partition, as partition.py has it."""

    def __init__(self, world: World, replica: int, number: int) -> None:
        self.world = world
        self.number = number
        self.state = Partition(number, window=2)
        self.fence = 0
        self.commits = 0
        self.last = 0
        self.local: list[Input] = []
        self.emits: list[Emit] = []
        self.in_hand: set[int] = set()
        self.over = False
        self.works: list[Work] = []
        self.works.append(self._loop())
        self.works.append(self._tell())
        world.replicas[replica][number] = self.works

    def _loop(self) -> Work:
        world, server = self.world, self.world.server
        last = server.own.get(self.number, 0)
        yield
        if server.own.get(self.number, 0) != last:
            self._end()
            return
        self.fence = server.own[self.number] = server.next()
        yield
        owed = self._replayed()
        turn = Turn(self.state, world.now)
        decide.handle(turn, Resumed())
        decide.offer(turn)
        yield from self._commit(turn)
        if self.over:
            return
        yield from self._perform([*owed, *turn.effects])
        yield from self._settle()
        while True:
            yield
            batch = self._batch()
            if not batch and not self.local:
                continue
            inputs: list[Input] = [inbound(data) for _, data in batch]
            inputs = [i for i in inputs if not self._ended_long_ago(i)]
            local, self.local = self.local, []
            if world.mutant.ack_before_commit:
                yield from self._ack(batch)
            turn = decide.decided(self.state, [*inputs, *local], world.now)
            yield from self._commit(turn)
            if not turn.transitions and not world.mutant.no_second_look:
                yield
                if server.own[self.number] != self.fence:
                    self._end()
            if self.over:
                return
            yield from self._perform(turn.effects)
            yield from self._ack(batch)
            yield from self._settle()

    def _batch(self) -> list[tuple[int, bytes]]:
        pending = self.world.server.inbox.get(self.number, {})
        fresh = [s for s in pending if s not in self.in_hand or self.world.happens("duplicate")]
        self.world.chance.shuffle(fresh)
        chosen = fresh[: self.world.chance.randint(1, 4)]
        self.in_hand.update(chosen)
        return [(sequence, pending[sequence]) for sequence in chosen]

    def _ended_long_ago(self, message: Input) -> bool:
        if not isinstance(message, PlanPart) or message.head.run in self.state.runs:
            return False
        summary = self.world.server.summaries.get(message.head.run)
        ended = summary is not None and summary.state in RUN_STATES_FINAL
        return ended and not self.world.mutant.plans_ended_runs

    def _ack(self, batch: list[tuple[int, bytes]]) -> Work:
        for sequence, _ in batch:
            yield
            self.in_hand.discard(sequence)
            if not self.world.happens("lost_ack"):
                self.world.server.inbox[self.number].pop(sequence, None)

    def _commit(self, turn: Turn) -> Work:
        if not turn.transitions:
            return
        world, server = self.world, self.world.server
        commit = transitions.Commit(
            at=turn.now, transitions=tuple(turn.transitions), live=len(self.state.runs)
        )
        limit = world.chance.choice([400, 100_000])
        first = 0
        for data in transitions.messages_of(commit, limit):
            self.commits += 1
            name = f"{self.number}.{self.fence}.{self.commits}"
            while True:
                yield
                if server.own[self.number] != self.fence and not world.mutant.no_fence:
                    world.refused += 1
                    self._end()
                    return
                if name not in server.commits:
                    server.commits.add(name)
                    self.last = server.next()
                    first = first or self.last
                    server.runlog.setdefault(self.number, []).append((self.last, data))
                    server.history.setdefault(self.number, []).append(data)
                if not world.happens("lost_reply"):
                    break  # else the same bytes are sent again under the same id
        state.anchor(self.state, first)

    def _replayed(self) -> list[Effect]:
        server = self.world.server
        told = {
            run: events[-1].seq if events and not self.world.mutant.tells_from_the_start else 0
            for run, events in server.events.items()
        }
        records: list[Effect] = []
        for sequence, data in server.runlog.get(self.number, []):
            commit = transitions.commit_of(data)
            for transition in commit.transitions:
                state.evolve(self.state, transition, commit.at)
                records += [
                    effect
                    for effect in effects.effects_of(self.state, transition, commit.at)
                    if isinstance(effect, effects.RECORDS)
                    and not (
                        isinstance(effect, Emit)
                        and effect.event.seq <= told.get(effect.event.run, 0)
                    )
                ]
            state.anchor(self.state, sequence)
            self.last = sequence
        return records if self.world.mutant.owes_nothing else [*records, *effects.owed(self.state)]

    def _settle(self) -> Work:
        """Forget runs that have ended and were told of, and compact the log below the rest."""
        ended = [r for r, run in self.state.runs.items() if run.status in state.RUN_ENDED]
        if self.emits:
            return
        for run in ended:
            state.forget(self.state, run)
        yield
        needed = state.needed_from(self.state) or self.last
        log = self.world.server.runlog.get(self.number, [])
        if self.world.server.own[self.number] == self.fence:
            log[:] = [entry for entry in log if entry[0] >= needed]

    def _tell(self) -> Work:
        server = self.world.server
        while not self.over or self.emits:
            yield
            if not self.emits:
                continue
            event = self.emits[0].event
            told = server.events.setdefault(event.run, [])
            if self.world.mutant.tells_from_the_start or event.seq not in {e.seq for e in told}:
                told.append(event)
            if not self.world.happens("lost_reply"):
                self.emits.pop(0)

    def _end(self) -> None:
        self.over = True
        self.works[:] = [work for work in self.works if work.__name__ == "_tell"]  # type: ignore[attr-defined]

    # -- effects ----------------------------------------------------------------------------------
    def _perform(self, wanted: list[Effect]) -> Work:
        for effect in wanted:
            yield
            self._do(effect)
            if self.world.happens("lost_reply"):
                self._do(effect)

    def _do(self, effect: Effect) -> None:
        server = self.world.server
        match effect:
            case Emit():
                self.emits.append(effect)
            case effects.LookUp():
                self.works.append(self._look(effect))
            case effects.Dispatch(item=item):
                server.work.setdefault((item.run, item.step, item.attempt), item)
            case effects.Withdraw():
                for key in list(server.work):
                    meant = effect.attempt in (0, key[2]) and effect.step in ("", key[1])
                    if key[0] == effect.run and meant:
                        del server.work[key]
                        server.leased.pop(key, None)
            case effects.Stop():
                server.stops.add((effect.run, effect.step, effect.attempt))
            case effects.SetTimer():
                due = TimerDue(
                    run=effect.run, step=effect.step, attempt=effect.attempt, kind=effect.kind
                )
                kind = f"{effect.kind}-{effect.attempt}"
                if effect.kind in self.world.rings:
                    server.timers[effect.run, effect.step, kind] = (effect.at, due)
            case effects.CancelTimers():
                for timer in [t for t in server.timers if t[0] == effect.run]:
                    del server.timers[timer]
            case effects.PutSummary(summary=summary):
                before = server.summaries.get(summary.run)
                if before is None or before.state not in RUN_STATES_FINAL:
                    server.summaries[summary.run] = summary
            case effects.PutReuse():
                server.reuse[effect.fingerprint] = (server.next(), effect.entry)
            case effects.PutLatest():
                server.latest[effect.key] = effect.entry
            case effects.ReleaseFlight():
                _, entry = server.reuse.get(effect.fingerprint, (0, None))
                mine = entry is not None and (entry.run, entry.step) == (effect.run, effect.step)
                if mine and entry is not None and not entry.ended_at:
                    server.reuse[effect.fingerprint] = (server.next(), None)
            case effects.AskFlight(message=asked):
                name = f"{asked.follower_run}.{asked.follower_step}.{asked.look}"
                server.put(asked.run, asked, f"{asked.run}.{asked.step}.follow.{name}")
            case effects.TellFlight(message=landed):
                name = f"{landed.leader_run}.{landed.leader_step}.{landed.look}"
                server.put(landed.run, landed, f"{landed.run}.{landed.step}.landed.{name}")

    def _look(self, look: effects.LookUp) -> Work:
        server = self.world.server
        answer = {"run": look.run, "step": look.step, "look": look.look}
        while True:
            yield
            revision, entry = server.reuse.get(look.fingerprint, (0, None))
            latest = server.latest.get(look.latest)
            yield
            exists = bool(
                entry
                and entry.ended_at
                and all(tree.digest in server.trees for tree in entry.outputs.values())
            )
            claimed = False
            mine = entry is not None and (entry.run, entry.step) == (look.run, look.step)
            free = entry is None or (
                not exists if entry.ended_at else look.stale == (entry.run, entry.step)
            )
            if look.claim and entry is not None and not entry.ended_at and mine:
                entry, claimed = None, True
            elif look.claim and free:
                yield
                if server.reuse.get(look.fingerprint, (0, None))[0] != revision:
                    continue
                claim = ReuseEntry(run=look.run, step=look.step)
                server.reuse[look.fingerprint] = (server.next(), claim)
                entry, claimed = (entry if entry is not None and entry.ended_at else None), True
            yield
            found = LookedUp(
                **answer,  # type: ignore[arg-type]
                fingerprint=look.fingerprint,
                entry=entry if look.claim else None,
                exists=exists,
                claimed=claimed,
                latest=latest,
            )
            self.local.append(found)
            return


def check(world: World) -> None:
    """Check what must hold when everything is over.

    Raises:
        Violation: it does not.
    """
    for run, plan in world.plans.items():
        events = world.server.events[run]
        promise(
            [e.seq for e in events] == list(range(1, len(events) + 1)), "gap or repetition", run
        )
        ends = [e.what for e in events if isinstance(e, RunEvent) and e.what in RUN_STATES_FINAL]
        promise(len(ends) == 1 and events[-1].what == ends[0], f"ends: {ends}", run)
        steps = [e for e in steps_of(events) if e.what in _STEP_ENDS]
        names = sorted(step.name for step in plan.steps)
        promise(sorted(e.step for e in steps) == names, "a step has not ended once", run)
        check_order(events, plan)
        for step in plan.steps:
            check_attempts([e for e in steps_of(events) if e.step == step.name], step)
        check_results({e.step: e for e in steps}, plan)
        promise(world.server.summaries[run].state == ends[0], "the list says otherwise", run)
    for number, messages in world.server.history.items():
        check_history(world, number, messages)


_STEP_ENDS = ("reused", "succeeded", "failed", "cancelled", "skipped")


def promise(kept: bool, what: str, run: str) -> None:
    """Raise unless a promise is kept."""
    if not kept:
        raise Violation(f"{run}: {what}")


def check_order(events: list[RunEvent | StepEvent], plan: PlanPart) -> None:
    """No step is queued or begun before its needs have ended well."""
    needs = {step.name: step.needs for step in plan.steps}
    well: set[str] = set()
    for event in events:
        if isinstance(event, StepEvent):
            if event.what in ("queued", "started", "reused"):
                promise(well.issuperset(needs[event.step]), f"{event.step} was early", event.run)
            if event.what in ("succeeded", "reused"):
                well.add(event.step)


def steps_of(events: list[RunEvent | StepEvent]) -> list[StepEvent]:
    """Return the events of steps."""
    return [event for event in events if isinstance(event, StepEvent)]


def check_attempts(events: list[StepEvent], step: PlannedStep) -> None:
    """Attempts follow each other 1, 2, 3 … and each ends once, by its own report."""
    attempt, out = 0, False
    for event in events:
        about = f"{step.name}: {event.what} {event.attempt} after attempt {attempt}"
        promise(event.failure is None or event.failure.code != "E_INPUT", about, event.run)
        match event.what:
            case "queued":
                promise(not out and event.attempt == attempt + 1, about, event.run)
                attempt, out = event.attempt, True
            case "started":
                promise(out and event.attempt == attempt, about, event.run)
            case "retrying":
                promise(out and event.attempt == attempt, about, event.run)
                out = False
            case "succeeded" | "failed":
                promise(out and event.attempt == attempt, about, event.run)
    promise(attempt <= step.attempts_max, f"{step.name}: {attempt} attempts", step.name)


def check_results(ends: dict[str, StepEvent], plan: PlanPart) -> None:
    """Every result is what the graph makes of its commands, whoever made it and when."""
    made: dict[str, str] = {}
    for step in plan.steps:
        made[step.name] = made_by(step.command, [made[b.step] for b in step.inputs.values()])
        end = ends[step.name]
        if end.what in ("succeeded", "reused"):
            promise(
                end.outputs["o"].digest == made[step.name], f"wrong result of {step.name}", end.run
            )


def check_history(world: World, number: int, messages: list[bytes]) -> None:
    """The log, read from its beginning, tells exactly what was told."""
    partition = Partition(number, window=2)
    told: dict[str, list[RunEvent | StepEvent]] = {}
    succeeded: set[tuple[str, int]] = set()
    for data in messages:
        commit = transitions.commit_of(data)
        for transition in commit.transitions:
            if isinstance(transition, transitions.StepSucceeded):
                key = (transition.run, transition.step)
                promise(key not in succeeded, f"two results of step {key[1]}", key[0])
                succeeded.add(key)
            state.evolve(partition, transition, commit.at)
            for effect in effects.effects_of(partition, transition, commit.at):
                if isinstance(effect, Emit):
                    told.setdefault(effect.event.run, []).append(effect.event)
    for run, events in told.items():
        promise(events == world.server.events[run], "what was told is not what was stored", run)


def violation_of(seed: int, mutant: Callable[[], Mutant] | None = None) -> str:
    """Return what a seed breaks, or an empty text."""
    world = World(seed, mutant() if mutant else None)
    try:
        world.play()
    except Violation as error:
        return f"seed={seed}: {error}"
    except (AssertionError, KeyError, IndexError) as error:
        return f"seed={seed}: {type(error).__name__}: {error}"
    return ""


def main() -> int:
    """Play seeds and print those that break a promise."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=1_000)
    parser.add_argument("--first", type=int, default=0)
    given = parser.parse_args()
    broken = 0
    for seed in range(given.first, given.first + given.seeds):
        found = violation_of(seed)
        if found:
            broken += 1
            print(found, flush=True)
    print(f"{given.seeds} seeds, {broken} broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
