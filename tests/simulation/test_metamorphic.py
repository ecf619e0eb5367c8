"""What must not matter does not matter: names, order, how the log is cut, and who goes on with it."""

import pytest
from tests.simulation.world.invariants import check
from tests.simulation.world.play import World, played
from tests.simulation.world.twists import TWISTS, Results, results_of

from penstock_planner.decide.reading import digest_and_bytes
from penstock_scheduler import state, transitions
from penstock_scheduler.effects import owed
from penstock_scheduler.state import Partition

SEEDS = range(120)


def results(world: World) -> dict[str, Results]:
    """Return what became of the runs whose end follows from their graph alone, by who asked."""
    found = {}
    for key, run in world.audit.by_key.items():
        logged = world.audit.run(run)
        if logged is None or run in world.audit.excused_runs:
            continue
        if logged.head.continue_on_step_failure or not logged.broken:
            found[key] = results_of(world.server.events[run])
    return found


@pytest.mark.parametrize("twist", TWISTS)
def test_a_world_told_otherwise_ends_the_same(twist: str) -> None:
    compared = 0
    for seed in SEEDS:
        (plain, broken), (other, broken_too) = played(seed), played(seed, twist=twist)
        assert (broken, broken_too) == ("", ""), f"seed {seed}, {twist}"
        before, after = results(plain), results(other)
        for key in before.keys() & after.keys():
            if wish_of(plain, key) == wish_of(other, key):
                compared += 1
                assert before[key] == after[key], f"seed {seed}, {key}, {twist}"
    assert compared > len(SEEDS) // 3


def wish_of(world: World, key: str) -> int:
    """Return which of several wishes under one key has won: that depends on who was first."""
    spec = world.server.value("runs", world.audit.by_key[key])[1].spec
    digests = [digest_and_bytes(wish.spec)[0] for wish in world.wishes.submissions]
    return digests.index(spec)


@pytest.mark.parametrize("seed", range(0, 40, 2))
def test_a_log_split_anywhere_and_replayed_is_the_same_state(seed: int) -> None:
    world, broken = played(seed)
    assert broken == ""
    for number, messages in world.server.history.items():
        whole, pieces = Partition(number), Partition(number)
        for data in messages:
            commit = transitions.commit_of(data)
            for transition in commit.transitions:
                state.evolve(whole, transition, commit.at)
            for piece in transitions.messages_of(commit, 1):
                half = transitions.commit_of(piece)
                for transition in half.transitions:
                    state.evolve(pieces, transition, half.at)
        assert whole == pieces
        assert list(owed(whole)) == list(owed(pieces))


@pytest.mark.parametrize("seed", range(20))
def test_another_owner_goes_on_from_any_prefix_of_the_log_to_the_same_end(seed: int) -> None:
    world, broken = played(seed)
    assert broken == ""
    history = {number: list(messages) for number, messages in world.server.history.items()}
    for cut in (0.2, 0.5, 0.8):
        again = World(seed, kind=True)
        again.clients = []
        again.schedule = None
        again.triggers = []
        again.store.objects = dict(world.store.objects)
        again.store.lost_at = dict(world.store.lost_at)
        again.audit.executions = world.audit.executions.copy()
        again.audit.cancelled = set(world.audit.cancelled)
        for number, messages in history.items():
            again.resume(number, messages[: int(len(messages) * cut)])
        go_on(again)
        for run in again.runs():
            if run in world.audit.excused_runs | again.audit.excused_runs | world.audit.cancelled:
                continue
            logged = again.audit.run(run)
            if logged is not None and (logged.head.continue_on_step_failure or not logged.broken):
                told = again.server.events[run]
                assert results_of(told) == results_of(world.server.events[run]), f"{run}, {cut}"


def go_on(world: World) -> None:
    """Let a world that has a past come to its end."""
    world.services = [*world.schedulers, *world.planners, *world.executors, *world.artifacts]
    world.play()
    check(world)
