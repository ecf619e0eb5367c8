"""Bugs put in on purpose: each must be found within a bounded number of seeds.

Two kinds. *Of the code*: a real function is replaced by itself with one line changed, so what is
tested is the real code with a real bug; when that line is gone the mutant says so. *Of the order*: a
switch in the actor that mirrors a shell, since there the order of things is what the bug alters.
"""

import contextlib
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from penstock.contracts.queries import ReuseEntry
from penstock_artifact import state as artifact_state
from penstock_scheduler import effects
from penstock_scheduler import state as scheduler_state
from penstock_scheduler.decide import attempts, progress
from penstock_scheduler.decide.turn import Turn
from penstock_scheduler.effects import Effect, PutReuse
from penstock_scheduler.state import Run, StepStatus

Patch = Callable[[], contextlib.AbstractContextManager[None]]


@dataclass(frozen=True)
class Mutant:
    """A bug: what it is, and how it is put in (`patch`; None: a switch of the world by its name)."""

    name: str
    bug: str
    patch: Patch | None = None
    faults: Mapping[str, float] = field(default_factory=dict)
    """Chances of what must come together for a rare one, higher than a seed draws them."""


@contextlib.contextmanager
def replaced(place: Any, name: str, value: Any) -> Iterator[None]:
    """Put something in the place of something else for a while."""
    before = getattr(place, name)
    setattr(place, name, value)
    try:
        yield
    finally:
        setattr(place, name, before)


def altered(module: ModuleType, name: str, old: str, new: str) -> Any:
    """Return a function of a module with one piece of its source changed."""
    source = textwrap.dedent(inspect.getsource(getattr(module, name)))
    assert source.count(old) == 1, f"{name} has changed: where is {old!r}? Adapt the mutant."
    scope: dict[str, Any] = dict(vars(module))
    exec(compile(source.replace(old, new), f"<mutant of {name}>", "exec"), scope)  # noqa: S102
    return scope[name]


def _source(module: ModuleType, name: str, old: str, new: str) -> Patch:
    return lambda: replaced(module, name, altered(module, name, old, new))


def _cached_failure(original: Any) -> Any:
    def given_up(run: Run, step: int) -> list[Effect]:
        kept: list[Effect] = []
        state = run.steps[step]
        if state.fingerprint and state.status is StepStatus.FAILED:
            entry = ReuseEntry(run=run.head.run, step=run.names[step], ended_at=state.at)
            kept = [PutReuse(state.fingerprint, entry)]
        return [*original(run, step), *kept]

    return given_up


def _early(original: Any) -> Any:
    def start(turn: Turn, run: Run, step: int) -> None:
        original(turn, run, step)
        for dependent in run.dependents[step]:
            run.waiting[dependent] = 0
            progress.advance(turn, run, [dependent])

    return start


TWELVE = (
    Mutant(
        "no_fence",
        "news of any attempt of a step counts, not only of the current one",
        lambda: replaced(
            attempts, "current", altered(progress, "current", " and state.attempt == attempt", "")
        ),
    ),
    Mutant("ack_first", "the scheduler acknowledges what it has taken in before it commits"),
    Mutant("no_cas", "the log takes commits of owners who were replaced"),
    Mutant(
        "no_reconcile",
        "a new owner does not do again what the state owes",
        lambda: replaced(effects, "owed", lambda partition: iter(())),
    ),
    Mutant(
        "stale_cache",
        "what the artifact service once saw it believes for ever",
        lambda: replaced(artifact_state, "FRESH_S", float("inf")),
    ),
    Mutant("commit_before_upload", "an executor reports success before the outputs are stored"),
    Mutant("tick_by_local_time", "a run is named after the replica's clock, not after the tick"),
    Mutant("no_dedupe_id", "what is sent again because its answer was lost is stored again"),
    Mutant("lease_by_local_clock", "an executor renews its loans by its wall clock"),
    Mutant(
        "cache_on_failure",
        "a failed attempt is offered for reuse",
        lambda: replaced(effects, "_given_up", _cached_failure(effects._given_up)),
    ),
    Mutant(
        "unbounded_retry",
        "attempts are not counted",
        _source(attempts, "give_up", "attempt < plan.attempts_max", "attempt < 1_000"),
    ),
    Mutant("swallow_decode_error", "what nobody can read is acknowledged and forgotten"),
)
"""The twelve of research/reliability.md §5b."""

OTHERS = (
    Mutant(
        "executor_acks_first", "an executor acknowledges an attempt before it has told its result"
    ),
    Mutant(
        "no_second_look",
        "a replaced owner acknowledges what its old state calls late news",
        faults={"pin_astray": 0.2},
    ),
    Mutant("plans_ended_runs", "a plan that comes again after its run has ended is a new run"),
    Mutant("tells_from_the_start", "a new owner numbers and tells events from the beginning"),
    Mutant(
        "reads_copies",
        "a commit that is in the log twice is made true twice",
        faults={"lost_reply": 0.3, "leap": 0.1, "crash": 0.03},
    ),
    Mutant(
        "queue_gives_up",
        "the server stops to deliver an attempt, and nobody hears of it",
        faults={"crash": 0.06},
    ),
    Mutant("settles_too_early", "a commit calls results settled that are decided and not yet put"),
    Mutant(
        "cut_in_a_plan",
        "a run whose plan's beginning was compacted away is replayed nevertheless",
        lambda: _everywhere("evolve", "run.status is RunStatus.ARRIVING and not", "False and not"),
    ),
    Mutant(
        "ended_steps_change",
        "results of steps that have ended count",
        lambda: replaced(attempts, "current", lambda run, step, attempt: True),
    ),
    Mutant(
        "starts_early",
        "steps start before what they need has ended well",
        lambda: replaced(progress, "_start", _early(progress._start)),
    ),
    Mutant(
        "never_lands",
        "followers are not told that the step they wait for has ended",
        lambda: replaced(effects, "landed", lambda run, step: []),
    ),
)
"""Bugs that we had, or could have had: kept so that nothing unlearns to see them."""

ALL = {mutant.name: mutant for mutant in (*TWELVE, *OTHERS)}


def _everywhere(name: str, old: str, new: str) -> contextlib.AbstractContextManager[None]:
    """Alter a function of the scheduler's state wherever it is called."""
    from tests.simulation.world import auditor, invariants, term

    from penstock_scheduler.decide import turn
    from penstock_scheduler.effects import replay

    mutated = altered(scheduler_state, name, old, new)
    stack = contextlib.ExitStack()
    for module in (scheduler_state, turn, replay, auditor, invariants, term):
        if hasattr(module, name):
            stack.enter_context(replaced(module, name, mutated))
    return stack  # type: ignore[return-value]


def seeds_needed(mutant: Mutant, seeds_max: int, first: int = 0) -> tuple[int, str]:
    """Return how many seeds it takes until a mutant is noticed, and what is broken; 0: it is not."""
    from tests.simulation.world.play import played

    patch = mutant.patch() if mutant.patch is not None else contextlib.nullcontext()
    with patch:
        for count in range(seeds_max):
            _, found = played(first + count, mutant.name, emphasis=mutant.faults)
            if found:
                return count + 1, found
    return 0, ""
